//! How far the recovery of the message log is, for whoever waits for the start.
//!
//! Invariant: a recovery that takes less than [`EVERY`] says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::storage::log::SegmentNumber;

/// Time between two lines, and before the first one.
const EVERY: Duration = Duration::from_secs(2);
/// Records between two looks at the clock, which takes longer than a small record does.
const RECORDS_PER_LOOK: u32 = 64;

/// What is being recovered, and when to speak of it next.
#[derive(Debug)]
pub(super) struct Progress {
    sizes: BTreeMap<SegmentNumber, u64>,
    records: u32,
    next: Duration,
}

impl Progress {
    /// A recovery that begins, of segments of these sizes in bytes.
    pub(super) fn new(sizes: BTreeMap<SegmentNumber, u64>) -> Self {
        Self { sizes, records: 0, next: EVERY }
    }

    /// Notes a record. The line to log, if one is due; `elapsed` is the time since the beginning.
    pub(super) fn record(
        &mut self,
        segment: SegmentNumber,
        elapsed: impl FnOnce() -> Duration,
    ) -> Option<String> {
        self.records = (self.records + 1) % RECORDS_PER_LOOK;
        if self.records != 0 {
            return None;
        }
        let elapsed = elapsed();
        if elapsed < self.next {
            return None;
        }
        self.next = elapsed + EVERY;
        Some(self.line(segment))
    }

    fn line(&self, segment: SegmentNumber) -> String {
        let behind: u64 = self.sizes.range(..segment).map(|(_, bytes)| bytes).sum();
        let all: u64 = self.sizes.values().sum();
        let (place, count) = (self.sizes.range(..=segment).count(), self.sizes.len());
        // Of nothing nothing is recovered, so that the other value is never seen.
        let percent = (behind.saturating_mul(100)).checked_div(all).unwrap_or(0);
        format!("recovering the message log: segment {place} of {count}, {percent} % done")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        let sizes = [(4, 100), (5, 300), (7, 600)];
        Progress::new(sizes.map(|(number, bytes)| (SegmentNumber(number), bytes)).into())
    }

    /// Notes as many records as lie between two looks at the clock.
    fn records(progress: &mut Progress, segment: u64, seconds: f64) -> Vec<String> {
        let elapsed = Duration::from_secs_f64(seconds);
        (0..RECORDS_PER_LOOK).filter_map(|_| progress.record(SegmentNumber(segment), || elapsed)).collect()
    }

    #[test]
    fn a_quick_recovery_says_nothing() {
        let mut progress = progress();
        for (segment, seconds) in [(4, 0.0), (5, 1.0), (7, 1.9)] {
            assert!(records(&mut progress, segment, seconds).is_empty());
        }
    }

    #[test]
    fn a_slow_one_tells_every_two_seconds_how_far_it_is() {
        let mut progress = progress();
        let line = |rest: &str| vec![format!("recovering the message log: segment {rest} done")];
        assert_eq!(records(&mut progress, 4, 2.0), line("1 of 3, 0 %"));
        assert!(records(&mut progress, 4, 3.9).is_empty());
        assert_eq!(records(&mut progress, 5, 4.0), line("2 of 3, 10 %"));
        assert_eq!(records(&mut progress, 7, 30.0), line("3 of 3, 40 %"));
        assert!(records(&mut progress, 7, 31.9).is_empty(), "what was not said in time is not said later");
    }

    #[test]
    fn the_clock_is_not_read_for_every_record() {
        let (mut progress, mut looks) = (progress(), 0);
        for _ in 0..10 * RECORDS_PER_LOOK {
            progress.record(SegmentNumber(4), || {
                looks += 1;
                Duration::ZERO
            });
        }
        assert_eq!(looks, 10);
    }
}
