//! The messages that nobody holds, in the order of their places.
//!
//! Invariant: `fresh` holds the places from `head` to `next` without a gap, all below `next` that came
//! back are in `returned`, and every place in `returned` is below `head`. So what came back goes first.

use std::collections::{BTreeMap, VecDeque, btree_map};

use super::Home;
use super::unacked::{Homes, Unacked};
use crate::model::{Message, Seq};

/// Messages per chunk of the backlog: growing, shrinking and detaching never touch more than one chunk.
const CHUNK: usize = 1024;

/// Room that an emptied queue keeps, in messages, so that small bursts do not allocate.
const KEPT: usize = 64;

/// A message in its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: Seq,
    /// A client may have received it before.
    pub(super) redelivered: bool,
    pub(super) home: Home,
    pub(super) message: Message,
}

#[derive(Debug)]
struct Returned {
    redelivered: bool,
    home: Home,
    message: Message,
}

#[derive(Debug)]
struct Fresh {
    home: Home,
    message: Message,
}

/// See the module's invariant.
#[derive(Debug, Default)]
pub(super) struct Ready {
    head: u64,
    next: u64,
    fresh: Chunks,
    returned: BTreeMap<Seq, Returned>,
}

impl Ready {
    pub(super) fn len(&self) -> u64 {
        self.next - self.head + self.returned.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.next && self.returned.is_empty()
    }

    /// The place that the next message gets.
    pub(super) fn next(&self) -> Seq {
        Seq(self.next)
    }

    /// Gives the message the next place.
    pub(super) fn push(&mut self, message: Message, home: Home) -> Seq {
        let seq = Seq(self.next);
        self.next += 1;
        self.fresh.push(Fresh { home, message });
        seq
    }

    /// Leaves out the places below `next`, all of which were given away before. Nothing is in here yet.
    pub(super) fn skip_to(&mut self, next: Seq) {
        debug_assert!(self.is_empty(), "places are left out before the first message");
        self.head = next.0;
        self.next = next.0;
    }

    /// Where the message in this place is stored, and whether a client may have received it.
    pub(super) fn find(&mut self, seq: Seq) -> Option<(&mut Home, bool)> {
        if seq.0 < self.head {
            return self.returned.get_mut(&seq).map(|returned| (&mut returned.home, returned.redelivered));
        }
        let index = usize::try_from(seq.0 - self.head).ok()?;
        self.fresh.get_mut(index).map(|fresh| (&mut fresh.home, false))
    }

    /// Takes the message with the lowest place.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        if !self.returned.is_empty()
            && let Some((seq, Returned { redelivered, home, message })) = self.returned.pop_first()
        {
            return Some(Entry { seq, redelivered, home, message });
        }
        let Fresh { home, message } = self.fresh.pop()?;
        let seq = Seq(self.head);
        self.head += 1;
        Some(Entry { seq, redelivered: false, home, message })
    }

    /// Puts a message that [`Self::pop`] handed out back in its place.
    pub(super) fn put_back(&mut self, entry: Entry) {
        let Entry { seq, redelivered, home, message } = entry;
        debug_assert!(seq.0 < self.head, "only what was handed out comes back");
        self.returned.insert(seq, Returned { redelivered, home, message });
    }

    /// Takes everything, without touching the single messages.
    pub(super) fn detach(&mut self) -> Detached {
        let remaining = self.len();
        self.head = self.next;
        let returned = std::mem::take(&mut self.returned).into_iter();
        Detached { remaining, returned, fresh: std::mem::take(&mut self.fresh), unacked: None }
    }
}

/// Messages that left their queue all at once. To free them takes time in proportion to their number:
/// drop this, or take the messages out piece by piece, where nobody waits.
#[derive(Debug)]
pub struct Detached {
    remaining: u64,
    returned: btree_map::IntoIter<Seq, Returned>,
    fresh: Chunks,
    /// What was held, of a queue that is gone.
    unacked: Option<Homes>,
}

impl Detached {
    /// Messages still in here.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Adds what somebody holds.
    pub(super) fn with_unacked(self, unacked: Unacked) -> Self {
        Self { remaining: self.remaining + unacked.len(), unacked: Some(unacked.into_homes()), ..self }
    }

    fn pop(&mut self) -> Option<Home> {
        if let Some((_, returned)) = self.returned.next() {
            return Some(returned.home);
        }
        if let Some(fresh) = self.fresh.pop() {
            return Some(fresh.home);
        }
        self.unacked.as_mut()?.next()
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

/// A queue of messages in chunks. `first` is empty only if `rest` is; every chunk of `rest` holds
/// something, and all but its last are full.
#[derive(Debug, Default)]
struct Chunks {
    first: VecDeque<Fresh>,
    rest: VecDeque<VecDeque<Fresh>>,
}

impl Chunks {
    fn push(&mut self, fresh: Fresh) {
        if self.rest.is_empty() && self.first.len() < CHUNK {
            self.first.push_back(fresh);
        } else {
            self.push_rest(fresh);
        }
    }

    fn push_rest(&mut self, fresh: Fresh) {
        match self.rest.back_mut() {
            Some(last) if last.len() < CHUNK => last.push_back(fresh),
            _ => {
                let mut last = VecDeque::with_capacity(CHUNK);
                last.push_back(fresh);
                self.rest.push_back(last);
            }
        }
    }

    fn pop(&mut self) -> Option<Fresh> {
        let fresh = self.first.pop_front()?;
        if self.first.is_empty() {
            self.advance();
        }
        Some(fresh)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Fresh> {
        match index.checked_sub(self.first.len()) {
            None => self.first.get_mut(index),
            // All but the last chunk of the rest are full.
            Some(index) => self.rest.get_mut(index / CHUNK)?.get_mut(index % CHUNK),
        }
    }

    /// Moves on from an emptied first chunk and gives back memory that a backlog needed.
    fn advance(&mut self) {
        if let Some(next) = self.rest.pop_front() {
            self.first = next;
            if self.rest.capacity() > CHUNK && self.rest.len() < self.rest.capacity() / 8 {
                self.rest.shrink_to(self.rest.len() * 2);
            }
        } else {
            if self.rest.capacity() > 0 {
                self.rest = VecDeque::new();
            }
            if self.first.capacity() > KEPT {
                self.first.shrink_to(KEPT);
            }
        }
    }

    /// Messages there is room for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.first.capacity() + self.rest.iter().map(VecDeque::capacity).sum::<usize>() + self.rest.capacity()
    }
}

#[cfg(test)]
impl Ready {
    /// Places there is room for, directory entries included.
    pub(super) fn capacity(&self) -> usize {
        self.fresh.capacity()
    }
}
