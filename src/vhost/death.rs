//! A message as it is dead-lettered: where it goes, and what it tells of its past.
//!
//! Invariant: the headers are those of RabbitMQ. `x-death` has one entry for each queue and reason, the latest first;
//! the first entry ever is repeated in `x-first-death-*` and never changes, the latest in `x-last-death-*`.

use std::sync::Arc;

use bytes::BytesMut;
use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{Table, TableRef, Value};

use super::{Effects, Vhost};
use crate::model::{Message, MessageParts, QueueDefinition, QueueId};
use crate::queue::{Dead, Reason};
use crate::topology::{Features, Targets};

const X_DEATH: &str = "x-death";
const CC: &str = "CC";

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// Where a queue's dead letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetters {
    /// The exchange, which need not exist.
    pub(super) exchange: Box<str>,
    /// The routing key, if it is not the message's own.
    pub(super) routing_key: Option<Box<str>>,
}

impl DeadLetters {
    /// What is said about a queue, by the names of arguments.
    pub(super) fn of<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        // A name or key that is longer than AMQP has room for cannot be on any exchange or binding.
        let short = |text: &&str| text.len() <= usize::from(u8::MAX);
        let exchange = text("x-dead-letter-exchange").filter(short)?.into();
        let routing_key = text("x-dead-letter-routing-key").filter(short).map(Into::into);
        Some(Self { exchange, routing_key })
    }
}

/// A message on its way from one queue to others.
pub(super) struct Death<'a> {
    pub(super) reason: Reason,
    /// The queue it leaves.
    pub(super) queue: &'a str,
    /// When, in seconds since 1970.
    pub(super) time: u64,
}

impl Vhost {
    /// Ends what the queue has given up: it is dead-lettered, if the queue says so, with the turn that takes it from
    /// its queue.
    pub(super) fn remove(&mut self, id: QueueId, dead: Dead, effects: &mut Effects) {
        let Dead { reason, seq, home, message, .. } = dead;
        effects.journal.gone(id, seq, home);
        let (Some(message), Some(slot)) = (message, self.queues.get(&id)) else { return };
        if let Some(exchange) = slot.delays.clone() {
            self.send_on(&message, &exchange);
        } else if let Some(to) = slot.settings.dead_letters.clone() {
            let source = Arc::clone(&slot.definition);
            self.bury(&message, reason, &source, &to, effects);
        }
        effects.discarded.push(message);
    }

    /// Sends a dead message to where dead letters go, with the turn that is running.
    pub(super) fn bury(
        &mut self,
        message: &Message,
        reason: Reason,
        source: &QueueDefinition,
        to: &DeadLetters,
        effects: &mut Effects,
    ) {
        let death = Death { reason, queue: source.name.as_str(), time: self.calendar.now.0 / 1_000 };
        let Letter { message: letter, further, deaths } = letter(message, &death, to);
        let further: Vec<_> = further.iter().map(String::as_str).collect();
        let Some(targets) = self.targets(&letter, letter.exchange(), &further) else { return };
        self.remember(&targets, &letter);
        for id in targets.queues() {
            let target = self.queues.get(id).map(|slot| slot.definition.name.as_str());
            if reason != Reason::Rejected && target.is_some_and(|target| is_cycle(&deaths, target)) {
                effects.cycles.push(source.name.clone());
            } else {
                self.letters.push_back((*id, letter.clone()));
            }
        }
    }

    /// Puts a dead letter into its queue. What it displaces there counts: full queues that send their dead letters to
    /// each other would not let a turn end.
    pub(super) fn deliver_letter(&mut self, id: QueueId, letter: Message, effects: &mut Effects) {
        if self.queues.get(&id).is_some_and(|slot| slot.settings.is_limited()) {
            self.enqueue_limited(id, letter, 0, effects);
        } else {
            self.enqueue(id, letter, effects);
        }
    }

    /// Where the vhost itself sends a message by an exchange, internal ones included; none if there is no such exchange.
    pub(super) fn targets(
        &mut self,
        message: &Message,
        exchange: &str,
        further_keys: &[&str],
    ) -> Option<Targets> {
        let properties = Properties::decode(message.properties()).unwrap_or_default();
        let features = Features::of(&properties, self.histories.next_lot());
        let key = message.routing_key();
        Some(self.topology.route_dead_letter(exchange, key, &features, further_keys)?.targets)
    }
}

/// Whether a message would come to this queue again without any client having had a hand in it. `deaths` are the
/// entries of `x-death`, the latest first.
fn is_cycle(deaths: &[Value], queue: &str) -> bool {
    let text = |death: &Value, name| {
        death.as_table().and_then(|death| death.get(name)).and_then(Value::as_str).map(str::to_owned)
    };
    let since = deaths.iter().position(|death| text(death, "queue").as_deref() == Some(queue));
    since.is_some_and(|since| {
        deaths[..=since].iter().all(|death| text(death, "reason").as_deref() != Some("rejected"))
    })
}

/// A dead letter.
pub(super) struct Letter {
    pub(super) message: Message,
    /// The routing keys it has besides its own.
    pub(super) further: Vec<String>,
    /// The entries of its header `x-death`.
    pub(super) deaths: Vec<Value>,
}

/// A message as it is dead-lettered.
pub(super) fn letter(message: &Message, death: &Death<'_>, to: &DeadLetters) -> Letter {
    let told = tell(message, death, to);
    // Whose headers have no room for more is dead-lettered all the same.
    let Told { properties, further, deaths } = told.unwrap_or_else(|| Told {
        properties: BytesMut::from(message.properties()),
        further: Vec::new(),
        deaths: Vec::new(),
    });
    let parts = MessageParts {
        exchange: &to.exchange,
        routing_key: to.routing_key.as_deref().unwrap_or(message.routing_key()),
        properties: &properties,
        persistent: message.persistent(),
    };
    Letter { message: message.with_parts(parts), further, deaths }
}

/// What a dead letter says besides its body.
struct Told {
    properties: BytesMut,
    further: Vec<String>,
    deaths: Vec<Value>,
}

fn tell(message: &Message, death: &Death<'_>, to: &DeadLetters) -> Option<Told> {
    let mut properties = Properties::decode(message.properties()).ok()?;
    let mut headers = properties.headers.map(|headers| headers.to_owned()).unwrap_or_default();
    let mut keys = routing_keys(message, &headers);
    let (exchange, name) = (message.exchange(), death.reason.name());
    let past = [("exchange", exchange), ("queue", death.queue), ("reason", name)];
    let is_first = headers.get(X_DEATH).is_none();
    let deaths = record(&headers, death, exchange, &keys, properties.expiration)?;
    headers.insert(X_DEATH, Value::Array(deaths.clone())).ok()?;
    if is_first {
        for (what, value) in past {
            headers.insert(format!("x-first-death-{what}"), value).ok()?;
        }
    }
    for (what, value) in past {
        headers.insert(format!("x-last-death-{what}"), value).ok()?;
    }
    keys.remove(0);
    if to.routing_key.is_some() {
        headers.remove(CC);
        keys.clear();
    }
    properties.expiration = None;
    let (mut table, mut encoded) = (BytesMut::new(), BytesMut::new());
    headers.encode(&mut table).ok()?;
    properties.headers = Some(TableRef::parse(&table).ok()?);
    properties.encode(&mut encoded).ok()?;
    Some(Told { properties: encoded, further: keys, deaths })
}

/// The message's routing key, and those of its header `CC`.
pub(super) fn routing_keys(message: &Message, headers: &Table) -> Vec<String> {
    let further = headers.get(CC).and_then(Value::as_array).unwrap_or_default();
    let further = further.iter().filter_map(Value::as_str);
    std::iter::once(message.routing_key()).chain(further).map(str::to_owned).collect()
}

/// The entries of `x-death` with this death. One from the same queue for the same reason is counted up.
fn record(
    headers: &Table,
    death: &Death<'_>,
    exchange: &str,
    keys: &[String],
    expiration: Option<&str>,
) -> Option<Vec<Value>> {
    let mut deaths = headers.get(X_DEATH).and_then(Value::as_array).unwrap_or_default().to_vec();
    let is_same = |value: &Value| {
        let entry = value.as_table();
        let text = |name| entry.and_then(|entry| entry.get(name)).and_then(Value::as_str);
        text("queue") == Some(death.queue) && text("reason") == Some(death.reason.name())
    };
    let same = deaths.iter().position(is_same).map(|index| deaths.remove(index));
    let entry = match same {
        Some(Value::Table(mut entry)) => {
            let count = entry.get("count").and_then(Value::as_integer).unwrap_or(0);
            entry.insert("count", Value::I64(count.saturating_add(1))).ok()?;
            entry
        }
        _ => {
            let mut entry = Table::new();
            if let Some(expiration) = expiration {
                entry.insert("original-expiration", expiration).ok()?;
            }
            entry.insert("count", Value::I64(1)).ok()?;
            entry.insert("reason", death.reason.name()).ok()?;
            entry.insert("queue", death.queue).ok()?;
            entry.insert("time", Value::Timestamp(death.time)).ok()?;
            entry.insert("exchange", exchange).ok()?;
            let keys = keys.iter().map(|key| Value::from(key.as_str())).collect();
            entry.insert("routing-keys", Value::Array(keys)).ok()?;
            entry
        }
    };
    deaths.insert(0, Value::Table(entry));
    Some(deaths)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn published(headers: Option<Table>, expiration: Option<&str>) -> Message {
        let mut table = BytesMut::new();
        let headers = headers.map(|headers| {
            headers.encode(&mut table).unwrap();
            TableRef::parse(&table).unwrap()
        });
        let properties = Properties { headers, expiration, message_id: Some("id"), ..Properties::default() };
        let mut encoded = BytesMut::new();
        properties.encode(&mut encoded).unwrap();
        let parts = MessageParts { exchange: "x", routing_key: "k", properties: &encoded, persistent: true };
        Message::new(parts, Bytes::from_static(b"body"))
    }

    fn headers(message: &Message) -> Table {
        Properties::decode(message.properties()).unwrap().headers.unwrap().to_owned()
    }

    fn die(message: &Message, queue: &str, time: u64, routing_key: Option<&str>) -> (Message, Vec<String>) {
        let to = DeadLetters { exchange: "dlx".into(), routing_key: routing_key.map(Into::into) };
        let Letter { message, further, .. } =
            letter(message, &Death { reason: Reason::Rejected, queue, time }, &to);
        (message, further)
    }

    fn entry(queue: &str, count: i64, time: u64, exchange: &str, keys: &[&str]) -> Value {
        let keys = keys.iter().map(|key| Value::from(*key)).collect();
        let entry = Table::new()
            .with("count", Value::I64(count))
            .with("reason", "rejected")
            .with("queue", queue)
            .with("time", Value::Timestamp(time))
            .with("exchange", exchange)
            .with("routing-keys", Value::Array(keys));
        Value::Table(entry)
    }

    #[test]
    fn a_letter_tells_of_its_death_and_keeps_the_rest() {
        let (dead, further) = die(&published(None, Some("1000")), "q", 7, None);
        assert_eq!((dead.exchange(), dead.routing_key(), further.len()), ("dlx", "k", 0));
        assert_eq!((dead.body(), dead.persistent()), (&b"body"[..], true));
        let properties = Properties::decode(dead.properties()).unwrap();
        assert_eq!((properties.message_id, properties.expiration), (Some("id"), None));
        let found = headers(&dead);
        let deaths = found.get("x-death").and_then(Value::as_array).unwrap();
        let names: Vec<_> = deaths[0].as_table().unwrap().iter().map(|(name, _)| name).collect();
        let expected =
            ["original-expiration", "count", "reason", "queue", "time", "exchange", "routing-keys"];
        assert_eq!(names, expected);
        for when in ["first", "last"] {
            for (what, value) in [("reason", "rejected"), ("queue", "q"), ("exchange", "x")] {
                assert_eq!(found.get(&format!("x-{when}-death-{what}")).unwrap().as_str(), Some(value));
            }
        }
    }

    #[test]
    fn deaths_are_counted_by_queue_and_the_latest_stands_first() {
        let (once, _) = die(&published(None, None), "q", 7, None);
        let (elsewhere, _) = die(&once, "r", 8, None);
        let (again, _) = die(&elsewhere, "q", 9, None);
        let found = headers(&again);
        let expected = [entry("q", 2, 7, "x", &["k"]), entry("r", 1, 8, "dlx", &["k"])];
        assert_eq!(found.get("x-death").unwrap().as_array().unwrap(), expected);
        let text = |name: &str| found.get(name).unwrap().as_str().unwrap().to_owned();
        assert_eq!((text("x-first-death-queue"), text("x-first-death-exchange")), ("q".into(), "x".into()));
        assert_eq!((text("x-last-death-queue"), text("x-last-death-exchange")), ("q".into(), "dlx".into()));
    }

    #[test]
    fn copies_go_on_with_their_keys_unless_the_queue_has_one() {
        let copies = Value::Array(vec!["a".into(), Value::I64(1), "b".into()]);
        let message = published(Some(Table::new().with("CC", copies).with("h", "v")), None);
        let (dead, further) = die(&message, "q", 7, None);
        assert_eq!(further, ["a", "b"]);
        let found = headers(&dead);
        assert_eq!(
            found.get("x-death").unwrap().as_array().unwrap(),
            [entry("q", 1, 7, "x", &["k", "a", "b"])]
        );
        assert!(found.get("CC").is_some() && found.get("h").is_some());
        let (dead, further) = die(&message, "q", 7, Some("other"));
        assert_eq!((dead.routing_key(), further.len()), ("other", 0));
        assert!(headers(&dead).get("CC").is_none());
    }

    #[test]
    fn headers_that_are_no_history_are_replaced_by_one() {
        let odd = Table::new().with("x-death", "yes");
        let (dead, _) = die(&published(Some(odd), None), "q", 7, None);
        let found = headers(&dead);
        assert_eq!(found.get("x-death").unwrap().as_array().unwrap(), [entry("q", 1, 7, "x", &["k"])]);
        assert!(found.get("x-first-death-reason").is_none(), "it is not known what came first");
    }
}
