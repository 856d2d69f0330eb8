//! Messages that nobody holds, in their places: all of them known, some of them in memory.
//!
//! Invariant: no chunk is empty but the last one, whose room is kept for what comes next. The counts are those of the
//! chunks. A chunk with messages that may leave memory is listed: whoever evicts knows of it, or is about to. A chunk
//! with a deadline stands in `due`, with the one that it says is its first. With priorities the first message is the one that `levels` names, without
//! them the one in the first place.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use super::chunk::{Chunk, PLACES, Slot, Taken};
use super::detached::Detached;
use super::home::Location;
use super::levels::{Levels, Places};
use super::{History, Home, Kept, Moment, Priorities, Terms};
use crate::model::{Message, Seq};

/// Which chunk of a queue; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkNumber(u64);

#[cfg(test)]
impl ChunkNumber {
    /// The places that the chunk may have.
    pub(super) fn places(self) -> std::ops::Range<u64> {
        self.0 * PLACES..(self.0 + 1) * PLACES
    }
}

/// See the module's invariant.
#[derive(Debug, Default)]
pub struct Backlog {
    chunks: BTreeMap<u64, Chunk>,
    /// An emptied chunk, whose room may be of use.
    spare: Option<Chunk>,
    len: u64,
    absent: u64,
    cached_bytes: u64,
    body_bytes: u64,
    unstored: u64,
    /// The chunks that have deadlines, by what they say is the first of them.
    due: BTreeSet<(Moment, u64)>,
    /// From which chunk on messages may be in memory only, but for those that came back.
    unspilled: u64,
    /// Chunks that are listed and that nobody has been told of.
    to_list: Vec<ChunkNumber>,
    /// Which of them go first, if that is not their places' to say.
    levels: Option<Box<Levels>>,
}

impl Backlog {
    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of the bodies, wherever they are.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Keeps what the log has: a message in a place that is vacant, or the new home of one that is there. `body_bytes`
    /// are the octets of its body.
    pub fn restore(&mut self, seq: Seq, home: Home, body_bytes: u32, terms: Terms) {
        let last = self.chunks.last_key_value();
        let is_new = last.is_none_or(|(last, chunk)| *last < number(seq) || chunk.ends_before(seq));
        if is_new || !self.change(seq, |chunk| chunk.store(seq, home)) {
            let Terms { priority, deadline } = terms;
            self.put(Taken { seq, slot: Slot::new(home, body_bytes, priority), deadline, message: None });
        }
    }

    /// From here on priorities say what goes first.
    pub(super) fn prioritise(&mut self, priorities: Priorities) {
        let levels = self.levels.insert(Box::new(Levels::new()));
        for chunk in self.chunks.values_mut() {
            chunk.prioritise(|seq, said| {
                let priority = priorities.of(said);
                levels.add(seq, priority);
                priority
            });
        }
    }

    /// Forgets the message in this place, and says where it was.
    pub fn forget(&mut self, seq: Seq) -> Option<Home> {
        self.remove(seq).map(|taken| taken.slot.home)
    }

    /// This is known of the message in this place, too.
    pub fn mark(&mut self, seq: Seq, history: History) {
        if let Some(chunk) = self.chunks.get_mut(&number(seq)) {
            chunk.mark(seq, history);
        }
    }

    /// Every message may have been received before.
    pub fn mark_all(&mut self) {
        self.chunks.values_mut().for_each(Chunk::mark_all);
    }

    /// Places, homes and marks, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Seq, Home, History)> {
        self.slots(Seq(0)).map(|(seq, slot)| (seq, slot.home, slot.history()))
    }

    /// The places, in order, with everything that is known of them.
    pub fn iter_kept(&self) -> impl Iterator<Item = (Seq, Kept)> {
        let chunks = self.chunks.values();
        chunks.flat_map(|chunk| chunk.iter().map(|(seq, slot, _)| (seq, kept(slot, chunk.deadline(seq)))))
    }

    /// The places from one on up to another one that are taken, in order.
    pub fn places(&self, first: Seq, last: Seq) -> impl Iterator<Item = Seq> {
        self.slots(first).map(|(seq, _)| seq).take_while(move |seq| *seq <= last)
    }

    fn slots(&self, first: Seq) -> impl Iterator<Item = (Seq, &Slot)> {
        let chunks = self.chunks.range(number(first)..);
        let slots = chunks.flat_map(|(_, chunk)| chunk.iter()).map(|(seq, slot, _)| (seq, slot));
        slots.skip_while(move |(seq, _)| *seq < first)
    }

    /// What memory the messages take that could leave it, in bytes.
    pub(super) fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    /// Messages that are in memory only, and not about to be stored.
    pub(super) fn unstored(&self) -> u64 {
        self.unstored
    }

    /// Has up to so many messages stored that are in memory only, or messages of so many bytes and one more, and tells
    /// them. Says whether there may be more.
    pub(super) fn spill(
        &mut self,
        messages: usize,
        bytes: usize,
        mut spilled: impl FnMut(Seq, &Message),
    ) -> bool {
        let (mut count, mut cost) = (0, 0);
        for (number, chunk) in self.chunks.range_mut(self.unspilled..) {
            // It may get more of them, if it is the last one.
            self.unspilled = *number;
            if chunk.unstored() == 0 {
                continue;
            }
            let before = chunk.unstored();
            chunk.spill(|seq, message| {
                count += 1;
                cost += message.cost();
                spilled(seq, message);
                count < messages && cost < bytes
            });
            self.unstored -= u64::from(before - chunk.unstored());
            if count >= messages || cost >= bytes {
                return true;
            }
        }
        false
    }

    /// Messages that are in the log only.
    pub(super) fn absent(&self) -> u64 {
        self.absent
    }

    /// Takes a vacant place.
    pub(super) fn put(&mut self, taken: Taken) {
        self.len += 1;
        self.absent += u64::from(taken.message.is_none());
        if let Some(levels) = &mut self.levels {
            levels.add(taken.seq, taken.slot.priority().unwrap_or(0));
        }
        let number = number(taken.seq);
        if chunk(&mut self.chunks, number).is_none() {
            self.make_chunk(number);
        }
        let chunk = chunk(&mut self.chunks, number).expect("it was there or was made");
        let before = Sums::of(chunk);
        let due = chunk.due();
        chunk.put(taken);
        Sums::of(chunk).replace(before, &mut self.cached_bytes, &mut self.body_bytes, &mut self.unstored);
        self.to_list.extend(chunk.list().then_some(ChunkNumber(number)));
        if chunk.due() < due {
            let first = chunk.due();
            self.due.remove(&(due, number));
            self.due.insert((first, number));
        }
    }

    /// The first message, if that is in memory, and its place.
    pub(super) fn front(&self) -> Option<(Seq, &Slot, Option<&Message>)> {
        match &self.levels {
            None => self.chunks.first_key_value()?.1.front(),
            Some(levels) => levels.first().and_then(|seq| self.chunks.get(&number(seq))?.at(seq)),
        }
    }

    /// Takes the first message.
    pub(super) fn pop(&mut self) -> Option<Taken> {
        match &self.levels {
            None => self.take_from(*self.chunks.first_key_value()?.0, Chunk::pop),
            Some(levels) => levels.first().and_then(|seq| self.remove(seq)),
        }
    }

    /// Takes the message in this place.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Taken> {
        self.take_from(number(seq), |chunk| chunk.remove(seq))
    }

    /// Takes a message out of a chunk.
    fn take_from(&mut self, number: u64, take: impl FnOnce(&mut Chunk) -> Option<Taken>) -> Option<Taken> {
        let chunk = self.chunks.get_mut(&number)?;
        let before = Sums::of(chunk);
        let taken = take(chunk)?;
        Sums::of(chunk).replace(before, &mut self.cached_bytes, &mut self.body_bytes, &mut self.unstored);
        self.absent -= u64::from(taken.message.is_none());
        self.len -= 1;
        if chunk.is_empty() {
            self.emptied(number);
        }
        if let Some(levels) = &mut self.levels {
            levels.remove(taken.seq, taken.slot.priority().unwrap_or(0));
        }
        Some(taken)
    }

    /// The moment at which [`Self::expire`] may have something to do.
    #[inline]
    pub(super) fn due(&self) -> Moment {
        self.due.first().map_or(Moment::NEVER, |(moment, _)| *moment)
    }

    /// Takes up to so many messages out whose deadline is not later than `now`. Says whether there may be more.
    pub(super) fn expire(&mut self, now: Moment, mut budget: usize, mut expired: impl FnMut(Taken)) -> bool {
        while let Some(&(due, number)) = self.due.first().filter(|(due, _)| *due <= now) {
            if budget == 0 {
                return true;
            }
            self.due.pop_first();
            let Some(chunk) = self.chunks.get_mut(&number) else { continue };
            let before = Sums::of(chunk);
            let (mut count, mut absent) = (0, 0);
            chunk.expire(now, budget, |taken| {
                count += 1;
                absent += u64::from(taken.message.is_none());
                if let Some(levels) = &mut self.levels {
                    levels.remove(taken.seq, taken.slot.priority().unwrap_or(0));
                }
                expired(taken);
            });
            Sums::of(chunk).replace(before, &mut self.cached_bytes, &mut self.body_bytes, &mut self.unstored);
            debug_assert!(chunk.due() >= due, "a deadline never comes nearer");
            self.len -= count;
            self.absent -= absent;
            budget -= usize::try_from(count).expect("it is within the budget");
            if chunk.due() < Moment::NEVER {
                self.due.insert((chunk.due(), number));
            } else if chunk.is_empty() {
                self.emptied(number);
            }
        }
        false
    }

    /// What is known of a place.
    pub(super) fn find(&self, seq: Seq) -> Option<&Slot> {
        self.chunks.get(&number(seq))?.get(seq)
    }

    /// Everything that is known of the message in this place.
    pub(super) fn kept(&self, seq: Seq) -> Option<Kept> {
        let chunk = self.chunks.get(&number(seq))?;
        chunk.get(seq).map(|slot| kept(slot, chunk.deadline(seq)))
    }

    /// The message in this place is stored here from this moment on. Says whether there is one.
    pub(super) fn store(&mut self, seq: Seq, home: Home) -> bool {
        if self.chunks.first_key_value().is_none_or(|(first, _)| *first > number(seq)) {
            return false;
        }
        self.change(seq, |chunk| chunk.store(seq, home))
    }

    /// Brings a message back into memory. Says whether it is still awaited.
    pub(super) fn fill(&mut self, seq: Seq, home: Home, message: Message) -> bool {
        self.change(seq, |chunk| chunk.fill(seq, home, message))
    }

    /// The chunks that have been listed since the last call.
    pub(super) fn take_listed(&mut self) -> std::vec::Drain<'_, ChunkNumber> {
        self.to_list.drain(..)
    }

    /// Gives up the messages of a chunk that can be read again. Says whether there are some left that could not: then
    /// it stays listed.
    pub(super) fn evict(
        &mut self,
        number: ChunkNumber,
        written: Location,
        evicted: &mut Vec<Message>,
    ) -> bool {
        let mut left = false;
        self.change(Seq(number.0 * PLACES), |chunk| {
            chunk.evict(written, evicted);
            left = chunk.cached_bytes() > 0;
            chunk.listed = left;
            true
        });
        left
    }

    /// Whether the chunk is there and was to be remembered.
    pub(super) fn is_listed(&self, number: ChunkNumber) -> bool {
        self.chunks.get(&number.0).is_some_and(|chunk| chunk.listed)
    }

    /// The chunks in the order in which their messages are handed out, each with the places that are meant: all of
    /// them where priorities do not say otherwise.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (&Chunk, Option<Places>)> {
        let prioritised = self.levels.iter().flat_map(|levels| levels.iter());
        let prioritised =
            prioritised.filter_map(|(number, places)| Some((self.chunks.get(&number)?, Some(places))));
        let plain = self.levels.is_none().then(|| self.chunks.values()).into_iter().flatten();
        plain.map(|chunk| (chunk, None)).chain(prioritised)
    }

    /// Takes everything, without touching the single messages.
    pub(super) fn detach(&mut self) -> Detached {
        let levels = self.levels.as_ref().map(|_| Box::new(Levels::new()));
        let Self { chunks, len, .. } = std::mem::replace(self, Self { levels, ..Self::default() });
        Detached::new(len, chunks.into_values())
    }

    /// Changes a chunk, if there is one, and counts what that changed.
    fn change(&mut self, seq: Seq, change: impl FnOnce(&mut Chunk) -> bool) -> bool {
        let number = number(seq);
        let Some(chunk) = chunk(&mut self.chunks, number) else { return false };
        let (bytes, absent) = (chunk.cached_bytes(), chunk.absent());
        let result = change(chunk);
        self.cached_bytes = self.cached_bytes + chunk.cached_bytes() - bytes;
        self.absent = self.absent + u64::from(chunk.absent()) - u64::from(absent);
        self.to_list.extend(chunk.list().then_some(ChunkNumber(number)));
        result
    }

    /// Makes room for places that no chunk has.
    fn make_chunk(&mut self, number: u64) {
        if let Some(last) = self.chunks.last_entry().filter(|last| last.get().is_empty())
            && *last.key() < number
        {
            self.spare = Some(last.remove());
        }
        let mut chunk = self.spare.take().unwrap_or_default();
        chunk.reset();
        self.chunks.insert(number, chunk);
    }

    /// Takes a chunk away that has no messages any more, unless it is the last one.
    fn emptied(&mut self, number: u64) {
        if let Some(chunk) = self.chunks.get_mut(&number).filter(|chunk| chunk.due() < Moment::NEVER) {
            self.due.remove(&(chunk.due(), number));
            chunk.reset();
        }
        if self.chunks.last_key_value().is_some_and(|(last, _)| *last != number) {
            self.spare = self.chunks.remove(&number);
        } else if self.chunks.len() == 1 {
            self.spare = None;
        }
    }

    /// Bytes of memory it takes, messages aside.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        let chunks = self.chunks.values().chain(&self.spare).map(Chunk::capacity_bytes).sum::<usize>();
        chunks + self.levels.as_ref().map_or(0, |levels| levels.bytes())
    }
}

/// What a chunk counts for in the sums over all of them.
#[derive(Clone, Copy)]
struct Sums {
    cached_bytes: u64,
    body_bytes: u64,
    unstored: u32,
}

impl Sums {
    #[inline]
    fn of(chunk: &Chunk) -> Self {
        Self {
            cached_bytes: chunk.cached_bytes(),
            body_bytes: chunk.body_bytes(),
            unstored: chunk.unstored(),
        }
    }

    /// Counts this instead of what it was before.
    #[inline]
    fn replace(self, before: Self, cached_bytes: &mut u64, body_bytes: &mut u64, unstored: &mut u64) {
        *cached_bytes = *cached_bytes + self.cached_bytes - before.cached_bytes;
        *body_bytes = *body_bytes + self.body_bytes - before.body_bytes;
        *unstored = *unstored + u64::from(self.unstored) - u64::from(before.unstored);
    }
}

fn kept(slot: &Slot, deadline: Moment) -> Kept {
    Kept {
        home: slot.home,
        history: slot.history(),
        terms: Terms { priority: slot.priority(), deadline },
        body_bytes: slot.body_bytes,
    }
}

/// The chunk of this number. Mostly it is the last one.
fn chunk(chunks: &mut BTreeMap<u64, Chunk>, number: u64) -> Option<&mut Chunk> {
    match chunks.last_key_value() {
        Some((last, _)) if *last == number => chunks.last_entry().map(btree_map::OccupiedEntry::into_mut),
        _ => chunks.get_mut(&number),
    }
}

fn number(seq: Seq) -> u64 {
    seq.0 / PLACES
}
