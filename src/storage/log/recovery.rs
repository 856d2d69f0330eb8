//! Opening the log at start: replay, then cutting the torn tail and preparing to go on.
//!
//! Invariant: reading changes nothing, and the cut is durable before anything new is written, so that recovery can
//! be interrupted anywhere and finds the same log again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::directory::Directory;
use super::file_system::FileSystem;
use super::format::SegmentHeader;
use super::record::{self, Scratch};
use super::replay::{Visitor, Walk, walk};
use super::segments::{SegmentFiles, segment_name};
use super::summary::{self, Summary};
use super::{LogOptions, OpenError, Placed, RecoveryReport, SegmentNumber, SummaryReport};
use crate::model::LogPosition;

/// The log as it was found and where it goes on.
pub(super) struct Recovered {
    pub(super) files: SegmentFiles,
    pub(super) report: RecoveryReport,
    /// The position of the last batch.
    pub(super) last: u64,
    /// What the next segment is.
    pub(super) next: SegmentHeader,
}

/// Replays the log and cuts its torn tail.
pub(super) fn recover(
    file_system: Arc<dyn FileSystem>,
    options: &LogOptions,
    visitor: Visitor<'_>,
) -> Result<Recovered, OpenError> {
    let directory = Directory::read(file_system)?;
    let walk = match summary::read(&directory) {
        Some(summary) => sum_up(&directory, summary, visitor)?,
        None => walk(&directory, visitor)?,
    };
    summary::remove(&directory)?;
    let mut files = SegmentFiles::new(Arc::clone(&directory.file_system), options);
    let changed = cut(&directory, &walk, &mut files)?;
    for (name, bytes) in &directory.spares {
        files.found_spare(name.clone(), *bytes).map_err(|source| directory.error("remove", name, source))?;
    }
    files.prepare().map_err(|source| directory.error("make spare files in", "", source))?;
    if changed {
        let synced = directory.file_system.sync_directory();
        synced.map_err(|source| directory.error("sync", "", source))?;
    }
    let number = directory.segments.last().map_or(1, |segment| segment.number.0 + 1);
    let epochs = directory.segments.iter().filter_map(|segment| segment.header.map(|header| header.epoch));
    let epoch = epochs.max().map_or(1, |epoch| epoch.saturating_add(1));
    let next = SegmentHeader { number: SegmentNumber(number), epoch, salt: options.salt };
    Ok(Recovered { files, report: walk.report, last: walk.last.unwrap_or(options.start.0), next })
}

/// Hands out a summary instead of what it sums up.
fn sum_up(directory: &Directory, summary: Summary, visitor: Visitor<'_>) -> Result<Walk, OpenError> {
    let Summary { closing, end, defined_in, records } = summary;
    let mut report = RecoveryReport {
        segments: directory.segments.len(),
        bytes: directory.segments.iter().map(|segment| segment.bytes).sum(),
        clean_stop: true,
        summary: Some(SummaryReport { defined_in }),
        ..RecoveryReport::default()
    };
    let position = LogPosition(closing.position);
    let read = record::read_all(&records, &mut Scratch::default(), &mut |extent, record| {
        visitor(Placed { location: closing.location, bytes: extent.end - extent.begin, position, record });
    });
    report.records = read.map_err(|source| directory.foreign_record(summary::NAME, 0, source))?;
    Ok(Walk {
        report,
        last: Some(closing.position),
        end: Some((closing.location.segment, end)),
        closed: true,
        lost: BTreeMap::new(),
        visited: Vec::new(),
    })
}

/// Ends the log behind its last batch, durably except for names. Says whether names changed.
fn cut(directory: &Directory, walk: &Walk, files: &mut SegmentFiles) -> Result<bool, OpenError> {
    let file_system = &directory.file_system;
    let mut changed = false;
    for segment in &directory.segments {
        let name = segment_name(segment.number);
        let mut bytes = segment.bytes;
        if segment.header.is_some() && walk.end.is_none_or(|(last, _)| segment.number > last) {
            file_system.unlink(&name).map_err(|source| directory.error("remove", &name, source))?;
            changed = true;
            continue;
        }
        if let Some((_, offset)) = walk.end.filter(|(last, _)| segment.number == *last) {
            // Even if nothing has to be cut: after a kill the last batches may be in memory only, and what follows
            // them relies on them.
            let cut = file_system.open(&name).and_then(|file| {
                if offset < bytes {
                    file.set_size(offset)?;
                }
                file.sync()
            });
            cut.map_err(|source| directory.error("cut the torn tail of", &name, source))?;
            bytes = bytes.min(offset);
        }
        files.found(segment.number, bytes, walk.lost.contains_key(&segment.number));
    }
    Ok(changed)
}
