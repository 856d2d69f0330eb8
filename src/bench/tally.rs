//! What the threads of one run share: counts, the end, and the wish to stop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Interrupt;
use super::clock;
use super::error::{BenchError, Result};

/// How long a run publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// For so long.
    Time(Duration),
    /// So many messages of all publishers together.
    Messages(u64),
}

/// How long one publisher publishes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Allowance {
    Until(Instant),
    Messages(u64),
}

impl Allowance {
    /// How much of `wanted` may follow after `sent`; 0 is the end.
    pub(super) fn next(self, sent: u64, wanted: usize) -> usize {
        match self {
            Self::Until(end) => {
                if clock::now() < end {
                    wanted
                } else {
                    0
                }
            }
            Self::Messages(all) => usize::try_from(all.saturating_sub(sent)).unwrap_or(wanted).min(wanted),
        }
    }
}

impl Limit {
    /// The part of publisher `index` out of `publishers`, from `start` on.
    pub(super) fn part(self, index: u16, publishers: u16, start: Instant) -> Allowance {
        match self {
            Self::Time(time) => Allowance::Until(start + time),
            Self::Messages(all) => {
                let (index, publishers) = (u64::from(index), u64::from(publishers));
                Allowance::Messages(all / publishers + u64::from(index < all % publishers))
            }
        }
    }
}

/// Counts of one run.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) published: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) nacked: AtomicU64,
    /// Deliveries: with several queues more than was published.
    pub(super) consumed: AtomicU64,
    /// Nothing more is published, and every confirm is here.
    finished: AtomicBool,
    failed: AtomicBool,
    /// Why the broker has blocked publishers, if it has.
    blocked: Mutex<Option<String>>,
    interrupt: Interrupt,
    patience: Duration,
}

impl Tally {
    pub(super) fn new(interrupt: &Interrupt, patience: Duration) -> Self {
        Self {
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            nacked: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            blocked: Mutex::new(None),
            interrupt: interrupt.clone(),
            patience,
        }
    }

    /// # Errors
    /// If the run is to end early.
    #[inline]
    pub(super) fn go_on(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(BenchError::Stopped);
        }
        if self.interrupt.is_set() { Err(BenchError::Interrupted) } else { Ok(()) }
    }

    /// # Errors
    /// If the run is to end early, or nothing has moved since `last` for too long.
    pub(super) fn wait_on(&self, last: Instant, what: &str) -> Result<()> {
        self.go_on()?;
        if clock::now().duration_since(last) < self.patience {
            return Ok(());
        }
        let blocked = self.blocked();
        let why = blocked.map(|why| format!(" (publishers are blocked: {why})")).unwrap_or_default();
        Err(BenchError::Stalled { seconds: self.patience.as_secs(), what: format!("{what}{why}") })
    }

    /// Makes all threads of the run end.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// What is to arrive at least, once the run has finished: a refused message may be delivered all the same.
    pub(super) fn expected(&self) -> u64 {
        self.published.load(Ordering::Acquire).saturating_sub(self.nacked.load(Ordering::Acquire))
    }

    pub(super) fn blocked(&self) -> Option<String> {
        self.blocked.lock().ok()?.clone()
    }

    pub(super) fn set_blocked(&self, reason: Option<&str>) {
        if let Ok(mut blocked) = self.blocked.lock() {
            *blocked = reason.map(str::to_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let start = clock::now();
        let parts: Vec<u64> = (0..3)
            .map(|index| match Limit::Messages(11).part(index, 3, start) {
                Allowance::Messages(part) => part,
                Allowance::Until(_) => panic!("a number was asked for"),
            })
            .collect();
        assert_eq!(parts, [4, 4, 3]);
    }

    #[test]
    fn an_allowance_is_used_up() {
        let ten = Allowance::Messages(10);
        assert_eq!([ten.next(0, 4), ten.next(8, 4), ten.next(10, 4), ten.next(11, 4)], [4, 2, 0, 0]);
        assert_eq!(Allowance::Until(clock::now()).next(0, 4), 0);
    }

    #[test]
    fn a_failure_and_an_interrupt_end_a_run() {
        let interrupt = Interrupt::default();
        let tally = Tally::new(&interrupt, Duration::ZERO);
        assert!(tally.go_on().is_ok());
        tally.set_blocked(Some("low on memory"));
        let stalled = tally.wait_on(clock::now(), "confirms").unwrap_err().to_string();
        assert!(stalled.contains("confirms") && stalled.contains("low on memory"), "{stalled}");
        interrupt.set();
        assert!(matches!(tally.go_on(), Err(BenchError::Interrupted)));
        tally.fail();
        assert!(matches!(tally.go_on(), Err(BenchError::Stopped)));
    }
}
