//! The places of ready messages by priority, for queues that have priorities.
//!
//! Invariant: a place is in here exactly while its backlog has it, under the priority that its slot says. No entry is
//! empty, and `occupied` has a bit for every priority that has entries.

use std::collections::BTreeMap;

use super::chunk::PLACES;
use super::counted::Counted;
use crate::model::Seq;

/// What an entry takes in a tree whose nodes are half full, as those are that were filled in ascending order.
const ENTRY_BYTES: usize = 2 * size_of::<(u64, u64)>();

/// Bits of a word.
const WORD: usize = 64;

/// Which of the places of one chunk: a bit for each.
pub(super) type Places = u64;

/// See the module's invariant.
#[derive(Debug)]
pub(super) struct Levels {
    /// By priority, up to the highest that has been in use: chunks by number, and their places of this priority.
    chunks: Vec<BTreeMap<u64, Places>>,
    occupied: [u64; (u8::MAX as usize + 1) / WORD],
    entries: usize,
    /// What it takes itself.
    own: Counted,
}

impl Levels {
    pub(super) fn new() -> Self {
        let occupied = [0; _];
        let mut levels = Self { chunks: Vec::new(), occupied, entries: 0, own: Counted::default() };
        levels.count();
        levels
    }

    /// A place is taken.
    pub(super) fn add(&mut self, seq: Seq, priority: u8) {
        let level = usize::from(priority);
        if self.chunks.len() <= level {
            self.chunks.resize_with(level + 1, BTreeMap::new);
        }
        let (number, bit) = locate(seq);
        let chunks = &mut self.chunks[level];
        // What comes in mostly goes to the last chunk.
        if let Some(mut last) = chunks.last_entry()
            && *last.key() == number
        {
            *last.get_mut() |= bit;
            return;
        }
        let places = chunks.entry(number).or_default();
        let new = *places == 0;
        *places |= bit;
        if new {
            self.entries += 1;
            self.occupied[level / WORD] |= 1 << (level % WORD);
            self.count();
        }
    }

    /// A place is vacant again.
    pub(super) fn remove(&mut self, seq: Seq, priority: u8) {
        let level = usize::from(priority);
        let (number, bit) = locate(seq);
        let Some(chunks) = self.chunks.get_mut(level) else { return };
        // What leaves is mostly in the first chunk.
        let first = chunks.first_entry().filter(|first| *first.key() == number);
        let emptied = if let Some(mut first) = first {
            *first.get_mut() &= !bit;
            *first.get() == 0 && first.remove() == 0
        } else if let Some(places) = chunks.get_mut(&number) {
            *places &= !bit;
            *places == 0 && chunks.remove(&number).is_some()
        } else {
            false
        };
        if emptied {
            if chunks.is_empty() {
                self.occupied[level / WORD] &= !(1 << (level % WORD));
            }
            self.entries -= 1;
            self.count();
        }
    }

    /// The place whose message is next: the lowest of the highest priority.
    pub(super) fn first(&self) -> Option<Seq> {
        let (index, word) = self.occupied.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        let level = index * WORD + word.ilog2() as usize;
        let (number, places) = self.chunks[level].first_key_value()?;
        Some(Seq(number * PLACES + u64::from(places.trailing_zeros())))
    }

    /// Chunks by number with some of their places, in the order in which the messages are handed out.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Places)> {
        self.chunks.iter().rev().flatten().map(|(number, places)| (*number, *places))
    }

    /// Bytes of memory it takes, as far as it knows.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.chunks.capacity() * size_of::<BTreeMap<u64, Places>>()
            + self.entries * ENTRY_BYTES
    }

    fn count(&mut self) {
        self.own.set(self.bytes());
    }
}

/// The places that the bits stand for, ascending.
pub(super) fn seqs(number: u64, mut places: Places) -> impl Iterator<Item = Seq> {
    std::iter::from_fn(move || {
        let place = u64::from((places != 0).then(|| places.trailing_zeros())?);
        places &= places - 1;
        Some(Seq(number * PLACES + place))
    })
}

/// The number of a place's chunk, and its bit.
fn locate(seq: Seq) -> (u64, Places) {
    (seq.0 / PLACES, 1 << (seq.0 % PLACES))
}

const _: () = assert!(PLACES == Places::BITS as u64, "a chunk's places fit into a word");
