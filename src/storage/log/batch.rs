//! Records of one turn, encoded as they are pushed.
//!
//! Invariant: a batch comes back from a crash as a whole or not at all.

use crc32c::crc32c;

use super::format::{self, BATCH_HEADER_BYTES, BatchHeader, padded};
use super::record::{self, Record};

/// A larger buffer is given back after its batch was appended.
const KEEP_BYTES: usize = 1 << 20;

/// Records that belong together: one vhost turn, or one transaction. Reusable; appending empties it.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Room for the header, then the records.
    pub(super) bytes: Vec<u8>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH_HEADER_BYTES] }
    }
}

impl Batch {
    /// Without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes a record at the end. Costs a copy of its bytes, and an allocation only while the batch outgrows
    /// all earlier ones.
    pub fn push(&mut self, record: &Record<'_>) {
        record::put(record, &mut self.bytes);
    }

    /// Whether nothing was pushed since the last append.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == BATCH_HEADER_BYTES
    }

    /// Encoded bytes so far, for whoever bounds a turn by them.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() - BATCH_HEADER_BYTES
    }

    /// Adds up and pads the records: what can be done before the batch has its place.
    pub(super) fn finish(&mut self) {
        let length = self.size();
        let sum = crc32c(&self.bytes[BATCH_HEADER_BYTES..]);
        self.bytes.resize(BATCH_HEADER_BYTES + padded(length), 0);
        let header = BatchHeader { length: length as u64, sum, ordinal: 0, position: 0, durable: 0 };
        header.put(&mut self.bytes);
    }

    /// Completes the header of a finished batch, except for what is known when it is written.
    pub(super) fn place(&mut self, position: u64, ordinal: u32) {
        format::place(&mut self.bytes, position, ordinal);
    }

    /// Drops what was pushed.
    pub fn clear(&mut self) {
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.bytes.shrink_to(KEEP_BYTES);
    }
}
