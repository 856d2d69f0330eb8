//! The line on a terminal that says how far a run is.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::clock;
use super::figures::Unit;
use super::tally::Tally;

/// How often the line is written.
const EVERY: Duration = Duration::from_secs(1);

/// Whether there is a line, and who ends it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    done: Mutex<bool>,
    over: Condvar,
}

impl Progress {
    /// Rewrites the line every second until [`Self::end`].
    pub(super) fn show(&self, what: &str, tally: &Tally) {
        let start = clock::now();
        let mut before = (0, 0, Duration::ZERO);
        let Ok(mut done) = self.done.lock() else { return };
        while !*done {
            let Ok((guard, timeout)) = self.over.wait_timeout(done, EVERY) else { return };
            done = guard;
            if !timeout.timed_out() {
                continue;
            }
            let elapsed = start.elapsed();
            let counts = [&tally.published, &tally.consumed].map(|count| count.load(Ordering::Relaxed));
            let line = line(what, elapsed, counts, before, tally.blocked().as_deref());
            before = (counts[0], counts[1], elapsed);
            write_line(&format!("\r{line}\x1b[K"));
        }
        write_line("\r\x1b[K");
    }

    pub(super) fn end(&self) {
        if let Ok(mut done) = self.done.lock() {
            *done = true;
        }
        self.over.notify_all();
    }
}

/// A terminal that does not take it is no reason to end a benchmark.
fn write_line(text: &str) {
    let mut err = std::io::stderr();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

fn line(
    what: &str,
    elapsed: Duration,
    [published, consumed]: [u64; 2],
    before: (u64, u64, Duration),
    blocked: Option<&str>,
) -> String {
    let seconds = elapsed.saturating_sub(before.2).as_secs_f64().max(1e-3);
    let rate = |now: u64, before: u64| Unit::PerSecond.show(now.saturating_sub(before) as f64 / seconds);
    let blocked = blocked.map(|why| {
        let why: String = why.chars().filter(|c| !c.is_control()).take(60).collect();
        format!(", publishers blocked: {why}")
    });
    format!(
        "{what}: {} s, published {} ({}/s), consumed {} ({}/s){}",
        elapsed.as_secs(),
        Unit::Count.show(published as f64),
        rate(published, before.0),
        Unit::Count.show(consumed as f64),
        rate(consumed, before.1),
        blocked.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_rates_of_the_last_second() {
        let before = (1_000, 0, Duration::from_secs(1));
        let told = line("confirm", Duration::from_secs(3), [5_000, 3_000], before, Some("low on\nmemory"));
        assert_eq!(
            told,
            "confirm: 3 s, published 5,000 (2,000/s), consumed 3,000 (1,500/s), publishers blocked: low onmemory"
        );
    }
}
