//! Definitions in sled 0.34.
//!
//! One tree. A record is stored in pieces of at most 4,000 bytes under its key and the piece's number, because
//! sled keeps larger values in files that it never syncs. The first piece begins with the record's length and sum.
//! The state entry holds the format, the position, and the number and sum of all records; it changes in the same
//! atomic batch as the records, so that a store that lost or altered anything does not add up.
//!
//! Invariant: [`MetadataStore::flush`] returns after an `fdatasync` of sled's file through a descriptor of our own;
//! sled's own flush is no more than `sync_file_range`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sled::{Batch, Db};

use super::OpenError;
use super::checksum::{Checksum, checksum};
use super::copy;
use super::directory::DataDirectory;
use super::mark::Mark;
use super::record::{self, RecordChange};
use super::repair::{self, OpenReport};
use super::store::{MetadataStore, StoreError};
use crate::model::LogPosition;

/// The newest format this release reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;

/// Key of the state entry. Records begin with 1 and above.
const STATE_KEY: &[u8] = &[0];

/// Bytes of a record in one value.
const PIECE_BYTES: usize = 4000;

/// Length and sum, before the first piece of a record.
const HEADER_BYTES: usize = 12;

/// A metadata store in sled.
#[derive(Debug)]
pub struct SledStore {
    tree: Tree,
    mark: Mark,
    /// What was read when the store was opened, until somebody takes it.
    records: Vec<RecordChange>,
    /// The lock lives as long as the store.
    directory: Arc<DataDirectory>,
}

impl SledStore {
    /// Opens the store of a data directory, creates it if there never was one, and replaces it if it is damaged.
    ///
    /// # Errors
    /// If the format is newer than this release, or if the operating system is in the way.
    pub fn open(directory: Arc<DataDirectory>, cache_bytes: u64) -> Result<(Self, OpenReport), OpenError> {
        let (opened, mark, report) = repair::open(directory.path(), cache_bytes)?;
        Ok((Self { tree: opened.tree, mark, records: opened.records, directory }, report))
    }

    /// The records that the store held when it was opened, once.
    pub(super) fn take_records(&mut self) -> Vec<RecordChange> {
        mem::take(&mut self.records)
    }

    /// The position of the last change applied.
    pub(super) fn position(&self) -> LogPosition {
        self.tree.state.position
    }
}

impl MetadataStore for SledStore {
    fn apply(&mut self, position: LogPosition, changes: &[RecordChange]) -> Result<(), StoreError> {
        self.tree.apply(position, changes)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.tree.flush()?;
        self.mark.write(self.tree.state.position).map_err(StoreError::Sync)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let found = self.tree.read()?;
        let position = found.checked()?;
        copy::write(self.directory.path(), position, &found.intact).map_err(StoreError::Sync)
    }
}

/// The open sled database and what it says about itself.
#[derive(Debug)]
pub(super) struct Tree {
    db: Db,
    /// A second descriptor of sled's only data file, for `fdatasync`.
    file: File,
    state: State,
}

/// The state entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) position: LogPosition,
    /// How many records there are.
    records: u64,
    /// The sums of all records, added up.
    sum: u64,
}

/// What a tree holds, checked record by record.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// `None` if there is no readable state entry.
    pub(super) state: Option<State>,
    /// Records whose own sum is right, in order.
    pub(super) intact: Vec<RecordChange>,
    /// What the intact records add up to.
    totals: State,
    /// What the first record that is not intact has.
    fault: Option<String>,
}

/// How often, and how long apart, a store that is still locked is tried: two seconds in all.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Opens sled once its lock is free. The data directory's own lock has shown that no other process is there; sled
/// gives up a store that this process has closed only when its last background thread lets go.
#[expect(clippy::disallowed_methods, reason = "this is the start of the process or of a thread of its own")]
fn open_unlocked(config: &sled::Config) -> sled::Result<Db> {
    for _ in 1..LOCK_TRIES {
        match config.open() {
            // sled tells of a lock that is held by this kind and by no other sign.
            Err(sled::Error::Io(error)) if error.kind() == io::ErrorKind::Other => {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
    config.open()
}

impl Tree {
    /// Opens sled. It may panic on damaged files.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let db = open_unlocked(&config)?;
        let file = File::open(path.join("db")).map_err(StoreError::Sync)?;
        Ok(Self { db, file, state: State::default() })
    }

    /// The format in the state entry, if its sum is right. Every format keeps the entry's first four bytes and
    /// its sum at the end.
    pub(super) fn format(&self) -> Result<Option<u32>, StoreError> {
        let Some(entry) = self.db.get(STATE_KEY)? else { return Ok(None) };
        Ok(summed(&entry).and_then(|body| body.first_chunk()).map(|format| u32::from_be_bytes(*format)))
    }

    /// Reads and checks everything.
    pub(super) fn read(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        self.read_into(&mut found)?;
        Ok(found)
    }

    /// Like [`Tree::read`]; what was read before an error or a panic stays in `found`.
    pub(super) fn read_into(&self, found: &mut Found) -> Result<(), StoreError> {
        let mut open: Option<OpenRecord> = None;
        for entry in self.db.iter() {
            let (key, value) = entry?;
            if &*key == STATE_KEY {
                found.state = State::decode(&value);
                continue;
            }
            let Some((key, piece)) = key.split_last_chunk::<4>() else {
                found.fault("a key without a piece number");
                continue;
            };
            match (&mut open, u32::from_be_bytes(*piece)) {
                (open, 0) => {
                    let next = OpenRecord { key: key.to_vec(), bytes: value.to_vec(), pieces: 1 };
                    if let Some(complete) = open.replace(next) {
                        found.record(complete);
                    }
                }
                (Some(record), piece) if record.key == key && record.pieces == piece => {
                    record.bytes.extend_from_slice(&value);
                    record.pieces += 1;
                }
                _ => found.fault("a piece of a record without the one before"),
            }
        }
        if let Some(complete) = open {
            found.record(complete);
        }
        Ok(())
    }

    /// Takes the checked state as the one to go on from.
    pub(super) fn adopt(&mut self, state: State) {
        self.state = state;
    }

    /// Applies changes in one atomic batch.
    pub(super) fn apply(
        &mut self,
        position: LogPosition,
        changes: &[RecordChange],
    ) -> Result<(), StoreError> {
        // Only the last change of a record matters: the batch is atomic.
        let last: BTreeMap<&[u8], Option<&[u8]>> =
            changes.iter().map(|change| (&*change.key, change.value.as_deref())).collect();
        let mut batch = Batch::default();
        let mut state = State { position, ..self.state };
        for (key, value) in last {
            self.remove(key, &mut state, &mut batch)?;
            if let Some(value) = value {
                insert(key, value, &mut state, &mut batch);
            }
        }
        batch.insert(STATE_KEY, state.encode());
        self.db.apply_batch(batch)?;
        self.state = state;
        Ok(())
    }

    fn remove(&self, key: &[u8], state: &mut State, batch: &mut Batch) -> Result<(), StoreError> {
        let Some(first) = self.db.get(piece_key(key, 0))? else { return Ok(()) };
        let (length, sum) = header(&first).ok_or_else(|| {
            StoreError::Damaged("a record without a header was found while writing".to_owned())
        })?;
        for piece in 0..pieces(length) {
            batch.remove(piece_key(key, piece));
        }
        state.records = state.records.wrapping_sub(1);
        state.sum = state.sum.wrapping_sub(sum);
        Ok(())
    }

    /// Makes everything applied durable.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        self.file.sync_data().map_err(StoreError::Sync)
    }
}

impl Found {
    /// The position of the last change, if the store adds up.
    pub(super) fn checked(&self) -> Result<LogPosition, StoreError> {
        let damaged = |text: String| Err(StoreError::Damaged(text));
        if let Some(fault) = &self.fault {
            return damaged(fault.clone());
        }
        let Some(state) = self.state else {
            return damaged("its state entry is missing or unreadable".to_owned());
        };
        if (self.totals.records, self.totals.sum) != (state.records, state.sum) {
            let (found, expected) = (self.totals.records, state.records);
            return damaged(format!("its {found} definitions are not the {expected} that were written"));
        }
        Ok(state.position)
    }

    fn fault(&mut self, text: impl Into<String>) {
        self.fault.get_or_insert_with(|| text.into());
    }

    fn record(&mut self, record: OpenRecord) {
        let Some((length, sum)) = header(&record.bytes) else {
            return self.fault("a record without a header");
        };
        let value = &record.bytes[HEADER_BYTES..];
        if value.len() != length || record_sum(&record.key, value) != sum {
            return self.fault("a record that is not what was written");
        }
        match record::decode(&record.key, value) {
            Ok(_) => {
                self.totals.records += 1;
                self.totals.sum = self.totals.sum.wrapping_add(sum);
                self.intact.push(RecordChange { value: Some(value.to_vec()), key: record.key });
            }
            Err(error) => self.fault(error.to_string()),
        }
    }
}

/// A record whose pieces are being read.
struct OpenRecord {
    key: Vec<u8>,
    bytes: Vec<u8>,
    pieces: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { position: LogPosition::START, records: 0, sum: 0 }
    }
}

impl State {
    fn encode(self) -> Vec<u8> {
        let mut entry = FORMAT.to_be_bytes().to_vec();
        for field in [self.position.0, self.records, self.sum] {
            entry.extend_from_slice(&field.to_be_bytes());
        }
        entry.extend_from_slice(&checksum(&entry).to_be_bytes());
        entry
    }

    fn decode(entry: &[u8]) -> Option<Self> {
        let body = summed(entry)?.strip_prefix(&FORMAT.to_be_bytes())?;
        let (fields, []) = body.as_chunks::<8>() else { return None };
        let &[position, records, sum] = fields else { return None };
        let [position, records, sum] = [position, records, sum].map(u64::from_be_bytes);
        Some(Self { position: LogPosition(position), records, sum })
    }
}

/// What stands before the sum at the end, if the sum is right.
fn summed(entry: &[u8]) -> Option<&[u8]> {
    let (body, sum) = entry.split_last_chunk::<8>()?;
    (checksum(body) == u64::from_be_bytes(*sum)).then_some(body)
}

fn insert(key: &[u8], value: &[u8], state: &mut State, batch: &mut Batch) {
    let sum = record_sum(key, value);
    let length =
        u32::try_from(value.len()).expect("a definition came from a frame or the configuration: below 4 GiB");
    let mut stored = Vec::with_capacity(HEADER_BYTES + value.len());
    stored.extend_from_slice(&length.to_be_bytes());
    stored.extend_from_slice(&sum.to_be_bytes());
    stored.extend_from_slice(value);
    for (piece, bytes) in (0u32..).zip(stored.chunks(PIECE_BYTES)) {
        batch.insert(piece_key(key, piece), bytes);
    }
    state.records = state.records.wrapping_add(1);
    state.sum = state.sum.wrapping_add(sum);
}

/// Length and sum of a record, from its first piece.
fn header(first_piece: &[u8]) -> Option<(usize, u64)> {
    let (length, rest) = first_piece.split_first_chunk()?;
    let sum = rest.first_chunk()?;
    Some((usize::try_from(u32::from_be_bytes(*length)).ok()?, u64::from_be_bytes(*sum)))
}

/// How many pieces a record of this length has.
fn pieces(length: usize) -> u32 {
    u32::try_from((HEADER_BYTES + length).div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX)
}

fn piece_key(key: &[u8], piece: u32) -> Vec<u8> {
    [key, &piece.to_be_bytes()].concat()
}

fn record_sum(key: &[u8], value: &[u8]) -> u64 {
    Checksum::new().part(key).part(value).finish()
}

/// Whether an error of opening or reading says something about the machine rather than about the contents.
pub(super) fn environment(error: StoreError) -> Result<io::Error, StoreError> {
    const EIO: i32 = 5;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let of_machine = |error: &io::Error| {
        use io::ErrorKind::{OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        matches!(
            error.kind(),
            PermissionDenied | StorageFull | ReadOnlyFilesystem | QuotaExceeded | OutOfMemory
        ) || matches!(error.raw_os_error(), Some(EIO | EMFILE | ENFILE))
    };
    match error {
        StoreError::Sync(source) => Ok(source),
        StoreError::Sled(sled::Error::Io(source)) if of_machine(&source) => Ok(source),
        other => Err(other),
    }
}
