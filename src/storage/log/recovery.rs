//! Reading the log at start: replay, damage, the torn tail.
//!
//! Positions have no gaps, so a gap is what damage looks like. If all of it lies at or below the highest durable
//! mark that any batch carries, it was durable: counted, and the log goes on behind it. Otherwise it is the tail of
//! what a crash interrupted: the log ends before it, and what follows was never durable either.
//!
//! Invariant: reading changes nothing, and the cut is durable before anything new is written, so that recovery can
//! be interrupted anywhere and finds the same log again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::file_system::FileSystem;
use super::format::{HEADER_BYTES, HeaderState, SegmentHeader};
use super::record::{self, Record, Scratch};
use super::scan::{Found, Scan};
use super::segments::{FileKind, SegmentFiles, segment_name};
use super::{Damage, LogOptions, OpenError, Placed, RecoveryReport, SegmentNumber, TornTail};
use crate::model::LogPosition;

/// Receives the records, in order.
pub(super) type Visitor<'a> = &'a mut dyn FnMut(Placed<'_>);

/// Bytes per read, so that a system call that copies a whole segment blocks nobody.
const READ_BYTES: usize = 1 << 20;

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
    let mut buffer = Vec::new();
    let proven = directory.highest_mark(&mut buffer)?;
    let mut replay = Replay {
        proven,
        last: None,
        end: None,
        cut: false,
        lost: BTreeMap::new(),
        empty: Vec::new(),
        report: RecoveryReport::default(),
        visitor,
    };
    for segment in &directory.segments {
        replay.segment(&directory, segment, &mut buffer)?;
    }
    let Replay { last, end, lost, mut report, .. } = replay;
    report.damage =
        lost.iter().map(|(segment, batches)| Damage { segment: *segment, batches: *batches }).collect();
    report.clean_stop &= report.torn_tail.is_none() && report.damage.is_empty();

    let mut files = SegmentFiles::new(Arc::clone(&directory.file_system), options);
    let changed = directory.cut(end, &lost, &mut files)?;
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
    Ok(Recovered { files, report, last: last.unwrap_or(options.start.0), next })
}

/// A segment's file.
struct Segment {
    number: SegmentNumber,
    bytes: u64,
    /// `None` if it cannot be read.
    header: Option<SegmentHeader>,
}

/// What lies in the directory.
struct Directory {
    file_system: Arc<dyn FileSystem>,
    segments: Vec<Segment>,
    spares: Vec<(String, u64)>,
}

impl Directory {
    fn read(file_system: Arc<dyn FileSystem>) -> Result<Self, OpenError> {
        let mut directory = Self { file_system, segments: Vec::new(), spares: Vec::new() };
        let names = directory.file_system.list();
        for name in names.map_err(|source| directory.error("read", "", source))? {
            let kind = FileKind::of(&name);
            if kind == FileKind::Foreign {
                continue;
            }
            let mut beginning = [0; HEADER_BYTES];
            let read = directory.file_system.open(&name).and_then(|file| {
                let length = read_full(&*file, &mut beginning, 0)?;
                Ok((file.size()?, length))
            });
            let (bytes, length) = read.map_err(|source| directory.error("read", &name, source))?;
            let FileKind::Segment(number) = kind else {
                directory.spares.push((name, bytes));
                continue;
            };
            let header = match SegmentHeader::decode(&beginning[..length]) {
                // A file under another's name is not that segment.
                HeaderState::Good(header) => Some(header).filter(|header| header.number == number),
                HeaderState::Bad => None,
                HeaderState::Newer(version) => {
                    return Err(OpenError::NewerFormat {
                        path: directory.file_system.path().join(name),
                        version,
                    });
                }
            };
            directory.segments.push(Segment { number, bytes, header });
        }
        directory.segments.sort_by_key(|segment| segment.number);
        directory.spares.sort();
        Ok(directory)
    }

    /// What is known to have been durable. Marks never descend along the log, so the last batches tell.
    fn highest_mark(&self, buffer: &mut Vec<u8>) -> Result<u64, OpenError> {
        for segment in self.segments.iter().rev() {
            if let Some(header) = segment.header {
                self.load(segment, buffer)?;
                if let Some(found) = Scan::new(buffer, header.seed()).last() {
                    return Ok(found.header.durable);
                }
            }
        }
        Ok(0)
    }

    /// Reads a whole segment.
    fn load(&self, segment: &Segment, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        let name = segment_name(segment.number);
        let read = self.file_system.open(&name).and_then(|file| {
            let size = usize::try_from(file.size()?).map_err(|_| io::ErrorKind::OutOfMemory)?;
            buffer.resize(size, 0);
            let mut at = 0;
            while at < size {
                let end = size.min(at + READ_BYTES);
                let length = read_full(&*file, &mut buffer[at..end], at as u64)?;
                if length == 0 {
                    break;
                }
                at += length;
            }
            buffer.truncate(at);
            Ok(())
        });
        read.map_err(|source| self.error("read", &name, source))
    }

    /// Ends the log behind its last batch, durably except for names. Says whether names changed.
    fn cut(
        &self,
        end: Option<(SegmentNumber, u64)>,
        lost: &BTreeMap<SegmentNumber, Option<u64>>,
        files: &mut SegmentFiles,
    ) -> Result<bool, OpenError> {
        let mut changed = false;
        for segment in &self.segments {
            let name = segment_name(segment.number);
            let mut bytes = segment.bytes;
            let behind = end.is_none_or(|(last, _)| segment.number > last);
            if behind && segment.header.is_some() {
                self.file_system.unlink(&name).map_err(|source| self.error("remove", &name, source))?;
                changed = true;
                continue;
            }
            if let Some((_, offset)) = end.filter(|(last, offset)| segment.number == *last && *offset < bytes)
            {
                let cut = self.file_system.open(&name).and_then(|file| {
                    file.set_size(offset)?;
                    file.sync()
                });
                cut.map_err(|source| self.error("cut the torn tail of", &name, source))?;
                bytes = offset;
            }
            files.found(segment.number, bytes, lost.contains_key(&segment.number));
        }
        Ok(changed)
    }

    fn error(&self, action: &'static str, name: &str, source: io::Error) -> OpenError {
        OpenError::Io { action, path: self.file_system.path().join(name), source }
    }
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
    /// Damaged segments and how many batches each lost.
    lost: BTreeMap<SegmentNumber, Option<u64>>,
    /// Segments without batches, so far at the end of the log.
    empty: Vec<SegmentNumber>,
    report: RecoveryReport,
    visitor: Visitor<'a>,
}

impl Replay<'_> {
    fn segment(
        &mut self,
        directory: &Directory,
        segment: &Segment,
        buffer: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        self.report.segments += 1;
        self.report.bytes += segment.bytes;
        let Some(header) = segment.header else {
            self.lost.entry(segment.number).or_insert(None);
            return Ok(());
        };
        directory.load(segment, buffer)?;
        let mut scratch = Scratch::default();
        let mut scan = Scan::new(buffer, header.seed());
        let mut empty = true;
        for found in scan.by_ref() {
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
            self.end = Some((segment.number, found.end as u64));
            self.visit(segment.number, &buffer[found.records.clone()], &mut scratch).map_err(|source| {
                let path = directory.file_system.path().join(segment_name(segment.number));
                OpenError::Record { path, offset: found.begin as u64, source }
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

    fn visit(
        &mut self,
        segment: SegmentNumber,
        records: &[u8],
        scratch: &mut Scratch,
    ) -> Result<(), record::RecordError> {
        let position = LogPosition(self.last.unwrap_or(0));
        let clean_stop = &mut self.report.clean_stop;
        let visitor = &mut self.visitor;
        *clean_stop = false;
        self.report.records += record::read_all(records, scratch, &mut |record| {
            *clean_stop = record == Record::CleanStop;
            visitor(Placed { segment, position, record });
        })?;
        self.report.batches += 1;
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &dyn super::LogFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
