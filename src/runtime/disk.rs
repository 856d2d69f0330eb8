//! The disk alarm: publishers are blocked while the log finds no space, or little is left.
//!
//! Invariant: the alarm changes at most once per crossing, and clears only when there is a tenth more than the limit.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use super::Broker;
use crate::storage::log::Space;

/// How often free space is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the disk under the log.
pub struct DiskOptions {
    /// Free bytes, and all bytes, of the file system that the log is on.
    pub look: Box<dyn Fn() -> io::Result<(u64, u64)> + Send + Sync>,
    /// Below this many free bytes publishers are blocked; a tenth of the file system at most.
    pub free_limit_bytes: u64,
}

impl fmt::Debug for DiskOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskOptions")
            .field("free_limit_bytes", &self.free_limit_bytes)
            .finish_non_exhaustive()
    }
}

/// Whether the disk is short of space.
#[derive(Debug)]
pub(super) struct Disk {
    options: DiskOptions,
    short: AtomicBool,
}

impl Disk {
    pub(super) fn new(options: DiskOptions) -> Self {
        Self { options, short: AtomicBool::new(false) }
    }

    /// Whether publishers must not be read.
    pub(super) fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// Looks at the disk. Says whether the alarm has changed.
    fn look(&self, space: Space) -> bool {
        let short = self.is_short();
        let (free, limit) = match (self.options.look)() {
            Ok((free, all)) => (free, self.options.free_limit_bytes.min(all / 10)),
            // Whoever cannot tell how much there is finds out by writing.
            Err(_) => (u64::MAX, 0),
        };
        let due = is_short(short, space, free, limit);
        if due == short {
            return false;
        }
        self.short.store(due, Ordering::Release);
        let (free, limit) = (free >> 20, limit >> 20);
        match (due, space) {
            (true, Space::Full) => {
                warn!("disk alarm: the disk is full; publishers are blocked until there is space again");
            }
            (true, Space::Ample) => warn!(
                "disk alarm: {free} MiB free, the limit is {limit} MiB; publishers are blocked until there is more"
            ),
            (false, _) => info!("disk alarm cleared: {free} MiB free; publishers go on"),
        }
        true
    }
}

fn is_short(short: bool, space: Space, free: u64, limit: u64) -> bool {
    let limit = if short { limit.saturating_add(limit / 10) } else { limit };
    space == Space::Full || free < limit
}

impl Broker {
    /// Watches the disk for as long as the broker runs.
    pub(super) async fn watch_disk(self) {
        let mut space = self.storage().log().space();
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            let known = *space.borrow_and_update();
            if self.disk().look(known) {
                self.ring_all();
            }
            tokio::select! {
                changed = space.changed() => if changed.is_err() { return },
                () = self.ledger().grown.notified() => {}
                _ = ticks.tick() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_rises_below_the_limit_and_clears_a_tenth_above() {
        for (short, space, free, expected) in [
            (false, Space::Ample, 1_000, false),
            (false, Space::Ample, 999, true),
            (true, Space::Ample, 1_099, true),
            (true, Space::Ample, 1_100, false),
            (false, Space::Full, 5_000, true),
            (true, Space::Full, 5_000, true),
        ] {
            assert_eq!(is_short(short, space, free, 1_000), expected, "{short} {space:?} {free}");
        }
    }

    #[test]
    fn a_small_file_system_keeps_a_tenth_free() {
        let disk = |free| {
            let look = Box::new(move || Ok((free, 1_000)));
            Disk::new(DiskOptions { look, free_limit_bytes: 1 << 30 })
        };
        assert!(disk(99).look(Space::Ample));
        assert!(!disk(100).look(Space::Ample));
        let blind = Box::new(|| Err(io::ErrorKind::Unsupported.into()));
        assert!(!Disk::new(DiskOptions { look: blind, free_limit_bytes: 1 << 30 }).look(Space::Ample));
    }
}
