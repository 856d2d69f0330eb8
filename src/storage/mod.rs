//! What survives a restart: what durable queues keep and the durable definitions of all vhosts, in one message log,
//! with a metadata store beside it from which a restart finds the definitions quickly.
//!
//! In: the batches of the vhosts' turns. Out: the position of each batch at once, the durable position as the disk
//! catches up, and at start everything that is there. Replies that promise durability wait for positions, so that
//! turns are synced in groups.
//!
//! Invariant: the log is the truth. The store follows it and is never ahead of it; without the store the log alone
//! gives the same definitions. `docs/decisions/0004-one-log.md` says why.

mod absent;
mod checksum;
mod copy;
mod directory;
pub mod log;
mod mark;
mod record;
mod repair;
mod sled_store;
mod store;
mod told;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use self::absent::Absent;
use self::directory::is_full;
use self::log::{
    Appended, Batch, Log, LogOptions, OsFileSystem, Placed, Record, RecoveryReport, SegmentNumber,
};
use self::told::{Told, View, difference};
use self::writer::LogWatch;
use crate::model::{Definition, DefinitionChange, LogPosition, VhostName};

pub use directory::{DataDirectory, DirectoryError};
pub use record::{RecordChange, RecordError};
pub use repair::{Damage, OpenReport};
pub use sled_store::SledStore;
pub use store::{MetadataStore, StoreError};
pub use told::Source;
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
    /// How the message log works.
    pub log: LogOptions,
}

impl Options {
    /// The defaults, with this data directory: 64 MiB of definitions may be pending, 16 MiB are cached.
    #[must_use]
    pub fn new(directory: PathBuf, log: LogOptions) -> Self {
        Self { directory, max_pending_bytes: 64 << 20, cache_bytes: 16 << 20, log }
    }
}

/// The storage of a node. Cheap calls from any thread; nothing here waits for the disk but [`Storage::shutdown`].
#[derive(Debug)]
pub struct Storage {
    log: Log,
    definitions: DefinitionWriter,
    /// Holds the lock.
    _directory: Arc<DataDirectory>,
}

impl Storage {
    /// The message log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What keeps the metadata store up with the log.
    #[must_use]
    pub fn definitions(&self) -> &DefinitionWriter {
        &self.definitions
    }

    /// Appends the records of one vhost's turn and the definitions that it changed, to come back together, and empties
    /// the batch. To be called while the vhost is locked. `waits` says that somebody waits for the position.
    pub fn append(
        &self,
        batch: &mut Batch,
        vhost: &VhostName,
        changes: &[DefinitionChange],
        waits: bool,
    ) -> Appended {
        if changes.is_empty() {
            return self.log.append(batch, waits);
        }
        let changes: Vec<_> = changes.iter().map(|change| RecordChange::new(vhost, change)).collect();
        changes.iter().for_each(|change| define(batch, change));
        self.definitions.follow(changes, || self.log.append(batch, waits))
    }

    /// Appends a definition that is in force once more, because the segment it stands in is about to be retired.
    pub fn define_again(batch: &mut Batch, vhost: &VhostName, definition: &Definition) {
        define(batch, &RecordChange::new(vhost, &DefinitionChange::Put(definition.clone())));
    }

    /// Makes everything appended durable and closes log and store. Blocks until the disk has it. Only if nobody holds a
    /// message any more is the stop a clean one, after which it is known which messages were delivered.
    ///
    /// # Errors
    /// If not everything appended is durable.
    pub fn shutdown(&self, clean: bool) -> Result<(), log::ShutdownError> {
        let ended = if clean { self.log.shutdown() } else { self.log.abandon() };
        // A store that fell behind is found out at the next start, and brought up from the log.
        let _ = self.definitions.shutdown();
        ended
    }
}

fn define(batch: &mut Batch, change: &RecordChange) {
    batch.push(&Record::Define { key: &change.key, value: change.value.as_deref() });
}

/// The definition that a [`Record::Define`] is about, if it exists from there on.
///
/// # Errors
/// If the bytes are not a definition.
pub fn read_definition(key: &[u8], value: &[u8]) -> Result<(VhostName, Definition), RecordError> {
    record::decode(key, value)
}

/// What [`open`] found and started.
#[derive(Debug)]
pub struct Opened {
    /// Takes batches from here on.
    pub storage: Storage,
    /// The durable definitions by vhost: exchanges first, then queues, then bindings.
    pub definitions: BTreeMap<VhostName, Vec<Definition>>,
    /// Where they were found.
    pub source: Source,
    /// How the metadata store was found.
    pub report: OpenReport,
    /// How the log was found; damage is to be said loudly.
    pub recovery: RecoveryReport,
    /// Segments that hold definitions.
    pub defined_in: BTreeSet<SegmentNumber>,
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
    /// The message log cannot be used.
    #[error(transparent)]
    Log(#[from] log::OpenError),
    /// The log holds a definition that cannot be understood, with a sum that is right.
    #[error(
        "the message log holds a definition that this release cannot read: {0}; start the release that wrote it, or a later one"
    )]
    Definition(RecordError),
}

/// The log's directory in the data directory.
pub const LOG: &str = "log";

/// Definitions that go into one batch when all of them are written.
const DEFINITIONS_PER_BATCH: usize = 1_000;

/// Locks the data directory, reads what is there, and starts to take batches. The visitor gets every record of the
/// log but definitions, in order.
///
/// Damage is no error: what is damaged is kept, what can be read is used, and the reports say so.
///
/// # Errors
/// If the directory, a newer format or the operating system is in the way.
pub fn open(options: &Options, visitor: &mut dyn FnMut(Placed<'_>)) -> Result<Opened, OpenError> {
    let directory = Arc::new(DataDirectory::open(&options.directory)?);
    let log_path = options.directory.join(LOG);
    let has_log = log_path.is_dir();
    let OpenedView { store, position, view, report } = open_view(&directory, options, has_log)?;

    let files =
        OsFileSystem::open(&log_path).map_err(|source| OpenError::Io { path: log_path.clone(), source })?;
    let log_options = LogOptions { start: position, ..options.log.clone() };
    let mut told = Told::default();
    let mut defined_in = BTreeSet::new();
    let (log, recovery) = Log::open(Arc::new(files), log_options, &mut |placed| {
        told.batch(placed.position);
        match placed.record {
            Record::Define { key, value } => {
                defined_in.insert(placed.location.segment);
                told.define(placed.position, key, value);
            }
            _ => visitor(placed),
        }
    })?;
    let last = *log.durable().borrow();
    if let Some(summary) = &recovery.summary {
        told.is_whole();
        defined_in.extend(&summary.defined_in);
    }
    let (records, source) = told.resolve(&view, last, !recovery.damage.is_empty());
    let definitions = decode(&records)?;
    if recovery.batches == 0 && recovery.summary.is_none() {
        write_all(&log, &records);
    }
    let behind = (position != last || source == Source::Log).then(|| difference(view.records, &records));
    let store = bring_up(store, last, behind)
        .map_err(|error| OpenError::Unusable { path: options.directory.clone(), cause: error.to_string() })?;
    let watch = LogWatch { durable: log.durable(), failed: log.failed() };
    let followed = DefinitionWriter::start(store, last, options.max_pending_bytes, watch);
    let storage = Storage { log, definitions: followed.map_err(OpenError::Thread)?, _directory: directory };
    Ok(Opened { storage, definitions, source, report, recovery, defined_in })
}

/// The metadata store as it was opened.
struct OpenedView {
    store: Box<dyn MetadataStore>,
    position: LogPosition,
    view: View,
    report: OpenReport,
}

/// Opens the metadata store, or does without it if there is no space for that and the log can tell everything.
fn open_view(
    directory: &Arc<DataDirectory>,
    options: &Options,
    has_log: bool,
) -> Result<OpenedView, OpenError> {
    match SledStore::open(Arc::clone(directory), options.cache_bytes) {
        Ok((mut store, report)) => {
            let position = store.position();
            let intact = (!matches!(report, OpenReport::Damaged(_))).then_some(position);
            let view = View { intact, records: store.take_records() };
            Ok(OpenedView { store: Box::new(store), position, view, report })
        }
        Err(OpenError::Io { source, .. }) if has_log && is_full(&source) => Ok(OpenedView {
            store: Box::new(Absent),
            position: LogPosition::START,
            view: View { intact: None, records: Vec::new() },
            report: OpenReport::NoSpace,
        }),
        Err(error) => Err(error),
    }
}

/// Applies what the store does not have yet; what it has no space for it gets at another start.
fn bring_up(
    mut store: Box<dyn MetadataStore>,
    last: LogPosition,
    behind: Option<Vec<RecordChange>>,
) -> Result<Box<dyn MetadataStore>, StoreError> {
    let Some(changes) = behind else { return Ok(store) };
    let brought_up = store::guarded(|| {
        store.apply(last, &changes)?;
        store.flush()
    });
    match brought_up.map_err(sled_store::environment) {
        Ok(()) => Ok(store),
        Err(Ok(source)) if is_full(&source) => Ok(Box::new(Absent)),
        Err(Ok(source)) => Err(StoreError::Sync(source)),
        Err(Err(error)) => Err(error),
    }
}

fn decode(records: &told::Records) -> Result<BTreeMap<VhostName, Vec<Definition>>, OpenError> {
    let mut definitions: BTreeMap<VhostName, Vec<Definition>> = BTreeMap::new();
    for (key, value) in records {
        let (vhost, definition) = record::decode(key, value).map_err(OpenError::Definition)?;
        definitions.entry(vhost).or_default().push(definition);
    }
    Ok(definitions)
}

/// Tells a log that has just begun what there is. A crash in the middle leaves a log that has batches and not all
/// definitions; the store, which is of the position before the first of them, has the others.
fn write_all(log: &Log, records: &told::Records) {
    let mut batch = Batch::new();
    for (at, (key, value)) in records.iter().enumerate() {
        batch.push(&Record::Define { key, value: Some(value) });
        if (at + 1) % DEFINITIONS_PER_BATCH == 0 {
            log.append(&mut batch, false);
        }
    }
    log.append(&mut batch, true);
}

#[cfg(test)]
mod tests;
