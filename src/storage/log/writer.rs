//! The back of the log: writes, syncs, begins segments and retires them. Without the thread it is a plain machine
//! whose every step a test can drive.
//!
//! Invariant: at most one segment has bytes that are not synced, the current one; the next one begins after they
//! are. What the disk did not take stays in the backlog, in order, until it does. After the first error nothing is
//! written and nothing published.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::file_system::LogFile;
use super::format::{Seed, SegmentHeader, seal};
use super::record::Record;
use super::segments::{SegmentFiles, WriteError};
use super::shared::{Chunk, Close, Shared, Work};
use super::{Durability, Location, LogOptions, SegmentNumber, Space};

/// Bytes per sync up to which writing zeros ahead gains more than the disk loses by writing everything twice: where
/// somebody waits for single messages. At a window of 1,000 messages of 1 KiB it took a third of the broker's CPU.
const WORTH_ZEROS: u64 = 32 << 10;
/// Syncs of a segment after which that is judged.
const JUDGED_AFTER: u64 = if cfg!(test) { 1 } else { 16 };

/// What the thread owns.
pub(super) struct Writer {
    files: SegmentFiles,
    durability: Durability,
    segment_bytes_max: u64,
    /// What the segment behind the current one may grow to.
    next_segment_bytes: u64,
    /// What the next segment is, but for its number.
    header: SegmentHeader,
    current: Option<Current>,
    backlog: VecDeque<Chunk>,
    done: Vec<Chunk>,
    retire: Option<(SegmentNumber, u64)>,
    written: u64,
    synced: u64,
}

/// The segment that is being written.
struct Current {
    number: SegmentNumber,
    file: Box<dyn LogFile>,
    seed: Seed,
    /// Up to where it is written, and how often it was synced.
    end: u64,
    syncs: u64,
    /// The next segment was ordered.
    ordered: bool,
}

impl Current {
    fn sync(&mut self) -> Result<(), WriteError> {
        self.syncs += 1;
        self.file.sync().map_err(WriteError::sync)
    }
}

/// The thread: what gathers during one turn is written in the next.
pub(super) fn run(shared: &Shared, mut writer: Writer, idle: Duration) {
    // The writer is not used after a panic.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut work = Work::default();
        while work.close.is_none() {
            shared.wait(&mut work, writer.stuck(), idle);
            writer.turn(shared, &mut work)?;
        }
        Ok(())
    }));
    let text = match ran {
        Ok(Ok(())) => return,
        Ok(Err(error)) => WriteError::to_string(&error),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            format!("the thread that writes the message log panicked: {text}")
        }
    };
    shared.fail(&text);
}

impl Writer {
    pub(super) fn new(files: SegmentFiles, options: &LogOptions, header: SegmentHeader, last: u64) -> Self {
        Self {
            files,
            durability: options.durability,
            segment_bytes_max: options.segment_bytes_max,
            next_segment_bytes: options.segment_bytes_min,
            header,
            current: None,
            backlog: VecDeque::new(),
            done: Vec::new(),
            retire: None,
            written: last,
            synced: last,
        }
    }

    /// Whether the disk was full when last seen: something waits for it, if only the reserve.
    pub(super) fn stuck(&self) -> bool {
        !self.backlog.is_empty() || self.files.starved()
    }

    /// Does what there is to do; an error is final.
    pub(super) fn turn(&mut self, shared: &Shared, work: &mut Work) -> Result<(), WriteError> {
        self.retire = work.retire.take().or(self.retire);
        self.commit(shared, work)?;
        if work.close == Some(Close::InOrder) && self.backlog.is_empty() {
            // Everything before is durable, and the mark says so: any damage to it will be recognised.
            shared.append_last(&Record::CleanStop, self.segment_bytes_max);
            shared.take_now(work);
            self.commit(shared, work)?;
        }
        Ok(())
    }

    fn commit(&mut self, shared: &Shared, work: &mut Work) -> Result<(), WriteError> {
        self.backlog.extend(work.chunks.drain(..));
        self.files.collect()?;
        let mut full = self.write_backlog(shared)?;
        shared.recycle(&mut self.done);
        if self.durability == Durability::Write {
            shared.publish(self.written);
        }
        if self.durability == Durability::Fsync || self.retire.is_some() || work.close.is_some() {
            self.sync()?;
            shared.publish(self.synced);
        }
        if let Some((below, _)) = self.retire.take_if(|(_, after)| self.synced >= *after) {
            full |= self.retire_below(below)?;
        }
        if self.files.starved() && self.backlog.is_empty() {
            let reserved = self.files.make_reserve();
            reserved.map_err(|source| WriteError::Fatal {
                action: "make a reserve for the message log",
                source,
            })?;
        }
        full |= self.files.starved();
        *shared.on_disk.lock() = self.files.usage();
        let space = if full { Space::Full } else { Space::Ample };
        shared.space.send_if_modified(|known| std::mem::replace(known, space) != space);
        Ok(())
    }

    /// Writes what it can. Says whether the disk is full.
    fn write_backlog(&mut self, shared: &Shared) -> Result<bool, WriteError> {
        while let Some(mut chunk) = self.backlog.pop_front() {
            match self.write(shared, &mut chunk) {
                Ok(()) => self.done.push(chunk),
                Err(WriteError::Full(_)) => {
                    self.backlog.push_front(chunk);
                    if !self.files.give_up_spare() {
                        return Ok(true);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn write(&mut self, shared: &Shared, chunk: &mut Chunk) -> Result<(), WriteError> {
        let current = match self.current.take() {
            Some(current) if current.number == chunk.segment => current,
            previous => self.begin(chunk.segment, previous)?,
        };
        let current = self.current.insert(current);
        seal(&mut chunk.bytes, self.synced, current.seed);
        let written = current.file.write_all_at(&chunk.bytes, chunk.offset);
        written.map_err(|error| WriteError::new("write the message log", error))?;
        current.end = chunk.offset + chunk.bytes.len() as u64;
        self.files.written(current.number, current.end);
        self.written = chunk.last;
        shared.written.send_replace(Location { segment: current.number, offset: current.end });
        Ok(())
    }

    /// Begins a segment behind the previous one.
    fn begin(&mut self, number: SegmentNumber, previous: Option<Current>) -> Result<Current, WriteError> {
        if let Some(mut previous) = previous {
            previous.sync()?;
            self.synced = self.written;
        }
        let header = SegmentHeader { number, ..self.header };
        let file = self.files.create(&header)?;
        self.next_segment_bytes = self.next_segment_bytes.saturating_mul(2).min(self.segment_bytes_max);
        Ok(Current { number, file, seed: header.seed(), end: 0, syncs: 0, ordered: false })
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        if let Some(current) = &mut self.current
            && self.synced < self.written
        {
            current.sync()?;
            let worth_zeros = current.end <= current.syncs * WORTH_ZEROS;
            if !current.ordered && current.syncs >= JUDGED_AFTER && worth_zeros {
                current.ordered = true;
                self.files.order(self.next_segment_bytes);
            }
        }
        self.synced = self.written;
        Ok(())
    }

    /// Says whether the disk is full, which only concerns what was to be recycled: it is tried again.
    fn retire_below(&mut self, below: SegmentNumber) -> Result<bool, WriteError> {
        match self.files.retire(below) {
            Err(WriteError::Full(_)) => {
                self.retire = Some((below, self.synced));
                Ok(true)
            }
            other => other.map(|()| false),
        }
    }
}
