//! The data directory: one process at a time, closed to everybody but its owner.
//!
//! Invariant: while a [`DataDirectory`] lives, no other process has one for the same path. The lock is the
//! operating system's and ends with the process, however it ends.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The file that is locked; it holds the owner's process id for whoever is refused.
const LOCK_FILE: &str = "ferrymq.lock";

/// Longest process id that is read back.
const MAX_PID_TEXT: u64 = 20;

/// A data directory that belongs to this process.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Held, not used: closing it releases the lock. `None` if it is only read and nobody ever locked it.
    _lock: Option<File>,
}

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// It does not exist and cannot be created.
    #[error("cannot create the data directory '{}': {source}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is missing or cannot be read.
    #[error("cannot read the data directory '{}': {source}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Files in it cannot be created or written.
    #[error("the data directory '{}' is not writable: {source}", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory '{}' is in use by {}: stop that process, or use another directory",
        path.display(),
        owner(*pid)
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process, if it left its id.
        pid: Option<u32>,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl DataDirectory {
    /// Takes the directory, creating it with mode 0700 if it is missing.
    ///
    /// # Errors
    /// If it cannot be created, is not writable, or belongs to another process.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        create(path).map_err(|source| DirectoryError::Create { path: path.to_owned(), source })?;
        let not_writable = |source| DirectoryError::NotWritable { path: path.to_owned(), source };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(not_writable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DirectoryError::InUse { path: path.to_owned(), pid: read_pid(&lock) });
            }
            Err(TryLockError::Error(source)) => return Err(not_writable(source)),
        }
        match write_pid(&mut lock) {
            // Only whoever is refused would read it, and on a full disk acks must be possible.
            Err(error) if !is_full(&error) => return Err(not_writable(error)),
            _ => {}
        }
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Takes a directory to read in it: nothing in it changes. Others may read it as well; a broker that would
    /// write in it does not start meanwhile.
    ///
    /// # Errors
    /// If it is missing, cannot be read, or belongs to another process.
    pub fn open_to_read(path: &Path) -> Result<Self, DirectoryError> {
        let unreadable = |source| DirectoryError::Unreadable { path: path.to_owned(), source };
        fs::read_dir(path).map_err(unreadable)?;
        let lock = match File::open(path.join(LOCK_FILE)) {
            Ok(lock) => lock,
            // A copy without it, or a directory in which no broker ever ran.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path: path.to_owned(), _lock: None });
            }
            Err(source) => return Err(unreadable(source)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => {
                Err(DirectoryError::InUse { path: path.to_owned(), pid: read_pid(&lock) })
            }
            Err(TryLockError::Error(source)) => Err(unreadable(source)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the directory's entries durable: files created in it, renamed in it or removed from it.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn create(path: &Path) -> io::Result<()> {
    let missing =
        path.ancestors().take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.is_dir());
    let missing: Vec<_> = missing.collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for created in missing {
        let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Whether an error says that there is no space.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn read_pid(lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.take(MAX_PID_TEXT).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

/// Makes every file of a directory and the directory itself durable.
pub(super) fn sync_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // One level below is as deep as the store goes.
            sync_directory(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_directory_is_created_for_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let directory = DataDirectory::open(&path).unwrap();
        assert_eq!(directory.path(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join(LOCK_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_owner_is_refused_and_told_who_has_it() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(root.path()).unwrap();
        let refusal = DataDirectory::open(root.path()).unwrap_err().to_string();
        let expected = format!("is in use by process {}", std::process::id());
        assert!(refusal.contains(&expected), "{refusal}");
        assert!(refusal.contains(&*root.path().to_string_lossy()), "{refusal}");
        drop(first);
        DataDirectory::open(root.path()).unwrap();
    }

    #[test]
    fn readers_change_nothing_and_keep_owners_out() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("missing");
        assert!(matches!(DataDirectory::open_to_read(&missing), Err(DirectoryError::Unreadable { .. })));
        assert!(!missing.exists());
        drop(DataDirectory::open_to_read(root.path()).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "not even a lock");

        let owner = DataDirectory::open(root.path()).unwrap();
        let refusal = DataDirectory::open_to_read(root.path()).unwrap_err().to_string();
        assert!(refusal.contains(&format!("is in use by process {}", std::process::id())), "{refusal}");
        drop(owner);
        let readers = [(); 2].map(|()| DataDirectory::open_to_read(root.path()).unwrap());
        assert!(matches!(DataDirectory::open(root.path()), Err(DirectoryError::InUse { .. })));
        drop(readers);
        DataDirectory::open(root.path()).unwrap();
    }

    #[test]
    fn what_cannot_be_created_or_written_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(matches!(DataDirectory::open(&file.join("sub")), Err(DirectoryError::Create { .. })));
        assert!(matches!(DataDirectory::open(&file), Err(DirectoryError::Create { .. })));
        fs::create_dir(root.path().join(LOCK_FILE)).unwrap();
        assert!(matches!(DataDirectory::open(root.path()), Err(DirectoryError::NotWritable { .. })));
    }
}
