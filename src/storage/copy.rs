//! The second copy of all definitions: one flat file, replaced as a whole at every start and clean stop.
//!
//! A single damaged byte can take sled back to its beginning. The copy is what is left then. It is as old as the
//! last start or stop, so that what it brings back is reported and not promised.
//!
//! Invariant: the file is complete or absent, and of a damaged file only whole records before the damage are read.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::checksum::{Checksum, checksum};
use super::directory::sync_directory;
use super::record::RecordChange;
use crate::model::LogPosition;

const COPY: &str = "metadata.copy";
const NEW_COPY: &str = "metadata.copy.new";
const MAGIC: &[u8; 8] = b"FERRYCP1";

/// What a copy holds.
#[derive(Debug, PartialEq)]
pub(super) struct Copy {
    /// The position of the last change in it.
    pub(super) position: LogPosition,
    pub(super) records: Vec<RecordChange>,
}

/// Replaces the copy, durably.
pub(super) fn write(directory: &Path, position: LogPosition, records: &[RecordChange]) -> io::Result<()> {
    let new = directory.join(NEW_COPY);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut out = BufWriter::new(file);
    out.write_all(MAGIC)?;
    let position = position.0.to_be_bytes();
    out.write_all(&position)?;
    out.write_all(&checksum(&position).to_be_bytes())?;
    for (key, value) in records.iter().filter_map(|record| Some((&record.key, record.value.as_ref()?))) {
        for part in [key, value] {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            out.write_all(&length.to_be_bytes())?;
            out.write_all(part)?;
        }
        out.write_all(&sum(key, value).to_be_bytes())?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(new, directory.join(COPY))?;
    sync_directory(directory)
}

/// Reads the copy as far as it is whole. `None` if there is none, or none of this format.
pub(super) fn read(directory: &Path) -> io::Result<Option<Copy>> {
    match fs::read(directory.join(COPY)) {
        Ok(bytes) => Ok(decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode(bytes: &[u8]) -> Option<Copy> {
    let (position, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let (sum, mut rest) = rest.split_first_chunk::<8>()?;
    if checksum(position) != u64::from_be_bytes(*sum) {
        return None;
    }
    let mut records = Vec::new();
    while let Some((record, after)) = decode_record(rest) {
        records.push(record);
        rest = after;
    }
    Some(Copy { position: LogPosition(u64::from_be_bytes(*position)), records })
}

fn decode_record(bytes: &[u8]) -> Option<(RecordChange, &[u8])> {
    let (key, rest) = decode_part(bytes)?;
    let (value, rest) = decode_part(rest)?;
    let (stored, rest) = rest.split_first_chunk::<8>()?;
    let whole = sum(key, value) == u64::from_be_bytes(*stored);
    whole.then(|| (RecordChange { key: key.to_vec(), value: Some(value.to_vec()) }, rest))
}

fn decode_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn sum(key: &[u8], value: &[u8]) -> u64 {
    Checksum::new().part(key).part(value).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<RecordChange> {
        [("a", ""), ("key", "value"), ("z", "last")]
            .map(|(key, value)| RecordChange { key: key.into(), value: Some(value.into()) })
            .to_vec()
    }

    #[test]
    fn a_copy_reads_back_and_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path()).unwrap(), None);
        write(root.path(), LogPosition(1), &[]).unwrap();
        write(root.path(), LogPosition(9), &records()).unwrap();
        let expected = Copy { position: LogPosition(9), records: records() };
        assert_eq!(read(root.path()).unwrap(), Some(expected));
    }

    #[test]
    fn of_a_damaged_copy_only_whole_records_are_read() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), LogPosition(9), &records()).unwrap();
        let good = fs::read(root.path().join(COPY)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            for bytes in [&bad[..], &good[..at]] {
                let found = decode(bytes).map_or(Vec::new(), |copy| copy.records);
                assert!(found.len() < 3 && records().starts_with(&found), "{at}: {found:?}");
            }
        }
    }
}
