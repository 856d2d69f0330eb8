//! Messages that wait at a delayed message exchange, and go on when their time has come.
//!
//! They wait in a queue that no client sees. Invariant: every delayed message exchange has one, and each such queue has
//! its exchange; a message leaves it with the turn in which it arrives where the exchange leads, or where it is
//! cancelled.

use std::sync::Arc;

use bytes::BytesMut;
use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{Table, TableRef, Value};

use super::death::routing_keys;
use super::recovery::RestoredQueue;
use super::slot::QueueSlot;
use super::state::Vhost;
use super::{Effects, Entry, Journal};
use crate::model::{
    ExchangeDefinition, ExchangeKind, ExchangeName, Message, MessageParts, Origin, QueueDefinition, QueueId,
    QueueName, Seq,
};
use crate::queue::{Kept, Moment, Terms};
use crate::topology::{AppliedPolicies, Changes, DELAY, Declared, ExchangeId, Features, Refusal, delay_of};

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delayed {
    /// Its place among those that wait at the same exchange.
    pub seq: Seq,
    /// When it goes on.
    pub due: Moment,
    /// Octets of its body.
    pub body_bytes: u32,
}

/// On which terms a message waits.
pub(super) fn terms(message: &Message, now: Moment) -> Terms {
    let headers = Properties::decode(message.properties()).ok().and_then(|properties| properties.headers);
    Terms { deadline: now.after(delay_of(headers)), ..Terms::default() }
}

impl Vhost {
    /// Declares an exchange, with the queue in which its messages wait if they may. `kept` is what that queue held
    /// before a restart.
    pub(super) fn add_exchange(
        &mut self,
        definition: ExchangeDefinition,
        kept: Option<RestoredQueue>,
        journal: &mut Journal,
    ) -> Result<Declared, Refusal> {
        let (name, kind, durable) = (definition.name.clone(), definition.kind, definition.durable);
        let declared = self.topology.declare_exchange(definition)?;
        if kind == ExchangeKind::Delayed
            && matches!(declared, Declared::Created(_))
            && let Some(exchange) = self.topology.exchange_id(name.as_str())
        {
            self.add_delay_queue((name, exchange), durable, kept, journal);
        }
        Ok(declared)
    }

    fn add_delay_queue(
        &mut self,
        (name, exchange): (ExchangeName, ExchangeId),
        durable: bool,
        kept: Option<RestoredQueue>,
        journal: &mut Journal,
    ) {
        let id = kept.as_ref().map_or(QueueId(self.next_queue), |kept| kept.id);
        self.next_queue = self.next_queue.max(id.0 + 1);
        self.topology.set_delay_queue(name.as_str(), id);
        self.delay_queues.insert(exchange, id);
        let definition = Arc::new(QueueDefinition {
            name: QueueName::from(name.as_str()),
            durable,
            exclusive: false,
            auto_delete: false,
            arguments: Table::default(),
            origin: Origin::System,
        });
        let mut slot = QueueSlot::new(id, definition, AppliedPolicies::default(), &self.options);
        slot.queue.set_keeps_dead(true);
        match kept {
            Some(kept) => slot.queue.recover(kept.messages, kept.next),
            None if durable => {
                journal.entries.push(Entry::DelayCreated { queue: id, exchange: name.clone() });
            }
            None => {}
        }
        slot.delays = Some(name);
        self.calendar.arm(&mut slot);
        self.queues.insert(id, slot);
    }

    /// The queue in which messages of this exchange wait.
    #[must_use]
    pub fn delay_queue(&self, exchange: &str) -> Option<QueueId> {
        self.delay_queues.get(&self.topology.exchange_id(exchange)?).copied()
    }

    /// Drops what waits at exchanges that are gone.
    pub(super) fn forget_delays(&mut self, changes: &Changes, effects: &mut Effects) {
        for exchange in changes.gone_exchanges() {
            let Some(id) = self.delay_queues.remove(exchange) else { continue };
            let Some(slot) = self.queues.remove(&id) else { continue };
            self.cache.forget(&slot);
            self.calendar.forget(&slot);
            if slot.durable {
                effects.journal.entries.push(Entry::Deleted(id));
            }
            effects.deleted.push(slot.queue);
        }
    }

    /// What waits at this exchange from this place on; none if it is no delayed message exchange.
    pub fn delayed(&self, exchange: &str, from: Seq) -> Option<impl Iterator<Item = Delayed>> {
        let slot = self.queues.get(&self.delay_queue(exchange)?)?;
        let kept = slot.queue.iter_kept().filter(move |(seq, _)| *seq >= from);
        Some(kept.map(|(seq, Kept { terms, body_bytes, .. })| Delayed {
            seq,
            due: terms.deadline,
            body_bytes,
        }))
    }

    /// Drops a message that waits at this exchange. Says whether it was there.
    pub fn cancel_delayed(&mut self, exchange: &str, seq: Seq, effects: &mut Effects) -> bool {
        let Some(id) = self.delay_queue(exchange) else { return false };
        let Some(slot) = self.queues.get_mut(&id) else { return false };
        let Some((home, message)) = slot.queue.withdraw(seq) else { return false };
        self.cache.count(slot);
        effects.journal.gone(id, seq, home);
        effects.discarded.extend(message);
        true
    }

    /// Sends a message on that has waited at this exchange.
    pub(super) fn send_on(&mut self, message: &Message, exchange: &ExchangeName) {
        let message = waited(message);
        let properties = Properties::decode(message.properties()).unwrap_or_default();
        let headers = properties.headers.map(|headers| headers.to_owned()).unwrap_or_default();
        let keys = routing_keys(&message, &headers);
        let further: Vec<_> = keys.iter().skip(1).map(String::as_str).collect();
        let features = Features::of(&properties, self.histories.next_lot());
        let key = message.routing_key();
        let Some(route) = self.topology.route_delayed(exchange.as_str(), key, &features, &further) else {
            return;
        };
        self.remember(&route.targets, &message);
        for queue in route.targets.queues() {
            self.letters.push_back((*queue, message.clone()));
        }
    }
}

/// The message as it goes on: the delay that it has had is told as a negative number.
fn waited(message: &Message) -> Message {
    let properties = told(message);
    let parts = MessageParts {
        exchange: message.exchange(),
        routing_key: message.routing_key(),
        properties: properties.as_deref().unwrap_or(message.properties()),
        persistent: message.persistent(),
    };
    message.with_parts(parts)
}

fn told(message: &Message) -> Option<BytesMut> {
    let mut properties = Properties::decode(message.properties()).ok()?;
    let delay = i64::try_from(delay_of(properties.headers)).ok()?;
    let mut headers = properties.headers?.to_owned();
    headers.insert(DELAY, i32::try_from(-delay).map_or(Value::I64(-delay), Value::I32)).ok()?;
    let (mut table, mut encoded) = (BytesMut::new(), BytesMut::new());
    headers.encode(&mut table).ok()?;
    properties.headers = Some(TableRef::parse(&table).ok()?);
    properties.encode(&mut encoded).ok()?;
    Some(encoded)
}
