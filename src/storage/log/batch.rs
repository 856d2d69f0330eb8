//! Records of one turn, encoded as they are pushed.
//!
//! Invariant: a batch comes back from a crash as a whole or not at all.

use super::format::{self, BATCH_HEADER_BYTES, BatchHeader};
use super::frame;
use super::record::{self, Record};

/// A larger buffer is given back after its batch was appended.
const KEEP_BYTES: usize = 1 << 20;

/// Records that belong together: one vhost turn, or one transaction. Reusable; appending empties it.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Room for the header, then the records.
    pub(super) bytes: Vec<u8>,
    /// Over the frames of the records so far.
    sum: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH_HEADER_BYTES], sum: 0 }
    }
}

impl Batch {
    /// Without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes a record at the end, and says where it stands from the beginning of the batch. Costs a copy of its
    /// bytes and a sum over them, and an allocation only while the batch outgrows all earlier ones.
    pub fn push(&mut self, record: &Record<'_>) -> usize {
        let at = self.bytes.len();
        frame::begin(&mut self.bytes);
        record::put(record, &mut self.bytes);
        self.sum = frame::end(&mut self.bytes, at, self.sum);
        at
    }

    /// Like [`Self::push`], with bytes that need not be a record.
    #[cfg(test)]
    pub(super) fn push_bytes(&mut self, record: &[u8]) {
        let at = self.bytes.len();
        frame::begin(&mut self.bytes);
        self.bytes.extend_from_slice(record);
        self.sum = frame::end(&mut self.bytes, at, self.sum);
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

    /// Over the records' frames.
    pub(super) fn sum(&self) -> u32 {
        self.sum
    }

    /// Says in the header what the records are: what can be said before the batch has its place.
    pub(super) fn finish(&mut self) {
        let header =
            BatchHeader { length: self.size() as u64, sum: self.sum, ordinal: 0, position: 0, durable: 0 };
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
        self.sum = 0;
    }
}
