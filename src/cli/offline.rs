//! What commands share that read the data directory of a stopped broker.
//!
//! Invariant: while an [`Offline`] lives, no broker starts on the directory, and nothing in it was changed to see to
//! that.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};

use super::{Exit, say};
use crate::storage::log::{OpenError, OsFileSystem};
use crate::storage::{DataDirectory, DirectoryError, LOG};

/// What lies in every data directory.
const METADATA: &str = "metadata";

/// A data directory that nobody changes.
pub(super) struct Offline {
    /// Held, not used.
    _directory: DataDirectory,
    /// The message log; `None` if no broker has begun one there.
    pub(super) log: Option<Arc<OsFileSystem>>,
}

impl Offline {
    /// To read in it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let directory = DataDirectory::open_to_read(path)?;
        let log = path.join(LOG);
        if !log.is_dir() && !path.join(METADATA).exists() {
            let source = std::io::Error::other("no broker has stored anything there");
            return Err(DirectoryError::Unreadable { path: path.to_owned(), source }.into());
        }
        Self::with(directory, &log)
    }

    /// To write in it, too.
    pub(super) fn open_to_write(path: &Path) -> Result<Self> {
        // Whatever is wrong with it, a directory is not created.
        drop(Self::open(path)?);
        Self::with(DataDirectory::open(path)?, &path.join(LOG))
    }

    fn with(directory: DataDirectory, log: &Path) -> Result<Self> {
        let unreadable = |source| DirectoryError::Unreadable { path: log.to_owned(), source };
        let log = if log.is_dir() { Some(OsFileSystem::existing(log).map_err(unreadable)?) } else { None };
        Ok(Self { _directory: directory, log: log.map(Arc::new) })
    }
}

/// Says why a command failed, and gives the exit code for that.
pub(super) fn finish(result: Result<Exit>, err: &mut dyn Write) -> Exit {
    let error = match result {
        Ok(exit) => return exit,
        Err(error) => error,
    };
    say(err, &format_args!("error: {error:#}\n"));
    match (error.downcast_ref::<DirectoryError>(), error.downcast_ref::<OpenError>()) {
        (Some(DirectoryError::InUse { .. }), _) => Exit::InUse,
        (Some(DirectoryError::Unreadable { .. }), _) => Exit::NoInput,
        (_, Some(OpenError::OtherFormat { .. } | OpenError::Record { .. })) => Exit::BadData,
        _ => Exit::Failure,
    }
}

/// For people.
pub(super) fn amount(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{}.{} KiB", bytes >> 10, ((bytes & 0x3ff) * 10) >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, (((bytes >> 10) & 0x3ff) * 10) >> 10),
    }
}

/// `1 segment`, `2 segments`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = match (count, what.strip_suffix("ch")) {
        (1, _) => "",
        (_, Some(_)) => "es",
        _ => "s",
    };
    format!("{count} {what}{plural}")
}

/// Fails a command for a directory that holds what nobody can mend.
pub(super) fn cannot(what: &str, path: &Path, source: &std::io::Error) -> anyhow::Error {
    anyhow!("cannot {what} '{}': {source}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_for_people() {
        assert_eq!(amount(1023), "1023 B");
        assert_eq!(amount(1536), "1.5 KiB");
        assert_eq!(amount(0xf_ffff), "1023.9 KiB");
        assert_eq!(amount(10 << 20), "10.0 MiB");
        assert_eq!(counted(1, "batch"), "1 batch");
        assert_eq!(counted(0, "batch"), "0 batches");
        assert_eq!(counted(2, "segment"), "2 segments");
    }
}
