//! What a write to the topology changed, cascades included.
//!
//! Invariant: changes stand in the order in which they happened; replaying the durable ones rebuilds the
//! durable part of the topology.

use super::route::ExchangeId;
use crate::model::{Definition, DefinitionChange};

/// Whether a declaration created something.
#[derive(Clone, Debug, PartialEq)]
pub enum Declared {
    /// It did not exist before.
    Created(Changes),
    /// It exists already, declared equivalently.
    Existing,
}

impl Declared {
    /// What it changed: nothing if it existed.
    #[must_use]
    pub fn into_changes(self) -> Changes {
        match self {
            Self::Created(changes) => changes,
            Self::Existing => Changes::default(),
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub change: DefinitionChange,
    /// It survives a restart, so it is to be made durable before it is answered. A binding is durable if both
    /// its ends are.
    pub durable: bool,
}

/// What one write changed, in order; empty if everything was as asked for already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    changes: Vec<Change>,
    gone_exchanges: Vec<ExchangeId>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Every change, transient ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// The changes that are to be made durable.
    pub fn into_durable(self) -> impl Iterator<Item = DefinitionChange> {
        self.changes.into_iter().filter(|change| change.durable).map(|change| change.change)
    }

    /// Exchanges that are gone, those deleted with their last binding among them: whatever is counted by their
    /// identity can be forgotten.
    #[must_use]
    pub fn gone_exchanges(&self) -> &[ExchangeId] {
        &self.gone_exchanges
    }

    pub(super) fn put(&mut self, definition: Definition, durable: bool) {
        self.changes.push(Change { change: DefinitionChange::Put(definition), durable });
    }

    pub(super) fn exchange_gone(&mut self, id: ExchangeId) {
        self.gone_exchanges.push(id);
    }

    pub(super) fn delete(&mut self, definition: Definition, durable: bool) {
        self.changes.push(Change { change: DefinitionChange::Delete(definition), durable });
    }
}
