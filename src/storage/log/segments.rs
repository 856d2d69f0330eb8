//! The files of the log: segments, and spare ones that were segments.
//!
//! A segment gets its name only when its header is durable, so that a segment without one is damage. Of two spare
//! files the larger one becomes the next segment and the other one is the reserve; the next one is recycled or written
//! in the background ([`super::zeroing`]). Invariant: segments disappear oldest first, each durably before the next, so
//! that no ack outlives its message's absence the wrong way round: what is gone is always the beginning of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::file_system::{FileSystem, LogFile};
use super::format::{HEADER_BYTES, SegmentHeader};
use super::zeroing::{Spare, Zeroer, Zeroing};
use super::{LogOptions, SegmentNumber};
use crate::storage::directory::is_full;

/// What a segment's file is called behind its number.
const SEGMENT: &str = ".log";
/// What a spare file is called behind a number that means nothing.
const SPARE: &str = ".spare";
/// What a file is called behind a segment's number before it has that segment's header.
const UNNAMED: &str = ".new";
/// Spare files that are kept. Writing over a file's old bytes needs no metadata to be synced with them, and the last
/// one is the reserve for a full disk: acks have to be written before anything can be retired.
const MAX_SPARES: usize = 2;
/// Bytes of the reserve that are written at a time.
const RESERVE_PIECE: usize = 256 << 10;

/// Why something cannot be written.
#[derive(Debug, Error)]
pub(super) enum WriteError {
    /// There is no space for it. It may be tried again.
    #[error("{0}")]
    Full(io::Error),
    /// What is on the disk is not known any more.
    #[error("cannot {action}: {source}")]
    Fatal {
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl WriteError {
    pub(super) fn new(action: &'static str, source: io::Error) -> Self {
        if is_full(&source) { Self::Full(source) } else { Self::Fatal { action, source } }
    }

    /// After a failed sync nobody knows what is on the disk, for whatever reason it failed.
    pub(super) fn sync(source: io::Error) -> Self {
        Self::Fatal { action: "sync the message log", source }
    }
}

/// The name of a segment's file.
pub(super) fn segment_name(number: SegmentNumber) -> String {
    format!("{number}{SEGMENT}")
}

/// The name under which a segment's file is written before it is one.
pub(super) fn unnamed_name(number: SegmentNumber) -> String {
    format!("{number}{UNNAMED}")
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Segment(SegmentNumber),
    /// A spare file, or one that did not become a segment.
    Spare,
    Foreign,
}

impl FileKind {
    pub(super) fn of(name: &str) -> Self {
        let number = |text: &str| text.parse().ok().map(SegmentNumber);
        if let Some(number) = name.strip_suffix(SEGMENT).and_then(number)
            && segment_name(number) == name
        {
            return Self::Segment(number);
        }
        let spare = name.strip_suffix(SPARE).or_else(|| name.strip_suffix(UNNAMED));
        if spare.and_then(number).is_some() { Self::Spare } else { Self::Foreign }
    }
}

/// All files of the log.
pub(super) struct SegmentFiles {
    file_system: Arc<dyn FileSystem>,
    /// Segments and their bytes.
    segments: BTreeMap<SegmentNumber, u64>,
    /// Segments with damage: evidence, and perhaps a bad place of the disk. Not to be written again.
    unfit: BTreeSet<SegmentNumber>,
    spares: Vec<Spare>,
    zeroing: Arc<Zeroing>,
    /// The name of the spare file that is being written.
    ordered: Option<String>,
    max_spare_bytes: u64,
    reserve_bytes: u64,
    /// The disk was full and the reserve was given up for it.
    starved: bool,
}

impl SegmentFiles {
    pub(super) fn new(file_system: Arc<dyn FileSystem>, options: &LogOptions) -> Self {
        Self {
            file_system,
            segments: BTreeMap::new(),
            unfit: BTreeSet::new(),
            spares: Vec::new(),
            zeroing: Arc::new(Zeroing::new()),
            ordered: None,
            max_spare_bytes: options.segment_bytes_max.saturating_mul(2),
            reserve_bytes: options.segment_bytes_min,
            starved: false,
        }
    }

    /// What writes spare files in the background, and how it is ended.
    pub(super) fn zeroer(&self) -> (Zeroer, Arc<Zeroing>) {
        (Zeroer::new(Arc::clone(&self.file_system), Arc::clone(&self.zeroing)), Arc::clone(&self.zeroing))
    }

    /// Has a spare file written for a segment of so many bytes, if one is missing and there is space.
    pub(super) fn order(&mut self, bytes: u64) {
        if self.ordered.is_none() && self.spares.len() < MAX_SPARES && !self.starved {
            let name = self.spare_name();
            self.ordered = Some(name.clone());
            self.zeroing.place(Spare { name, bytes });
        }
    }

    /// Takes over what was written in the background since.
    pub(super) fn collect(&mut self) -> Result<(), WriteError> {
        let Some(outcome) = self.ordered.as_ref().and_then(|_| self.zeroing.collect()) else { return Ok(()) };
        self.ordered = None;
        let failed = |source| WriteError::Fatal { action: "write a spare file of the message log", source };
        match outcome.map_err(failed)? {
            Some(spare) if self.spares.len() < MAX_SPARES => self.spares.push(spare),
            Some(spare) => self.file_system.unlink(&spare.name).map_err(failed)?,
            None => {}
        }
        Ok(())
    }

    /// Whether the disk was full and there is no reserve since.
    pub(super) fn starved(&self) -> bool {
        self.starved
    }

    /// Makes spare files of written zeros until there are so many. Without space there are fewer.
    fn make_spares(&mut self, count: usize) -> io::Result<()> {
        while self.spares.len() < count {
            let name = self.spare_name();
            match self.fill_spare(&name) {
                Ok(()) => self.spares.push(Spare { name, bytes: self.reserve_bytes }),
                Err(error) if is_full(&error) => {
                    // What was written of it is needed more urgently. If it cannot be removed it is emptied next time.
                    let _ = self.file_system.unlink(&name);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Prepares the first segment and the reserve, so that the first syncs after a start are as quick as later ones.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.make_spares(MAX_SPARES)
    }

    /// Makes a reserve again, if there is space.
    pub(super) fn make_reserve(&mut self) -> io::Result<()> {
        self.make_spares(1)?;
        self.starved = self.spares.is_empty();
        Ok(())
    }

    /// A name that no spare file has.
    fn spare_name(&self) -> String {
        let names = (0..).map(|number| format!("{}{SPARE}", SegmentNumber(number)));
        let taken = |name: &String| self.ordered.as_ref() == Some(name);
        let is_free = |name: &String| !taken(name) && self.spares.iter().all(|spare| spare.name != *name);
        names.into_iter().find(is_free).expect("there are more numbers than spare files")
    }

    fn fill_spare(&self, name: &str) -> io::Result<()> {
        let file = self.file_system.create(name)?;
        let zeros = vec![0; RESERVE_PIECE];
        let mut at = 0;
        while at < self.reserve_bytes {
            let rest = usize::try_from(self.reserve_bytes - at)
                .map_or(RESERVE_PIECE, |rest| rest.min(RESERVE_PIECE));
            file.write_all_at(&zeros[..rest], at)?;
            at += rest as u64;
        }
        file.sync()
    }

    /// Gives up a spare file for the sake of what could not be written. Says whether there was one.
    pub(super) fn give_up_spare(&mut self) -> bool {
        self.starved = true;
        self.zeroing.cancel();
        self.largest_spare().is_some_and(|spare| self.file_system.unlink(&spare.name).is_ok())
    }

    fn largest_spare(&mut self) -> Option<Spare> {
        let (at, _) = self.spares.iter().enumerate().max_by_key(|(_, spare)| spare.bytes)?;
        Some(self.spares.swap_remove(at))
    }

    /// Whether a file of so many bytes can be a spare one: a reserve has to be one, and none is worth keeping for ever.
    fn is_reusable(&self, bytes: u64) -> bool {
        (self.reserve_bytes..=self.max_spare_bytes).contains(&bytes)
    }

    /// Takes over a segment that recovery found.
    pub(super) fn found(&mut self, number: SegmentNumber, bytes: u64, damaged: bool) {
        self.segments.insert(number, bytes);
        if damaged {
            self.unfit.insert(number);
        }
    }

    /// Takes over a spare file, or removes it if there are enough or it is none yet.
    pub(super) fn found_spare(&mut self, name: String, bytes: u64) -> io::Result<()> {
        let usable = name.ends_with(SPARE) && self.is_reusable(bytes);
        if usable && self.spares.len() < MAX_SPARES {
            self.spares.push(Spare { name, bytes });
            return Ok(());
        }
        self.file_system.unlink(&name)
    }

    /// Creates a segment, from a spare file if there is one besides the reserve, or if there is no space for a new
    /// one. If there is no space at all, nothing has changed that trying again would stumble over.
    pub(super) fn create(&mut self, header: &SegmentHeader) -> Result<Box<dyn LogFile>, WriteError> {
        let fresh = Spare { name: unnamed_name(header.number), bytes: 0 };
        if self.spares.len() < MAX_SPARES {
            match self.name(&fresh, header) {
                Err(WriteError::Full(error)) => {
                    self.starved = true;
                    self.zeroing.cancel();
                    let _ = self.file_system.unlink(&fresh.name);
                    if self.spares.is_empty() {
                        return Err(WriteError::Full(error));
                    }
                }
                done => return done,
            }
        }
        let Some(spare) = self.largest_spare() else { return self.name(&fresh, header) };
        let named = self.name(&spare, header);
        if named.is_err() {
            self.spares.push(spare);
        }
        named
    }

    /// Makes a file a segment: its header first, its name when that is durable.
    fn name(&mut self, spare: &Spare, header: &SegmentHeader) -> Result<Box<dyn LogFile>, WriteError> {
        let files = &self.file_system;
        let file = if spare.bytes == 0 { files.create(&spare.name) } else { files.open(&spare.name) };
        let file = file.map_err(|error| WriteError::new("create a segment", error))?;
        let written = file.write_all_at(&header.encode(), 0);
        written.map_err(|error| WriteError::new("write a segment's header", error))?;
        file.sync().map_err(WriteError::sync)?;
        let renamed = files.rename(&spare.name, &segment_name(header.number));
        renamed.map_err(|error| WriteError::new("name a segment", error))?;
        files.sync_directory().map_err(WriteError::sync)?;
        self.segments.insert(header.number, spare.bytes.max(HEADER_BYTES as u64));
        Ok(file)
    }

    /// Notes that a segment was written up to an offset.
    pub(super) fn written(&mut self, number: SegmentNumber, end: u64) {
        if let Some(bytes) = self.segments.get_mut(&number) {
            *bytes = (*bytes).max(end);
        }
    }

    /// Removes the segments below a number, or makes them spare. The newest one stays: it says at which position,
    /// number and epoch the log goes on.
    pub(super) fn retire(&mut self, below: SegmentNumber) -> Result<(), WriteError> {
        while let Some((&number, &bytes)) = self.segments.first_key_value()
            && number < below
            && self.segments.len() > 1
        {
            let name = segment_name(number);
            let reusable = !self.unfit.contains(&number) && self.is_reusable(bytes);
            if reusable && self.spares.len() < MAX_SPARES {
                let spare = self.spare_name();
                self.file_system
                    .rename(&name, &spare)
                    .map_err(|error| WriteError::new("rename a retired segment", error))?;
                self.spares.push(Spare { name: spare, bytes });
                if self.spares.len() == MAX_SPARES {
                    self.zeroing.cancel();
                }
            } else {
                self.file_system
                    .unlink(&name)
                    .map_err(|error| WriteError::new("remove a retired segment", error))?;
            }
            self.segments.remove(&number);
            self.unfit.remove(&number);
            self.file_system.sync_directory().map_err(WriteError::sync)?;
        }
        Ok(())
    }

    /// How many segments there are, the bytes of all files, and the oldest segment.
    pub(super) fn usage(&self) -> (usize, u64, Option<SegmentNumber>) {
        let spare: u64 = self.spares.iter().map(|spare| spare.bytes).sum();
        let bytes = self.segments.values().sum::<u64>() + spare;
        (self.segments.len(), bytes, self.segments.keys().next().copied())
    }
}
