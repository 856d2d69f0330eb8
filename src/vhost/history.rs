//! What recent history exchanges remember, and how a new binding gets it.
//!
//! Invariant: a history is the last messages that passed its exchange and were not marked otherwise, without gaps: at
//! most as many as the exchange's length and [`HISTORY_BYTES`] allow. It lives in memory and ends with the broker.

use std::collections::VecDeque;

use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{TableRef, ValueRef};
use rustc_hash::FxHashMap;

use super::Effects;
use super::death::routing_keys;
use super::state::Vhost;
use crate::model::{BindingDefinition, Definition, DefinitionChange, Destination, Message};
use crate::topology::{Changes, ExchangeId, Recorder, Targets};

/// What one history may hold, in bytes of memory. The oldest messages leave it first.
pub(super) const HISTORY_BYTES: usize = 16 * 1024 * 1024;

/// The header with which a message asks not to be remembered.
const NO_STORE: &str = "x-recent-history-no-store";

/// The histories of one vhost.
#[derive(Debug, Default)]
pub(super) struct Histories {
    histories: FxHashMap<ExchangeId, History>,
    lots: u64,
}

/// Messages, the oldest first.
#[derive(Debug, Default)]
struct History {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl History {
    fn push(&mut self, message: Message, length: u64) {
        self.bytes += message.cost();
        self.messages.push_back(message);
        while self.bytes > HISTORY_BYTES || self.messages.len() as u64 > length {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= oldest.cost();
        }
    }
}

impl Histories {
    /// Forgets an exchange that is gone.
    pub(super) fn forget(&mut self, exchange: ExchangeId) {
        self.histories.remove(&exchange);
    }

    /// A different number for each message that the vhost itself routes.
    pub(super) fn next_lot(&mut self) -> u64 {
        self.lots += 1;
        self.lots
    }

    fn messages(&self, exchange: ExchangeId) -> Vec<Message> {
        self.histories
            .get(&exchange)
            .map(|history| history.messages.iter().cloned().collect())
            .unwrap_or_default()
    }
}

impl Vhost {
    /// Puts a message where it goes, and into the histories that it passes.
    #[inline(never)]
    pub(super) fn publish_recorded(
        &mut self,
        targets: &Targets,
        message: &Message,
        effects: &mut Effects,
    ) -> bool {
        self.remember(targets, message);
        let mut taken = true;
        for queue in targets.queues() {
            taken &= self.enqueue(*queue, message.clone(), effects);
        }
        taken
    }

    /// Puts a message into the histories that it passes.
    pub(super) fn remember(&mut self, targets: &Targets, message: &Message) {
        let Targets::Recorded(recorded) = targets else { return };
        if asks_to_be_forgotten(message) {
            return;
        }
        for Recorder { exchange, length } in &recorded.recorders {
            // It may have been deleted since the snapshot.
            if self.exchanges.contains_key(exchange) {
                self.histories.histories.entry(*exchange).or_default().push(message.clone(), *length);
            }
        }
    }

    /// Gives new bindings what their sources remember.
    pub(super) fn replay(&mut self, changes: &Changes, effects: &mut Effects) {
        for change in changes.iter() {
            if let DefinitionChange::Put(Definition::Binding(binding)) = &change.change {
                self.replay_to(binding, effects);
            }
        }
    }

    fn replay_to(&mut self, binding: &BindingDefinition, effects: &mut Effects) {
        let Some(source) = self.topology.exchange_id(binding.source.as_str()) else { return };
        for message in self.histories.messages(source) {
            match &binding.destination {
                Destination::Queue(name) => {
                    if let Some(queue) = self.topology.queue(name.as_str()).map(|entry| entry.id) {
                        self.enqueue(queue, message, effects);
                    }
                }
                Destination::Exchange(name) => {
                    let headers = Properties::decode(message.properties()).ok().and_then(|p| p.headers);
                    let headers = headers.map(|headers| headers.to_owned()).unwrap_or_default();
                    let keys = routing_keys(&message, &headers);
                    let further: Vec<&str> = keys.iter().skip(1).map(String::as_str).collect();
                    let Some(targets) = self.targets(&message, name.as_str(), &further) else { continue };
                    self.publish_recorded(&targets, &message, effects);
                }
            }
        }
    }
}

fn asks_to_be_forgotten(message: &Message) -> bool {
    let Ok(properties) = Properties::decode(message.properties()) else { return false };
    let mut headers = properties.headers.iter().flat_map(TableRef::iter);
    let found = headers.find(|(name, _)| *name == NO_STORE);
    matches!(found, Some((_, ValueRef::Boolean(true))))
}
