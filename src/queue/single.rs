//! Which consumer has the messages, in a queue that gives them to one consumer at a time.
//!
//! Invariant: if there is a living consumer, one is active. It stays that until it is gone, however long it takes
//! nothing; by priority also until it holds nothing and one of a higher priority stands in the line.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// When another consumer becomes the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// When the active one is gone.
    AtItsEnd,
    /// Also when there is one of a higher priority, as soon as the active one holds nothing.
    ByPriority,
}

/// Highest priority first, then in the order in which they were started.
type Rank = (Reverse<i64>, u64);

/// See the module's invariant.
#[derive(Debug)]
pub(super) struct Single {
    succession: Succession,
    active: Option<u32>,
    line: BTreeMap<Rank, u32>,
    ranks: FxHashMap<u32, Rank>,
    started: u64,
}

impl Single {
    pub(super) fn new(succession: Succession) -> Self {
        let (line, ranks) = (BTreeMap::new(), FxHashMap::default());
        Self { succession, active: None, line, ranks, started: 0 }
    }

    /// A consumer was started.
    pub(super) fn join(&mut self, number: u32, priority: i64) {
        let rank = (Reverse(priority), self.started);
        self.started += 1;
        self.line.insert(rank, number);
        self.ranks.insert(number, rank);
    }

    /// A consumer is gone.
    pub(super) fn leave(&mut self, number: u32) {
        if let Some(rank) = self.ranks.remove(&number) {
            self.line.remove(&rank);
        }
        self.active.take_if(|active| *active == number);
    }

    /// Who gets the next message, and nobody else does until it is gone. None while the active one gives way.
    pub(super) fn taker(&self) -> Option<u32> {
        let gives_way = self.succession == Succession::ByPriority && self.first() != self.active;
        self.active.filter(|_| !gives_way)
    }

    /// Chooses anew if the active one is gone or has to give way; `is_idle` says of it whether it holds nothing.
    pub(super) fn choose(&mut self, is_idle: impl FnOnce(u32) -> bool) {
        let gives_way = match self.succession {
            Succession::AtItsEnd => self.active.is_none(),
            Succession::ByPriority => self.active.is_none_or(is_idle),
        };
        if gives_way {
            self.active = self.first();
        }
    }

    fn first(&self) -> Option<u32> {
        self.line.first_key_value().map(|(_, number)| *number)
    }
}
