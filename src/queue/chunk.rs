//! Neighbouring places of a queue: twenty bytes for each, and beside them the messages that are in memory, and the
//! moments from which on they are not handed out any more.
//!
//! Invariant: the first and the last slot are taken; between them there may be vacant ones. The column of messages is
//! as long as that of the slots, or empty when no message is in memory; so is that of the deadlines, which is empty
//! when there are none.

use std::collections::VecDeque;

use super::counted::Counted;
use super::home::Location;
use super::levels::{Places, seqs};
use super::{History, Home, Moment};
use crate::model::{Message, Seq};

/// Places of a chunk: few enough that two that are far apart cost little, many enough that finding a chunk is rare.
pub(super) const PLACES: u64 = 64;

/// What is known of a place without its message and its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) home: Home,
    /// Octets of the message's body.
    pub(super) body_bytes: u32,
    delivery_count: u16,
    marks: u8,
    /// Without meaning if nothing is said about it.
    priority: u8,
}

/// A client may have received it before.
const REDELIVERED: u8 = 1;
/// Nothing is said about its priority.
const UNSAID: u8 = 2;

const VACANT: Slot = Slot { home: Home::VACANT, body_bytes: 0, delivery_count: 0, marks: 0, priority: 0 };

impl Slot {
    pub(super) fn new(home: Home, body_bytes: u32, priority: Option<u8>) -> Self {
        let marks = if priority.is_none() { UNSAID } else { 0 };
        Self { home, body_bytes, marks, priority: priority.unwrap_or(0), ..VACANT }
    }

    /// The same with another past.
    pub(super) fn with(self, history: History) -> Self {
        let History { redelivered, delivery_count } = history;
        let marks = if redelivered { self.marks | REDELIVERED } else { self.marks & !REDELIVERED };
        Self { delivery_count, marks, ..self }
    }

    /// What clients have done with the message.
    pub(super) fn history(&self) -> History {
        History { redelivered: self.marks & REDELIVERED != 0, delivery_count: self.delivery_count }
    }

    /// What is said about its priority.
    pub(super) fn priority(&self) -> Option<u8> {
        (self.marks & UNSAID == 0).then_some(self.priority)
    }

    fn is_vacant(&self) -> bool {
        self.home == Home::VACANT
    }
}

/// See the module's invariant.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The place of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    messages: VecDeque<Option<Message>>,
    deadlines: VecDeque<Moment>,
    /// No deadline is earlier.
    due: Moment,
    taken: u32,
    resident: u32,
    /// Messages that are in memory only, and not about to be stored.
    unstored: u32,
    /// What messages that are in memory and in the log cost in memory.
    cached_bytes: u64,
    /// Octets of the bodies, wherever they are.
    body_bytes: u64,
    /// Somebody remembers it as one whose messages may go.
    pub(super) listed: bool,
    /// What it takes itself.
    own: Counted,
}

/// A message that left its chunk.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) seq: Seq,
    pub(super) slot: Slot,
    pub(super) deadline: Moment,
    /// None if it is in the log only.
    pub(super) message: Option<Message>,
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            first: 0,
            slots: VecDeque::new(),
            messages: VecDeque::new(),
            deadlines: VecDeque::new(),
            due: Moment::NEVER,
            taken: 0,
            resident: 0,
            unstored: 0,
            cached_bytes: 0,
            body_bytes: 0,
            listed: false,
            own: Counted::default(),
        }
    }
}

impl Chunk {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether it has no place like this one or a higher one.
    pub(super) fn ends_before(&self, seq: Seq) -> bool {
        self.first + self.slots.len() as u64 <= seq.0
    }

    /// Places that are taken.
    pub(super) fn taken(&self) -> u32 {
        self.taken
    }

    /// Places whose messages are in the log only.
    pub(super) fn absent(&self) -> u32 {
        self.taken - self.resident
    }

    pub(super) fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    /// Octets of the bodies, wherever they are.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// No deadline is earlier than this one.
    pub(super) fn due(&self) -> Moment {
        self.due
    }

    /// Messages that are in memory only, and not about to be stored.
    pub(super) fn unstored(&self) -> u32 {
        self.unstored
    }

    /// Whether somebody is to remember it from here on, because it has messages that may leave memory.
    pub(super) fn list(&mut self) -> bool {
        self.cached_bytes > 0 && !std::mem::replace(&mut self.listed, true)
    }

    /// The first place, and its message if that is in memory.
    pub(super) fn front(&self) -> Option<(Seq, &Slot, Option<&Message>)> {
        let slot = self.slots.front()?;
        Some((Seq(self.first), slot, self.messages.front().and_then(Option::as_ref)))
    }

    /// A place that is taken, and its message if that is in memory.
    pub(super) fn at(&self, seq: Seq) -> Option<(Seq, &Slot, Option<&Message>)> {
        let index = self.index(seq)?;
        let slot = self.slots.get(index).filter(|slot| !slot.is_vacant())?;
        Some((seq, slot, self.messages.get(index).and_then(Option::as_ref)))
    }

    /// Says of every message what priority it has, given what was said about it.
    pub(super) fn prioritise(&mut self, mut priority: impl FnMut(Seq, Option<u8>) -> u8) {
        let taken = (self.first..).zip(&mut self.slots).filter(|(_, slot)| !slot.is_vacant());
        taken.for_each(|(seq, slot)| {
            slot.priority = priority(Seq(seq), slot.priority());
            slot.marks &= !UNSAID;
        });
    }

    /// Takes a place, which is vacant.
    pub(super) fn put(&mut self, taken: Taken) {
        let Taken { seq, slot, deadline, message } = taken;
        if self.slots.is_empty() {
            self.first = seq.0;
        }
        self.taken += 1;
        self.body_bytes += u64::from(slot.body_bytes);
        if let Some(message) = &message {
            self.resident += 1;
            self.cached_bytes += cached(slot.home, message);
            self.unstored += u32::from(slot.home == Home::NONE);
        }
        if seq.0 == self.first + self.slots.len() as u64 {
            if message.is_some() || !self.messages.is_empty() {
                self.make_column();
                self.messages.push_back(message);
            }
            if !self.deadlines.is_empty() {
                self.deadlines.push_back(Moment::NEVER);
            }
            self.slots.push_back(slot);
        } else {
            self.reach(seq);
            if message.is_some() {
                self.make_column();
            }
            let index = self.index(seq).expect("the slots reach it");
            debug_assert!(self.slots[index].is_vacant(), "a place is taken once");
            self.slots[index] = slot;
            if let Some(own) = self.messages.get_mut(index) {
                *own = message;
            }
        }
        if deadline < Moment::NEVER {
            self.set_deadline(seq, deadline);
        }
        self.own.set(self.capacity_bytes());
    }

    /// Sets the deadline of the message in this place.
    fn set_deadline(&mut self, seq: Seq, deadline: Moment) {
        let Some(index) = self.index(seq) else { return };
        if self.deadlines.is_empty() {
            self.deadlines.resize(self.slots.len(), Moment::NEVER);
        }
        self.deadlines[index] = deadline;
        self.due = self.due.min(deadline);
    }

    /// Takes the first message out.
    pub(super) fn pop(&mut self) -> Option<Taken> {
        let slot = self.slots.pop_front()?;
        let message = self.messages.pop_front().flatten();
        let deadline = self.deadlines.pop_front().unwrap_or(Moment::NEVER);
        let seq = Seq(self.first);
        self.first += 1;
        self.left(slot, message.as_ref());
        self.trim();
        Some(Taken { seq, slot, deadline, message })
    }

    /// Takes a message out.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Taken> {
        let index = self.index(seq)?;
        let slot = std::mem::replace(&mut self.slots[index], VACANT);
        if slot.is_vacant() {
            return None;
        }
        let message = self.messages.get_mut(index).and_then(Option::take);
        let deadline = self.deadlines.get_mut(index);
        let deadline = deadline.map_or(Moment::NEVER, |own| std::mem::replace(own, Moment::NEVER));
        self.left(slot, message.as_ref());
        self.trim();
        Some(Taken { seq, slot, deadline, message })
    }

    /// Takes up to so many messages out whose deadline is not later than `now`. Says whether there may be more.
    pub(super) fn expire(&mut self, now: Moment, budget: usize, mut expired: impl FnMut(Taken)) -> bool {
        let end = self.first + self.deadlines.len() as u64;
        let due = (self.first..end).zip(&self.deadlines).filter(|(_, deadline)| **deadline <= now);
        let due: Vec<Seq> = due.map(|(seq, _)| Seq(seq)).take(budget).collect();
        for seq in &due {
            expired(self.remove(*seq).expect("only a place that is taken has a deadline"));
        }
        // What has left may have been what was due first.
        self.due = self.deadlines.iter().copied().min().unwrap_or(Moment::NEVER);
        self.due <= now
    }

    /// What is known of a place that is taken.
    pub(super) fn get(&self, seq: Seq) -> Option<&Slot> {
        self.slots.get(self.index(seq)?).filter(|slot| !slot.is_vacant())
    }

    /// This is known of the message in this place, too.
    pub(super) fn mark(&mut self, seq: Seq, history: History) {
        if let Some(index) = self.index(seq)
            && !self.slots[index].is_vacant()
        {
            let slot = &mut self.slots[index];
            *slot = slot.with(slot.history().joined(history));
        }
    }

    /// Every message may have been received before.
    pub(super) fn mark_all(&mut self) {
        self.slots.iter_mut().filter(|slot| !slot.is_vacant()).for_each(|slot| slot.marks |= REDELIVERED);
    }

    /// The message in this place is stored here from this moment on. Says whether there is one.
    pub(super) fn store(&mut self, seq: Seq, home: Home) -> bool {
        let Some(index) = self.index(seq) else { return false };
        let slot = &mut self.slots[index];
        if slot.is_vacant() {
            return false;
        }
        let home = slot.home.moved_to(home);
        let before = std::mem::replace(&mut slot.home, home);
        if let Some(Some(message)) = self.messages.get(index) {
            self.cached_bytes = self.cached_bytes + cached(home, message) - cached(before, message);
        }
        true
    }

    /// Brings a message back into memory, if its place still is where it was read from.
    pub(super) fn fill(&mut self, seq: Seq, home: Home, message: Message) -> bool {
        let Some(index) = self.index(seq).filter(|index| self.slots[*index].home == home) else {
            return false;
        };
        self.make_column();
        let in_memory = &mut self.messages[index];
        if in_memory.is_none() {
            self.cached_bytes += cached(home, &message);
            self.resident += 1;
            *in_memory = Some(message);
        }
        self.own.set(self.capacity_bytes());
        true
    }

    /// Has messages stored that are in memory only, for as long as `spilled`, which is told each, asks for more.
    pub(super) fn spill(&mut self, mut spilled: impl FnMut(Seq, &Message) -> bool) {
        for (seq, (slot, message)) in (self.first..).zip(self.slots.iter_mut().zip(&self.messages)) {
            if slot.home == Home::NONE
                && let Some(message) = message
            {
                slot.home = Home::SPILLED;
                self.unstored -= 1;
                if !spilled(Seq(seq), message) {
                    return;
                }
            }
        }
    }

    /// Gives up the messages that can be read again: those that are stored before `written`.
    pub(super) fn evict(&mut self, written: Location, evicted: &mut Vec<Message>) {
        for (slot, message) in self.slots.iter().zip(&mut self.messages) {
            if slot.home.location().is_some_and(|location| location < written)
                && let Some(message) = message.take()
            {
                self.cached_bytes -= cached(slot.home, &message);
                self.resident -= 1;
                evicted.push(message);
            }
        }
        if self.resident == 0 {
            self.messages = VecDeque::new();
            self.own.set(self.capacity_bytes());
        }
    }

    /// The places that are taken, in order, and whether their messages are in memory.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, &Slot, bool)> {
        let places = (self.first..).zip(&self.slots).enumerate();
        places.filter(|(_, (_, slot))| !slot.is_vacant()).map(|(index, (seq, slot))| {
            (Seq(seq), slot, self.messages.get(index).is_some_and(Option::is_some))
        })
    }

    /// Those of these places that are taken, as [`Self::iter`] says it.
    pub(super) fn among(&self, places: Places) -> impl Iterator<Item = (Seq, &Slot, bool)> {
        let taken = seqs(self.first / PLACES, places).filter_map(|seq| self.at(seq));
        taken.map(|(seq, slot, message)| (seq, slot, message.is_some()))
    }

    /// The deadline of the message in this place.
    pub(super) fn deadline(&self, seq: Seq) -> Moment {
        let deadline = self.index(seq).and_then(|index| self.deadlines.get(index));
        deadline.copied().unwrap_or(Moment::NEVER)
    }

    /// Makes an emptied chunk like a new one, but for its room.
    pub(super) fn reset(&mut self) {
        debug_assert!(self.is_empty(), "only an empty chunk starts anew");
        self.listed = false;
        self.due = Moment::NEVER;
    }

    fn left(&mut self, slot: Slot, message: Option<&Message>) {
        self.taken -= 1;
        self.body_bytes -= u64::from(slot.body_bytes);
        if let Some(message) = message {
            self.resident -= 1;
            self.cached_bytes -= cached(slot.home, message);
            self.unstored -= u32::from(slot.home == Home::NONE);
        }
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        let index = usize::try_from(seq.0.checked_sub(self.first)?).ok()?;
        (index < self.slots.len()).then_some(index)
    }

    fn make_column(&mut self) {
        if self.messages.is_empty() {
            self.messages.resize_with(self.slots.len(), || None);
        }
    }

    /// Adds vacant slots until the place is among them.
    fn reach(&mut self, seq: Seq) {
        let (messages, deadlines) = (!self.messages.is_empty(), !self.deadlines.is_empty());
        while seq.0 < self.first {
            self.first -= 1;
            self.slots.push_front(VACANT);
            if messages {
                self.messages.push_front(None);
            }
            if deadlines {
                self.deadlines.push_front(Moment::NEVER);
            }
        }
        while self.first + self.slots.len() as u64 <= seq.0 {
            self.slots.push_back(VACANT);
            if messages {
                self.messages.push_back(None);
            }
            if deadlines {
                self.deadlines.push_back(Moment::NEVER);
            }
        }
    }

    /// Drops vacant slots at both ends.
    fn trim(&mut self) {
        while self.slots.front().is_some_and(Slot::is_vacant) {
            self.slots.pop_front();
            self.messages.pop_front();
            self.deadlines.pop_front();
            self.first += 1;
        }
        while self.slots.back().is_some_and(Slot::is_vacant) {
            self.slots.pop_back();
            self.messages.pop_back();
            self.deadlines.pop_back();
        }
    }

    /// Bytes of memory it holds, messages aside.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.messages.capacity() * size_of::<Option<Message>>()
            + self.deadlines.capacity() * size_of::<Moment>()
            + size_of::<Self>()
    }
}

/// What a message counts for among those that may leave memory.
fn cached(home: Home, message: &Message) -> u64 {
    if home.location().is_some() { message.cost() as u64 } else { 0 }
}

const _: () = assert!(size_of::<Slot>() == 20, "a queue's memory is counted by this");
