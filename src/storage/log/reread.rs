//! Reading one segment again while the log is open.
//!
//! Invariant: what is read was durable before, so that whatever cannot be read is damage and is passed over here:
//! recovery has counted it, or will.

use std::io;

use super::file_system::FileSystem;
use super::format::{HEADER_BYTES, HeaderState, SegmentHeader};
use super::record::{self, Scratch};
use super::replay::Visitor;
use super::scan::{Scan, Window, read_full};
use super::segments::segment_name;
use super::{Placed, SegmentNumber};
use crate::model::LogPosition;

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
        let read = record::read_all(scan.records(&found), &mut scratch, &mut |record| {
            visitor(Placed { segment, position, record });
        });
        read.map_err(|error| invalid(&error))?;
    }
    Ok(())
}
