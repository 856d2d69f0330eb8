//! Finding the batches of a segment, whatever happened to its bytes.
//!
//! Invariant: a batch that is yielded was written to this segment exactly so, and batches are yielded in the order
//! in which they were appended. Nothing panics, whatever the bytes.

use std::ops::Range;

use crc32c::crc32c;

use super::format::{ALIGNMENT, BATCH_HEADER_BYTES, BatchHeader, HEADER_BYTES, Seed, padded};

/// A batch that is what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) header: BatchHeader,
    /// Where the batch begins.
    pub(super) begin: usize,
    /// Where its records lie.
    pub(super) records: Range<usize>,
    /// Where the next batch would begin.
    pub(super) end: usize,
}

/// The batches of one segment.
pub(super) struct Scan<'a> {
    segment: &'a [u8],
    seed: Seed,
    at: usize,
    /// Position of the segment's first batch, once a batch has told it.
    base: Option<u64>,
    last: Option<u64>,
    torn: bool,
}

impl<'a> Scan<'a> {
    /// Reads a whole segment, header included.
    pub(super) fn new(segment: &'a [u8], seed: Seed) -> Self {
        Self { segment, seed, at: HEADER_BYTES, base: None, last: None, torn: false }
    }

    /// Whether behind the last batch yielded there is the beginning of another one.
    pub(super) fn torn(&self) -> bool {
        self.torn
    }

    /// Whether the header fits what was read of the segment so far.
    fn plausible(&self, header: &BatchHeader) -> bool {
        let base = header.position.checked_sub(u64::from(header.ordinal));
        base.is_some()
            && (self.base.is_none() || base == self.base)
            && self.last.is_none_or(|last| header.position > last)
            && header.durable < header.position
    }
}

impl Iterator for Scan<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        while self.at + BATCH_HEADER_BYTES <= self.segment.len() {
            let begin = self.at;
            let header = BatchHeader::decode(&self.segment[begin..], self.seed);
            let Some(header) = header.filter(|header| self.plausible(header)) else {
                self.at += ALIGNMENT;
                continue;
            };
            self.torn = true;
            let Some(records) = header.records(begin, self.segment) else {
                self.at += ALIGNMENT;
                continue;
            };
            // The header is right about the length even if the records are damaged.
            let end = begin + BATCH_HEADER_BYTES + padded(records.len());
            self.at = end;
            if crc32c(&self.segment[records.clone()]) == header.sum {
                self.torn = false;
                self.base = Some(header.position - u64::from(header.ordinal));
                self.last = Some(header.position);
                return Some(Found { header, begin, records, end });
            }
        }
        None
    }
}
