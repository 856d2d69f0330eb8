//! Node-wide counters.
//!
//! Invariant: a counter only grows, and nobody touches one per message: rooms count in plain integers and fold
//! them in once per burst.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. Reading it orders nothing else.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds what a burst gathered.
    pub fn add(&self, amount: u64) {
        if amount != 0 {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the node has done since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections_opened: Counter,
    /// Connections that ended, for whatever reason.
    pub connections_closed: Counter,
    /// Connections that ended before `connection.open-ok`.
    pub handshake_failures: Counter,
    /// Connections that ended by a bug of ours.
    pub panics: Counter,
    /// Bytes read from sockets.
    pub bytes_in: Counter,
    /// Bytes written to sockets.
    pub bytes_out: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| counters.bytes_in.add(3)));
            }
        });
        assert_eq!(counters.bytes_in.get(), 12_000);
        assert_eq!(counters.bytes_out.get(), 0);
    }
}
