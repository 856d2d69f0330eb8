//! Records in their batch: each behind its length and its sum, so that one can be read without the others.
//!
//! Invariant: a frame vouches for every byte of its record, and the sum in a batch's header for every frame, so that
//! each byte is added up once when it is written. Frames begin at multiples of [`ALIGNMENT`].

use crc32c::{crc32c, crc32c_append};

use super::format::{ALIGNMENT, u32_at};

/// Bytes before a record: its length, then its sum.
pub(super) const FRAME_BYTES: usize = 8;

/// Where a record lies among the bytes it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where its frame begins.
    pub(super) begin: usize,
    /// Where the next frame begins.
    pub(super) end: usize,
}

/// Makes room for a frame at the end.
pub(super) fn begin(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&[0; FRAME_BYTES]);
}

/// Completes the frame at `at`, whose record is everything behind it, and pads it. Returns the sum over the frames so
/// far, of which `sum` covers those before.
pub(super) fn end(bytes: &mut Vec<u8>, at: usize, sum: u32) -> u32 {
    let record = &bytes[at + FRAME_BYTES..];
    let length =
        u32::try_from(record.len()).expect("a record is little more than a message, which is below 4 GiB");
    let its = crc32c(record);
    bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    bytes[at + 4..at + FRAME_BYTES].copy_from_slice(&its.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    crc32c_append(sum, &bytes[at..at + FRAME_BYTES])
}

/// How long a record and its frame are, whatever is behind the frame.
pub(super) fn framed_bytes(frame: &[u8; FRAME_BYTES]) -> usize {
    let length = usize::try_from(u32_at(frame, 0)).unwrap_or(usize::MAX);
    length.saturating_add(FRAME_BYTES).checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX)
}

/// The record whose frame the bytes begin with, if it is all there and what was written.
pub(super) fn record(bytes: &[u8]) -> Option<&[u8]> {
    let (record, sum) = split(bytes)?;
    (crc32c(record) == sum).then_some(record)
}

/// The sum over all frames, if every record is what was written.
pub(super) fn sum(mut bytes: &[u8]) -> Option<u32> {
    let mut sum = 0;
    while let Some(frame) = bytes.first_chunk() {
        record(bytes)?;
        sum = crc32c_append(sum, frame);
        bytes = bytes.get(framed_bytes(frame)..).unwrap_or(&[]);
    }
    bytes.is_empty().then_some(sum)
}

/// The records of a batch whose sum is right.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = (Extent, &[u8])> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(begin..)?;
        let (record, _) = split(rest)?;
        let extent = Extent { begin, end: begin + framed_bytes(rest.first_chunk()?) };
        begin = extent.end;
        Some((extent, record))
    })
}

fn split(bytes: &[u8]) -> Option<(&[u8], u32)> {
    let frame: &[u8; FRAME_BYTES] = bytes.first_chunk()?;
    let length = usize::try_from(u32_at(frame, 0)).ok()?;
    Some((bytes[FRAME_BYTES..].get(..length)?, u32_at(frame, 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(records: &[&[u8]]) -> (Vec<u8>, u32) {
        let (mut bytes, mut total) = (Vec::new(), 0);
        for record in records {
            let at = bytes.len();
            begin(&mut bytes);
            bytes.extend_from_slice(record);
            total = end(&mut bytes, at, total);
        }
        (bytes, total)
    }

    #[test]
    fn records_come_back_one_by_one_and_all_together() {
        let expected: [&[u8]; 4] = [b"one", b"", b"eight by", b"and the last"];
        let (bytes, total) = framed(&expected);
        assert_eq!(sum(&bytes), Some(total));
        let found: Vec<_> = records(&bytes).collect();
        assert_eq!(found.iter().map(|(_, record)| *record).collect::<Vec<_>>(), expected);
        for (extent, expected) in found {
            assert_eq!(extent.begin % ALIGNMENT, 0);
            assert_eq!(record(&bytes[extent.begin..]), Some(expected));
            let frame = bytes[extent.begin..].first_chunk().unwrap();
            assert_eq!(framed_bytes(frame), extent.end - extent.begin);
        }
        assert_eq!(sum(&[]), Some(0));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let (bytes, total) = framed(&[b"first", b"second one", b""]);
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let is_padding = records(&bytes).all(|(extent, record)| {
                let end = extent.begin + FRAME_BYTES + record.len();
                !(extent.begin..end).contains(&(at / 8))
            });
            assert_eq!(sum(&flipped) == Some(total), is_padding, "bit {at}");
        }
        for length in 0..bytes.len() {
            assert_ne!(sum(&bytes[..length]), Some(total), "{length} bytes");
        }
    }
}
