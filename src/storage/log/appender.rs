//! The front of the log: takes batches from any thread and hands them to the thread that writes.
//!
//! Invariant: position and segment of a batch are decided together, under one short lock, so that the order of
//! positions is the order of bytes. Nothing is written and nothing waits under that lock.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use thiserror::Error;
use tokio::sync::watch;

use super::file_system::FileSystem;
use super::format::HEADER_BYTES;
use super::record::Record;
use super::recovery::{Recovered, recover};
use super::reread;
use super::writer::{self, Writer};
use super::zeroing::{Zeroer, Zeroing};
use super::{
    Appended, Batch, Durability, LogOptions, OpenError, Placed, RecoveryReport, SegmentNumber, Space, Usage,
};
use crate::model::LogPosition;
use crate::storage::FailureText;

/// Bytes that are written with one call. A larger batch is written with one call as well.
const CHUNK_BYTES: usize = 256 << 10;
/// Written chunks that are kept for reuse.
const MAX_IDLE_CHUNKS: usize = 16;
/// Bytes nobody waits for that are written before their time.
const GATHER_BYTES: usize = 4 << 20;

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

/// What appenders and the thread share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// There is something for the thread to do.
    pub(super) work: Condvar,
    pub(super) unwritten: AtomicUsize,
    /// Segments, bytes and the oldest segment, as far as they are on disk.
    pub(super) on_disk: Mutex<(usize, u64, Option<SegmentNumber>)>,
    pub(super) durable: watch::Sender<LogPosition>,
    pub(super) failed: watch::Sender<Option<FailureText>>,
    pub(super) space: watch::Sender<Space>,
}

/// Whole batches that lie next to each other in a segment.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) segment: SegmentNumber,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// The position of its last batch.
    pub(super) last: u64,
}

/// What the thread has to do next.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) chunks: Vec<Chunk>,
    /// Segments below this one, once this position is durable.
    pub(super) retire: Option<(SegmentNumber, u64)>,
    /// Write, sync and end.
    pub(super) close: Option<Close>,
}

/// How the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// As if the process ended.
    Abandon,
    /// With the mark of a clean stop.
    InOrder,
}

pub(super) struct State {
    pub(super) chunks: Vec<Chunk>,
    idle_buffers: Vec<Vec<u8>>,
    gathered_bytes: usize,
    /// The position of the last batch appended.
    position: u64,
    segment: SegmentNumber,
    segment_bytes: u64,
    /// Where the next batch of the segment begins.
    fill: u64,
    /// How many batches the segment has.
    ordinal: u32,
    /// Somebody waits.
    urgent: bool,
    retire: Option<(SegmentNumber, u64)>,
    pub(super) phase: Phase,
}

/// Where the log is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// What was appended is still written, nothing more is taken.
    Closing,
    /// The same, and then the mark of a clean stop.
    Stopping,
    /// Nothing is written any more.
    Failed,
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
        let state = State {
            chunks: Vec::new(),
            idle_buffers: Vec::new(),
            gathered_bytes: 0,
            position: last,
            segment: next.number,
            segment_bytes: options.segment_bytes_min,
            fill: HEADER_BYTES as u64,
            ordinal: 0,
            urgent: false,
            retire: None,
            phase: Phase::Open,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            unwritten: AtomicUsize::new(0),
            on_disk: Mutex::new(files.usage()),
            durable: watch::Sender::new(LogPosition(last)),
            failed: watch::Sender::new(None),
            space: watch::Sender::new(Space::Ample),
        });
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
            return Appended { position: LogPosition(u64::MAX), segment: state.segment };
        }
        let first = state.chunks.is_empty();
        let size = state.append(batch, self.options.segment_bytes_max);
        self.shared.unwritten.fetch_add(size, Ordering::Relaxed);
        let wake = first || (waits && !state.urgent) || state.gathered_bytes >= GATHER_BYTES;
        state.urgent |= waits;
        if wake {
            self.shared.work.notify_one();
        }
        let appended = Appended { position: LogPosition(state.position), segment: state.segment };
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
        Appended { position: LogPosition(state.position), segment: state.segment }
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

    /// Writes everything appended and the mark of a clean stop, makes both durable and ends the thread. What is
    /// appended later is dropped. Blocks until the disk has it.
    ///
    /// # Errors
    /// If not everything appended is durable.
    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        self.stop(true)
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

impl State {
    /// Places a finished batch, and returns its bytes.
    fn append(&mut self, batch: &mut Batch, segment_bytes_max: u64) -> usize {
        let size = batch.bytes.len();
        self.position += 1;
        self.make_room(size as u64, segment_bytes_max);
        batch.place(self.position, self.ordinal);
        self.push(&batch.bytes);
        size
    }

    /// Decides the segment of the next batch: a new one if it does not fit.
    fn make_room(&mut self, size: u64, segment_bytes_max: u64) {
        let empty = self.ordinal == 0;
        if self.fill + size > self.segment_bytes && !empty {
            self.segment = SegmentNumber(self.segment.0 + 1);
            self.segment_bytes = self.segment_bytes.saturating_mul(2).min(segment_bytes_max);
            self.fill = HEADER_BYTES as u64;
            self.ordinal = 0;
        }
    }

    /// Takes the bytes of a batch for which there is room.
    fn push(&mut self, batch: &[u8]) {
        let joins = self.chunks.last().is_some_and(|chunk| {
            chunk.segment == self.segment && chunk.bytes.len() + batch.len() <= CHUNK_BYTES
        });
        if !joins {
            let mut bytes = self.idle_buffers.pop().unwrap_or_default();
            bytes.reserve(batch.len().max(CHUNK_BYTES));
            self.chunks.push(Chunk { segment: self.segment, offset: self.fill, bytes, last: 0 });
        }
        let chunk = self.chunks.last_mut().expect("there is one to join, or it was just pushed");
        chunk.bytes.extend_from_slice(batch);
        chunk.last = self.position;
        self.gathered_bytes += batch.len();
        self.fill += batch.len() as u64;
        self.ordinal += 1;
    }

    fn take(&mut self, into: &mut Work) {
        mem::swap(&mut into.chunks, &mut self.chunks);
        into.retire = self.retire.take().or(into.retire);
        into.close = match self.phase {
            Phase::Open | Phase::Failed => None,
            Phase::Closing => Some(Close::Abandon),
            Phase::Stopping => Some(Close::InOrder),
        };
        self.gathered_bytes = 0;
        self.urgent = false;
    }
}

impl Shared {
    /// Waits for work and adds it to `work`, whose chunks are empty. With `stuck` there is something left that the
    /// disk did not take, and waiting ends after `idle` at the latest.
    pub(super) fn wait(&self, work: &mut Work, stuck: bool, idle: Duration) {
        let mut state = self.state.lock();
        let mut due = false;
        loop {
            let now = state.urgent || state.gathered_bytes >= GATHER_BYTES && !stuck;
            let asked = state.phase != Phase::Open || state.retire.is_some();
            if now || asked || due {
                state.take(work);
                return;
            }
            if stuck || !state.chunks.is_empty() {
                due = self.work.wait_for(&mut state, idle).timed_out();
            } else {
                self.work.wait(&mut state);
            }
        }
    }

    /// Takes everything there is, without waiting.
    pub(super) fn take_now(&self, work: &mut Work) {
        self.state.lock().take(work);
    }

    /// Appends a batch of the log's own, after [`Shared::close`].
    pub(super) fn append_last(&self, record: &Record<'_>, segment_bytes_max: u64) {
        let mut batch = Batch::new();
        batch.push(record);
        batch.finish();
        let size = self.state.lock().append(&mut batch, segment_bytes_max);
        self.unwritten.fetch_add(size, Ordering::Relaxed);
    }

    /// Takes back the buffers of written chunks.
    pub(super) fn recycle(&self, written: &mut Vec<Chunk>) {
        let bytes: usize = written.iter().map(|chunk| chunk.bytes.len()).sum();
        self.unwritten.fetch_sub(bytes, Ordering::Relaxed);
        let mut state = self.state.lock();
        for Chunk { mut bytes, .. } in written.drain(..) {
            // A buffer that grew for one large batch is not kept.
            if state.idle_buffers.len() < MAX_IDLE_CHUNKS && bytes.capacity() <= 2 * CHUNK_BYTES {
                bytes.clear();
                state.idle_buffers.push(bytes);
            }
        }
    }

    /// Lets everybody see a durable position.
    pub(super) fn publish(&self, position: u64) {
        self.durable.send_if_modified(|durable| {
            let later = position > durable.0;
            durable.0 = durable.0.max(position);
            later
        });
    }

    /// Takes no more batches, and asks the thread to end.
    pub(super) fn close(&self, in_order: bool) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = if in_order { Phase::Stopping } else { Phase::Closing };
        }
        self.work.notify_one();
    }

    /// Drops what is unwritten and everything that comes, and says why.
    pub(super) fn fail(&self, why: &str) {
        let mut state = self.state.lock();
        state.phase = Phase::Failed;
        state.chunks = Vec::new();
        state.gathered_bytes = 0;
        self.unwritten.store(0, Ordering::Relaxed);
        drop(state);
        self.failed.send_replace(Some(why.into()));
    }
}
