//! Fields of the log's records: numbers of variable length, strings, ranges.
//!
//! Invariant: reading never panics and never allocates by a stored number; a number has one encoding only in
//! what is written, and every longer one that fits is read as the same number.

use super::{RecordError, SeqRange};
use crate::model::{QueueId, Seq};
use crate::storage::log::VhostId;

/// Reads fields one after the other.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        let (first, rest) = self.0.split_first().ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u64, RecordError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(RecordError::NumberTooLarge);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(RecordError::NumberTooLarge)
    }

    pub(super) fn vhost(&mut self) -> Result<VhostId, RecordError> {
        u32::try_from(self.number()?).map(VhostId).map_err(|_| RecordError::NumberTooLarge)
    }

    pub(super) fn queue(&mut self) -> Result<QueueId, RecordError> {
        self.number().map(QueueId)
    }

    pub(super) fn seq(&mut self) -> Result<Seq, RecordError> {
        self.number().map(Seq)
    }

    /// A string behind one byte of length.
    pub(super) fn short(&mut self) -> Result<&'a str, RecordError> {
        let length = u64::from(self.byte()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| RecordError::NotUtf8)
    }

    /// Bytes behind a number of bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let length = self.number()?;
        self.take(length)
    }

    /// Ranges, into a list that is emptied first.
    pub(super) fn ranges(&mut self, into: &mut Vec<SeqRange>) -> Result<(), RecordError> {
        into.clear();
        for _ in 0..self.number()? {
            let first = self.number()?;
            let last = first.checked_add(self.number()?).ok_or(RecordError::NumberTooLarge)?;
            into.push(SeqRange { first: Seq(first), last: Seq(last) });
        }
        Ok(())
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], RecordError> {
        let length = usize::try_from(length).map_err(|_| RecordError::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Seven bits per byte, the lowest first; the highest bit says that more follow.
pub(super) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

pub(super) fn put_length(length: usize, out: &mut Vec<u8>) {
    put_number(u64::try_from(length).expect("a length has at most 64 bits"), out);
}

pub(super) fn put_vhost(vhost: VhostId, out: &mut Vec<u8>) {
    put_number(u64::from(vhost.0), out);
}

pub(super) fn put_short(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).expect("a name or key is at most 255 bytes"));
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// First and length of each range. A range whose last is below its first is a bug of the caller and stored as its
/// first alone.
pub(super) fn put_ranges(ranges: &[SeqRange], out: &mut Vec<u8>) {
    put_length(ranges.len(), out);
    for range in ranges {
        debug_assert!(range.first <= range.last, "{range:?}");
        put_number(range.first.0, out);
        put_number(range.last.0.saturating_sub(range.first.0), out);
    }
}
