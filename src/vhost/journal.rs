//! What a turn has changed of what durable queues keep: to be stored in the message log while the vhost's lock is
//! still held, as one batch that comes back from a crash as a whole or not at all.
//!
//! Invariant: entries stand in the order in which things happened. A message that has left all its queues by the end
//! of the turn in which it was published is not stored at all.

use super::Vhost;
use crate::model::{ExchangeName, Message, QueueId, QueueName, Seq};
use crate::queue::{History, Home, Kept};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The next `places` of [`Journal::places`] hold the message.
    Published {
        /// The message.
        message: Message,
        /// How many places.
        places: usize,
    },
    /// The queue is done with the messages in these places.
    Gone(Places),
    /// The messages in these places were delivered and are back.
    CameBack {
        /// The places.
        places: Places,
        /// How often clients have failed with them by this time.
        delivery_count: u16,
    },
    /// A durable queue exists from here on.
    Created {
        /// Its id.
        queue: QueueId,
        /// Its name.
        name: QueueName,
    },
    /// The queue in which messages of a durable delayed message exchange wait exists from here on.
    DelayCreated {
        /// Its id.
        queue: QueueId,
        /// The exchange.
        exchange: ExchangeName,
    },
    /// A durable queue is gone with everything in it.
    Deleted(QueueId),
}

/// Consecutive places of a queue, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The queue.
    pub queue: QueueId,
    /// The lowest.
    pub first: Seq,
    /// The highest.
    pub last: Seq,
}

/// Places that do not hold anything stored in this segment any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    /// The segment.
    pub segment: u32,
    /// How many places.
    pub places: u64,
    /// The bytes that were there for them.
    pub bytes: u64,
}

/// The changes of one turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    /// In order.
    pub entries: Vec<Entry>,
    /// The places of all [`Entry::Published`], one after the other.
    pub places: Vec<(QueueId, Seq)>,
    /// What is not alive any more in segments of the log. Segments may repeat.
    pub freed: Vec<Freed>,
    /// Somebody waits until the changes are durable.
    pub waited_for: bool,
}

impl Journal {
    /// A message was put in the place.
    pub(super) fn published(&mut self, message: &Message, queue: QueueId, seq: Seq) {
        self.places.push((queue, seq));
        match self.entries.last_mut() {
            Some(Entry::Published { message: last, places }) if last.is(message) => {
                *places += 1;
            }
            _ => self.entries.push(Entry::Published { message: message.clone(), places: 1 }),
        }
    }

    /// The queue is done with a message.
    pub(super) fn gone(&mut self, queue: QueueId, seq: Seq, home: Home) {
        let Some((segment, bytes)) = home.stored() else { return };
        self.freed(segment, bytes);
        if let Some(Entry::Gone(places)) = self.entries.last_mut()
            && places.joins(queue, seq)
        {
            places.last = seq;
            return;
        }
        self.entries.push(Entry::Gone(Places { queue, first: seq, last: seq }));
    }

    /// A stored message came back from a client.
    pub(super) fn came_back(&mut self, queue: QueueId, seq: Seq, history: History) {
        let History { delivery_count, .. } = history;
        if let Some(Entry::CameBack { places, delivery_count: same }) = self.entries.last_mut()
            && places.joins(queue, seq)
            && *same == delivery_count
        {
            places.last = seq;
            return;
        }
        self.entries
            .push(Entry::CameBack { places: Places { queue, first: seq, last: seq }, delivery_count });
    }

    /// Counts what a segment has lost; what many turns in a row free is mostly in one segment.
    pub fn freed(&mut self, segment: u32, bytes: u32) {
        match self.freed.last_mut() {
            Some(freed) if freed.segment == segment => {
                freed.places += 1;
                freed.bytes += u64::from(bytes);
            }
            _ => self.freed.push(Freed { segment, places: 1, bytes: u64::from(bytes) }),
        }
    }

    /// Whether there is nothing to store and nothing to count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.freed.is_empty()
    }

    /// Forgets everything and keeps the room, unless it is exceptionally much.
    pub fn clear(&mut self) {
        const KEEP: usize = 4_096;
        self.entries.clear();
        self.entries.shrink_to(KEEP);
        self.places.clear();
        self.places.shrink_to(KEEP);
        self.freed.clear();
        self.waited_for = false;
    }
}

impl Places {
    fn joins(&self, queue: QueueId, seq: Seq) -> bool {
        self.queue == queue && self.last.0 + 1 == seq.0
    }
}

impl Vhost {
    /// Whether a message of this turn is still in its place, so that it has to be stored.
    #[must_use]
    pub fn awaits_home(&self, queue: QueueId, seq: Seq) -> bool {
        self.kept(queue, seq).is_some_and(|kept| kept.home.is_awaited())
    }

    /// The message in this place of a queue; none if it is gone.
    #[must_use]
    pub fn kept(&self, queue: QueueId, seq: Seq) -> Option<Kept> {
        self.queues.get(&queue)?.queue.kept(seq)
    }
}
