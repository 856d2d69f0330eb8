//! Files of zeros, written ahead of need by a thread of their own.
//!
//! A sync of bytes that were written over others costs the device one write. Bytes that make a file longer cost the
//! file system's journal another, and reserved ones that were never written cost the same. So the next segment is
//! written once before it is needed, while nobody waits for it.
//!
//! Invariant: a file under way is nobody else's until its outcome has been collected, its name included. What is
//! left of one after a crash is a spare file that is too short, or none.

use std::io;
use std::mem;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::file_system::{FileSystem, LogFile};
use crate::storage::directory::is_full;

/// Bytes that are written and synced at a time: few enough that the log's own syncs do not queue up behind them. So
/// few in tests that power is cut between them.
const PIECE_BYTES: u64 = if cfg!(test) { 1000 } else { 1 << 20 };

/// A file that is none of the log's segments and may become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// What the writer asks for and what comes of it.
pub(super) struct Zeroing {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    order: Order,
    /// What is under way is not wanted any more.
    cancelled: bool,
    ended: bool,
}

enum Order {
    None,
    Placed(Spare),
    /// The file, or `None` if there was no space or it was cancelled: it is gone then.
    Finished(io::Result<Option<Spare>>),
}

impl Zeroing {
    pub(super) fn new() -> Self {
        let state = State { order: Order::None, cancelled: false, ended: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Asks for a file; the last one asked for has been collected.
    pub(super) fn place(&self, spare: Spare) {
        let mut state = self.state.lock();
        state.order = Order::Placed(spare);
        state.cancelled = false;
        self.changed.notify_one();
    }

    /// Gives up the file that is under way.
    pub(super) fn cancel(&self) {
        self.state.lock().cancelled = true;
    }

    /// What came of the order, once.
    pub(super) fn collect(&self) -> Option<io::Result<Option<Spare>>> {
        let mut state = self.state.lock();
        match mem::replace(&mut state.order, Order::None) {
            Order::Finished(outcome) => Some(outcome),
            other => {
                state.order = other;
                None
            }
        }
    }

    /// Ends the thread after the piece it is writing.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
    }

    /// Waits for an order. `false` says that no more will come.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.ended && !matches!(state.order, Order::Placed(_)) {
            self.changed.wait(&mut state);
        }
        !state.ended
    }

    /// The order and whether it is still wanted.
    fn order(&self) -> Option<(Spare, bool)> {
        let state = self.state.lock();
        match &state.order {
            Order::Placed(spare) if !state.ended => Some((spare.clone(), !state.cancelled)),
            _ => None,
        }
    }

    fn finish(&self, outcome: io::Result<Option<Spare>>) {
        self.state.lock().order = Order::Finished(outcome);
    }
}

/// What writes the files. Without the thread it is a plain machine whose every step a test can drive.
pub(super) struct Zeroer {
    file_system: Arc<dyn FileSystem>,
    zeroing: Arc<Zeroing>,
    /// The file under way and how far it is written.
    file: Option<(Box<dyn LogFile>, u64)>,
}

impl Zeroer {
    pub(super) fn new(file_system: Arc<dyn FileSystem>, zeroing: Arc<Zeroing>) -> Self {
        Self { file_system, zeroing, file: None }
    }

    /// The thread.
    pub(super) fn run(mut self) {
        while self.zeroing.wait() {
            while self.step() {}
        }
    }

    /// Writes a piece of what was ordered. Says whether there is more to do.
    pub(super) fn step(&mut self) -> bool {
        let Some((spare, wanted)) = self.zeroing.order() else { return false };
        let outcome = match wanted.then(|| self.piece(&spare)) {
            Some(Ok(false)) => return true,
            Some(Ok(true)) => Ok(Some(spare)),
            Some(Err(error)) if !is_full(&error) => Err(error),
            None | Some(Err(_)) => {
                self.file = None;
                self.discard(&spare.name)
            }
        };
        self.zeroing.finish(outcome);
        false
    }

    /// Removes a file that may not exist yet. If the full disk refuses even that, the next order of its name, or the
    /// next start, empties it.
    fn discard(&self, name: &str) -> io::Result<Option<Spare>> {
        match self.file_system.unlink(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && !is_full(&error) => Err(error),
            _ => Ok(None),
        }
    }

    /// Says whether the file is complete.
    fn piece(&mut self, spare: &Spare) -> io::Result<bool> {
        let (file, at) = match self.file.take() {
            Some(begun) => begun,
            None => (self.file_system.create(&spare.name)?, 0),
        };
        let end = spare.bytes.min(at + PIECE_BYTES);
        let zeros = usize::try_from(end - at).map_err(io::Error::other)?;
        file.write_all_at(&vec![0; zeros], at)?;
        file.sync()?;
        if end < spare.bytes {
            self.file = Some((file, end));
        }
        Ok(end == spare.bytes)
    }
}
