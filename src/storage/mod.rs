//! What survives a restart: the durable definitions of all vhosts.
//!
//! In: ordered changes of definitions, from any vhost. Out: the position of each change at once, the durable
//! position as the disk catches up, and at start everything that was durable. Replies that promise durability
//! wait for positions, so that changes are synced in groups.
//!
//! Invariant: a position is published only after everything up to it would survive a power cut, and after a failed
//! sync no position is published any more. What is read back was checked against the sums it was written with.
//! What exactly is promised stands in `docs/decisions/0002-definitions-before-the-log.md`.

mod checksum;
mod copy;
mod directory;
pub mod log;
mod mark;
mod record;
mod repair;
mod sled_store;
mod store;
mod writer;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use directory::{DataDirectory, DirectoryError};
pub use record::{RecordChange, RecordError};
pub use repair::{Damage, OpenReport};
pub use sled_store::SledStore;
pub use store::{Contents, MetadataStore, StoreError};
pub use writer::{DefinitionWriter, FailureText};

/// Where and within which bounds definitions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The data directory; created, for the owner only, if it is missing.
    pub directory: PathBuf,
    /// Encoded bytes of changes that may gather while a batch is being written, which is at most as large and one
    /// change. Whoever has more waits until the batch is written.
    pub max_pending_bytes: usize,
    /// Memory for pages of the metadata store, in bytes.
    pub cache_bytes: u64,
}

impl Options {
    /// The defaults, with this data directory: 64 MiB may be pending, 16 MiB are cached.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, max_pending_bytes: 64 << 20, cache_bytes: 16 << 20 }
    }
}

/// What [`open`] found and started.
#[derive(Debug)]
pub struct Opened {
    /// Takes changes from here on. Holds the data directory's lock until it is shut down or dropped.
    pub writer: DefinitionWriter,
    /// Everything that was durable.
    pub contents: Contents,
    /// How the store was found; damage is to be said loudly.
    pub report: OpenReport,
}

/// Why the storage cannot be opened. Nothing was lost; the cause has to be removed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store was written by a later release.
    #[error(
        "the metadata in '{}' has format {found}, this release knows formats up to {known}: use the release that wrote it, or a later one",
        path.display()
    )]
    NewerFormat {
        /// The store's directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this release reads.
        known: u32,
    },
    /// The operating system refused something that says nothing about the store's contents.
    #[error("cannot open the metadata in '{}': {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A store that was just written cannot be read back.
    #[error("a fresh metadata store in '{}' cannot be read back: {cause}", path.display())]
    Unusable {
        /// The store's directory.
        path: PathBuf,
        /// What was wrong with it.
        cause: String,
    },
    /// The operating system gave no thread.
    #[error("cannot start the thread that writes definitions: {0}")]
    Thread(io::Error),
}

/// Locks the data directory, reads what is durable, and starts to take changes.
///
/// A damaged store is no error: it is moved aside, what can be read of it is kept, and the report says so.
///
/// # Errors
/// If the directory, the format or the operating system is in the way.
pub fn open(options: &Options) -> Result<Opened, OpenError> {
    let directory = DataDirectory::open(&options.directory)?;
    let (mut store, report) = SledStore::open(directory, options.cache_bytes)?;
    let contents = store
        .load()
        .map_err(|error| OpenError::Unusable { path: options.directory.clone(), cause: error.to_string() })?;
    let writer = DefinitionWriter::start(Box::new(store), contents.position, options.max_pending_bytes)
        .map_err(OpenError::Thread)?;
    Ok(Opened { writer, contents, report })
}

#[cfg(test)]
mod tests;
