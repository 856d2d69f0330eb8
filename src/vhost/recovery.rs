//! A vhost as it comes back: its definitions, and what its durable queues kept.
//!
//! Invariant: a queue has the messages that were stored for it under the id it has; an id that any record of the log
//! may still speak of is not given out again.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::slot::QueueSlot;
use super::state::Vhost;
use super::{Entry, ExchangeCounters, Journal, VhostOptions};
use crate::model::{
    BindingDefinition, Definition, Destination, ExchangeKind, ExchangeName, QueueDefinition, QueueId,
    QueueName, Seq, VhostName,
};
use crate::queue::{Backlog, Moment};
use crate::topology::Refusal;

/// What is there at start.
#[derive(Debug)]
pub struct Restored {
    /// The durable definitions: exchanges before queues before bindings, and policies anywhere.
    pub definitions: Vec<Definition>,
    /// What durable queues kept, by name.
    pub queues: FxHashMap<QueueName, RestoredQueue>,
    /// What waited at durable delayed message exchanges, by name.
    pub delays: FxHashMap<ExchangeName, RestoredQueue>,
    /// No record speaks of a queue with this id or a higher one.
    pub next_queue: u64,
    /// What time it is.
    pub now: Moment,
    /// The log does not say which messages are marked as redelivered.
    pub marks_unknown: bool,
}

impl Default for Restored {
    fn default() -> Self {
        Self {
            definitions: Vec::new(),
            queues: FxHashMap::default(),
            delays: FxHashMap::default(),
            next_queue: 0,
            now: Moment(0),
            marks_unknown: false,
        }
    }
}

/// What a durable queue kept.
#[derive(Debug)]
pub struct RestoredQueue {
    /// The id under which it was kept.
    pub id: QueueId,
    /// No message was ever in this place or a higher one.
    pub next: Seq,
    /// Its messages.
    pub messages: Backlog,
}

/// What came of a vhost's restoration, besides the vhost.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Definitions that the topology refuses, each with its reason; the others are in force.
    pub refused: Vec<(Definition, Refusal)>,
    /// Queues that kept messages and are not defined, with how many; they are gone.
    pub undefined: Vec<(QueueName, u64)>,
    /// What is to be stored before anything else.
    pub journal: Journal,
}

/// Brings bindings into the order in which their queues were declared, where it matters: a consistent hash exchange
/// lays its destinations out in the order of their bindings, and is to do so again as it did before the restart.
fn in_order_of_queues(definitions: &mut [Definition], queues: &FxHashMap<QueueName, RestoredQueue>) {
    let matters = |definition: &Definition| matches!(definition, Definition::Exchange(exchange) if [ExchangeKind::ConsistentHash, ExchangeKind::Delayed].contains(&exchange.kind));
    if !definitions.iter().any(matters) {
        return;
    }
    let first = definitions.iter().position(|definition| matches!(definition, Definition::Binding(_)));
    let Some(first) = first else { return };
    let bindings = &mut definitions[first..];
    bindings.sort_by_cached_key(|definition| match definition {
        Definition::Binding(BindingDefinition { destination: Destination::Queue(name), .. }) => {
            queues.get(name).map_or(u64::MAX, |queue| queue.id.0)
        }
        _ => u64::MAX,
    });
}

impl Vhost {
    /// A vhost as it was.
    #[must_use]
    pub fn restore(name: VhostName, options: VhostOptions, restored: Restored) -> (Self, RestoreReport) {
        let Restored { mut definitions, mut queues, mut delays, next_queue, marks_unknown, now } = restored;
        in_order_of_queues(&mut definitions, &queues);
        let mut vhost = Self::new(name, options, next_queue);
        vhost.set_time(now);
        let mut report = RestoreReport::default();
        // Policies first: what comes after them begins with the settings it will have.
        let is_policy = |definition: &Definition| matches!(definition, Definition::Policy(_));
        let (policies, objects): (Vec<_>, Vec<_>) = definitions.into_iter().partition(is_policy);
        for definition in policies.into_iter().chain(objects) {
            let result = match &definition {
                Definition::Queue(queue) if queues.contains_key(&queue.name) => {
                    let kept = queues.remove(&queue.name).expect("it was just seen");
                    if marks_unknown {
                        // Otherwise a clean stop would say that those which nobody gets until then have no mark.
                        let marked = kept.messages.iter().filter(|(_, _, history)| history.redelivered);
                        marked.for_each(|(seq, _, history)| report.journal.came_back(kept.id, seq, history));
                    }
                    vhost.restore_queue(queue.clone(), kept, &mut report.journal)
                }
                Definition::Exchange(exchange) => {
                    let kept = delays.remove(&exchange.name);
                    vhost.add_exchange(exchange.clone(), kept, &mut report.journal).map(drop)
                }
                _ => vhost.declare(definition.clone(), &mut report.journal).map(drop),
            };
            if let Err(refusal) = result {
                report.refused.push((definition, refusal));
            }
        }
        let of_exchanges = delays.into_iter().map(|(name, kept)| (QueueName::from(name.as_str()), kept));
        for (name, kept) in queues.into_iter().chain(of_exchanges) {
            report.journal.entries.push(Entry::Deleted(kept.id));
            for home in kept.messages.iter().filter_map(|(_, home, _)| home.stored()) {
                report.journal.freed(home.0, home.1);
            }
            report.undefined.push((name, kept.messages.len()));
        }
        let exchanges = vhost.topology.exchanges();
        vhost.exchanges = exchanges
            .filter_map(|exchange| vhost.topology.exchange_id(exchange.name.as_str()))
            .map(|id| (id, ExchangeCounters::default()))
            .collect();
        (vhost, report)
    }

    fn restore_queue(
        &mut self,
        definition: QueueDefinition,
        kept: RestoredQueue,
        journal: &mut Journal,
    ) -> Result<(), Refusal> {
        let name = definition.name.clone();
        self.topology.declare_queue(definition, kept.id, None)?;
        let entry = self.topology.queue(name.as_str()).expect("it was just declared");
        let policies = self.topology.policies_of_queue(&entry.definition);
        let mut slot = QueueSlot::new(kept.id, Arc::clone(&entry.definition), policies, &self.options);
        slot.queue.recover(kept.messages, kept.next);
        self.calendar.arm(&mut slot);
        self.calendar.renew(&mut slot);
        for (seq, _) in slot.queue.exhausted() {
            // What is to be dead-lettered has to be read first.
            if let Some(dead) = slot.queue.exhaust(seq) {
                journal.gone(kept.id, dead.seq, dead.home);
            }
        }
        if slot.is_overfull() {
            self.overfull.insert(kept.id);
        }
        let dying = slot.queue.has_dying();
        self.queues.insert(kept.id, slot);
        if dying {
            self.mark_dirty(kept.id);
        }
        Ok(())
    }
}
