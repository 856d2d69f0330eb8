//! Looking at a log without opening it: what a start would find.
//!
//! Invariant: nothing is created, renamed, shortened or written. A check finds what [`Log::open`](super::Log::open)
//! finds, because both read alike.

use std::sync::Arc;

use super::directory::Directory;
use super::file_system::FileSystem;
use super::replay::{Visitor, Walk, walk};
use super::{Damage, OpenError, RecoveryReport, SegmentNumber};

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// What a start would report.
    pub recovery: RecoveryReport,
    /// Every segment, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Bytes of the files that wait to become segments.
    pub spare_bytes: Vec<u64>,
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// Which one.
    pub number: SegmentNumber,
    /// Bytes of its file.
    pub bytes: u64,
    /// Batches in it that are replayed.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// What is lost in it.
    pub damage: Option<Damage>,
    /// From where on a start drops it: nothing there was durable. `Some(0)` for a segment that was just begun.
    pub dropped_from: Option<u64>,
}

/// Reads a log as a start does, and hands every record to the visitor, in order. Nobody may have the log open.
/// Memory is bounded by the largest batch.
///
/// # Errors
/// If files cannot be read, or are of a later release. Damage is no error.
pub fn check(file_system: Arc<dyn FileSystem>, visitor: Visitor<'_>) -> Result<CheckReport, OpenError> {
    let directory = Directory::read(file_system)?;
    let walk = walk(&directory, visitor)?;
    Ok(CheckReport {
        segments: segments(&walk),
        recovery: walk.report,
        spare_bytes: directory.spares.iter().map(|(_, bytes)| *bytes).collect(),
    })
}

fn segments(walk: &Walk) -> Vec<SegmentReport> {
    let reports = walk.visited.iter().map(|visited| {
        let number = visited.number;
        let tail = walk.report.torn_tail.filter(|tail| tail.segment == number).map(|tail| tail.offset);
        let behind = visited.header.is_some() && walk.end.is_none_or(|(last, _)| number > last);
        SegmentReport {
            number,
            bytes: visited.bytes,
            batches: visited.batches,
            records: visited.records,
            damage: walk.lost.get(&number).map(|batches| Damage { segment: number, batches: *batches }),
            dropped_from: if behind { Some(0) } else { tail },
        }
    });
    reports.collect()
}
