//! What the log asks of a file system, and the operating system's answer.
//!
//! Invariant: the log reaches files through this only, so that tests can hand it a disk that fails, fills up and
//! loses power. Names are plain file names in one directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::directory::sync_directory;

/// One directory of files. Nothing about names is durable before [`FileSystem::sync_directory`], nothing about a
/// file's bytes and size before its [`LogFile::sync`].
pub trait FileSystem: Send + Sync {
    /// For people.
    fn path(&self) -> &Path;

    /// The names of all files, in any order.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// If it is missing or cannot be opened.
    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    /// Opens a file for reading only: writing to it fails.
    ///
    /// # Errors
    /// If it is missing or cannot be opened.
    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    /// Creates a file, or empties it if it exists.
    ///
    /// # Errors
    /// If that is impossible.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    /// Renames a file, over another one if there is one.
    ///
    /// # Errors
    /// If that is impossible.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// If that is impossible.
    fn unlink(&self, name: &str) -> io::Result<()>;

    /// Makes the names durable.
    ///
    /// # Errors
    /// If they are not known to be.
    fn sync_directory(&self) -> io::Result<()>;
}

/// An open file.
pub trait LogFile: Send {
    /// Its size in bytes.
    ///
    /// # Errors
    /// If it cannot be asked for.
    fn size(&self) -> io::Result<u64>;

    /// Reads from an offset, at most until the end; returns how many bytes.
    ///
    /// # Errors
    /// If the device cannot read them.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset, growing the file if needed. After an error any part of them may be written.
    ///
    /// # Errors
    /// If not all are written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Shortens or lengthens the file.
    ///
    /// # Errors
    /// If that is impossible.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes bytes and size durable.
    ///
    /// # Errors
    /// If they are not known to be. Trying again proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the operating system.
#[derive(Debug)]
pub struct OsFileSystem(PathBuf);

impl OsFileSystem {
    /// Takes a directory, creating it for its owner only if it is missing. Its parent has to exist.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open(directory: &Path) -> io::Result<Self> {
        if !directory.is_dir() {
            DirBuilder::new().mode(0o700).create(directory)?;
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_directory(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(Self(directory.to_owned()))
    }

    /// Takes a directory that is there, for whoever only wants to read it.
    ///
    /// # Errors
    /// If there is none, or if it cannot be read.
    pub fn existing(directory: &Path) -> io::Result<Self> {
        fs::read_dir(directory)?;
        Ok(Self(directory.to_owned()))
    }
}

impl FileSystem for OsFileSystem {
    fn path(&self) -> &Path {
        &self.0
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.0.join(name))?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(File::open(self.0.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(options.open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_directory(&self.0)
    }
}

impl LogFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
