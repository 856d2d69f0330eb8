//! The thread that keeps the metadata store up with the log, in groups.
//!
//! In: changes of definitions, each with its position in the log. Whatever gathers while a group is being written is
//! the next one. Nobody waits for it: what is promised stands in the log.
//!
//! Invariant: changes are applied in the order of their positions and only once the log is durable up to them, so
//! that the store is never ahead of the log; after the first error nothing is applied any more.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::log::Appended;
use super::record::RecordChange;
use super::store::{MetadataStore, StoreError, guarded};
use crate::model::LogPosition;

/// Why something cannot be made durable any more, for people.
pub type FailureText = Arc<str>;

/// What the log has told so far.
pub(super) struct LogWatch {
    pub(super) durable: watch::Receiver<LogPosition>,
    pub(super) failed: watch::Receiver<Option<FailureText>>,
}

/// Takes changes of definitions. Dropping it is [`DefinitionWriter::shutdown`].
pub struct DefinitionWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    applied: watch::Receiver<LogPosition>,
    failed: watch::Receiver<Option<FailureText>>,
    max_pending_bytes: usize,
}

struct Shared {
    pending: Mutex<Pending>,
    /// Something is pending, or the writer closes.
    work: Condvar,
}

struct Pending {
    changes: Vec<RecordChange>,
    bytes: usize,
    /// The position of the last change.
    last: LogPosition,
    closing: bool,
    /// Changes are dropped: the store failed, or the log.
    failed: bool,
}

impl Pending {
    fn takes_changes(&self) -> bool {
        !self.failed && !self.closing
    }
}

/// What the thread tells the others.
struct Published {
    applied: watch::Sender<LogPosition>,
    failed: watch::Sender<Option<FailureText>>,
}

impl DefinitionWriter {
    /// Starts the thread `definitions` on a store whose last change has this position.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(super) fn start(
        store: Box<dyn MetadataStore>,
        position: LogPosition,
        max_pending_bytes: usize,
        log: LogWatch,
    ) -> io::Result<Self> {
        let pending =
            Pending { changes: Vec::new(), bytes: 0, last: position, closing: false, failed: false };
        let shared = Arc::new(Shared { pending: Mutex::new(pending), work: Condvar::new() });
        let (applied_sender, applied) = watch::channel(position);
        let (failed_sender, failed) = watch::channel(None);
        let published = Published { applied: applied_sender, failed: failed_sender };
        let waiting = Waiting { runtime: tokio::runtime::Builder::new_current_thread().build()?, log };
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("definitions".to_owned())
            .spawn(move || write(&of_thread, store, waiting, &published))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), applied, failed, max_pending_bytes })
    }

    /// Takes the changes of one turn, to be applied together once the batch that `append` appends to the log is
    /// durable. No other changes come between the two.
    ///
    /// Takes a microsecond and never waits for the disk: who appends looks at [`DefinitionWriter::is_full`] before it
    /// asks for more. After a failure or [`DefinitionWriter::shutdown`] changes are dropped.
    pub(super) fn follow(&self, changes: Vec<RecordChange>, append: impl FnOnce() -> Appended) -> Appended {
        let bytes = changes.iter().map(RecordChange::size).sum::<usize>();
        let mut pending = self.shared.pending.lock();
        let appended = append();
        pending.last = appended.position;
        if pending.takes_changes() {
            pending.changes.extend(changes);
            pending.bytes += bytes;
            self.shared.work.notify_one();
        }
        appended
    }

    /// Whether so many bytes are pending that nothing should be appended before what was appended is applied.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.pending.lock().bytes >= self.max_pending_bytes
    }

    /// Up to where the store has followed the log.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<LogPosition> {
        self.applied.clone()
    }

    /// Becomes `Some` when the store cannot be written any more. Nothing is lost by that: a restart finds in the log
    /// what the store does not have.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<FailureText>> {
        self.failed.clone()
    }

    /// Applies everything that the log has made durable and ends the thread. To be called when the log has ended:
    /// what is appended later is dropped.
    ///
    /// # Errors
    /// The failure of the store, if there was one.
    pub fn shutdown(&self) -> Result<(), FailureText> {
        self.shared.pending.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // The thread turns every panic of the store into a failure, which its owner reads from `failed`.
            let _ = thread.join();
        }
        let failure = self.failed.borrow().clone();
        failure.map_or(Ok(()), Err)
    }
}

impl Drop for DefinitionWriter {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure.
        let _ = self.shutdown();
    }
}

impl fmt::Debug for DefinitionWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefinitionWriter")
            .field("applied", &*self.applied.borrow())
            .field("failed", &*self.failed.borrow())
            .finish_non_exhaustive()
    }
}

/// How the thread waits for the log.
struct Waiting {
    runtime: Runtime,
    log: LogWatch,
}

impl Waiting {
    /// Whether the log has become durable up to a position, rather than ended before.
    fn wait(&mut self, position: LogPosition) -> bool {
        let LogWatch { durable, failed } = &mut self.log;
        self.runtime.block_on(async {
            tokio::select! {
                reached = durable.wait_for(|durable| *durable >= position) => reached.is_ok(),
                _ = failed.wait_for(Option::is_some) => false,
            }
        })
    }
}

/// The thread: group after group, until the writer closes, the store fails or the log does.
fn write(shared: &Shared, mut store: Box<dyn MetadataStore>, mut waiting: Waiting, published: &Published) {
    let mut complete = true;
    while let Some((position, changes)) = next_batch(shared) {
        if !waiting.wait(position) {
            drop_changes(shared);
            complete = false;
            break;
        }
        let written = guarded(|| {
            store.apply(position, &changes)?;
            store.flush()
        });
        match written {
            Ok(()) => {
                published.applied.send_replace(position);
            }
            Err(error) => {
                fail(shared, published, &error);
                complete = false;
                break;
            }
        }
    }
    if complete && let Err(error) = guarded(|| store.close()) {
        fail(shared, published, &error);
    }
    // sled flushes when it is dropped, which may panic as well. What is promised stands in the log.
    let _ = guarded(move || {
        drop(store);
        Ok(())
    });
}

/// Waits for changes and takes all of them. `None` when the writer closes and nothing is left.
fn next_batch(shared: &Shared) -> Option<(LogPosition, Vec<RecordChange>)> {
    let mut pending = shared.pending.lock();
    while pending.changes.is_empty() {
        if pending.closing {
            return None;
        }
        shared.work.wait(&mut pending);
    }
    pending.bytes = 0;
    Some((pending.last, mem::take(&mut pending.changes)))
}

fn drop_changes(shared: &Shared) {
    let mut pending = shared.pending.lock();
    pending.failed = true;
    pending.changes = Vec::new();
    pending.bytes = 0;
}

fn fail(shared: &Shared, published: &Published, error: &StoreError) {
    drop_changes(shared);
    published.failed.send_replace(Some(error.to_string().into()));
}

#[cfg(test)]
mod tests;
