//! Reading the whole log in order: records for a visitor, and what is missing.
//!
//! Positions have no gaps, so a gap is what damage looks like. If all of it lies at or below the highest durable
//! mark that any batch carries, it was durable: counted, and the log goes on behind it. Otherwise it is the tail of
//! what a crash interrupted: the log ends before it, and what follows was never durable either.
//!
//! Invariant: reading changes nothing, whoever reads: a start, a check or a dump.

use std::collections::BTreeMap;

use super::directory::{Directory, Segment};
use super::format::{HEADER_BYTES, SegmentHeader};
use super::record::{self, Record, Scratch};
use super::scan::{Found, Scan, Window};
use super::segments::segment_name;
use super::{Damage, OpenError, Placed, RecoveryReport, SegmentNumber, TornTail};
use crate::model::LogPosition;

/// Receives the records, in order.
pub(super) type Visitor<'a> = &'a mut dyn FnMut(Placed<'_>);

/// The log as it was found.
pub(super) struct Walk {
    pub(super) report: RecoveryReport,
    /// The last batch replayed.
    pub(super) last: Option<u64>,
    /// Behind what the log ends.
    pub(super) end: Option<(SegmentNumber, u64)>,
    /// The last record says that the log was closed in order, whatever was lost before.
    pub(super) closed: bool,
    /// Damaged segments and how many batches each lost.
    pub(super) lost: BTreeMap<SegmentNumber, Option<u64>>,
    /// All segments, in order.
    pub(super) visited: Vec<Visited>,
}

/// What was found in one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visited {
    pub(super) number: SegmentNumber,
    pub(super) bytes: u64,
    pub(super) header: Option<SegmentHeader>,
    /// Batches and records that were replayed.
    pub(super) batches: u64,
    pub(super) records: u64,
    /// The last batch replayed before the segment.
    pub(super) before: Option<u64>,
    /// Before one of its batches another one is missing.
    pub(super) gap: bool,
}

/// Reads everything there is.
pub(super) fn walk(directory: &Directory, visitor: Visitor<'_>) -> Result<Walk, OpenError> {
    let mut window = Window::default();
    let proven = directory.highest_mark(&mut window)?;
    let mut replay = Replay {
        proven,
        last: None,
        end: None,
        cut: false,
        gap: false,
        lost: BTreeMap::new(),
        empty: Vec::new(),
        scratch: Scratch::default(),
        report: RecoveryReport::default(),
        visitor,
    };
    let mut visited = Vec::new();
    for segment in &directory.segments {
        visited.push(replay.visit(directory, segment, &mut window)?);
    }
    let Replay { last, end, lost, mut report, .. } = replay;
    report.damage =
        lost.iter().map(|(segment, batches)| Damage { segment: *segment, batches: *batches }).collect();
    let closed = report.clean_stop;
    report.clean_stop &= report.torn_tail.is_none() && report.damage.is_empty();
    Ok(Walk { report, last, end, closed, lost, visited })
}

/// Where replay stands.
struct Replay<'a> {
    /// The highest durable mark.
    proven: u64,
    /// The last batch replayed.
    last: Option<u64>,
    /// Where the log ends, as far as it was replayed.
    end: Option<(SegmentNumber, u64)>,
    /// The log ends before a gap that was not durable.
    cut: bool,
    /// Something durable is missing before a batch of the present segment.
    gap: bool,
    /// Damaged segments and how many batches each lost.
    lost: BTreeMap<SegmentNumber, Option<u64>>,
    /// Segments without batches, so far at the end of the log.
    empty: Vec<SegmentNumber>,
    scratch: Scratch,
    report: RecoveryReport,
    visitor: Visitor<'a>,
}

impl Replay<'_> {
    fn visit(
        &mut self,
        directory: &Directory,
        segment: &Segment,
        window: &mut Window,
    ) -> Result<Visited, OpenError> {
        let (before, batches, records) = (self.last, self.report.batches, self.report.records);
        self.report.segments += 1;
        self.report.bytes += segment.bytes;
        self.gap = false;
        match segment.header {
            Some(header) => self.segment(directory, segment, header, window)?,
            None => {
                self.lost.entry(segment.number).or_insert(None);
            }
        }
        Ok(Visited {
            number: segment.number,
            bytes: segment.bytes,
            header: segment.header,
            batches: self.report.batches - batches,
            records: self.report.records - records,
            before,
            gap: self.gap,
        })
    }

    fn segment(
        &mut self,
        directory: &Directory,
        segment: &Segment,
        header: SegmentHeader,
        window: &mut Window,
    ) -> Result<(), OpenError> {
        let file = directory.open(segment.number)?;
        let mut scan = Scan::new(&*file, segment.bytes, window, header.seed());
        let mut empty = true;
        while let Some(found) = directory.next(&mut scan, segment.number)? {
            empty = false;
            self.cut = self.cut || !self.reaches(segment.number, &found);
            if self.cut {
                self.tear(segment.number).ignored_batches += 1;
                continue;
            }
            if self.last.is_some_and(|last| found.header.position <= last) {
                // Two segments with the same positions: one of them is where it does not belong.
                self.lose(segment.number, 1);
                continue;
            }
            self.last = Some(found.header.position);
            self.end = Some((segment.number, found.end));
            self.hand_out(segment.number, &found, scan.records(&found)).map_err(|source| {
                directory.foreign_record(&segment_name(segment.number), found.begin, source)
            })?;
        }
        if empty {
            self.empty.push(segment.number);
        }
        if scan.torn() && !self.cut && self.end.is_some_and(|(last, _)| last == segment.number) {
            self.tear(segment.number);
        } else if let Some(tail) = self.report.torn_tail.filter(|tail| tail.segment < segment.number)
            && !self.cut
            && self.end.is_some_and(|(last, _)| last > tail.segment)
        {
            // The log went on behind: what looked like its end was damage, and was counted as such.
            self.report.torn_tail = None;
        }
        Ok(())
    }

    /// Counts what is missing before a batch. Says whether the log reaches it, which it does unless something
    /// that is missing was not durable.
    fn reaches(&mut self, segment: SegmentNumber, found: &Found) -> bool {
        for empty in self.empty.drain(..) {
            // A segment begins only after everything in the one before is durable, which had something in it.
            self.lost.entry(empty).or_insert(None);
        }
        let ordinal = u64::from(found.header.ordinal);
        let expected = self.last.map_or(found.header.position - ordinal, |last| last + 1);
        let missing_to = found.header.position.min(self.proven.saturating_add(1));
        let missing = missing_to.saturating_sub(expected);
        if missing > 0 {
            self.gap = true;
            let here_from = expected.max(found.header.position - ordinal);
            let here = missing_to.saturating_sub(here_from);
            self.lose(segment, here);
            let before = self.end.map_or(segment, |(last, _)| last);
            let unreadable = self.lost.range(before..segment).next_back().map(|(number, _)| *number);
            self.lose(unreadable.unwrap_or(before), missing - here);
        }
        missing_to == found.header.position || found.header.position <= expected
    }

    fn lose(&mut self, segment: SegmentNumber, batches: u64) {
        if batches > 0 {
            let lost = self.lost.entry(segment).or_insert(None);
            *lost = Some(lost.unwrap_or(0) + batches);
        }
    }

    /// The torn tail, noted where the log ends; a log that has not begun ends in its first segment.
    fn tear(&mut self, segment: SegmentNumber) -> &mut TornTail {
        let (segment, offset) = self.end.unwrap_or((segment, HEADER_BYTES as u64));
        self.report.torn_tail.get_or_insert(TornTail { segment, offset, ignored_batches: 0 })
    }

    fn hand_out(
        &mut self,
        segment: SegmentNumber,
        found: &Found,
        records: &[u8],
    ) -> Result<(), record::RecordError> {
        let position = LogPosition(self.last.unwrap_or(0));
        let clean_stop = &mut self.report.clean_stop;
        let visitor = &mut self.visitor;
        *clean_stop = false;
        self.report.records += record::read_all(records, &mut self.scratch, &mut |extent, record| {
            *clean_stop = matches!(record, Record::CleanStop);
            visitor(found.placed(segment, extent, position, record));
        })?;
        self.report.batches += 1;
        Ok(())
    }
}
