//! Which messages of the vhost's queues are in memory, and what waits for those that are not.
//!
//! Invariant: what may leave memory is listed, oldest first, and leaves it as soon as there is more of it than the
//! options allow. Whoever waits for a message that is not in memory has a read under way for it.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::slot::QueueSlot;
use super::state::Vhost;
use super::{Effects, Event, Get, Reply};
use crate::model::{ChannelKey, ChannelNumber, ConnectionKey, Message, QueueId, QueueName, Seq};
use crate::queue::{ChunkNumber, Home, Location};

/// Below so many entries the list is not looked through for those that have become meaningless.
const FEW_LISTED: usize = 4_096;
/// Parts of queues whose messages leave memory in one turn, besides as many as have been listed since the last one.
const PARTS_AT_A_TIME: usize = 64;
/// Messages that one slice has stored for the sake of memory, and their bytes.
const SPILLED_MESSAGES: usize = 1_000;
const SPILLED_BYTES: usize = 256 << 10;

/// What is counted over all queues of the vhost.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Memory taken by ready messages that may leave it.
    bytes: u64,
    /// Ready messages that are in memory only.
    unstored: u64,
    listed: VecDeque<(QueueId, ChunkNumber)>,
    /// Entries that have been added since messages were last taken out of memory.
    newly_listed: usize,
    /// With so many entries the list is looked through.
    look_through_at: usize,
    /// What is stored before is known to be readable.
    written: Location,
}

/// A `basic.get` whose message is being read.
#[derive(Debug)]
pub(super) struct WaitingGet {
    connection: ConnectionKey,
    number: ChannelNumber,
    get: Get,
}

/// Messages of a queue that are to be read from the log, without the vhost's lock.
#[derive(Debug)]
pub struct Read {
    /// The queue.
    pub queue: QueueId,
    /// Places in ascending order, and where their messages are stored.
    pub wanted: Vec<(Seq, Home)>,
}

/// What became of a [`Read`].
#[derive(Debug)]
pub struct ReadResult {
    /// The queue.
    pub queue: QueueId,
    /// What was found.
    pub found: Vec<(Seq, Home, Message)>,
    /// Where something else is than what was stored.
    pub missing: Vec<(Seq, Home)>,
}

/// A queue that has lost messages to damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The queue.
    pub queue: QueueName,
    /// How many.
    pub messages: u64,
}

impl Cache {
    /// Brings sum and list up to what one queue has.
    pub(super) fn count(&mut self, slot: &mut QueueSlot) {
        let bytes = slot.queue.cached_bytes();
        self.bytes = self.bytes + bytes - std::mem::replace(&mut slot.counted_bytes, bytes);
        let unstored = slot.queue.unstored();
        self.unstored = self.unstored + unstored - std::mem::replace(&mut slot.counted_unstored, unstored);
        let (id, before) = (slot.queue.id(), self.listed.len());
        self.listed.extend(slot.queue.take_listed().map(|chunk| (id, chunk)));
        self.newly_listed += self.listed.len() - before;
    }

    /// Takes a queue out of the sum that is gone.
    pub(super) fn forget(&mut self, slot: &QueueSlot) {
        self.bytes -= slot.counted_bytes;
        self.unstored -= slot.counted_unstored;
    }
}

impl Vhost {
    /// Whether messages are to leave memory, or soon may have to: [`Self::page_out`] is to be called.
    #[must_use]
    #[inline]
    pub fn fills_cache(&self) -> bool {
        self.cache.bytes > self.options.cache_bytes / 2
    }

    /// Takes messages out of memory that are stored before `written`, oldest first, until little enough is left. Does
    /// so in slices, which [`Effects::more_work`] tells, and says whether it has to wait for more to be written.
    pub fn page_out(&mut self, written: Location, effects: &mut Effects) -> bool {
        self.cache.written = written;
        // What a turn adds it takes away again, however many queues its messages go to.
        let parts = PARTS_AT_A_TIME + 2 * std::mem::take(&mut self.cache.newly_listed);
        for _ in 0..parts {
            if self.cache.bytes <= self.options.cache_bytes {
                return false;
            }
            let Some((id, chunk)) = self.cache.listed.pop_front() else { return false };
            let Some(slot) = self.queues.get_mut(&id) else { continue };
            let before = effects.discarded.len();
            let left = slot.queue.evict(chunk, written, &mut effects.discarded);
            self.cache.count(slot);
            if left && effects.discarded.len() == before {
                // What is younger is not written either.
                self.cache.listed.push_front((id, chunk));
                return true;
            }
            if left {
                self.cache.listed.push_back((id, chunk));
            }
        }
        effects.more_work |= self.cache.bytes > self.options.cache_bytes;
        false
    }

    /// Whether messages are in memory only: [`Self::spill`] can have them stored.
    #[must_use]
    #[inline]
    pub fn can_spill(&self) -> bool {
        self.cache.unstored > 0
    }

    /// Has messages stored that need not survive, so that they can leave memory. Does so in slices, which
    /// [`Effects::more_work`] tells.
    pub fn spill(&mut self, effects: &mut Effects) {
        let Self { queues, cache, .. } = self;
        let (mut messages, mut bytes) = (SPILLED_MESSAGES, SPILLED_BYTES);
        for slot in queues.values_mut().filter(|slot| slot.queue.unstored() > 0) {
            if messages == 0 || bytes == 0 {
                effects.more_work = true;
                return;
            }
            let id = slot.queue.id();
            let (left, journal) = ((messages, bytes), &mut effects.journal);
            effects.more_work |= slot.queue.spill(left.0, left.1, |seq, message| {
                messages = messages.saturating_sub(1);
                bytes = bytes.saturating_sub(message.cost());
                journal.published(message, id, seq);
            });
            cache.count(slot);
        }
    }

    /// What unacked messages are not kept in memory: those stored before this, when memory is needed.
    pub(super) fn forget_before(&self) -> Location {
        if self.fills_cache() { self.cache.written } else { Location::default() }
    }

    /// The messages in these places are stored here.
    pub fn store_all(&mut self, stored: impl Iterator<Item = ((QueueId, Seq), Home)>) {
        let Self { queues, cache, .. } = self;
        let mut current: Option<&mut QueueSlot> = None;
        for ((id, seq), home) in stored {
            // Mostly the next message is one of the same queue.
            if current.as_ref().is_none_or(|slot| slot.queue.id() != id) {
                if let Some(slot) = current {
                    cache.count(slot);
                }
                current = queues.get_mut(&id);
            }
            if let Some(slot) = &mut current {
                slot.queue.store(seq, home);
            }
        }
        if let Some(slot) = current {
            cache.count(slot);
        }
    }

    /// The message in this place is stored here.
    #[cfg(test)]
    pub(super) fn store(&mut self, queue: QueueId, seq: Seq, home: Home) {
        self.store_all(std::iter::once(((queue, seq), home)));
    }

    /// Forgets entries of the list that mean nothing any more, once there may be more of them than of the others. A
    /// part of a queue that has gone and come back is listed again.
    pub(super) fn look_through_list(&mut self) {
        if self.cache.listed.len() >= self.cache.look_through_at.max(FEW_LISTED) {
            let (queues, mut seen) = (&self.queues, FxHashSet::default());
            self.cache.listed.retain(|entry @ (id, chunk)| {
                queues.get(id).is_some_and(|slot| slot.queue.is_listed(*chunk)) && seen.insert(*entry)
            });
            self.cache.look_through_at = 2 * self.cache.listed.len();
        }
    }

    /// Entries of the list, meaningless ones included.
    #[cfg(test)]
    pub(super) fn listed_parts(&self) -> usize {
        self.cache.listed.len()
    }

    /// Takes what was read, and goes on with whoever waited for it.
    pub fn read(&mut self, result: ReadResult, effects: &mut Effects) {
        let ReadResult { queue: id, found, missing } = result;
        self.calendar.begin_turn();
        let Some(slot) = self.queues.get_mut(&id) else { return };
        slot.queue.read();
        let lost = missing.iter().filter(|(seq, home)| slot.queue.lose(*seq, *home)).count() as u64;
        if lost > 0 {
            let queue = slot.definition.name.clone();
            effects.lost.push(Lost { queue, messages: lost });
        }
        let mut dead: Vec<_> = found
            .into_iter()
            .filter_map(|(seq, home, message)| slot.queue.fill(seq, home, message))
            .collect();
        dead.sort_by_key(|dead| (dead.deadline, dead.seq));
        self.cache.count(slot);
        for dead in dead {
            self.remove(id, dead, effects);
        }
        self.mark_dirty(id);
        self.dispatch_dirty(effects);
    }

    /// Asks for what the queue needs next, if `needed` says that somebody takes messages.
    pub(super) fn ask_for(&mut self, id: QueueId, needed: bool, effects: &mut Effects) {
        let Some(slot) = self.queues.get_mut(&id) else { return };
        if (needed || self.waiting.contains_key(&id))
            && let Some(wanted) = slot.queue.next_read()
        {
            effects.reads.push(Read { queue: id, wanted });
        }
    }

    /// Keeps a `basic.get` until its message is in memory.
    pub(super) fn wait_for_message(
        &mut self,
        id: QueueId,
        (connection, number): (ConnectionKey, ChannelNumber),
        get: Get,
    ) {
        self.waiting.entry(id).or_default().push_back(WaitingGet { connection, number, get });
        self.mark_dirty(id);
    }

    /// Answers the gets that wait, as far as messages are in memory or there are none.
    pub(super) fn serve_gets(&mut self, id: QueueId, effects: &mut Effects) {
        while let Some(waiting) = self.waiting.get_mut(&id) {
            let Some(next) = waiting.pop_front() else {
                self.waiting.remove(&id);
                return;
            };
            let Some(got) = self.take(id, &next.get, effects) else {
                self.waiting.entry(id).or_default().push_front(next);
                return;
            };
            self.answer_get(&next, Reply::Got(got), effects);
        }
    }

    /// Answers the gets of a queue that is gone: there is no message.
    pub(super) fn give_up_gets(&mut self, id: QueueId, effects: &mut Effects) {
        for waiting in self.waiting.remove(&id).into_iter().flatten() {
            self.answer_get(&waiting, Reply::Got(None), effects);
        }
    }

    fn answer_get(&mut self, waiting: &WaitingGet, reply: Reply, effects: &mut Effects) {
        let event = Event::Replied { channel: waiting.number, result: Ok(reply) };
        self.tell(waiting.connection, event, effects);
    }

    /// Forgets the gets of a channel that is gone.
    pub(super) fn forget_gets(&mut self, channel: ChannelKey) {
        self.waiting.retain(|_, waiting| {
            waiting.retain(|waiting| waiting.get.channel != channel);
            !waiting.is_empty()
        });
    }
}
