//! Tells when the content of the configuration file changes.
//!
//! Invariant: every lasting change of the content is told once, whether the file was written in place,
//! replaced by a rename (editors) or reached over a swapped symlink (mounted volumes); an event that leaves
//! the bytes as they were is not told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// The content must be the same twice, this long apart, before it is told.
const QUIET: Duration = Duration::from_millis(200);

/// Why a file cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system refuses to watch.
    #[error("cannot watch {}: {error}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: notify::Error,
    },
    /// No thread for it.
    #[error("cannot start a thread that watches the configuration: {0}")]
    Thread(#[from] io::Error),
}

/// What wakes the watching thread.
enum Wake {
    /// Something happened beside the file.
    Changed,
    /// The [`Watch`] is gone.
    Stop,
}

/// Watches for as long as it lives.
#[derive(Debug)]
pub struct Watch {
    wake: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Calls `on_change` with the file's content whenever it has become another than before; `seen` is the
    /// content that is in force, so that an edit made since it was read is told too.
    ///
    /// The calls come from one thread of their own, one at a time. A file that is missing for a while is no
    /// change.
    ///
    /// Dropping the watch waits for a call that is under way, so `on_change` must not drop it.
    ///
    /// # Errors
    /// If the file's directory cannot be watched.
    pub fn start(
        path: &Path,
        seen: &[u8],
        on_change: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let (wake, woken) = channel();
        let events = wake.clone();
        let watcher = notify::recommended_watcher(move |event| {
            if matters(&event) {
                // The receiver is gone only when the watch is being dropped, and then nobody listens.
                events.send(Wake::Changed).ok();
            }
        });
        let refused = |error| WatchError::Refused { path: path.to_path_buf(), error };
        let directories = Directories::new(path.to_path_buf(), watcher.map_err(refused)?).map_err(refused)?;
        let changes = Changes { directories, woken, seen: seen.to_vec() };
        let thread =
            thread::Builder::new().name("config-watch".into()).spawn(move || changes.tell(on_change))?;
        Ok(Self { wake, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A thread that has gone already has nothing left to stop.
        self.wake.send(Wake::Stop).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Reading is no change, and would be heard of after every reading of our own.
fn matters(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(Event { kind: EventKind::Access(AccessKind::Close(AccessMode::Write)), .. }) => true,
        Ok(Event { kind: EventKind::Access(_), .. }) => false,
        Ok(_) | Err(_) => true,
    }
}

/// The directories in which an edit of the file can show.
struct Directories {
    file: PathBuf,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl Directories {
    fn new(file: PathBuf, watcher: RecommendedWatcher) -> notify::Result<Self> {
        let mut directories = Self { file, watcher, watched: BTreeSet::new() };
        let own = directory_of(&directories.file);
        directories.watcher.watch(&own, RecursiveMode::NonRecursive)?;
        directories.watched.insert(own);
        directories.follow();
        Ok(directories)
    }

    /// Watches also where the file's symlink leads, which is another place after every swap.
    fn follow(&mut self) {
        let own = directory_of(&self.file);
        let target = fs::canonicalize(&self.file).ok().map(|target| directory_of(&target));
        let wanted: BTreeSet<PathBuf> = [Some(own), target].into_iter().flatten().collect();
        for left in self.watched.difference(&wanted) {
            // A directory that was removed is watched no longer anyway.
            self.watcher.unwatch(left).ok();
        }
        let watcher = &mut self.watcher;
        let old = std::mem::take(&mut self.watched);
        let watches = |directory: &PathBuf| {
            old.contains(directory) || watcher.watch(directory, RecursiveMode::NonRecursive).is_ok()
        };
        self.watched = wanted.into_iter().filter(watches).collect();
    }
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// The [`Watch`] is gone.
struct Stopped;

/// The watching thread.
struct Changes {
    directories: Directories,
    woken: Receiver<Wake>,
    seen: Vec<u8>,
}

impl Changes {
    fn tell(mut self, mut on_change: impl FnMut(&[u8])) {
        loop {
            let Ok(settled) = self.settled() else { return };
            if let Some(content) = settled.filter(|content| *content != self.seen) {
                self.seen = content;
                on_change(&self.seen);
            }
            if !matches!(self.woken.recv(), Ok(Wake::Changed)) {
                return;
            }
        }
    }

    /// The file's content once it stays as it is, so that a file that is being written to is not taken for
    /// a short one. `None` if there is no file.
    fn settled(&mut self) -> Result<Option<Vec<u8>>, Stopped> {
        let mut before = self.read();
        while before.as_ref() != Some(&self.seen) {
            self.rest()?;
            let after = self.read();
            if after == before {
                break;
            }
            before = after;
        }
        Ok(before)
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        self.directories.follow();
        fs::read(&self.directories.file).ok()
    }

    /// Lets [`QUIET`] pass; what happens meanwhile shows when the file is read again.
    #[expect(clippy::disallowed_methods, reason = "a thread of its own that waits for real files")]
    fn rest(&self) -> Result<(), Stopped> {
        let end = Instant::now() + QUIET;
        loop {
            match self.woken.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Wake::Changed) if Instant::now() < end => {}
                Ok(Wake::Changed) | Err(RecvTimeoutError::Timeout) => return Ok(()),
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return Err(Stopped),
            }
        }
    }
}
