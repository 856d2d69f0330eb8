//! The common part of most scenarios: publishers and consumers run, and what they did becomes figures.

use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::check::{Digest, Share};
use super::client::{Consumer, Content, Publisher, Received, Subscription, Target, Window};
use super::clock;
use super::error::{BenchError, Result};
use super::figures::Figure;
use super::machine::Process;
use super::tally::{Limit, Tally};

/// What a run works with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bench<'a> {
    pub(super) target: &'a Target,
    /// The broker's, if it is known.
    pub(super) process: Option<Process>,
    pub(super) tally: &'a Tally,
}

/// What publishers do.
#[derive(Clone, Debug)]
pub(super) struct Publishing {
    pub(super) content: Content,
    pub(super) publishers: u16,
    pub(super) window: Window,
    pub(super) limit: Limit,
}

/// What a flow has brought.
#[derive(Debug)]
pub(super) struct Flowed {
    /// By publisher.
    pub(super) sent: Vec<u64>,
    pub(super) received: Vec<Received>,
    pub(super) meter: Metered,
    pub(super) publishing: Duration,
    pub(super) consuming: Duration,
}

/// CPU time from its start on.
#[derive(Debug)]
pub(super) struct Meter {
    process: Option<Process>,
    broker: Option<Duration>,
    own: Duration,
    pub(super) start: Instant,
}

/// What a [`Meter`] has measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metered {
    broker: Option<Duration>,
    own: Duration,
    resident: Option<u64>,
}

impl Meter {
    pub(super) fn start(process: Option<Process>) -> Self {
        let broker = process.and_then(Process::cpu);
        Self { process, broker, own: clock::process_cpu(), start: clock::now() }
    }

    pub(super) fn read(&self) -> Metered {
        let now = self.process.and_then(Process::cpu);
        Metered {
            broker: now.zip(self.broker).map(|(now, before)| now.saturating_sub(before)),
            own: clock::process_cpu().saturating_sub(self.own),
            resident: self.process.and_then(Process::resident),
        }
    }
}

impl Metered {
    /// CPU for each of `count`, and the broker's memory if it is known.
    pub(super) fn figures(&self, count: u64) -> Vec<Figure> {
        let broker = self.broker.map(|cpu| Figure::share("broker_cpu_us_per_message", cpu, count));
        let own = Figure::share("generator_cpu_us_per_message", self.own, count);
        let resident = self.resident.map(|bytes| Figure::bytes("broker_rss_bytes", bytes));
        broker.into_iter().chain([own]).chain(resident).collect()
    }
}

impl Flowed {
    /// What every flow reports. A message that goes to several queues counts as often as it is delivered.
    pub(super) fn figures(&self, tally: &Tally) -> Vec<Figure> {
        let published = self.sent.iter().sum();
        let consumed = self.received.iter().map(|received| received.count).sum();
        let mut figures = vec![
            Figure::count("published", published),
            Figure::count("consumed", consumed),
            Figure::rate("published_per_s", published, self.publishing),
            Figure::rate("consumed_per_s", consumed, self.consuming),
            Figure::seconds("seconds", self.publishing.max(self.consuming)),
        ];
        let settled = [&tally.confirmed, &tally.nacked].map(|count| count.load(Ordering::Acquire));
        if settled != [0, 0] {
            figures.push(Figure::count("confirmed", settled[0]));
            figures.push(Figure::count("nacked", settled[1]));
        }
        figures.extend(self.meter.figures(published.max(consumed)));
        figures
    }
}

/// Runs publishers and consumers until all that was published is consumed.
pub(super) fn run(
    bench: Bench<'_>,
    publishing: &Publishing,
    subscriptions: &[Subscription],
) -> Result<Flowed> {
    let Bench { target, process, tally } = bench;
    let consumers: Vec<Consumer> = subscriptions
        .iter()
        .map(|subscription| Consumer::open(target, subscription))
        .collect::<Result<_>>()?;
    let Publishing { content, publishers, window, limit } = publishing;
    let open = |id| Publisher::open(target, content, id, *window);
    let connected: Vec<Publisher> = (0..*publishers).map(open).collect::<Result<_>>()?;
    let meter = Meter::start(process);
    let start = meter.start;
    let (sent, received) = thread::scope(|scope| {
        let consuming: Vec<_> = consumers
            .into_iter()
            .map(|consumer| scope.spawn(move || consumer.run(tally).inspect_err(|_| tally.fail())))
            .collect();
        let publishing: Vec<_> = (0..*publishers)
            .zip(connected)
            .map(|(id, publisher)| {
                let allowance = limit.part(id, *publishers, start);
                scope.spawn(move || publisher.run(allowance, tally).inspect_err(|_| tally.fail()))
            })
            .collect();
        let sent = join(publishing);
        tally.finish();
        (sent, join(consuming))
    });
    let meter = meter.read();
    let (sent, received) = both(sent, received)?;
    let publishing = sent.iter().map(|(_, done)| *done).max().map_or(Duration::ZERO, |done| done - start);
    let sent: Vec<u64> = sent.into_iter().map(|(sent, _)| sent).collect();
    verify(&sent, &received, tally)?;
    Ok(Flowed { sent, consuming: since(start, &received), received, meter, publishing })
}

/// Consumes what was published before.
pub(super) fn consume(bench: Bench<'_>, sent: Vec<u64>, subscriptions: &[Subscription]) -> Result<Flowed> {
    let Bench { target, process, tally } = bench;
    tally.published.store(sent.iter().sum(), Ordering::Release);
    tally.finish();
    // Deliveries begin when a consumer is opened.
    let meter = Meter::start(process);
    let received = thread::scope(|scope| {
        let consuming = subscriptions.iter().map(|subscription| {
            let consume = || Consumer::open(target, subscription)?.run(tally);
            scope.spawn(move || consume().inspect_err(|_| tally.fail()))
        });
        join(consuming.collect())
    })?;
    let metered = meter.read();
    verify(&sent, &received, tally)?;
    let consuming = since(meter.start, &received);
    Ok(Flowed { sent, received, meter: metered, publishing: Duration::ZERO, consuming })
}

/// Until the last delivery.
pub(super) fn since(start: Instant, received: &[Received]) -> Duration {
    let last = received.iter().filter_map(|received| received.last).max();
    last.map_or(Duration::ZERO, |last| last.saturating_duration_since(start))
}

/// Waits for all; of several errors the one that tells most.
pub(super) fn join<T>(threads: Vec<ScopedJoinHandle<'_, Result<T>>>) -> Result<Vec<T>> {
    let ends: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect();
    let mut values = Vec::with_capacity(ends.len());
    let mut failure = None;
    for end in ends {
        match end {
            Ok(value) => values.push(value),
            Err(error) => failure = Some(telling(failure, error)),
        }
    }
    failure.map_or(Ok(values), Err)
}

/// Two results at once; of two errors the one that tells more.
pub(super) fn both<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(telling(Some(a), b)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

fn telling(first: Option<BenchError>, second: BenchError) -> BenchError {
    match first {
        Some(first) if !matches!(first, BenchError::Stopped) => first,
        _ => second,
    }
}

/// Whether each consumer, or the consumers of a queue together, got every message once.
pub(super) fn verify(sent: &[u64], received: &[Received], tally: &Tally) -> Result<()> {
    let published: u64 = sent.iter().sum();
    let nacked = tally.nacked.load(Ordering::Acquire);
    let check = |count: u64| {
        if count > published {
            return Err(BenchError::Wrong(format!("{count} messages came, and {published} were published")));
        }
        if count + nacked < published {
            return Err(BenchError::Wrong(format!("{count} of {published} messages came")));
        }
        Ok(())
    };
    let (all, some): (Vec<_>, Vec<_>) = received.iter().partition(|received| received.share == Share::All);
    all.iter().try_for_each(|received| check(received.count))?;
    if some.is_empty() {
        return Ok(());
    }
    check(some.iter().map(|received| received.count).sum())?;
    for (publisher, sent) in sent.iter().enumerate() {
        let digests = some.iter().filter_map(|received| received.digests.get(publisher));
        let got = digests.fold(Digest::default(), |sum, digest| sum.with(*digest));
        // Without heads there are no digests, and which messages were refused is not known here.
        if got != Digest::default() && nacked == 0 && got != Digest::of_all(*sent) {
            return Err(BenchError::Wrong(format!(
                "publisher {publisher} sent {sent} messages, and what came is not these: some are missing, others \
                 came to two consumers"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Interrupt;

    fn received(count: u64, share: Share, digests: Vec<Digest>) -> Received {
        Received { count, digests, share, last: None, latencies: None }
    }

    fn verdict(sent: &[u64], received: &[Received], nacked: u64) -> std::result::Result<(), String> {
        let tally = Tally::new(&Interrupt::default(), Duration::ZERO);
        tally.nacked.store(nacked, Ordering::Release);
        verify(sent, received, &tally).map_err(|error| error.to_string())
    }

    #[test]
    fn each_of_several_queues_gets_everything() {
        let all = |count| received(count, Share::All, vec![]);
        assert_eq!(verdict(&[3, 2], &[all(5), all(5)], 0), Ok(()));
        assert!(verdict(&[3, 2], &[all(5), all(4)], 0).unwrap_err().contains("4 of 5"));
        assert!(verdict(&[3, 2], &[all(6)], 0).unwrap_err().contains("6 messages came, and 5"));
        assert_eq!(verdict(&[3, 2], &[all(4)], 1), Ok(()));
        assert_eq!(verdict(&[3, 2], &[], 0), Ok(()), "nobody consumes");
    }

    #[test]
    fn consumers_of_one_queue_get_everything_together() {
        let some = |count, end| received(count, Share::Some, vec![Digest::of_all(end)]);
        assert_eq!(verdict(&[7], &[some(7, 7), some(0, 0)], 0), Ok(()));
        let error = verdict(&[7], &[some(5, 5), some(2, 2)], 0).unwrap_err();
        assert!(error.contains("not these"), "{error}");
        assert!(verdict(&[7], &[some(3, 3), some(3, 3)], 0).unwrap_err().contains("6 of 7"));
    }

    #[test]
    fn the_error_that_tells_more_is_told() {
        let stopped = || Err::<(), _>(BenchError::Stopped);
        let wrong = || Err::<(), _>(BenchError::Wrong("x".into()));
        assert!(matches!(both(stopped(), wrong()), Err(BenchError::Wrong(_))));
        assert!(matches!(both(wrong(), stopped()), Err(BenchError::Wrong(_))));
    }
}
