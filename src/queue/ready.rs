//! The messages that nobody holds, in the order of their places.
//!
//! Invariant: `fresh` holds the places from `head` to `next` without a gap, all below `next` that came
//! back are in `returned`, and every place in `returned` is below `head`. So what came back goes first.

use std::collections::{BTreeMap, VecDeque, btree_map};

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
    pub(super) message: Message,
}

#[derive(Debug)]
struct Returned {
    redelivered: bool,
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

    /// Gives the message the next place.
    pub(super) fn push(&mut self, message: Message) -> Seq {
        let seq = Seq(self.next);
        self.next += 1;
        self.fresh.push(message);
        seq
    }

    /// Takes the message with the lowest place.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        if !self.returned.is_empty()
            && let Some((seq, Returned { redelivered, message })) = self.returned.pop_first()
        {
            return Some(Entry { seq, redelivered, message });
        }
        let message = self.fresh.pop()?;
        let seq = Seq(self.head);
        self.head += 1;
        Some(Entry { seq, redelivered: false, message })
    }

    /// Puts a message that [`Self::pop`] handed out back in its place.
    pub(super) fn put_back(&mut self, entry: Entry) {
        let Entry { seq, redelivered, message } = entry;
        debug_assert!(seq.0 < self.head, "only what was handed out comes back");
        self.returned.insert(seq, Returned { redelivered, message });
    }

    /// Takes everything, without touching the single messages.
    pub(super) fn detach(&mut self) -> Detached {
        let remaining = self.len();
        self.head = self.next;
        let returned = std::mem::take(&mut self.returned).into_iter();
        Detached { remaining, returned, fresh: std::mem::take(&mut self.fresh) }
    }
}

/// Messages that left their queue all at once. To free them takes time in proportion to their number:
/// drop this, or take the messages out piece by piece, where nobody waits.
#[derive(Debug)]
pub struct Detached {
    remaining: u64,
    returned: btree_map::IntoIter<Seq, Returned>,
    fresh: Chunks,
}

impl Detached {
    /// Messages still in here.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Iterator for Detached {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let message = match self.returned.next() {
            Some((_, returned)) => returned.message,
            None => self.fresh.pop()?,
        };
        self.remaining -= 1;
        Some(message)
    }
}

/// A queue of messages in chunks. `first` is empty only if `rest` is; every chunk of `rest` holds
/// something, and all but its last are full.
#[derive(Debug, Default)]
struct Chunks {
    first: VecDeque<Message>,
    rest: VecDeque<VecDeque<Message>>,
}

impl Chunks {
    fn push(&mut self, message: Message) {
        if self.rest.is_empty() && self.first.len() < CHUNK {
            self.first.push_back(message);
        } else {
            self.push_rest(message);
        }
    }

    fn push_rest(&mut self, message: Message) {
        match self.rest.back_mut() {
            Some(last) if last.len() < CHUNK => last.push_back(message),
            _ => {
                let mut last = VecDeque::with_capacity(CHUNK);
                last.push_back(message);
                self.rest.push_back(last);
            }
        }
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.first.pop_front()?;
        if self.first.is_empty() {
            self.advance();
        }
        Some(message)
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
