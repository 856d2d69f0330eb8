//! Finding the batches of a segment, whatever happened to its bytes.
//!
//! Invariants: a batch that is yielded was written to this segment exactly so, and batches are yielded in the order
//! in which they were appended. Memory is bounded by a window and the largest batch, not by the segment. Nothing
//! panics, whatever the bytes.

use std::io;

use super::file_system::LogFile;
use super::format::{ALIGNMENT, BATCH_HEADER_BYTES, BatchHeader, HEADER_BYTES, Seed, padded};
use super::frame::{self, Extent};
use super::record::Record;
use super::{Location, Placed, SegmentNumber};
use crate::model::LogPosition;

/// Bytes that are read at a time: enough to spare system calls, few enough to stay in the processor's cache until
/// they are added up and decoded. So few in tests that batches lie across the borders of windows.
const WINDOW_BYTES: usize = if cfg!(test) { 200 } else { 256 << 10 };

/// A batch that is what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) header: BatchHeader,
    /// Where the batch begins.
    pub(super) begin: u64,
    /// Where the next batch would begin.
    pub(super) end: u64,
    /// Bytes of its records.
    length: usize,
}

impl Found {
    /// One of its records.
    pub(super) fn placed<'a>(
        &self,
        segment: SegmentNumber,
        extent: Extent,
        position: LogPosition,
        record: Record<'a>,
    ) -> Placed<'a> {
        let offset = self.begin + (BATCH_HEADER_BYTES + extent.begin) as u64;
        let location = Location { segment, offset };
        Placed { location, bytes: extent.end - extent.begin, position, record }
    }
}

/// A part of a file in memory; reused from one segment to the next.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// Where it begins in the file.
    begin: u64,
    /// How much of it was read.
    filled: usize,
}

impl Window {
    /// Everything in memory from an offset on: at least `wanted` bytes, unless the file ends before.
    fn from(&mut self, file: &dyn LogFile, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let skip = offset.checked_sub(self.begin).and_then(|skip| usize::try_from(skip).ok());
        let skip = match skip.filter(|skip| *skip <= self.filled) {
            Some(skip) if self.filled - skip >= wanted => skip,
            kept => {
                let kept = kept.map_or(self.filled..self.filled, |skip| skip..self.filled);
                self.filled = kept.len();
                self.bytes.copy_within(kept, 0);
                self.begin = offset;
                self.fill(file, wanted)?;
                0
            }
        };
        Ok(&self.bytes[skip..self.filled])
    }

    /// Reads on behind what is there.
    fn fill(&mut self, file: &dyn LogFile, wanted: usize) -> io::Result<()> {
        let size = wanted.max(WINDOW_BYTES);
        if self.bytes.len() < size || self.bytes.len() > size.max(2 * WINDOW_BYTES) {
            // What one large batch needed is given back behind it.
            self.bytes.resize(size.max(self.filled), 0);
            self.bytes.shrink_to_fit();
        }
        let from = self.begin + self.filled as u64;
        self.filled += read_full(file, &mut self.bytes[self.filled..], from)?;
        Ok(())
    }
}

/// The batches of one segment.
pub(super) struct Scan<'a> {
    file: &'a dyn LogFile,
    size: u64,
    window: &'a mut Window,
    seed: Seed,
    at: u64,
    /// Position of the segment's first batch, once a batch has told it.
    base: Option<u64>,
    last: Option<u64>,
    torn: bool,
}

impl<'a> Scan<'a> {
    /// Begins behind the header of a segment of so many bytes.
    pub(super) fn new(file: &'a dyn LogFile, size: u64, window: &'a mut Window, seed: Seed) -> Self {
        window.filled = 0;
        Self { file, size, window, seed, at: HEADER_BYTES as u64, base: None, last: None, torn: false }
    }

    /// Whether behind the last batch yielded there is the beginning of another one.
    pub(super) fn torn(&self) -> bool {
        self.torn
    }

    /// The next batch.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        loop {
            let Some(header) = self.next_header()? else { return Ok(None) };
            self.torn = true;
            let Some(length) = self.fits(&header) else {
                self.at += ALIGNMENT as u64;
                continue;
            };
            let begin = self.at;
            let records = self.window.from(self.file, begin, BATCH_HEADER_BYTES + length)?;
            let sum = records.get(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + length).and_then(frame::sum);
            // The header is right about the length even if the records are damaged.
            self.at = begin + (BATCH_HEADER_BYTES + padded(length)) as u64;
            if sum == Some(header.sum) {
                self.torn = false;
                self.base = Some(header.position - u64::from(header.ordinal));
                self.last = Some(header.position);
                return Ok(Some(Found { header, begin, end: self.at, length }));
            }
        }
    }

    /// The records of the batch that was yielded last.
    pub(super) fn records(&self, found: &Found) -> &[u8] {
        let begin = usize::try_from(found.begin - self.window.begin).expect("it is in the window");
        &self.window.bytes[begin + BATCH_HEADER_BYTES..][..found.length]
    }

    /// Looks for a header from here on, and stops at it.
    fn next_header(&mut self) -> io::Result<Option<BatchHeader>> {
        loop {
            let bytes = self.window.from(self.file, self.at, BATCH_HEADER_BYTES)?;
            let Some(places) = bytes.len().checked_sub(BATCH_HEADER_BYTES) else { return Ok(None) };
            let fitting = |at: usize| {
                let header = BatchHeader::decode(&bytes[at..], self.seed);
                Some((at, header.filter(|header| plausible(header, self.base, self.last))?))
            };
            let found = (0..=places).step_by(ALIGNMENT).find_map(fitting);
            if let Some((skipped, header)) = found {
                self.at += skipped as u64;
                return Ok(Some(header));
            }
            self.at += (places / ALIGNMENT * ALIGNMENT + ALIGNMENT) as u64;
        }
    }

    /// How long the records are, if the file is long enough for them.
    fn fits(&self, header: &BatchHeader) -> Option<usize> {
        let rest = self.size.saturating_sub(self.at + BATCH_HEADER_BYTES as u64);
        usize::try_from(header.length).ok().filter(|length| *length as u64 <= rest)
    }
}

/// Whether the header fits what was read of the segment so far.
fn plausible(header: &BatchHeader, base: Option<u64>, last: Option<u64>) -> bool {
    let its = header.position.checked_sub(u64::from(header.ordinal));
    its.is_some()
        && (base.is_none() || its == base)
        && last.is_none_or(|last| header.position > last)
        && header.durable < header.position
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_full(file: &dyn LogFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
