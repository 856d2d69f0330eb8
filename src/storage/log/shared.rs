//! What those who append and the thread that writes share: batches that wait to be written, and how far it has come.
//!
//! Invariant: chunks hold whole batches in the order of their positions, and nothing waits for the disk under the lock.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::format::HEADER_BYTES;
use super::record::Record;
use super::summary::Closing;
use super::{Batch, Location, SegmentNumber, Space};
use crate::model::LogPosition;
use crate::storage::FailureText;

/// Bytes that are written with one call. A larger batch is written with one call as well.
const CHUNK_BYTES: usize = 256 << 10;
/// Written chunks that are kept for reuse.
const MAX_IDLE_CHUNKS: usize = 16;
/// Bytes nobody waits for that are written before their time.
pub(super) const GATHER_BYTES: usize = 4 << 20;

/// What appenders and the thread share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// There is something for the thread to do.
    pub(super) work: Condvar,
    pub(super) unwritten: AtomicUsize,
    /// Up to where files can be read.
    pub(super) written: watch::Sender<Location>,
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
    pub(super) idle_buffers: Vec<Vec<u8>>,
    pub(super) gathered_bytes: usize,
    /// The position of the last batch appended.
    pub(super) position: u64,
    pub(super) segment: SegmentNumber,
    pub(super) segment_bytes: u64,
    /// Where the next batch of the segment begins.
    pub(super) fill: u64,
    /// How many batches the segment has.
    pub(super) ordinal: u32,
    /// Somebody waits.
    pub(super) urgent: bool,
    pub(super) retire: Option<(SegmentNumber, u64)>,
    pub(super) phase: Phase,
    /// The mark of a clean stop, once there is one.
    pub(super) closing: Option<Closing>,
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

impl State {
    /// Where the next batch of the segment begins, if it gets that far.
    pub(super) fn end(&self) -> Location {
        Location { segment: self.segment, offset: self.fill }
    }

    /// Places a finished batch, and returns where it is and its bytes.
    pub(super) fn append(&mut self, batch: &mut Batch, segment_bytes_max: u64) -> (Location, usize) {
        let size = batch.bytes.len();
        self.position += 1;
        self.make_room(size as u64, segment_bytes_max);
        let location = self.end();
        batch.place(self.position, self.ordinal);
        self.push(&batch.bytes);
        (location, size)
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
    /// An empty log that goes on behind this position in this segment.
    pub(super) fn new(
        segment: SegmentNumber,
        position: u64,
        segment_bytes: u64,
        on_disk: (usize, u64, Option<SegmentNumber>),
    ) -> Self {
        let state = State {
            chunks: Vec::new(),
            idle_buffers: Vec::new(),
            gathered_bytes: 0,
            position,
            segment,
            segment_bytes,
            fill: HEADER_BYTES as u64,
            ordinal: 0,
            urgent: false,
            retire: None,
            phase: Phase::Open,
            closing: None,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            unwritten: AtomicUsize::new(0),
            written: watch::Sender::new(Location { segment, offset: 0 }),
            on_disk: Mutex::new(on_disk),
            durable: watch::Sender::new(LogPosition(position)),
            failed: watch::Sender::new(None),
            space: watch::Sender::new(Space::Ample),
        }
    }

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

    /// Appends the mark of a clean stop, after [`Shared::close`].
    pub(super) fn append_last(&self, record: &Record<'_>, segment_bytes_max: u64) {
        let mut batch = Batch::new();
        batch.push(record);
        batch.finish();
        let mut state = self.state.lock();
        let (location, size) = state.append(&mut batch, segment_bytes_max);
        state.closing = Some(Closing { location, position: state.position });
        drop(state);
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
