//! The front of the log: takes batches from any thread and hands them to the thread that writes.
//!
//! Invariant: position and segment of a batch are decided together, under one short lock, so that the order of
//! positions is the order of bytes. Nothing is written and nothing waits under that lock.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

use super::directory::Directory;
use super::file_system::FileSystem;
use super::recovery::{Recovered, recover};
use super::reread::{self, RecordVisitor};
use super::shared::{GATHER_BYTES, Phase, Shared};
use super::summary;
use super::writer::{self, Writer};
use super::zeroing::{Zeroer, Zeroing};
use super::{
    Appended, Batch, Durability, Location, LogOptions, OpenError, Placed, RecoveryReport, SegmentNumber,
    Space, Usage, Wanted,
};
use crate::model::LogPosition;
use crate::storage::FailureText;

/// The open log. Shared by everybody who appends; dropping the last one without [`Log::shutdown`] writes what was
/// appended, and leaves a log that was not closed in order.
pub struct Log {
    pub(super) shared: Arc<Shared>,
    options: LogOptions,
    file_system: Arc<dyn FileSystem>,
    zeroing: Arc<Zeroing>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Why the log was not closed in order.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShutdownError {
    /// The log failed, then or before.
    #[error("the message log failed: {0}")]
    Failed(FailureText),
    /// The disk is full: what was appended last is lost.
    #[error("the disk is full: {unwritten_bytes} bytes of the message log are not written")]
    Full {
        /// Bytes that are lost.
        unwritten_bytes: usize,
    },
}

impl Log {
    /// Opens the log: hands every record that is there to the visitor, in order, then starts the threads `log` and
    /// `log-zeroing`.
    ///
    /// The visitor may meet the same publish twice, see the room's page on reclaim.
    ///
    /// # Errors
    /// If files cannot be read or written, or are of a later release. Damage is no error.
    pub fn open(
        file_system: Arc<dyn FileSystem>,
        options: LogOptions,
        visitor: &mut dyn FnMut(Placed<'_>),
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let mut recovered = recover(Arc::clone(&file_system), &options, visitor)?;
        let report = mem::take(&mut recovered.report);
        let (log, writer, zeroer) = Self::assemble(file_system, options, recovered);
        let shared = Arc::clone(&log.shared);
        let idle = log.options.idle_sync;
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)
        };
        log.threads.lock().push(spawn("log", Box::new(move || writer::run(&shared, writer, idle)))?);
        log.threads.lock().push(spawn("log-zeroing", Box::new(|| zeroer.run()))?);
        Ok((log, report))
    }

    /// The parts, without the threads that run the second and the third.
    pub(super) fn assemble(
        file_system: Arc<dyn FileSystem>,
        options: LogOptions,
        recovered: Recovered,
    ) -> (Self, Writer, Zeroer) {
        let Recovered { files, last, next, .. } = recovered;
        let (zeroer, zeroing) = files.zeroer();
        let shared = Arc::new(Shared::new(next.number, last, options.segment_bytes_min, files.usage()));
        let writer = Writer::new(files, &options, next, last);
        (Self { shared, options, file_system, zeroing, threads: Mutex::new(Vec::new()) }, writer, zeroer)
    }

    /// Appends the records of a batch and empties it. `waits` says that a confirm or reply waits for the position;
    /// without it the batch is written within [`LogOptions::idle_sync`].
    ///
    /// A batch without records has the position of everything appended before. Costs a sum over the bytes and a
    /// copy; never waits for the disk: see [`Log::congested`]. After a failure or a shutdown records are dropped,
    /// and their positions never published.
    pub fn append(&self, batch: &mut Batch, waits: bool) -> Appended {
        if batch.is_empty() {
            return self.append_nothing(waits);
        }
        let waits = waits && self.options.durability != Durability::Memory;
        batch.finish();
        let mut state = self.shared.state.lock();
        if state.phase != Phase::Open {
            // A position of its own would leave a gap before the mark of a clean stop, and be published with it.
            batch.clear();
            return Appended { position: LogPosition(u64::MAX), location: state.end() };
        }
        let first = state.chunks.is_empty();
        let (location, size) = state.append(batch, self.options.segment_bytes_max);
        self.shared.unwritten.fetch_add(size, Ordering::Relaxed);
        let wake = first || (waits && !state.urgent) || state.gathered_bytes >= GATHER_BYTES;
        state.urgent |= waits;
        if wake {
            self.shared.work.notify_one();
        }
        let appended = Appended { position: LogPosition(state.position), location };
        drop(state);
        batch.clear();
        if self.options.durability == Durability::Memory {
            self.shared.publish(appended.position.0);
        }
        appended
    }

    fn append_nothing(&self, waits: bool) -> Appended {
        let mut state = self.shared.state.lock();
        if waits && !state.chunks.is_empty() && self.options.durability != Durability::Memory {
            state.urgent = true;
            self.shared.work.notify_one();
        }
        Appended { position: LogPosition(state.position), location: state.end() }
    }

    /// The durable position, now and from here on.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<LogPosition> {
        self.shared.durable.subscribe()
    }

    /// Becomes `Some` when nothing can be made durable any more. That is final: the process has to be restarted.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<FailureText>> {
        self.shared.failed.subscribe()
    }

    /// Whether the disk takes what is appended.
    #[must_use]
    pub fn space(&self) -> watch::Receiver<Space> {
        self.shared.space.subscribe()
    }

    /// Tries a full disk again now.
    pub fn retry(&self) {
        self.shared.state.lock().urgent = true;
        self.shared.work.notify_one();
    }

    /// Whether publishers are to wait, because more is unwritten than [`LogOptions::max_unwritten_bytes`]. Cheap.
    #[must_use]
    pub fn congested(&self) -> bool {
        self.shared.unwritten.load(Ordering::Relaxed) > self.options.max_unwritten_bytes
    }

    /// What the log takes up.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let newest = self.shared.state.lock().segment;
        let (segments, bytes, oldest) = *self.shared.on_disk.lock();
        let bytes = bytes + self.shared.unwritten.load(Ordering::Relaxed) as u64;
        let oldest = oldest.unwrap_or(newest);
        Usage { segments, bytes, oldest, newest }
    }

    /// Says that nothing stored in segments below this one is needed any more, except what was appended again.
    /// They are recycled or removed once everything appended so far is durable, oldest first.
    pub fn retire(&self, below: SegmentNumber) {
        let mut state = self.shared.state.lock();
        if state.phase != Phase::Open {
            // What was appended again for it may have been dropped.
            return;
        }
        // Two requests become the larger one, with the later position: both wait a little longer than they must.
        let below = state.retire.map_or(below, |(earlier, _)| earlier.max(below)).min(state.segment);
        state.retire = Some((below, state.position));
        self.shared.work.notify_one();
    }

    /// Reads a segment, everything in which is durable and which is not retired before this returns. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// If the file cannot be read. Damaged batches are passed over.
    pub fn read_segment(
        &self,
        segment: SegmentNumber,
        visitor: &mut dyn FnMut(Placed<'_>),
    ) -> io::Result<()> {
        reread::read_segment(&*self.file_system, segment, visitor)
    }

    /// Up to where the log can be read again, now and from here on: everything before this location is in the files.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Location> {
        self.shared.written.subscribe()
    }

    /// Up to where the log can be read again at this moment. Cheap.
    #[must_use]
    pub fn written_until(&self) -> Location {
        *self.shared.written.borrow()
    }

    /// Reads single records, all of one segment and in order of their offsets. The visitor gets the number of each and
    /// its record, or none if something else is there, because the segment is damaged or has been retired, and says
    /// whether to go on. Blocks on the disk.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn read_records(
        &self,
        segment: SegmentNumber,
        wanted: &[Wanted],
        visitor: RecordVisitor<'_>,
    ) -> io::Result<()> {
        reread::read_records(&*self.file_system, segment, wanted, visitor)
    }

    /// Writes everything appended and the mark of a clean stop, makes both durable and ends the thread. What is
    /// appended later is dropped. Blocks until the disk has it.
    ///
    /// # Errors
    /// If not everything appended is durable.
    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        self.stop(true)
    }

    /// Writes the summary of a log that [`Log::shutdown`] has closed: records that amount to what all of the log's
    /// amount to, and the segments that hold definitions or identities. The next start reads them and not the segments.
    ///
    /// # Errors
    /// If it cannot be written; the next start takes longer then.
    pub fn summarise(&self, records: &Batch, defined_in: &[SegmentNumber]) -> io::Result<()> {
        let closing = self.shared.state.lock().closing.ok_or(io::ErrorKind::InvalidInput)?;
        let directory = Directory::read(Arc::clone(&self.file_system)).map_err(io::Error::other)?;
        summary::write(&directory, closing, defined_in, records)
    }

    /// Like [`Log::shutdown`], but without the mark: somebody may still hold what the log does not say was delivered.
    ///
    /// # Errors
    /// If not everything appended is durable.
    pub fn abandon(&self) -> Result<(), ShutdownError> {
        self.stop(false)
    }

    fn stop(&self, in_order: bool) -> Result<(), ShutdownError> {
        self.end(in_order);
        if let Some(failure) = self.shared.failed.borrow().clone() {
            return Err(ShutdownError::Failed(failure));
        }
        match self.shared.unwritten.load(Ordering::Relaxed) {
            0 => Ok(()),
            unwritten_bytes => Err(ShutdownError::Full { unwritten_bytes }),
        }
    }

    /// Ends the threads, after one has written what was appended.
    fn end(&self, in_order: bool) {
        let threads = mem::take(&mut *self.threads.lock());
        if !threads.is_empty() {
            self.shared.close(in_order);
        }
        self.zeroing.end();
        for thread in threads {
            // The thread that writes turns its panics into failures, which their owner reads from `failed`; without
            // the other one the log is only slower.
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("durable", &*self.shared.durable.borrow())
            .field("failed", &*self.shared.failed.borrow())
            .finish_non_exhaustive()
    }
}
