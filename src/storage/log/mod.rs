//! The message log: what happens to persistent messages, in one order for all vhosts.
//!
//! In: batches of records, one per turn, from any thread. Out: the position of each batch at once, the durable
//! position as the disk catches up, and at start every record that is still there, in order. A thread of its own
//! writes and syncs whatever gathered during the previous sync.
//!
//! ```text
//! Batch::push ─▶ Log::append ─▶ chunks ─▶ thread `log`: one write, one sync ─▶ durable position
//!                                            └▶ segments: 0000000001.log, 0000000002.log, …
//! ```
//!
//! Invariants:
//! - A published position is durable with everything before it; after a failed sync none is published any more.
//! - A batch comes back as a whole or not at all, unaltered, and in order. What is missing is either the torn tail,
//!   which was never durable, or counted as damage.
//! - After a recovery, and after a recovery that was itself interrupted, the same batches are there.
//!
//! # Reclaim
//! Segments are retired oldest first. An ack or return concerns messages in its own segment or in earlier
//! ones, so that once the earlier ones are gone it concerns nothing. The owner of the messages keeps count of what
//! is alive per segment, and copies the survivors of the oldest one forward: it appends the same publish, with the
//! same queue and seq, before any later ack of it, and likewise the `CreateQueue` and `CreateVhost` that are still
//! needed, and a `Return` of those that are to be redelivered. Then it calls [`Log::retire`].
//!
//! Replay may therefore meet a publish, or an identity, twice; the second changes nothing but the segment in which
//! it lives. It may meet messages of a queue before the queue's identity, which stands further on by then, and acks,
//! returns and deletions of what is not there, which mean nothing.

mod appender;
mod batch;
mod check;
mod directory;
mod file_system;
mod format;
mod frame;
mod record;
mod recovery;
mod repair;
mod replay;
mod reread;
mod scan;
mod segments;
mod shared;
mod summary;
mod writer;
mod zeroing;

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use thiserror::Error;

pub use appender::{Log, ShutdownError};
pub use batch::Batch;
pub use check::{CheckReport, SegmentReport, check};
pub use directory::{last_written, segment_sizes};
pub use file_system::{FileSystem, LogFile, OsFileSystem};
pub use record::{Record, RecordError, SeqRange, StoredMessage, StoredPlace};
pub use repair::{RepairReport, RepairedSegment, repair};
pub use reread::{RecordVisitor, Wanted};

use crate::model::LogPosition;

/// The place of a segment in the log: ascending, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentNumber(pub u64);

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

/// A virtual host in the log: given out at its creation and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VhostId(pub u32);

/// When a position is published as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it would survive a power cut.
    Fsync,
    /// When it would survive the end of the process. The operating system decides when the disk gets it; a power
    /// cut may cost what it had not written, typically the last 30 seconds.
    Write,
    /// At once. The end of the process may cost the last [`LogOptions::idle_sync`].
    Memory,
}

/// Within which bounds the log works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of the first segment after a start. Each further one is twice as large.
    pub segment_bytes_min: u64,
    /// The largest segment, except that a batch larger than this gets one of its own.
    pub segment_bytes_max: u64,
    /// When a position is published.
    pub durability: Durability,
    /// Above this many bytes that are not yet written the log is congested and publishers are to wait.
    pub max_unwritten_bytes: usize,
    /// Longest time for which something that nobody waits for stays unwritten. Also the time between attempts to
    /// write to a full disk.
    pub idle_sync: Duration,
    /// A fresh random number: makes it impossible for a publisher to send bytes that would be taken for a batch
    /// if the log around them were damaged.
    pub salt: u64,
    /// The position before the first batch of a log that is empty.
    pub start: LogPosition,
}

impl LogOptions {
    /// The defaults: segments of 4 to 64 MiB, a sync behind each confirm, 16 MiB unwritten, 200 ms for what nobody
    /// waits for.
    #[must_use]
    pub fn new(salt: u64) -> Self {
        Self {
            segment_bytes_min: 4 << 20,
            segment_bytes_max: 64 << 20,
            durability: Durability::Fsync,
            max_unwritten_bytes: 16 << 20,
            idle_sync: Duration::from_millis(200),
            salt,
            start: LogPosition::START,
        }
    }
}

/// A byte of the log. They ascend in the order in which the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// In which segment.
    pub segment: SegmentNumber,
    /// Where in it.
    pub offset: u64,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// What a reply about the batch waits for.
    pub position: LogPosition,
    /// Where the batch begins. Its segment has to stay as long as a message published in the batch lives.
    pub location: Location,
}

/// A record as it is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed<'a> {
    /// Where it is stored.
    pub location: Location,
    /// How many bytes it takes up there.
    pub bytes: usize,
    /// Its batch's position.
    pub position: LogPosition,
    /// What it says.
    pub record: Record<'a>,
}

/// Whether the disk takes what is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// It does.
    Ample,
    /// It is full, and publishers are to wait. The reserve is being used up for acks, so that segments can be
    /// retired; behind it, what is unwritten waits in memory. Nothing is lost; both are tried again every
    /// [`LogOptions::idle_sync`].
    Full,
}

/// What the log takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Segments on disk.
    pub segments: usize,
    /// Bytes of all files of the log, spare ones included, and of what is not yet written.
    pub bytes: u64,
    /// The oldest segment, which is the next one to be retired.
    pub oldest: SegmentNumber,
    /// The segment that batches go to.
    pub newest: SegmentNumber,
}

/// What was found at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments that were read.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Batches that were replayed.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// The log was closed in order and nothing was lost since.
    pub clean_stop: bool,
    /// The segments were not read: what was handed out are the records of the summary, which tell everything.
    pub summary: Option<SummaryReport>,
    /// Batches that were durable and cannot be read; to be said loudly.
    pub damage: Vec<Damage>,
    /// Where the log was cut: nothing behind was known to be durable.
    pub torn_tail: Option<TornTail>,
}

/// What a summary says besides its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryReport {
    /// Segments that hold definitions or identities.
    pub defined_in: Vec<SegmentNumber>,
}

/// Durable bytes of a segment that are not what was written. They stay where they are until the segment is
/// retired, and are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub segment: SegmentNumber,
    /// How many batches are lost; `None` if nothing tells.
    pub batches: Option<u64>,
}

/// The end of what can be relied upon, after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment that was being written.
    pub segment: SegmentNumber,
    /// Offset at which it was cut.
    pub offset: u64,
    /// Readable batches behind a missing one, dropped with it.
    pub ignored_batches: u64,
}

/// Why a log cannot be opened. Nothing was changed or deleted.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A file or the directory cannot be read or written.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another release wrote it.
    #[error(
        "'{}' has format {version} of the message log, this release reads format {}: start the release that wrote it",
        path.display(),
        format::VERSION
    )]
    OtherFormat {
        /// The segment.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// Records are intact and yet cannot be understood.
    #[error(
        "'{}' holds at offset {offset} what this release cannot read: {source}; start the release that wrote it, \
         or a later one",
        path.display()
    )]
    Record {
        /// The segment.
        path: PathBuf,
        /// Where their batch begins.
        offset: u64,
        /// What is not understood.
        source: RecordError,
    },
    /// The operating system gave no thread.
    #[error("cannot start the thread that writes the message log: {0}")]
    Thread(io::Error),
}

#[cfg(test)]
mod tests;
