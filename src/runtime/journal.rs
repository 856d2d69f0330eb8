//! The journal of a turn as records of the log.
//!
//! Invariant: what is encoded is what is still true at the end of the turn: a message that has left a queue by then
//! is not stored for it.

use crate::model::{Message, QueueId, Seq, VhostName};
use crate::queue::{History, Kept, Moment};
use crate::storage::log::{Batch, Record, SeqRange, StoredMessage, VhostId};
use crate::vhost::{Entry, Journal, Places, Vhost};

/// Encodes what is to be stored for one vhost; keeps its room between turns.
#[derive(Debug)]
pub(super) struct Scribe {
    vhost: VhostId,
    pub(super) batch: Batch,
    /// Places of the messages in the batch, and where in the batch each one's message is.
    pub(super) places: Vec<(QueueId, Seq)>,
    pub(super) extents: Vec<Extent>,
    /// The deadlines of one message's places; empty if there are none.
    deadlines: Vec<u64>,
    /// The batch holds identities, or definitions that have not changed.
    pub(super) defines: bool,
    /// Places that have the same fate, until they are written.
    ranges: Vec<SeqRange>,
    fate: Option<Fate>,
}

/// Where in a batch a message is, and what it counts for in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes from the beginning of the batch to its record.
    pub(super) begin: usize,
    /// Bytes of the record, divided among its places.
    pub(super) bytes: u32,
}

/// What one place of a message counts for, of the bytes of its record: at least one, so that what is alive is never
/// worth nothing.
pub(super) fn bytes_per_place(bytes: usize, places: usize) -> u32 {
    u32::try_from((bytes / places.max(1)).max(1)).unwrap_or(u32::MAX)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Gone(QueueId),
    CameBack(QueueId, u16),
}

impl Scribe {
    pub(super) fn new(vhost: VhostId) -> Self {
        Self {
            vhost,
            batch: Batch::new(),
            places: Vec::new(),
            extents: Vec::new(),
            deadlines: Vec::new(),
            defines: false,
            ranges: Vec::new(),
            fate: None,
        }
    }

    /// Encodes the vhost's identity.
    pub(super) fn identify(&mut self, name: &VhostName) {
        self.defines = true;
        self.batch.push(&Record::CreateVhost { vhost: self.vhost, name });
    }

    /// Encodes what a turn has done.
    pub(super) fn write(&mut self, vhost: &mut Vhost, journal: &Journal) {
        let mut places = journal.places.as_slice();
        for entry in &journal.entries {
            match entry {
                Entry::Gone(places) => self.range(Fate::Gone(places.queue), places),
                Entry::CameBack { places, delivery_count } => {
                    self.range(Fate::CameBack(places.queue, *delivery_count), places);
                }
                Entry::Published { message, places: count } => {
                    let (of_message, rest) = places.split_at(*count);
                    places = rest;
                    let kept = of_message.iter().filter_map(|(queue, seq)| {
                        let kept = vhost.kept(*queue, *seq)?;
                        kept.home.is_awaited().then_some((*queue, *seq, kept))
                    });
                    self.publish(message, kept);
                }
                Entry::Created { queue, name } => {
                    self.end_ranges();
                    self.defines = true;
                    self.batch.push(&Record::CreateQueue { vhost: self.vhost, queue: *queue, name });
                }
                Entry::DelayCreated { queue, exchange } => {
                    self.end_ranges();
                    self.defines = true;
                    self.batch.push(&Record::CreateDelay { vhost: self.vhost, queue: *queue, exchange });
                }
                Entry::Deleted(queue) => {
                    self.end_ranges();
                    self.batch.push(&Record::DeleteQueue { vhost: self.vhost, queue: *queue });
                }
            }
        }
        self.end_ranges();
    }

    /// Encodes a message for these places, unless there are none. Either it survives a restart in all of them, or it
    /// is stored for the sake of memory in all of them.
    pub(super) fn publish(&mut self, message: &Message, places: impl Iterator<Item = (QueueId, Seq, Kept)>) {
        self.end_ranges();
        let first = self.places.len();
        self.deadlines.clear();
        let mut survives = message.persistent();
        for (queue, seq, Kept { terms, home, .. }) in places {
            survives |= !home.is_transient();
            if terms.deadline < Moment::NEVER || !self.deadlines.is_empty() {
                self.deadlines.resize(self.places.len() - first, Moment::NEVER.0);
                self.deadlines.push(terms.deadline.0);
            }
            self.places.push((queue, seq));
        }
        let queues = &self.places[first..];
        if queues.is_empty() {
            return;
        }
        let before = self.batch.size();
        let begin = self.batch.push(&Record::Publish {
            vhost: self.vhost,
            queues,
            deadlines: &self.deadlines,
            message: StoredMessage { survives, ..message.into() },
        });
        let bytes = bytes_per_place(self.batch.size() - before, queues.len());
        self.extents.resize(self.places.len(), Extent { begin, bytes });
    }

    /// Encodes that a message was delivered before.
    pub(super) fn came_back(&mut self, queue: QueueId, seq: Seq, history: History) {
        self.range(Fate::CameBack(queue, history.delivery_count), &Places { queue, first: seq, last: seq });
    }

    fn range(&mut self, fate: Fate, places: &Places) {
        if self.fate != Some(fate) {
            self.end_ranges();
            self.fate = Some(fate);
        }
        self.ranges.push(SeqRange { first: places.first, last: places.last });
    }

    /// Writes the places that are waiting for more of their kind. To be called before the batch is appended.
    pub(super) fn end_ranges(&mut self) {
        let vhost = self.vhost;
        match self.fate.take() {
            Some(Fate::Gone(queue)) => self.batch.push(&Record::Ack { vhost, queue, seqs: &self.ranges }),
            Some(Fate::CameBack(queue, delivery_count)) => {
                self.batch.push(&Record::Return { vhost, queue, delivery_count, seqs: &self.ranges })
            }
            None => return,
        };
        self.ranges.clear();
    }

    /// Forgets what was appended.
    pub(super) fn clear(&mut self) {
        self.batch.clear();
        self.places.clear();
        self.extents.clear();
        self.defines = false;
    }
}
