//! Messages that are no queue's any more and still take memory.
//!
//! Invariant: nothing is freed before somebody asks for it, and everything says where it was stored.

use std::collections::btree_map;

use super::chunk::Chunk;
use super::unacked::{Homes, Unacked};
use super::{Backlog, Home};

/// Messages that left their queue all at once. To free them takes time in proportion to their number:
/// drop this, or take the messages out piece by piece, where nobody waits.
#[derive(Debug)]
pub struct Detached {
    remaining: u64,
    chunks: Vec<btree_map::IntoValues<u64, Chunk>>,
    present: Chunk,
    /// What was held, of a queue that is gone.
    unacked: Option<Homes>,
}

impl Detached {
    pub(super) fn new(remaining: u64, chunks: btree_map::IntoValues<u64, Chunk>) -> Self {
        Self { remaining, chunks: vec![chunks], present: Chunk::default(), unacked: None }
    }

    /// Messages still in here.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Adds more messages.
    pub(super) fn with(mut self, mut more: Backlog) -> Self {
        let Self { remaining, chunks, .. } = more.detach();
        self.remaining += remaining;
        self.chunks.extend(chunks);
        self
    }

    /// Adds what somebody holds.
    pub(super) fn with_unacked(self, unacked: Unacked) -> Self {
        Self { remaining: self.remaining + unacked.len(), unacked: Some(unacked.into_homes()), ..self }
    }

    fn pop(&mut self) -> Option<Home> {
        loop {
            if let Some(taken) = self.present.pop() {
                return Some(taken.slot.home);
            }
            match self.chunks.last_mut().map(Iterator::next) {
                Some(Some(next)) => self.present = next,
                Some(None) => drop(self.chunks.pop()),
                None => return self.unacked.as_mut()?.next(),
            }
        }
    }
}

/// Frees the messages one by one, and says where each was stored.
impl Iterator for Detached {
    type Item = Home;

    fn next(&mut self) -> Option<Home> {
        let home = self.pop()?;
        self.remaining -= 1;
        Some(home)
    }
}
