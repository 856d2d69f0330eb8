//! Opening a store that may be missing, damaged, or half replaced.
//!
//! A new store is built beside the old one, made durable, and put in place by renaming; only then a mark exists.
//! So `metadata` is always a complete store, and being killed at any moment leads to the same end. A damaged store
//! is moved aside, never deleted; what is intact of it and of the copy goes into the new one.
//!
//! Invariant: without a mark nothing was ever promised; with one, a store that is missing, does not add up or is
//! older than the mark is damaged.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::OpenError;
use super::copy::{self, Copy};
use super::directory::{sync_directory, sync_files};
use super::mark::Mark;
use super::record::RecordChange;
use super::sled_store::{FORMAT, Found, Tree, environment};
use super::store::{StoreError, guarded};
use crate::model::LogPosition;

/// Names in the data directory.
const STORE: &str = "metadata";
const NEW_STORE: &str = "metadata.new";
const DAMAGED_STORE: &str = "metadata.damaged-";
const MARK: &str = "metadata.mark";

/// How the store was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenReport {
    /// There was none; it is new.
    Created,
    /// It holds what was written.
    Intact {
        /// How many definitions it holds.
        definitions: usize,
    },
    /// There is no space to open it: it stays as it is, and the log tells the definitions.
    NoSpace,
    /// It does not hold what was written. To be said loudly: definitions may be missing, and deleted ones may
    /// be back.
    Damaged(Damage),
}

/// What was done about a damaged store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What was wrong.
    pub cause: String,
    /// Where the damaged store is kept; `None` if there was nothing to keep.
    pub moved_to: Option<PathBuf>,
    /// Definitions that could be read, of the store or of the copy, and are in use.
    pub kept: usize,
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created an empty metadata store"),
            Self::NoSpace => f.write_str("no space to open the metadata store"),
            Self::Intact { definitions } => write!(f, "{definitions} definitions loaded"),
            Self::Damaged(Damage { cause, moved_to, kept }) => {
                write!(f, "METADATA DAMAGED: {cause}. {kept} definitions could be read and are in use")?;
                match moved_to {
                    Some(path) => write!(f, "; the damaged store is kept in '{}'", path.display()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A store that adds up.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) tree: Tree,
    /// The position of the last change.
    pub(super) position: LogPosition,
    /// What it holds.
    pub(super) records: Vec<RecordChange>,
}

/// What became of an attempt to open.
enum Attempt {
    Verified(Box<Verified>),
    Damaged { cause: StoreError, found: Box<Found> },
}

/// Opens the store of the data directory.
pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<(Verified, Mark, OpenReport), OpenError> {
    let store = directory.join(STORE);
    let mark_path = directory.join(MARK);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let marked = Mark::read(&mark_path).map_err(at(&mark_path))?;
    finish_replacement(directory, marked).map_err(at(directory))?;
    let copy = copy::read(directory).map_err(at(directory))?;
    let place = Place { directory, cache_bytes };

    let (verified, report) = if store.exists() {
        match attempt(&store, cache_bytes, marked)? {
            Attempt::Verified(verified) => {
                let definitions = verified.records.len();
                (*verified, OpenReport::Intact { definitions })
            }
            Attempt::Damaged { cause, found } => place.recover(&cause, *found, copy, marked)?,
        }
    } else if marked.is_some() || copy.is_some() {
        let missing = StoreError::Damaged("its directory is missing".to_owned());
        place.recover(&missing, Found::default(), copy, marked)?
    } else {
        place.replace(LogPosition::START, &[])?;
        (place.reopen(LogPosition::START)?, OpenReport::Created)
    };
    let position = verified.position;
    copy::write(directory, position, &verified.records).map_err(at(directory))?;
    let mark = Mark::create(&mark_path, position).map_err(at(&mark_path))?;
    sync_directory(directory).map_err(at(directory))?;
    Ok((verified, mark, report))
}

/// Completes a replacement that was interrupted between its two renames.
fn finish_replacement(directory: &Path, marked: Option<LogPosition>) -> io::Result<()> {
    let (store, new) = (directory.join(STORE), directory.join(NEW_STORE));
    // With a mark there was a store, so only the second rename is missing; without, the new one may be half built.
    if marked.is_some() && !store.exists() && new.exists() {
        fs::rename(new, store)?;
        sync_directory(directory)?;
    }
    Ok(())
}

/// Opens and checks a store. sled may panic on damaged files, in every step and when it is dropped.
fn attempt(store: &Path, cache_bytes: u64, marked: Option<LogPosition>) -> Result<Attempt, OpenError> {
    let io_error = |source| OpenError::Io { path: store.to_owned(), source };
    let mut found = Box::<Found>::default();
    let mut tree = match guarded(|| Tree::open(store, cache_bytes)) {
        Ok(tree) => tree,
        Err(error) => {
            return environment(error)
                .map_or_else(|cause| Ok(Attempt::Damaged { cause, found }), |source| Err(io_error(source)));
        }
    };
    if let Ok(Some(format)) = guarded(|| tree.format())
        && format > FORMAT
    {
        return Err(OpenError::NewerFormat { path: store.to_owned(), found: format, known: FORMAT });
    }
    let read = guarded(|| tree.read_into(&mut found));
    let state = found.state;
    let checked = read.and_then(|()| check(&mut found, marked));
    match checked {
        Ok(position) => {
            tree.adopt(state.unwrap_or_default());
            Ok(Attempt::Verified(Box::new(Verified { tree, position, records: found.intact })))
        }
        Err(error) => {
            // A panic while sled is dropped says nothing that is not known already.
            let _ = guarded(move || {
                drop(tree);
                Ok(())
            });
            environment(error)
                .map_or_else(|cause| Ok(Attempt::Damaged { cause, found }), |source| Err(io_error(source)))
        }
    }
}

fn check(found: &mut Found, marked: Option<LogPosition>) -> Result<LogPosition, StoreError> {
    let position = found.checked()?;
    match marked {
        Some(marked) if position < marked => Err(StoreError::Damaged(format!(
            "it ends at change {}, but change {} was durable",
            position.0, marked.0
        ))),
        _ => Ok(position),
    }
}

/// Where a store is put.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: &'a Path,
    cache_bytes: u64,
}

impl Place<'_> {
    /// Replaces a damaged or missing store by what can be read of it and of the copy.
    fn recover(
        self,
        cause: &StoreError,
        found: Found,
        copy: Option<Copy>,
        marked: Option<LogPosition>,
    ) -> Result<(Verified, OpenReport), OpenError> {
        let known =
            [found.state.map(|state| state.position), copy.as_ref().map(|copy| copy.position), marked];
        // Positions go on after the highest one that anybody may have seen.
        let position = known.into_iter().flatten().max().unwrap_or(LogPosition::START);
        let old = copy.map_or(Vec::new(), |copy| copy.records);
        let records: BTreeMap<_, _> =
            old.into_iter().chain(found.intact).map(|record| (record.key.clone(), record)).collect();
        let records: Vec<_> = records.into_values().collect();
        let moved_to = self.replace(position, &records)?;
        let damage = Damage { cause: cause.to_string(), moved_to, kept: records.len() };
        Ok((self.reopen(position)?, OpenReport::Damaged(damage)))
    }

    /// Opens a store that was just put in place.
    fn reopen(self, position: LogPosition) -> Result<Verified, OpenError> {
        let store = self.directory.join(STORE);
        match attempt(&store, self.cache_bytes, Some(position))? {
            Attempt::Verified(verified) => Ok(*verified),
            Attempt::Damaged { cause, .. } => {
                Err(OpenError::Unusable { path: store, cause: cause.to_string() })
            }
        }
    }

    /// Builds a store with these records and puts it in the place of the present one, which moves aside.
    /// Returns where to.
    fn replace(self, position: LogPosition, records: &[RecordChange]) -> Result<Option<PathBuf>, OpenError> {
        let (store, new) = (self.directory.join(STORE), self.directory.join(NEW_STORE));
        let io_error = |source| OpenError::Io { path: store.clone(), source };
        if new.exists() {
            fs::remove_dir_all(&new).map_err(io_error)?;
        }
        let built = guarded(|| {
            let mut tree = Tree::open(&new, self.cache_bytes)?;
            tree.apply(position, records)?;
            tree.flush()?;
            drop(tree);
            sync_files(&new).map_err(StoreError::Sync)
        });
        if let Err(error) = built {
            return Err(match environment(error) {
                Ok(source) => io_error(source),
                Err(cause) => OpenError::Unusable { path: new, cause: cause.to_string() },
            });
        }
        let moved_to =
            if store.exists() { Some(move_aside(self.directory).map_err(io_error)?) } else { None };
        fs::rename(&new, &store).map_err(io_error)?;
        sync_directory(self.directory).map_err(io_error)?;
        Ok(moved_to)
    }
}

/// Renames the present store to the first free `metadata.damaged-N`.
fn move_aside(directory: &Path) -> io::Result<PathBuf> {
    let free = (1u32..).map(|n| directory.join(format!("{DAMAGED_STORE}{n}"))).find(|path| !path.exists());
    let path = free.ok_or_else(|| io::Error::other("no free name for the damaged store"))?;
    fs::rename(directory.join(STORE), &path)?;
    Ok(path)
}
