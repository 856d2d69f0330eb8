//! The bytes of a segment: a header, twice, and batches.
//!
//! Each batch header has a sum of its own, seeded with the segment it was written for, and vouches for the sum of
//! the frames of the records behind it. So bytes of another segment never parse, however a file was recycled, and a batch with
//! damaged records still says where the next one begins. Invariant: every offset and field here is stored and
//! never changed without a new [`VERSION`]. Numbers are little-endian.
//!
//! The sums are CRC-32C, by the crate `crc32c`: it finds every error burst of up to 32 bits, can be seeded, and runs on
//! the processor's own instruction at more than 10 GB/s, with plain Rust where there is none. Doing that ourselves
//! takes unsafe code.

use crc32c::{crc32c, crc32c_append};

use super::SegmentNumber;

/// Bytes before the first batch of a segment.
pub(super) const HEADER_BYTES: usize = 1024;
/// Bytes before the records of a batch.
pub(super) const BATCH_HEADER_BYTES: usize = 40;
/// Batches begin at multiples of this, so that the next one behind damage is found quickly.
pub(super) const ALIGNMENT: usize = 8;

const MAGIC: &[u8; 8] = b"FERRYLOG";
/// The version of the format, and the only one that is read: what wrote 1, in which records had no frames, was never
/// released.
pub(super) const VERSION: u32 = 2;
/// Where the header stands: in two sectors, so that neither rot nor a torn sector loses a segment.
const HEADER_COPIES: [usize; 2] = [0, 512];
const HEADER_LENGTH: usize = 40;

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Its place in the log.
    pub(super) number: SegmentNumber,
    /// One higher after each recovery.
    pub(super) epoch: u64,
    /// Unknown to publishers, so that no message body can hold something that parses as a batch.
    pub(super) salt: u64,
}

/// What a file that should be a segment turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderState {
    /// A segment of this release.
    Good(SegmentHeader),
    /// A segment of another release.
    Other(u32),
    /// Neither copy of the header is one.
    Bad,
}

impl SegmentHeader {
    /// The first [`HEADER_BYTES`] of the segment.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut copy = [0; HEADER_LENGTH];
        copy[..8].copy_from_slice(MAGIC);
        copy[8..12].copy_from_slice(&VERSION.to_le_bytes());
        copy[12..20].copy_from_slice(&self.number.0.to_le_bytes());
        copy[20..28].copy_from_slice(&self.epoch.to_le_bytes());
        copy[28..36].copy_from_slice(&self.salt.to_le_bytes());
        let sum = crc32c(&copy[..36]);
        copy[36..].copy_from_slice(&sum.to_le_bytes());
        let mut bytes = vec![0; HEADER_BYTES];
        for at in HEADER_COPIES {
            bytes[at..at + HEADER_LENGTH].copy_from_slice(&copy);
        }
        bytes
    }

    /// Reads the beginning of a file, which may be shorter than a header.
    pub(super) fn decode(bytes: &[u8]) -> HeaderState {
        let copies =
            HEADER_COPIES.map(|at| bytes.get(at..at + HEADER_LENGTH).map_or(HeaderState::Bad, decode_copy));
        if copies[0] == HeaderState::Bad { copies[1] } else { copies[0] }
    }

    /// What the sums of this segment's batches begin with.
    pub(super) fn seed(&self) -> Seed {
        let sum = crc32c(&self.number.0.to_le_bytes());
        let sum = crc32c_append(sum, &self.epoch.to_le_bytes());
        let sum = crc32c_append(sum, &self.salt.to_le_bytes());
        // A tag of zeros would be found in every hole of a file.
        Seed { sum, tag: crc32c_append(sum, b"tag") | 1 }
    }
}

fn decode_copy(copy: &[u8]) -> HeaderState {
    let version = u32_at(copy, 8);
    if copy[..8] != *MAGIC || u32_at(copy, 36) != crc32c(&copy[..36]) {
        return HeaderState::Bad;
    }
    if version != VERSION {
        return HeaderState::Other(version);
    }
    HeaderState::Good(SegmentHeader {
        number: SegmentNumber(u64_at(copy, 12)),
        epoch: u64_at(copy, 20),
        salt: u64_at(copy, 28),
    })
}

/// What distinguishes the batches of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed {
    sum: u32,
    tag: u32,
}

/// What stands before the records of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Bytes of framed records.
    pub(super) length: u64,
    /// The sum of the records' frames.
    pub(super) sum: u32,
    /// How many batches of the segment stand before it.
    pub(super) ordinal: u32,
    /// Its position: one higher than that of the batch before.
    pub(super) position: u64,
    /// Everything up to this position was durable when the batch was written.
    pub(super) durable: u64,
}

impl BatchHeader {
    /// Writes the header in front of its records; [`place`] and [`seal`] complete it.
    pub(super) fn put(&self, out: &mut [u8]) {
        out[8..16].copy_from_slice(&self.length.to_le_bytes());
        out[16..20].copy_from_slice(&self.sum.to_le_bytes());
        place(out, self.position, self.ordinal);
    }

    /// Reads a header, if there is one of this segment. Says nothing about the records behind it.
    pub(super) fn decode(bytes: &[u8], seed: Seed) -> Option<Self> {
        let bytes = bytes.first_chunk::<BATCH_HEADER_BYTES>()?;
        if u32_at(bytes, 0) != seed.tag || u32_at(bytes, 4) != crc32c_append(seed.sum, &bytes[8..]) {
            return None;
        }
        Some(Self {
            length: u64_at(bytes, 8),
            sum: u32_at(bytes, 16),
            ordinal: u32_at(bytes, 20),
            position: u64_at(bytes, 24),
            durable: u64_at(bytes, 32),
        })
    }
}

/// Says in a batch's header where it stands.
pub(super) fn place(batch: &mut [u8], position: u64, ordinal: u32) {
    batch[20..24].copy_from_slice(&ordinal.to_le_bytes());
    batch[24..32].copy_from_slice(&position.to_le_bytes());
}

/// Completes the headers of whole batches just before they are written: with what is durable by now, and the sum.
pub(super) fn seal(batches: &mut [u8], durable: u64, seed: Seed) {
    let mut at = 0;
    while at < batches.len() {
        let header = &mut batches[at..at + BATCH_HEADER_BYTES];
        header[32..40].copy_from_slice(&durable.to_le_bytes());
        let sum = crc32c_append(seed.sum, &header[8..]);
        header[..4].copy_from_slice(&seed.tag.to_le_bytes());
        header[4..8].copy_from_slice(&sum.to_le_bytes());
        let length = usize::try_from(u64_at(header, 8)).expect("the batch is in memory");
        at += BATCH_HEADER_BYTES + padded(length);
    }
}

/// Bytes that records take up with their padding.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the field lies in the header"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the field lies in the header"))
}
