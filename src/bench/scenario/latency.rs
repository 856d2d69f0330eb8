//! `latency`: messages at a fixed rate, and how long after they were due they are delivered and confirmed.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Load, Part};
use crate::bench::client::{Confirms, Consumer, Pace, Publisher, publish_paced};
use crate::bench::clock;
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench, Flowed, Meter};
use crate::bench::report::About;
use crate::bench::rig::{Lifetime, Rig};
use crate::bench::tally::{Allowance, Limit};

/// Threads have started by then.
const LEAD: Duration = Duration::from_millis(50);

/// Messages at a fixed rate.
#[derive(Clone, Debug)]
pub struct Latency {
    /// What is published and consumed. Time is turned into a number of messages.
    pub load: Load,
    /// Messages per second of all publishers together, at least 1.
    pub rate: u32,
    /// Whether messages are confirmed, and that is measured, too.
    pub confirms: bool,
}

impl Latency {
    fn messages(&self) -> Limit {
        Limit::Messages(match self.load.limit {
            Limit::Time(time) => time.as_secs().saturating_mul(u64::from(self.rate)),
            Limit::Messages(messages) => messages,
        })
    }
}

impl Part for Latency {
    fn check(&self) -> std::result::Result<(), String> {
        if self.load.size < 16 {
            return Err("a latency needs messages of at least 16 octets, which say which they are".into());
        }
        self.load.check()
    }

    fn about(&self) -> About {
        let mut about = self.load.about("latency", self.confirms.then_some(0));
        about.settings.push(("rate", format!("{}/s", self.rate)));
        about.confirms = if self.confirms { "each, no window".into() } else { "none".into() };
        about
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let Bench { target, process, tally } = bench;
        let load = &self.load;
        let mut rig = Rig::new(target)?;
        let queue = rig.queue("", if load.persistent { Lifetime::Durable } else { Lifetime::Consumers })?;
        let publishing = load.publishing("", vec![queue.clone()], self.confirms.then_some(u32::MAX));
        let open = |id| Publisher::open(target, &publishing.content, id, publishing.window);
        let connected: Vec<Publisher> = (0..load.publishers).map(open).collect::<Result<_>>()?;
        let subscriptions = load.subscriptions(&queue);
        let open = |subscription| Consumer::open(target, subscription);
        let consumers: Vec<Consumer> = subscriptions.iter().map(open).collect::<Result<_>>()?;
        let meter = Meter::start(process);
        let start = meter.start + LEAD;
        let pace = Pace { start, rate: self.rate, publishers: load.publishers };
        let confirms = if self.confirms { Confirms::Measured } else { Confirms::None };
        let (paced, received) = thread::scope(|scope| {
            let consuming: Vec<_> = consumers
                .into_iter()
                .map(|consumer| consumer.with_pace(pace))
                .map(|consumer| scope.spawn(move || consumer.run(tally).inspect_err(|_| tally.fail())))
                .collect();
            let publishing: Vec<_> = (0..load.publishers)
                .zip(connected)
                .map(|(id, publisher)| {
                    let count = self.part(id, load.publishers);
                    let publish = move || publish_paced(publisher, (id, count), pace, confirms, tally);
                    scope.spawn(move || publish().inspect_err(|_| tally.fail()))
                })
                .collect();
            let paced = flow::join(publishing);
            tally.finish();
            (paced, flow::join(consuming))
        });
        let meter = meter.read();
        let (paced, received) = flow::both(paced, received)?;
        let sent: Vec<u64> = (0..load.publishers).map(|id| self.part(id, load.publishers)).collect();
        debug_assert_eq!(sent.iter().sum::<u64>(), tally.published.load(Ordering::Acquire));
        flow::verify(&sent, &received, tally)?;
        rig.take_down()?;
        let done = paced.iter().map(|paced| paced.done).max().unwrap_or(start);
        let publishing = done.saturating_duration_since(start);
        let mut histograms = received.iter().filter_map(|received| received.latencies.as_ref());
        let delivered = merged(&mut histograms);
        let consuming = flow::since(start, &received);
        let flowed = Flowed { sent, received, meter, publishing, consuming };
        let mut figures = flowed.figures(tally);
        figures.extend(Figure::percentiles("deliver", &delivered));
        if self.confirms {
            let mut histograms = paced.iter().filter_map(|paced| paced.confirms.as_ref());
            figures.extend(Figure::percentiles("confirm", &merged(&mut histograms)));
        }
        let lateness = merged(&mut paced.iter().map(|paced| &paced.lateness));
        figures.extend(Figure::percentiles("generator_late", &lateness).into_iter().take(3));
        Ok(figures)
    }
}

impl Latency {
    /// How many messages one publisher publishes.
    fn part(&self, id: u16, publishers: u16) -> u64 {
        match self.messages().part(id, publishers, clock::now()) {
            Allowance::Messages(messages) => messages,
            // A number was asked for.
            Allowance::Until(_) => 0,
        }
    }
}

fn merged(histograms: &mut dyn Iterator<Item = &Histogram<u64>>) -> Histogram<u64> {
    let mut all = Pace::histogram();
    for histogram in histograms {
        // It grows by itself, so that every value has room.
        let _ = all.add(histogram);
    }
    all
}
