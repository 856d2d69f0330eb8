//! What lies in the log's directory, found without changing any of it.
//!
//! Invariant: everything here only reads. A file that another release wrote ends the reading before anything was
//! done about the others.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::file_system::{FileSystem, LogFile};
use super::format::{HEADER_BYTES, HeaderState, SegmentHeader};
use super::scan::{Scan, Window, read_full};
use super::segments::{FileKind, segment_name};
use super::summary;
use super::{OpenError, RecordError, SegmentNumber};

/// A segment's file.
pub(super) struct Segment {
    pub(super) number: SegmentNumber,
    pub(super) bytes: u64,
    /// `None` if it cannot be read.
    pub(super) header: Option<SegmentHeader>,
}

/// The segments that lie in a directory, by their files' names, with their files' bytes. For whoever wants to know
/// how much there is to read; empty if that cannot be told.
#[must_use]
pub fn segment_sizes(directory: &Path) -> BTreeMap<SegmentNumber, u64> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| match FileKind::of(entry.file_name().to_str()?) {
        FileKind::Segment(number) => Some((number, entry.metadata().ok()?.len())),
        _ => None,
    });
    sizes.collect()
}

/// When a segment in this directory was written to last, by the files' times; `None` if that cannot be told.
#[must_use]
pub fn last_written(directory: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let segments = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| matches!(FileKind::of(name), FileKind::Segment(_)))
    });
    segments.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

/// The files of a log.
pub(super) struct Directory {
    pub(super) file_system: Arc<dyn FileSystem>,
    /// Oldest first.
    pub(super) segments: Vec<Segment>,
    /// Names and bytes.
    pub(super) spares: Vec<(String, u64)>,
    /// Files of a summary, whole or not.
    pub(super) summaries: Vec<String>,
}

impl Directory {
    pub(super) fn read(file_system: Arc<dyn FileSystem>) -> Result<Self, OpenError> {
        let mut directory =
            Self { file_system, segments: Vec::new(), spares: Vec::new(), summaries: Vec::new() };
        let names = directory.file_system.list();
        for name in names.map_err(|source| directory.error("read", "", source))? {
            let kind = FileKind::of(&name);
            if kind == FileKind::Foreign {
                if summary::is_name(&name) {
                    directory.summaries.push(name);
                }
                continue;
            }
            let mut beginning = [0; HEADER_BYTES];
            let read = directory.file_system.open_to_read(&name).and_then(|file| {
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
                HeaderState::Other(version) => {
                    return Err(OpenError::OtherFormat {
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

    /// Opens a segment for reading.
    pub(super) fn open(&self, number: SegmentNumber) -> Result<Box<dyn LogFile>, OpenError> {
        let name = segment_name(number);
        self.file_system.open_to_read(&name).map_err(|source| self.error("read", &name, source))
    }

    /// What is known to have been durable. Marks never descend along the log, so the last batches tell.
    pub(super) fn highest_mark(&self, window: &mut Window) -> Result<u64, OpenError> {
        for segment in self.segments.iter().rev() {
            if let Some(header) = segment.header {
                let file = self.open(segment.number)?;
                let mut scan = Scan::new(&*file, segment.bytes, window, header.seed());
                let mut durable = None;
                while let Some(found) = self.next(&mut scan, segment.number)? {
                    durable = Some(found.header.durable);
                }
                if let Some(durable) = durable {
                    return Ok(durable);
                }
            }
        }
        Ok(0)
    }

    /// The next batch of a segment.
    pub(super) fn next(
        &self,
        scan: &mut Scan<'_>,
        number: SegmentNumber,
    ) -> Result<Option<super::scan::Found>, OpenError> {
        scan.next().map_err(|source| self.error("read", &segment_name(number), source))
    }

    /// A record of a batch at this offset cannot be understood.
    pub(super) fn foreign_record(&self, name: &str, offset: u64, source: RecordError) -> OpenError {
        OpenError::Record { path: self.file_system.path().join(name), offset, source }
    }

    pub(super) fn error(&self, action: &'static str, name: &str, source: io::Error) -> OpenError {
        OpenError::Io { action, path: self.file_system.path().join(name), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_of_segments_are_told_and_of_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        assert!(segment_sizes(&directory.path().join("missing")).is_empty());
        for (name, bytes) in
            [("0000000003.log", 30), ("0000000012.log", 0), ("0000000004.spare", 9), ("a.log", 9)]
        {
            std::fs::write(directory.path().join(name), vec![0; bytes]).unwrap();
        }
        let expected = BTreeMap::from([(SegmentNumber(3), 30), (SegmentNumber(12), 0)]);
        assert_eq!(segment_sizes(directory.path()), expected);
    }
}
