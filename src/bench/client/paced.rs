//! A publisher at a fixed rate, for latencies.
//!
//! Every message is due at a time that follows from its number alone. Latency counts from there, so that a broker that
//! holds up the publisher does not improve its own figures (coordinated omission).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::connection::write_some;
use super::input::Fill;
use super::publisher::read_confirm;
use super::{Connection, Publisher, Template};
use crate::bench::clock;
use crate::bench::confirms::ConfirmWindow;
use crate::bench::error::{BenchError, Result};
use crate::bench::tally::Tally;

/// When messages are due.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Pace {
    pub(in crate::bench) start: Instant,
    /// Messages per second of all publishers together, at least 1.
    pub(in crate::bench) rate: u32,
    pub(in crate::bench) publishers: u16,
}

impl Pace {
    /// When a message is due: publishers take turns.
    #[inline]
    pub(in crate::bench) fn due(&self, publisher: u16, sequence: u64) -> Instant {
        let index = u128::from(sequence) * u128::from(self.publishers) + u128::from(publisher);
        let nanos = index * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// From a microsecond to a minute, with three digits; it grows if it must.
    pub(in crate::bench) fn histogram() -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap_or_else(|_| {
            unreachable!("these bounds are valid: 1 <= low, 2 * low <= high, and at most 5 digits")
        });
        histogram.auto(true);
        histogram
    }

    #[inline]
    pub(in crate::bench) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
        // It grows for what is longer than it was made for, and everything below 580 years has a place in it.
        let _ = histogram.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Whether confirms are wanted, and measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Confirms {
    None,
    Measured,
}

/// What a paced publisher has measured, in nanoseconds.
#[derive(Debug)]
pub(in crate::bench) struct Paced {
    pub(in crate::bench) done: Instant,
    /// From due to confirmed.
    pub(in crate::bench) confirms: Option<Histogram<u64>>,
    /// From due to handed to the operating system: what the generator itself adds.
    pub(in crate::bench) lateness: Histogram<u64>,
}

/// Publishes `count` messages when they are due, while another thread reads what the broker answers.
pub(in crate::bench) fn publish_paced(
    publisher: Publisher,
    (id, count): (u16, u64),
    pace: Pace,
    confirms: Confirms,
    tally: &Tally,
) -> Result<Paced> {
    let Publisher { connection, mut template, .. } = publisher;
    let writer = connection.stream.try_clone().map_err(BenchError::io("cannot share a socket"))?;
    let progress = Progress::default();
    let reader = Reader { connection, id, count, pace, confirms, progress: &progress };
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| reader.run(tally).inspect_err(|_| tally.fail()));
        let written = write_paced(&writer, &mut template, (id, count), pace, (tally, &progress));
        if written.is_err() {
            tally.fail();
        }
        let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (written, read) {
            // The reader knows what the broker said.
            (Err(BenchError::Stopped | BenchError::Dropped(_)), Err(error)) | (Ok(_), Err(error)) => {
                Err(error)
            }
            (Err(error), _) => Err(error),
            (Ok((lateness, written)), Ok(None)) => Ok(Paced { done: written, confirms: None, lateness }),
            (Ok((lateness, _)), Ok(Some((confirms, done)))) => {
                Ok(Paced { done, confirms: Some(confirms), lateness })
            }
        }
    })
}

/// What the writing half tells the reading half.
#[derive(Debug, Default)]
struct Progress {
    /// Messages whose writing has begun.
    sent: AtomicU64,
    /// All are written.
    done: AtomicBool,
}

fn write_paced(
    stream: &std::net::TcpStream,
    template: &mut Template,
    (id, count): (u16, u64),
    pace: Pace,
    (tally, progress): (&Tally, &Progress),
) -> Result<(Histogram<u64>, Instant)> {
    clock::wake_exactly();
    let mut lateness = Pace::histogram();
    let mut sent = 0;
    while sent < count {
        tally.go_on()?;
        let now = clock::now();
        let mut ready = 0;
        while ready < template.batch()
            && sent + (ready as u64) < count
            && pace.due(id, sent + ready as u64) <= now
        {
            ready += 1;
        }
        if ready == 0 {
            clock::sleep_until(pace.due(id, sent).min(now + super::POLL));
            continue;
        }
        let (mut octets, ready) = template.stamp(sent, ready);
        tally.published.fetch_add(ready as u64, Ordering::Release);
        progress.sent.fetch_add(ready as u64, Ordering::Release);
        let mut moved = now;
        while !octets.is_empty() {
            match write_some(stream, octets)? {
                0 => tally.wait_on(moved, "the broker reads nothing")?,
                written => {
                    octets = &octets[written..];
                    moved = clock::now();
                }
            }
        }
        for sequence in sent..sent + ready as u64 {
            Pace::record(&mut lateness, moved.saturating_duration_since(pace.due(id, sequence)));
        }
        sent += ready as u64;
    }
    progress.done.store(true, Ordering::Release);
    Ok((lateness, clock::now()))
}

/// The reading half of a paced publisher.
struct Reader<'a> {
    connection: Connection,
    id: u16,
    count: u64,
    pace: Pace,
    confirms: Confirms,
    progress: &'a Progress,
}

impl Reader<'_> {
    /// Reads until everything is confirmed, and returns after how long each was, and when; or without confirms until everything has been published.
    fn run(mut self, tally: &Tally) -> Result<Option<(Histogram<u64>, Instant)>> {
        let mut latencies = (self.confirms == Confirms::Measured).then(Pace::histogram);
        let mut window = ConfirmWindow::new();
        let last_due = self.pace.due(self.id, self.count.saturating_sub(1));
        let mut moved = clock::now();
        loop {
            let settled = latencies.is_none() || window.acked() + window.nacked() == self.count;
            if settled && self.progress.done.load(Ordering::Acquire) {
                break;
            }
            tally.go_on()?;
            if self.connection.input.fill(&self.connection.stream)? == Fill::Nothing {
                tally.wait_on(moved.max(last_due), "no confirm comes")?;
                continue;
            }
            moved = clock::now();
            self.read(moved, &mut window, latencies.as_mut(), tally)?;
        }
        let done = clock::now();
        self.connection.close_channel()?;
        self.connection.close()?;
        Ok(latencies.map(|latencies| (latencies, done)))
    }

    fn read(
        &mut self,
        now: Instant,
        window: &mut ConfirmWindow,
        mut latencies: Option<&mut Histogram<u64>>,
        tally: &Tally,
    ) -> Result<()> {
        let before = (window.acked(), window.nacked());
        while let Some(frame) = self.connection.input.next()? {
            let Some(confirm) = read_confirm(&frame, tally)? else { continue };
            let Some(latencies) = latencies.as_deref_mut() else {
                return Err(BenchError::Wrong("it confirms what nobody wanted confirmed".into()));
            };
            let (id, pace) = (self.id, self.pace);
            let begun = self.progress.sent.load(Ordering::Acquire);
            window.publish(usize::try_from(begun - window.published()).unwrap_or(usize::MAX));
            window.settle(confirm, |tag| {
                Pace::record(latencies, now.saturating_duration_since(pace.due(id, tag - 1)));
            })?;
        }
        tally.confirmed.fetch_add(window.acked() - before.0, Ordering::Release);
        tally.nacked.fetch_add(window.nacked() - before.1, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_take_turns() {
        let pace = Pace { start: clock::now(), rate: 1_000, publishers: 2 };
        let after =
            |publisher, sequence| pace.due(publisher, sequence).duration_since(pace.start).as_micros();
        assert_eq!([after(0, 0), after(1, 0), after(0, 1), after(1, 500)], [0, 1_000, 2_000, 1_001_000]);
    }

    #[test]
    fn a_histogram_takes_more_than_it_was_made_for() {
        let mut histogram = Pace::histogram();
        Pace::record(&mut histogram, Duration::from_secs(600));
        Pace::record(&mut histogram, Duration::ZERO);
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= 599_000_000_000);
    }
}
