//! The summary: what the log amounts to at a clean stop, in one file beside the segments, so that the next start need
//! not read them.
//!
//! Invariants: a summary is written when everything that it sums up is durable, the mark of the clean stop included,
//! and it is believed only as long as that mark is the last thing in the log and every segment is as large as it was.
//! Whoever opens the log removes it. Without it a start reads the segments and finds the same.
//!
//! Its bytes: a head of fixed size with a sum over it and the table behind it, the table of segments, and framed
//! records. Numbers are little-endian.

use std::io;

use crc32c::{crc32c, crc32c_append};

use super::directory::Directory;
use super::file_system::LogFile;
use super::format::{BATCH_HEADER_BYTES, BatchHeader, HEADER_BYTES, u32_at, u64_at};
use super::record::{self, Record, Scratch};
use super::scan::read_full;
use super::{Batch, Location, OpenError, SegmentNumber, frame};

/// The file's name, and its name until it is whole.
pub(super) const NAME: &str = "summary";
const UNFINISHED: &str = "summary.new";
const MAGIC: &[u8; 8] = b"FERRYSUM";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;

/// What stands at the end of a log that was closed in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    /// Where the mark of the clean stop begins.
    pub(super) location: Location,
    /// Its position.
    pub(super) position: u64,
}

/// A summary that is to be believed.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) closing: Closing,
    /// Where the log ends in its last segment.
    pub(super) end: u64,
    /// Segments that hold definitions or identities.
    pub(super) defined_in: Vec<SegmentNumber>,
    /// Framed records.
    pub(super) records: Vec<u8>,
}

/// Writes the summary of a log that is closed, durably.
pub(super) fn write(
    directory: &Directory,
    closing: Closing,
    defined_in: &[SegmentNumber],
    records: &Batch,
) -> io::Result<()> {
    let file_system = &*directory.file_system;
    let mut table = Vec::with_capacity(directory.segments.len() * ENTRY_BYTES);
    for segment in &directory.segments {
        table.extend_from_slice(&segment.number.0.to_le_bytes());
        table.extend_from_slice(&segment.bytes.to_le_bytes());
        table.extend_from_slice(&u64::from(defined_in.contains(&segment.number)).to_le_bytes());
    }
    let framed = &records.bytes[BATCH_HEADER_BYTES..];
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..16].copy_from_slice(&records.sum().to_le_bytes());
    head[16..24].copy_from_slice(&(directory.segments.len() as u64).to_le_bytes());
    head[24..32].copy_from_slice(&(framed.len() as u64).to_le_bytes());
    head[32..40].copy_from_slice(&closing.location.segment.0.to_le_bytes());
    head[40..48].copy_from_slice(&closing.location.offset.to_le_bytes());
    head[48..56].copy_from_slice(&closing.position.to_le_bytes());
    let sum = crc32c_append(crc32c(&head[..56]), &table);
    head[56..60].copy_from_slice(&sum.to_le_bytes());
    let file = file_system.create(UNFINISHED)?;
    file.write_all_at(&head, 0)?;
    file.write_all_at(&table, HEAD_BYTES as u64)?;
    file.write_all_at(framed, (HEAD_BYTES + table.len()) as u64)?;
    file.sync()?;
    file_system.rename(UNFINISHED, NAME)?;
    file_system.sync_directory()
}

/// Whether a file is a summary, whole or not.
pub(super) fn is_name(name: &str) -> bool {
    [NAME, UNFINISHED].contains(&name)
}

/// Removes the summary, if there is one.
pub(super) fn remove(directory: &Directory) -> Result<(), OpenError> {
    for name in &directory.summaries {
        directory.file_system.unlink(name).map_err(|source| directory.error("remove", name, source))?;
    }
    Ok(())
}

/// The summary, if there is one that is to be believed. Whatever is wrong with it, the segments say the same.
pub(super) fn read(directory: &Directory) -> Option<Summary> {
    directory.summaries.iter().find(|name| *name == NAME)?;
    let file = directory.file_system.open_to_read(NAME).ok()?;
    let size = file.size().ok()?;
    let mut head = [0; HEAD_BYTES];
    if read_full(&*file, &mut head, 0).ok()? < HEAD_BYTES
        || head[..8] != *MAGIC
        || u32_at(&head, 8) != VERSION
    {
        return None;
    }
    let closing = Closing {
        location: Location { segment: SegmentNumber(u64_at(&head, 32)), offset: u64_at(&head, 40) },
        position: u64_at(&head, 48),
    };
    let table_bytes = u64_at(&head, 16).checked_mul(ENTRY_BYTES as u64)?;
    let records_at = table_bytes.checked_add(HEAD_BYTES as u64)?;
    if records_at.checked_add(u64_at(&head, 24)) != Some(size) {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(size - HEAD_BYTES as u64).ok()?];
    if read_full(&*file, &mut bytes, HEAD_BYTES as u64).ok()? < bytes.len() {
        return None;
    }
    let records = bytes.split_off(usize::try_from(table_bytes).ok()?);
    let intact = crc32c_append(crc32c(&head[..56]), &bytes) == u32_at(&head, 56)
        && frame::sum(&records) == Some(u32_at(&head, 12));
    let defined_in = intact.then(|| unchanged(directory, &bytes))??;
    let end = end_of(directory, closing)?;
    Some(Summary { closing, end, defined_in, records })
}

/// The segments with definitions, if all segments are those of the table and nothing was added to them.
fn unchanged(directory: &Directory, table: &[u8]) -> Option<Vec<SegmentNumber>> {
    let (entries, _) = table.as_chunks::<ENTRY_BYTES>();
    let same = directory.segments.len() == entries.len()
        && directory.segments.iter().zip(entries).all(|(segment, entry)| {
            segment.header.is_some()
                && segment.number.0 == u64_at(entry, 0)
                && segment.bytes == u64_at(entry, 8)
        });
    let defining = entries.iter().filter(|entry| u64_at(*entry, 16) != 0);
    same.then(|| defining.map(|entry| SegmentNumber(u64_at(entry, 0))).collect())
}

/// Where the log ends, if the mark of the clean stop stands where it was and nothing stands behind it.
fn end_of(directory: &Directory, closing: Closing) -> Option<u64> {
    let Location { segment, offset } = closing.location;
    let last = directory.segments.last().filter(|last| last.number == segment)?;
    let seed = last.header?.seed();
    let file = directory.file_system.open_to_read(&super::segments::segment_name(segment)).ok()?;
    let header = batch_header(&*file, offset)?;
    let header = BatchHeader::decode(&header, seed).filter(|header| header.position == closing.position)?;
    let mut records = vec![0; usize::try_from(header.length).ok().filter(|length| *length <= HEADER_BYTES)?];
    let at = offset + BATCH_HEADER_BYTES as u64;
    if read_full(&*file, &mut records, at).ok()? < records.len() || frame::sum(&records) != Some(header.sum) {
        return None;
    }
    let mut closed = false;
    record::read_all(&records, &mut Scratch::default(), &mut |_, record| {
        closed = record == Record::CleanStop;
    })
    .ok()?;
    let end = at + header.length;
    let more = batch_header(&*file, end).is_some_and(|next| BatchHeader::decode(&next, seed).is_some());
    (closed && !more).then_some(end)
}

fn batch_header(file: &dyn LogFile, offset: u64) -> Option<[u8; BATCH_HEADER_BYTES]> {
    let mut header = [0; BATCH_HEADER_BYTES];
    (read_full(file, &mut header, offset).ok()? == BATCH_HEADER_BYTES).then_some(header)
}
