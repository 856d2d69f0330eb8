//! Mending a damaged log, for a person who asked for it.
//!
//! Each damaged segment is copied aside, durably and as it is. Then it is written anew under the same number, with
//! the batches that are intact, and with a batch without records in the place of each one that is lost: positions
//! have no gaps. A segment of which nothing is left leaves the log.
//!
//! Invariant: no byte leaves the log before its copy is durable, and each segment is replaced by one rename, so that
//! a repair may be interrupted anywhere and done again. What is intact comes back as before. A repaired log was not
//! closed in order, whatever it says: a lost record may have said that a message was delivered.

use std::io;
use std::sync::Arc;

use super::directory::Directory;
use super::file_system::{FileSystem, LogFile};
use super::format::{BATCH_HEADER_BYTES, BatchHeader, HEADER_BYTES, Seed, SegmentHeader, padded, seal};
use super::frame;
use super::replay::{Visited, Walk, walk};
use super::scan::{Found, Scan, Window, read_full};
use super::segments::{segment_name, unnamed_name};
use super::summary;
use super::{Damage, OpenError, SegmentNumber};

/// Bytes that are copied or written at a time.
const PIECE_BYTES: usize = 256 << 10;

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What is lost, as a start would have reported it.
    pub lost: Vec<Damage>,
    /// The segments that were copied aside, oldest first. Some of them only follow a damaged one.
    pub segments: Vec<RepairedSegment>,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairedSegment {
    /// Which one.
    pub number: SegmentNumber,
    /// Intact batches that it holds, lost ones not counted. Without any it is not in the log any more.
    pub batches: u64,
}

/// Mends a log in which a start would report damage; `aside` receives the segments as they were. Nobody may have
/// the log open. Without damage nothing is written.
///
/// # Errors
/// If files cannot be read or written, or are of a later release. Nothing is lost then, and it may be tried again,
/// with another place aside.
pub fn repair(file_system: Arc<dyn FileSystem>, aside: &dyn FileSystem) -> Result<RepairReport, OpenError> {
    let directory = Directory::read(file_system)?;
    let walk = walk(&directory, &mut |_| {})?;
    let mut report = RepairReport { lost: walk.report.damage.clone(), segments: Vec::new() };
    if report.lost.is_empty() {
        return Ok(report);
    }
    let closing = |visited: &Visited| walk.closed && walk.end.is_some_and(|(last, _)| visited.number == last);
    let concerned =
        |visited: &&Visited| walk.lost.contains_key(&visited.number) || visited.gap || closing(visited);
    summary::remove(&directory)?;
    let mut concerned: Vec<_> = walk.visited.iter().filter(concerned).collect();
    for visited in &concerned {
        let name = segment_name(visited.number);
        copy(&*directory.open(visited.number)?, aside, &name).map_err(|source| OpenError::Io {
            action: "copy a damaged segment to",
            path: aside.path().join(&name),
            source,
        })?;
    }
    let synced = aside.sync_directory();
    synced.map_err(|source| OpenError::Io { action: "sync", path: aside.path().to_owned(), source })?;
    // The mark of a clean stop goes first, while the damage still is a reason to take it away.
    concerned.sort_by_key(|visited| (!closing(visited), visited.number));
    for visited in concerned {
        let batches = rewrite(&directory, &walk, visited)?;
        report.segments.push(RepairedSegment { number: visited.number, batches });
    }
    report.segments.sort_by_key(|segment| segment.number);
    Ok(report)
}

/// Copies a file, durably except for its name.
fn copy(from: &dyn LogFile, aside: &dyn FileSystem, name: &str) -> io::Result<()> {
    let to = aside.create(name)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    loop {
        let length = read_full(from, &mut piece, at)?;
        if length == 0 {
            return to.sync();
        }
        to.write_all_at(&piece[..length], at)?;
        at += length as u64;
    }
}

/// Replaces a segment by what is intact of it. Returns how many batches that are.
fn rewrite(directory: &Directory, walk: &Walk, visited: &Visited) -> Result<u64, OpenError> {
    let name = segment_name(visited.number);
    let error = |source| directory.error("write anew", &name, source);
    let file_system = &directory.file_system;
    let batches = match visited.header.filter(|_| visited.batches > 0) {
        None => {
            file_system.unlink(&name).map_err(error)?;
            0
        }
        Some(header) => {
            let new = unnamed_name(visited.number);
            let file = file_system.create(&new).map_err(error)?;
            let batches = write_intact(directory, walk, visited, &header, &mut Out::new(&*file))?;
            file.sync().and_then(|()| file_system.rename(&new, &name)).map_err(error)?;
            batches
        }
    };
    file_system.sync_directory().map_err(error)?;
    Ok(batches)
}

/// Writes what replay keeps of a segment, without gaps. Returns how many batches were kept.
fn write_intact(
    directory: &Directory,
    walk: &Walk,
    visited: &Visited,
    header: &SegmentHeader,
    out: &mut Out<'_>,
) -> Result<u64, OpenError> {
    let name = segment_name(visited.number);
    let error = |source| directory.error("write anew", &name, source);
    let (file, mut window) = (directory.open(visited.number)?, Window::default());
    let mut scan = Scan::new(&*file, visited.bytes, &mut window, header.seed());
    out.bytes.extend_from_slice(&header.encode());
    debug_assert_eq!(out.bytes.len(), HEADER_BYTES);
    let (mut last, mut ordinal, mut kept) = (visited.before, 0, 0);
    while let Some(found) = directory.next(&mut scan, visited.number)? {
        let position = found.header.position;
        let behind = walk.end.is_none_or(|end| (visited.number, found.end) > end);
        if behind || last.is_some_and(|last| position <= last) {
            continue;
        }
        let first = last.map_or(position - u64::from(found.header.ordinal), |last| last + 1);
        for lost in first..position {
            let durable = found.header.durable.min(lost.saturating_sub(1));
            out.batch(&[], Place { position: lost, ordinal, durable }, header.seed()).map_err(error)?;
            ordinal += 1;
        }
        let records = if closes(walk, visited, &found) { &[] } else { scan.records(&found) };
        let place = Place { position, ordinal, durable: found.header.durable };
        out.batch(records, place, header.seed()).map_err(error)?;
        (last, ordinal, kept) = (Some(position), ordinal + 1, kept + 1);
    }
    out.flush().map_err(error)?;
    Ok(kept)
}

/// Whether a batch is the mark of a clean stop at the end of the log.
fn closes(walk: &Walk, visited: &Visited, found: &Found) -> bool {
    walk.closed && walk.end == Some((visited.number, found.end))
}

/// What a batch's header says besides its records.
#[derive(Clone, Copy)]
struct Place {
    position: u64,
    ordinal: u32,
    durable: u64,
}

/// A file that is written from its beginning.
struct Out<'a> {
    file: &'a dyn LogFile,
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> Out<'a> {
    fn new(file: &'a dyn LogFile) -> Self {
        Self { file, at: 0, bytes: Vec::new() }
    }

    fn batch(&mut self, records: &[u8], place: Place, seed: Seed) -> io::Result<()> {
        let Place { position, ordinal, durable } = place;
        let (begin, length) = (self.bytes.len(), records.len());
        let sum = frame::sum(records).expect("they were read whole, or there are none");
        self.bytes.resize(begin + BATCH_HEADER_BYTES, 0);
        BatchHeader { length: length as u64, sum, ordinal, position, durable }.put(&mut self.bytes[begin..]);
        self.bytes.extend_from_slice(records);
        self.bytes.resize(begin + BATCH_HEADER_BYTES + padded(length), 0);
        seal(&mut self.bytes[begin..], durable, seed);
        if self.bytes.len() < PIECE_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}
