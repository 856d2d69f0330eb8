//! What the log holds, as bytes: versioned commands, written by hand, one file per kind.
//!
//! A record is its kind, the version of its kind, and fields. Invariant: kinds and versions are stored and never
//! renumbered; what is read back is what was pushed, or an error; reading never allocates by a stored number.

mod ack;
mod clean_stop;
mod create_delay;
mod create_queue;
mod create_vhost;
mod define;
mod delete_queue;
mod field;
mod publish;
mod queue_state;
mod requeue;

use thiserror::Error;

use self::field::Reader;
use super::frame::{self, Extent};
use super::{Location, VhostId};
use crate::model::{ExchangeName, Message, MessageParts, QueueId, QueueName, Seq, VhostName};

const PUBLISH: u8 = 1;
const ACK: u8 = 2;
const RETURN: u8 = 3;
const DEFINE: u8 = 4;
const CREATE_QUEUE: u8 = 5;
const DELETE_QUEUE: u8 = 6;
const CREATE_VHOST: u8 = 7;
const CLEAN_STOP: u8 = 8;
const QUEUE_STATE: u8 = 9;
const CREATE_DELAY: u8 = 10;

/// The version in which every kind is written.
const VERSION: u8 = 1;

/// Consecutive places of a queue, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqRange {
    /// The lowest.
    pub first: Seq,
    /// The highest; never below the first.
    pub last: Seq,
}

/// A message as its record has it, not copied out of there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage<'a> {
    /// Everything but the body.
    pub parts: MessageParts<'a>,
    /// The body.
    pub body: &'a [u8],
    /// It comes back after a restart, as whatever is persistent does; what does not was stored for the sake of memory.
    pub survives: bool,
}

impl StoredMessage<'_> {
    /// Copies the message: a slice would keep everything that was read with it in memory for its sake.
    #[must_use]
    pub fn to_message(&self) -> Message {
        Message::new(self.parts, self.body)
    }
}

impl<'a> From<&'a Message> for StoredMessage<'a> {
    fn from(message: &'a Message) -> Self {
        let parts = MessageParts {
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            properties: message.properties(),
            persistent: message.persistent(),
        };
        Self { parts, body: message.body(), survives: parts.persistent }
    }
}

/// A place of a queue and where its message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPlace {
    /// The place.
    pub seq: Seq,
    /// Where the message's record begins.
    pub location: Location,
    /// What the record counts for in this place, in bytes.
    pub bytes: u32,
    /// The message may have been delivered before.
    pub redelivered: bool,
    /// How often clients have failed with it.
    pub delivery_count: u16,
    /// Its priority in this queue.
    pub priority: u8,
    /// Octets of its body.
    pub body_bytes: u32,
    /// From when on it is not handed out any more, in milliseconds since 1970; `u64::MAX` is never.
    pub deadline: u64,
}

/// One change of what is kept, to be applied in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Record<'a> {
    /// These queues keep the message, each at its place; the body is stored once. A place that is already taken
    /// is taken by the same message, copied forward from an old segment: the second record changes nothing.
    Publish {
        /// The queues' vhost.
        vhost: VhostId,
        /// Who keeps it, and where.
        queues: &'a [(QueueId, Seq)],
        /// From when on each of them does not hand it out any more, in milliseconds since 1970; `u64::MAX` is never.
        /// Empty if none of them has such a time.
        deadlines: &'a [u64],
        /// What they keep.
        message: StoredMessage<'a>,
    },
    /// These messages are gone.
    Ack {
        /// The queue's vhost.
        vhost: VhostId,
        /// Whose messages.
        queue: QueueId,
        /// Which.
        seqs: &'a [SeqRange],
    },
    /// These messages may have been delivered and are back in their places: they are redelivered from here on.
    Return {
        /// The queue's vhost.
        vhost: VhostId,
        /// Whose messages.
        queue: QueueId,
        /// How often clients have failed with them by this time.
        delivery_count: u16,
        /// Which.
        seqs: &'a [SeqRange],
    },
    /// A definition, in the form of the metadata store: written by `storage` itself, and understood by it alone.
    Define {
        /// Its identity.
        key: &'a [u8],
        /// What it is from here on; `None` if it is gone.
        value: Option<&'a [u8]>,
    },
    /// The identity under which a durable queue's messages are stored.
    CreateQueue {
        /// The queue's vhost.
        vhost: VhostId,
        /// Its id.
        queue: QueueId,
        /// The name it was declared with.
        name: &'a QueueName,
    },
    /// The identity under which the messages are stored that wait at a delayed message exchange: a queue that nobody
    /// sees.
    CreateDelay {
        /// The exchange's vhost.
        vhost: VhostId,
        /// The queue's id.
        queue: QueueId,
        /// The name the exchange was declared with.
        exchange: &'a ExchangeName,
    },
    /// The queue and its messages are gone.
    DeleteQueue {
        /// The queue's vhost.
        vhost: VhostId,
        /// Its id.
        queue: QueueId,
    },
    /// The identity under which a vhost's queues are stored.
    CreateVhost {
        /// Its id.
        vhost: VhostId,
        /// Its name.
        name: &'a VhostName,
    },
    /// What the queue keeps, or some of it: only in the summary of a clean stop.
    QueueState {
        /// The queue's vhost.
        vhost: VhostId,
        /// The queue.
        queue: QueueId,
        /// No message was ever in this place or a higher one.
        next: Seq,
        /// Places that ascend.
        places: &'a [StoredPlace],
    },
    /// The log was closed in order; written by the log itself. Only as the last record of all does it mean
    /// anything.
    CleanStop,
}

/// Why bytes with a correct sum are not records: somebody else's release wrote them, or a bug did.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// They end too early.
    #[error("a record ends too early")]
    Truncated,
    /// A name is not text.
    #[error("a name in a record is not UTF-8")]
    NotUtf8,
    /// A number has more than 64 bits, or more than its field.
    #[error("a number in a record is too large")]
    NumberTooLarge,
    /// A later release wrote it.
    #[error("records of kind {kind}, version {version}, are not known to this release")]
    Unknown {
        /// What the record is.
        kind: u8,
        /// How it is written.
        version: u8,
    },
}

/// What decoding one record needs besides its bytes; reused, so that nothing is allocated for ranges and queues.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    queues: Vec<(QueueId, Seq)>,
    deadlines: Vec<u64>,
    seqs: Vec<SeqRange>,
    places: Vec<StoredPlace>,
}

/// Encodes one record.
pub(super) fn put(record: &Record<'_>, out: &mut Vec<u8>) {
    match *record {
        Record::Publish { vhost, queues, deadlines, message } => {
            publish::put(vhost, queues, deadlines, &message, out);
        }
        Record::Ack { vhost, queue, seqs } => ack::put(vhost, queue, seqs, out),
        Record::Return { vhost, queue, delivery_count, seqs } => {
            requeue::put(vhost, queue, delivery_count, seqs, out);
        }
        Record::Define { key, value } => define::put(key, value, out),
        Record::CreateQueue { vhost, queue, name } => create_queue::put(vhost, queue, name, out),
        Record::CreateDelay { vhost, queue, exchange } => create_delay::put(vhost, queue, exchange, out),
        Record::DeleteQueue { vhost, queue } => delete_queue::put(vhost, queue, out),
        Record::CreateVhost { vhost, name } => create_vhost::put(vhost, name, out),
        Record::QueueState { vhost, queue, next, places } => {
            queue_state::put(vhost, queue, next, places, out);
        }
        Record::CleanStop => clean_stop::put(out),
    }
}

/// Decodes the framed records of one batch, in order.
pub(super) fn read_all(
    bytes: &[u8],
    scratch: &mut Scratch,
    visitor: &mut dyn FnMut(Extent, Record<'_>),
) -> Result<u64, RecordError> {
    let mut count = 0;
    for (extent, record) in frame::records(bytes) {
        read(record, scratch, &mut |record| visitor(extent, record))?;
        count += 1;
    }
    Ok(count)
}

/// Decodes one record.
pub(super) fn read(
    bytes: &[u8],
    scratch: &mut Scratch,
    visitor: &mut dyn FnMut(Record<'_>),
) -> Result<(), RecordError> {
    let mut reader = Reader::new(bytes);
    match (reader.byte()?, reader.byte()?) {
        (PUBLISH, VERSION) => {
            publish::read(&mut reader, &mut scratch.queues, &mut scratch.deadlines, visitor)
        }
        (ACK, VERSION) => ack::read(&mut reader, &mut scratch.seqs, visitor),
        (RETURN, VERSION) => requeue::read(&mut reader, &mut scratch.seqs, visitor),
        (DEFINE, VERSION) => define::read(&mut reader, visitor),
        (CREATE_QUEUE, VERSION) => create_queue::read(&mut reader, visitor),
        (CREATE_DELAY, VERSION) => create_delay::read(&mut reader, visitor),
        (DELETE_QUEUE, VERSION) => delete_queue::read(&mut reader, visitor),
        (CREATE_VHOST, VERSION) => create_vhost::read(&mut reader, visitor),
        (QUEUE_STATE, VERSION) => queue_state::read(&mut reader, &mut scratch.places, visitor),
        (CLEAN_STOP, VERSION) => {
            visitor(Record::CleanStop);
            Ok(())
        }
        (kind, version) => Err(RecordError::Unknown { kind, version }),
    }
}

#[cfg(test)]
mod tests;
