//! Which messages of a queue are in memory: what is to be read, what has been read, what may go.
//!
//! Invariant: a message leaves memory only when it is stored and can be read again. At most one read is under way, and
//! what it brings is taken only in a place that still is where it was read from.

use super::chunk::{Chunk, Slot, Taken};
use super::levels::Places;
use super::{Backlog, ChunkNumber, Dead, Home, Location, Queue};
use crate::model::{Message, Seq};

/// What one read asks for at most.
const READ_MESSAGES: usize = 2_048;
const READ_BYTES: u64 = 512 << 10;
/// With so much in memory at its head the queue asks for nothing yet.
const AHEAD_MESSAGES: u64 = 512;
const AHEAD_BYTES: u64 = 128 << 10;

impl Queue {
    /// The messages nobody holds.
    #[must_use]
    pub fn backlog(&self) -> &Backlog {
        &self.ready
    }

    /// What memory is taken by ready messages that may leave it, in bytes.
    #[must_use]
    #[inline]
    pub fn cached_bytes(&self) -> u64 {
        self.ready.cached_bytes()
    }

    /// Ready messages that are in memory only, and not about to be stored.
    #[must_use]
    #[inline]
    pub fn unstored(&self) -> u64 {
        self.ready.unstored()
    }

    /// Has some of these stored with the turn that is running, for the sake of memory, and tells them: up to so many, or
    /// so many bytes and one message. Says whether there may be more; what has come back from clients stays as it is.
    pub fn spill(&mut self, messages: usize, bytes: usize, spilled: impl FnMut(Seq, &Message)) -> bool {
        self.ready.spill(messages, bytes, spilled)
    }

    /// Whether ready messages are in the log only.
    #[must_use]
    #[inline]
    pub fn has_absent(&self) -> bool {
        self.ready.absent() > 0
    }

    /// Whether messages that have left have to be read.
    #[must_use]
    #[inline]
    pub fn has_dying(&self) -> bool {
        !self.dying.is_empty()
    }

    /// The places to be read next, with the homes they have: what is dying, then the head of what is ready. None if
    /// enough of that is in memory or a read is under way. [`Self::read`] ends what this begins.
    pub fn next_read(&mut self) -> Option<Vec<(Seq, Home)>> {
        if self.reading {
            return None;
        }
        let wanted = if self.has_dying() { self.dying_to_read() } else { self.ready_to_read()? };
        self.reading = !wanted.is_empty();
        self.reading.then_some(wanted)
    }

    fn dying_to_read(&self) -> Vec<(Seq, Home)> {
        let places = self.dying.backlogs().flat_map(Backlog::iter).map(|(seq, home, _)| (seq, home));
        let mut bytes = 0;
        let few = places.take(READ_MESSAGES).take_while(|(_, home)| {
            let enough = bytes >= READ_BYTES;
            bytes += u64::from(home.bytes());
            !enough
        });
        few.collect()
    }

    fn ready_to_read(&self) -> Option<Vec<(Seq, Home)>> {
        if !self.has_absent() {
            return None;
        }
        let mut wanted = Vec::new();
        let (mut ahead, mut ahead_bytes, mut bytes) = (0, 0, 0);
        'chunks: for (chunk, places) in self.ready.chunks() {
            if wanted.is_empty() && (chunk.absent() == 0 || absent(chunk, places).next().is_none()) {
                let meant = places.map_or(chunk.taken(), Places::count_ones);
                ahead += u64::from(meant);
                ahead_bytes += chunk.cached_bytes() * u64::from(meant) / u64::from(chunk.taken()).max(1);
                if ahead >= AHEAD_MESSAGES || ahead_bytes >= AHEAD_BYTES {
                    return None;
                }
                continue;
            }
            for (seq, slot) in absent(chunk, places) {
                wanted.push((seq, slot.home));
                bytes += u64::from(slot.home.bytes());
                if wanted.len() >= READ_MESSAGES || bytes >= READ_BYTES {
                    break 'chunks;
                }
            }
        }
        Some(wanted)
    }

    /// The read that was under way has ended.
    pub fn read(&mut self) {
        self.reading = false;
    }

    /// Brings back a message that was read from this home, if it is still awaited. If it was dying it has left now.
    pub fn fill(&mut self, seq: Seq, home: Home, message: Message) -> Option<Dead> {
        if let Some((reason, Taken { slot, deadline, .. })) = self.dying.take(seq, home) {
            return Some(Dead { reason, seq, home: slot.home, deadline, message: Some(message) });
        }
        self.ready.fill(seq, home, message);
        None
    }

    /// Which parts of the queue have messages since the last call that may leave memory.
    #[inline]
    pub fn take_listed(&mut self) -> impl Iterator<Item = ChunkNumber> {
        self.ready.take_listed()
    }

    /// Takes a message out that nobody holds, and says where it is stored.
    pub fn withdraw(&mut self, seq: Seq) -> Option<(Home, Option<Message>)> {
        let taken = self.ready.remove(seq)?;
        self.counters.purged += 1;
        Some((taken.slot.home, taken.message))
    }

    /// Gives up a message that is not what was stored at this home. Says whether there was one.
    pub fn lose(&mut self, seq: Seq, home: Home) -> bool {
        if self.dying.take(seq, home).is_some() {
            return true;
        }
        let lost = self.ready.find(seq).is_some_and(|slot| slot.home == home);
        if lost {
            self.ready.remove(seq);
            self.counters.lost += 1;
        }
        lost
    }

    /// Takes messages out of memory that are stored before `written`. Says whether there are some left that may follow
    /// them later.
    pub fn evict(&mut self, chunk: ChunkNumber, written: Location, evicted: &mut Vec<Message>) -> bool {
        self.ready.evict(chunk, written, evicted)
    }

    /// Whether a part of the queue that [`Self::take_listed`] has named still is what it was.
    #[must_use]
    pub fn is_listed(&self, chunk: ChunkNumber) -> bool {
        self.ready.is_listed(chunk)
    }
}

/// These places of a chunk, all if none are named, as far as their messages are in the log only.
fn absent(chunk: &Chunk, places: Option<Places>) -> impl Iterator<Item = (Seq, &Slot)> {
    let some = places.into_iter().flat_map(|places| chunk.among(places));
    let all = places.is_none().then(|| chunk.iter()).into_iter().flatten();
    all.chain(some).filter(|(.., resident)| !resident).map(|(seq, slot, _)| (seq, slot))
}
