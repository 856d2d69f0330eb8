//! Reading one segment again while the log is open.
//!
//! Invariant: what is read was durable before, so that whatever cannot be read is damage and is passed over here:
//! recovery has counted it, or will.

use std::io;

use super::file_system::FileSystem;
use super::format::{HEADER_BYTES, HeaderState, SegmentHeader};
use super::record::{self, Scratch};
use super::scan::Scan;
use super::segments::segment_name;
use super::{Placed, SegmentNumber};
use crate::model::LogPosition;

/// Bytes per read, so that a system call that copies a whole segment blocks nobody.
const READ_BYTES: usize = 1 << 20;

/// Hands the records of a segment to the visitor, in order.
pub(super) fn read_segment(
    file_system: &dyn FileSystem,
    segment: SegmentNumber,
    visitor: &mut dyn FnMut(Placed<'_>),
) -> io::Result<()> {
    let bytes = load(file_system, segment)?;
    let HeaderState::Good(header) = SegmentHeader::decode(&bytes[..bytes.len().min(HEADER_BYTES)]) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its header is damaged"));
    };
    let mut scratch = Scratch::default();
    for found in Scan::new(&bytes, header.seed()) {
        let position = LogPosition(found.header.position);
        let read = record::read_all(&bytes[found.records], &mut scratch, &mut |record| {
            visitor(Placed { segment, position, record });
        });
        read.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}

fn load(file_system: &dyn FileSystem, segment: SegmentNumber) -> io::Result<Vec<u8>> {
    let file = file_system.open(&segment_name(segment))?;
    let size = usize::try_from(file.size()?).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = vec![0; size];
    let mut at = 0;
    while at < size {
        let end = size.min(at + READ_BYTES);
        match file.read_at(&mut bytes[at..end], at as u64) {
            Ok(0) => break,
            Ok(length) => at += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}
