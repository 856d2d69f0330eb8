//! Reading parts of the log again while it is open: one segment as a whole, or single records.
//!
//! Invariant: what is handed out is what was written. What is read was durable or at least written before, so that
//! whatever cannot be read is damage, or is there no longer: recovery has counted it, or will.

use std::io;
use std::ops::{ControlFlow, Range};

use super::SegmentNumber;
use super::file_system::{FileSystem, LogFile};
use super::format::{HEADER_BYTES, HeaderState, SegmentHeader};
use super::frame::{self, FRAME_BYTES};
use super::record::{self, Record, Scratch};
use super::replay::Visitor;
use super::scan::{Scan, Window, read_full};
use super::segments::segment_name;
use crate::model::LogPosition;

/// Records this close to each other are read with one call.
const MAX_GAP_BYTES: u64 = 32 << 10;
/// Bytes that are read with one call, except for a larger record: few enough that they are looked at and copied while
/// they are in the cache of the processor.
const MAX_RUN_BYTES: u64 = 128 << 10;

/// A record to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it begins.
    pub offset: u64,
    /// About how many bytes it takes up; if it takes more, reading it costs another call.
    pub bytes: usize,
}

/// Hands the records of a segment to the visitor, in order.
pub(super) fn read_segment(
    file_system: &dyn FileSystem,
    segment: SegmentNumber,
    visitor: Visitor<'_>,
) -> io::Result<()> {
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let file = file_system.open_to_read(&segment_name(segment))?;
    let mut beginning = [0; HEADER_BYTES];
    let length = read_full(&*file, &mut beginning, 0)?;
    let HeaderState::Good(header) = SegmentHeader::decode(&beginning[..length]) else {
        return Err(invalid(&"its header is damaged"));
    };
    let mut scratch = Scratch::default();
    let mut window = Window::default();
    let mut scan = Scan::new(&*file, file.size()?, &mut window, header.seed());
    while let Some(found) = scan.next()? {
        let position = LogPosition(found.header.position);
        let read = record::read_all(scan.records(&found), &mut scratch, &mut |extent, record| {
            visitor(found.placed(segment, extent, position, record));
        });
        read.map_err(|error| invalid(&error))?;
    }
    Ok(())
}

/// What takes single records: the number of each among the wanted ones, and whether to go on behind it.
pub type RecordVisitor<'a> = &'a mut dyn FnMut(usize, Option<Record<'_>>) -> ControlFlow<()>;

/// Hands single records of a segment to the visitor, each with its number among the wanted ones, which ascend.
pub(super) fn read_records(
    file_system: &dyn FileSystem,
    segment: SegmentNumber,
    wanted: &[Wanted],
    visitor: RecordVisitor<'_>,
) -> io::Result<()> {
    let file = match file_system.open_to_read(&segment_name(segment)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let _ = (0..wanted.len()).try_for_each(|number| visitor(number, None));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut scratch = Scratch::default();
    let mut bytes = Vec::new();
    let mut next = 0;
    while next < wanted.len() {
        let run = run(wanted, next);
        let begin = wanted[run.start].offset;
        let last = wanted[run.end - 1];
        let length = last.offset - begin + last.bytes.max(FRAME_BYTES) as u64;
        read_into(&*file, &mut bytes, begin, usize::try_from(length).map_err(io::Error::other)?)?;
        for number in run.clone() {
            let at = usize::try_from(wanted[number].offset - begin).map_err(io::Error::other)?;
            complete(&*file, &mut bytes, begin, at)?;
            let mut flow = None;
            if let Some(record) = bytes.get(at..).and_then(frame::record) {
                // What cannot be understood is not what was written, whatever its sum says.
                let _ = record::read(record, &mut scratch, &mut |record| {
                    flow = Some(visitor(number, Some(record)));
                });
            }
            if flow.unwrap_or_else(|| visitor(number, None)).is_break() {
                return Ok(());
            }
        }
        next = run.end;
    }
    Ok(())
}

/// The records from this one on that are read with one call.
fn run(wanted: &[Wanted], first: usize) -> Range<usize> {
    let mut last = first;
    while let Some(next) = wanted.get(last + 1) {
        let end = wanted[last].offset + wanted[last].bytes as u64;
        let near = next.offset <= end + MAX_GAP_BYTES;
        if !near || next.offset + next.bytes as u64 > wanted[first].offset + MAX_RUN_BYTES {
            break;
        }
        last += 1;
    }
    first..last + 1
}

/// Reads so many bytes, or as many as there are.
fn read_into(file: &dyn LogFile, bytes: &mut Vec<u8>, offset: u64, length: usize) -> io::Result<()> {
    bytes.resize(length, 0);
    let filled = read_full(file, bytes, offset)?;
    bytes.truncate(filled);
    Ok(())
}

/// Reads on if the record at `at` is longer than it was said to be, unless the file says that it cannot be.
fn complete(file: &dyn LogFile, bytes: &mut Vec<u8>, begin: u64, at: usize) -> io::Result<()> {
    let Some(frame) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else { return Ok(()) };
    let end = at.saturating_add(frame::framed_bytes(frame));
    if end > bytes.len() && begin.saturating_add(end as u64) <= file.size()? {
        let filled = bytes.len();
        bytes.resize(end, 0);
        let more = read_full(file, &mut bytes[filled..], begin + filled as u64)?;
        bytes.truncate(filled + more);
    }
    Ok(())
}
