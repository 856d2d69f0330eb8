//! The mark beside the store: the last position that was published.
//!
//! sled may come back from damage as an older, consistent or empty self. The mark is written after each sync of
//! the store and is not synced itself: after `kill -9` it is exact, after a power cut it may be older, and it is
//! never ahead of the store unless the store lost something.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::checksum::checksum;
use crate::model::LogPosition;

const MAGIC: &[u8; 8] = b"FERRYMK1";
const LENGTH: usize = 24;

/// The open mark file.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    /// Reads a mark. `Ok(None)` if there is no file; a file that is no mark says that a store existed and
    /// nothing about its position.
    pub(super) fn read(path: &Path) -> io::Result<Option<LogPosition>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; LENGTH];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Some(decode(&bytes).unwrap_or(LogPosition::START))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(LogPosition::START)),
            Err(error) => Err(error),
        }
    }

    /// Opens the mark for writing and writes it durably once.
    pub(super) fn create(path: &Path, position: LogPosition) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mark = Self(file);
        mark.write(position)?;
        mark.0.sync_all()?;
        Ok(mark)
    }

    /// Replaces the position, within one sector and without a sync.
    pub(super) fn write(&self, position: LogPosition) -> io::Result<()> {
        self.0.write_all_at(&encode(position), 0)
    }
}

fn encode(position: LogPosition) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&position.0.to_be_bytes());
    let sum = checksum(&bytes[..16]);
    bytes[16..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8; LENGTH]) -> Option<LogPosition> {
    let (_, position) = bytes[..16].split_first_chunk::<8>()?;
    let position = LogPosition(u64::from_be_bytes(*position.first_chunk()?));
    (encode(position) == *bytes).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_damage_reads_as_no_position() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("mark");
        assert_eq!(Mark::read(&path).unwrap(), None);
        let mark = Mark::create(&path, LogPosition(7)).unwrap();
        assert_eq!(Mark::read(&path).unwrap(), Some(LogPosition(7)));
        mark.write(LogPosition(u64::MAX)).unwrap();
        assert_eq!(Mark::read(&path).unwrap(), Some(LogPosition(u64::MAX)));
        let good = std::fs::read(&path).unwrap();
        for at in 0..LENGTH {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(Mark::read(&path).unwrap(), Some(LogPosition::START), "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(Mark::read(&path).unwrap(), Some(LogPosition::START), "length {at}");
        }
    }
}
