//! The messages that somebody holds: found by place, and listed per holder in the order of delivery.
//!
//! Invariant: every message in here is on exactly one [`List`], the one of the holder it names. The places
//! are grouped in small chunks, so that no operation touches more than one chunk and its neighbours on the
//! list; a chunk goes when it empties, all but one, which waits for the next delivery.

use std::collections::hash_map;
use std::vec;

use rustc_hash::FxHashMap;

use super::chunk::{Slot as Ready, Taken};
use super::counted::Counted;
use super::{Home, Kept, Moment, Terms};
use crate::model::{Message, Seq};

/// Places per chunk. What is left alone in its chunk costs `PLACES` slots of 56 bytes.
const PLACES: usize = 32;

/// The same, to count places with.
const STEP: u64 = PLACES as u64;

/// No place: the end of a list.
const NONE: u64 = u64::MAX;

/// The messages of one holder, from its oldest delivery to its latest.
#[derive(Debug)]
pub(super) struct List {
    head: u64,
    tail: u64,
    len: u64,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE, len: 0 };

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The oldest delivery.
    pub(super) fn first(&self) -> Option<Seq> {
        (self.head != NONE).then_some(Seq(self.head))
    }

    /// Takes a message off the list that [`Unacked::take`] took out of the store.
    pub(super) fn remove(&mut self, slot: &Slot) {
        if slot.prev == NONE {
            self.head = slot.next;
        }
        if slot.next == NONE {
            self.tail = slot.prev;
        }
        self.len -= 1;
    }
}

/// A held message and its neighbours on its holder's list.
#[derive(Debug)]
pub(super) struct Slot {
    /// None if it is in the log only.
    pub(super) message: Option<Message>,
    /// What was known when it was handed out.
    pub(super) ready: Ready,
    pub(super) holder: u32,
    pub(super) deadline: Moment,
    prev: u64,
    next: u64,
}

#[derive(Debug)]
struct Chunk {
    used: u32,
    slots: Box<[Option<Slot>; PLACES]>,
    /// What it takes itself.
    _own: Counted,
}

/// See the module's invariant.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    chunks: FxHashMap<u64, Chunk>,
    /// The chunk that emptied last; it may have filled again since.
    emptied: Option<u64>,
    len: u64,
}

impl Unacked {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Records a delivery to the holder with this number and list.
    pub(super) fn insert(&mut self, taken: Taken, holder: u32, list: &mut List) {
        let Taken { seq, slot: ready, deadline, message } = taken;
        let tail = list.tail;
        let slot = Slot { message, ready, deadline, prev: tail, next: NONE, holder };
        let (number, place) = locate(seq.0);
        let chunk = match self.chunks.get_mut(&number) {
            Some(chunk) => chunk,
            None => self.add_chunk(number),
        };
        chunk.put(place, slot);
        if let Some(before) = chunk.neighbour(number, tail) {
            before.next = seq.0;
        } else if tail != NONE {
            self.slot(tail).next = seq.0;
        } else {
            list.head = seq.0;
        }
        list.tail = seq.0;
        list.len += 1;
        self.len += 1;
    }

    /// Takes a message out if `held_by` agrees with its holder's number. [`List::remove`] comes next.
    pub(super) fn take(&mut self, seq: Seq, held_by: impl FnOnce(u32) -> bool) -> Option<Slot> {
        let (number, place) = locate(seq.0);
        let chunk = self.chunks.get_mut(&number)?;
        let slot = chunk.slots[place].take_if(|slot| held_by(slot.holder))?;
        chunk.used -= 1;
        let emptied = chunk.used == 0;
        // Neighbours mostly live in the same chunk, which saves the search for theirs.
        let mut far = (slot.prev, slot.next);
        if let Some(before) = chunk.neighbour(number, slot.prev) {
            before.next = slot.next;
            far.0 = NONE;
        }
        if let Some(after) = chunk.neighbour(number, slot.next) {
            after.prev = slot.prev;
            far.1 = NONE;
        }
        if far.0 != NONE {
            self.slot(far.0).next = slot.next;
        }
        if far.1 != NONE {
            self.slot(far.1).prev = slot.prev;
        }
        if emptied {
            self.retire(number);
        }
        self.len -= 1;
        Some(slot)
    }

    /// What was known of the message in this place when it was handed out.
    pub(super) fn find(&self, seq: Seq) -> Option<Kept> {
        let (number, place) = locate(seq.0);
        let slot = self.chunks.get(&number)?.slots[place].as_ref()?;
        Some(Kept {
            home: slot.ready.home,
            history: slot.ready.history(),
            terms: Terms { priority: slot.ready.priority(), deadline: slot.deadline },
            body_bytes: slot.ready.body_bytes,
        })
    }

    /// The message in this place is stored here from this moment on.
    pub(super) fn store(&mut self, seq: Seq, home: Home) {
        let (number, place) = locate(seq.0);
        let slot = self.chunks.get_mut(&number).and_then(|chunk| chunk.slots[place].as_mut());
        if let Some(slot) = slot {
            slot.ready.home = slot.ready.home.moved_to(home);
        }
    }

    /// Frees everything piece by piece, for a queue that is gone.
    pub(super) fn into_homes(self) -> Homes {
        Homes { chunks: self.chunks.into_values(), slots: Vec::new().into_iter() }
    }

    /// The places, ascending.
    pub(super) fn seqs(&self) -> Vec<Seq> {
        let mut chunks: Vec<_> = self.chunks.iter().collect();
        chunks.sort_unstable_by_key(|(number, _)| **number);
        let places = chunks.into_iter().flat_map(|(number, chunk)| {
            let taken = (0..).zip(chunk.slots.iter()).filter(|(_, slot)| slot.is_some());
            taken.map(move |(place, _)| Seq(number * STEP + place))
        });
        places.collect()
    }

    fn slot(&mut self, seq: u64) -> &mut Slot {
        let (number, _) = locate(seq);
        self.chunks
            .get_mut(&number)
            .and_then(|chunk| chunk.neighbour(number, seq))
            .expect("what a list names is in the store")
    }

    fn add_chunk(&mut self, number: u64) -> &mut Chunk {
        let idle = self.take_idle();
        let chunk = idle.unwrap_or_else(Chunk::new);
        self.chunks.entry(number).or_insert(chunk)
    }

    /// Keeps an emptied chunk in its place, for what comes next often lands there, and drops the one
    /// that was kept before.
    fn retire(&mut self, number: u64) {
        if self.emptied == Some(number) {
            return;
        }
        self.take_idle();
        self.emptied = Some(number);
        if self.chunks.capacity() > 1024 && self.chunks.len() < self.chunks.capacity() / 8 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }

    fn take_idle(&mut self) -> Option<Chunk> {
        let number = self.emptied.take()?;
        match self.chunks.get(&number) {
            Some(chunk) if chunk.used == 0 => self.chunks.remove(&number),
            _ => None,
        }
    }

    /// Places there is room for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.chunks.len() * PLACES + self.chunks.capacity()
    }
}

impl Chunk {
    fn new() -> Self {
        let mut own = Counted::default();
        own.set(size_of::<Self>() + size_of::<[Option<Slot>; PLACES]>());
        Self { used: 0, slots: Box::new([const { None }; PLACES]), _own: own }
    }

    fn put(&mut self, place: usize, slot: Slot) {
        debug_assert!(self.slots[place].is_none(), "a place is held once");
        self.slots[place] = Some(slot);
        self.used += 1;
    }

    /// The message in this place, if this chunk, whose number is given, has the place.
    fn neighbour(&mut self, number: u64, seq: u64) -> Option<&mut Slot> {
        let (other, place) = locate(seq);
        if other == number { self.slots[place].as_mut() } else { None }
    }
}

/// Frees held messages one by one and says where each was stored.
#[derive(Debug)]
pub(super) struct Homes {
    chunks: hash_map::IntoValues<u64, Chunk>,
    slots: vec::IntoIter<Option<Slot>>,
}

impl Iterator for Homes {
    type Item = Home;

    fn next(&mut self) -> Option<Home> {
        loop {
            if let Some(slot) = self.slots.by_ref().flatten().next() {
                return Some(slot.ready.home);
            }
            let slots: Box<[_]> = self.chunks.next()?.slots;
            self.slots = slots.into_vec().into_iter();
        }
    }
}

/// The number of a place's chunk and the index in it.
fn locate(seq: u64) -> (u64, usize) {
    (seq / STEP, (seq % STEP) as usize)
}
