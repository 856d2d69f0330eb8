//! The thread that makes definitions durable, in groups.
//!
//! In: changes, in the order of their vhosts' turns. Out: the durable position. Whatever gathers during a sync is
//! the next batch, so that a hundred thousand declares cost a few syncs and a single one waits for one.
//!
//! Invariant: positions ascend in the order of [`DefinitionWriter::append`]; a published position is durable with
//! everything before it; after the first error none is published.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::record::RecordChange;
use super::store::{MetadataStore, StoreError, guarded};
use crate::model::{DefinitionChange, LogPosition, VhostName};

/// Why definitions cannot be made durable any more, for people.
pub type FailureText = Arc<str>;

/// Takes changes of definitions. Dropping it is [`DefinitionWriter::shutdown`].
pub struct DefinitionWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    durable: watch::Receiver<LogPosition>,
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
    /// The position of the last change appended.
    last: LogPosition,
    closing: bool,
    /// Changes are dropped: the store failed.
    failed: bool,
}

impl Pending {
    fn takes_changes(&self) -> bool {
        !self.failed && !self.closing
    }
}

/// What the thread tells the others.
struct Published {
    durable: watch::Sender<LogPosition>,
    failed: watch::Sender<Option<FailureText>>,
}

impl DefinitionWriter {
    /// Starts the thread `definitions` on a store whose last change has this position.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(
        store: Box<dyn MetadataStore>,
        position: LogPosition,
        max_pending_bytes: usize,
    ) -> io::Result<Self> {
        let pending =
            Pending { changes: Vec::new(), bytes: 0, last: position, closing: false, failed: false };
        let shared = Arc::new(Shared { pending: Mutex::new(pending), work: Condvar::new() });
        let (durable_sender, durable) = watch::channel(position);
        let (failed_sender, failed) = watch::channel(None);
        let published = Published { durable: durable_sender, failed: failed_sender };
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("definitions".to_owned())
            .spawn(move || write(&of_thread, store, &published))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), durable, failed, max_pending_bytes })
    }

    /// Appends the changes of one vhost's turn, to be applied together, and returns the position that is durable
    /// when they are. To be called while the vhost is locked. Without changes, the position of everything
    /// appended before: what a reply waits for that confirms something already there.
    ///
    /// Takes about a microsecond per change and never waits for the disk: who appends looks at
    /// [`DefinitionWriter::is_full`] before it asks for more. After a failure or [`DefinitionWriter::shutdown`]
    /// changes are dropped and their positions never published.
    #[must_use = "replies about these changes wait for the position"]
    pub fn append(&self, vhost: &VhostName, changes: &[DefinitionChange]) -> LogPosition {
        let records: Vec<_> = changes.iter().map(|change| RecordChange::new(vhost, change)).collect();
        let bytes = records.iter().map(RecordChange::size).sum::<usize>();
        let mut pending = self.shared.pending.lock();
        if records.is_empty() {
            return pending.last;
        }
        pending.last = LogPosition(pending.last.0 + 1);
        if pending.takes_changes() {
            pending.changes.extend(records);
            pending.bytes += bytes;
            self.shared.work.notify_one();
        }
        pending.last
    }

    /// Whether so many bytes are pending that nothing should be appended before what was appended is durable.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.pending.lock().bytes >= self.max_pending_bytes
    }

    /// The durable position, now and from here on.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<LogPosition> {
        self.durable.clone()
    }

    /// Becomes `Some` when nothing can be made durable any more. That is final: the process has to be restarted.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<FailureText>> {
        self.failed.clone()
    }

    /// Makes everything appended durable and ends the thread. What is appended later is dropped.
    ///
    /// # Errors
    /// The failure, if not everything appended is durable.
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
            .field("durable", &*self.durable.borrow())
            .field("failed", &*self.failed.borrow())
            .finish_non_exhaustive()
    }
}

/// The thread: batch after batch, until the writer closes or the store fails.
fn write(shared: &Shared, mut store: Box<dyn MetadataStore>, published: &Published) {
    let mut failed = false;
    while let Some((position, changes)) = next_batch(shared) {
        let written = guarded(|| {
            store.apply(position, &changes)?;
            store.flush()
        });
        match written {
            Ok(()) => {
                published.durable.send_replace(position);
            }
            Err(error) => {
                fail(shared, published, &error);
                failed = true;
                break;
            }
        }
    }
    if !failed && let Err(error) = guarded(|| store.close()) {
        fail(shared, published, &error);
    }
    // sled flushes when it is dropped, which may panic as well. Everything published is durable already.
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

fn fail(shared: &Shared, published: &Published, error: &StoreError) {
    let mut pending = shared.pending.lock();
    pending.failed = true;
    pending.changes = Vec::new();
    pending.bytes = 0;
    drop(pending);
    published.failed.send_replace(Some(error.to_string().into()));
}

#[cfg(test)]
mod tests;
