//! A consumer: reads deliveries, checks each of them, and acknowledges as asked.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::BytesMut;
use ferrymq_protocol::frame::{self, Frame, FrameKind};
use ferrymq_protocol::method::{Method, basic};
use ferrymq_protocol::properties::ContentHeader;
use ferrymq_protocol::table::TableRef;
use hdrhistogram::Histogram;

use super::connection::note;
use super::input::{Fill, notice};
use super::{CHANNEL, Connection, Pace, Target};
use crate::bench::body::Bodies;
use crate::bench::check::{Checker, Digest, Expectation, Share};
use crate::bench::clock;
use crate::bench::error::{BenchError, Result};
use crate::bench::tally::Tally;

/// How a consumer acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Not at all: what is sent counts as acknowledged.
    Automatic,
    /// In groups of `every` deliveries, with at most `prefetch` unacknowledged; 0 is without a limit.
    Manual {
        /// Deliveries for each acknowledgement, at least 1.
        every: u16,
        /// At least `every`, or 0.
        prefetch: u16,
    },
}

/// What one consumer consumes.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Subscription {
    /// With several, their messages must be dealt to them in this order.
    pub(in crate::bench) queues: Vec<String>,
    pub(in crate::bench) acks: Acks,
    pub(in crate::bench) size: usize,
    pub(in crate::bench) expectation: Expectation,
}

/// What a consumer has seen.
#[derive(Debug)]
pub(in crate::bench) struct Received {
    pub(in crate::bench) count: u64,
    pub(in crate::bench) digests: Vec<Digest>,
    pub(in crate::bench) share: Share,
    /// When the last delivery came.
    pub(in crate::bench) last: Option<Instant>,
    /// Nanoseconds from due to delivered.
    pub(in crate::bench) latencies: Option<Histogram<u64>>,
}

/// A connection that consumes.
#[derive(Debug)]
pub(in crate::bench) struct Consumer {
    connection: Connection,
    acks: Acks,
    share: Share,
    checker: Checker,
    lanes: Option<Lanes>,
    pace: Option<Pace>,
    latencies: Option<Histogram<u64>>,
    out: BytesMut,
    delivered: u64,
    acked: u64,
    cancelled: usize,
    queues: usize,
    last: Option<Instant>,
}

/// With several queues, a consumer tag names the lane that its queue is.
#[derive(Clone, Copy, Debug)]
struct Lanes {
    count: u64,
    /// Of the delivery that is being read.
    current: u64,
}

impl Consumer {
    pub(in crate::bench) fn open(target: &Target, subscription: &Subscription) -> Result<Self> {
        let mut connection = Connection::open(target)?;
        connection.enlarge_input();
        let no_ack = subscription.acks == Acks::Automatic;
        if let Acks::Manual { prefetch, .. } = subscription.acks {
            let qos = basic::Qos { prefetch_size: 0, prefetch_count: prefetch, global: false };
            connection.call(CHANNEL, qos)?;
        }
        for (index, queue) in subscription.queues.iter().enumerate() {
            let consume = basic::Consume {
                queue,
                consumer_tag: &format!("{index}"),
                no_ack,
                arguments: TableRef::EMPTY,
                ..basic::Consume::default()
            };
            connection.call(CHANNEL, consume)?;
        }
        let queues = subscription.queues.len();
        Ok(Self {
            connection,
            acks: subscription.acks,
            share: subscription.expectation.share,
            checker: Checker::new(Bodies::of_size(subscription.size), subscription.expectation),
            lanes: (queues > 1).then_some(Lanes { count: queues as u64, current: 0 }),
            pace: None,
            latencies: None,
            out: BytesMut::new(),
            delivered: 0,
            acked: 0,
            cancelled: 0,
            queues,
            last: None,
        })
    }

    /// Compares when each message comes with when it was due.
    pub(in crate::bench) fn with_pace(self, pace: Pace) -> Self {
        Self { pace: Some(pace), latencies: Some(Pace::histogram()), ..self }
    }

    /// Consumes until everything that was published is here, and then makes sure that nothing more comes.
    pub(in crate::bench) fn run(mut self, tally: &Tally) -> Result<Received> {
        let mut moved = clock::now();
        while !self.has_all(tally)? {
            let before = self.checker.count();
            if self.read(tally)? == Fill::Some {
                moved = clock::now();
                tally.consumed.fetch_add(self.checker.count() - before, Ordering::Release);
            } else if tally.is_finished() {
                let what = || format!("{} of {} messages came", self.checker.count(), tally.expected());
                if moved.elapsed() > super::POLL {
                    tally.wait_on(moved, &what())?;
                }
            } else {
                tally.go_on()?;
                moved = clock::now();
            }
        }
        self.end(tally)?;
        self.connection.close()?;
        Ok(Received {
            count: self.checker.count(),
            digests: self.checker.digests().to_vec(),
            share: self.share,
            last: self.last,
            latencies: self.latencies,
        })
    }

    /// Whether the last message is here.
    fn has_all(&self, tally: &Tally) -> Result<bool> {
        if !tally.is_finished() {
            return Ok(false);
        }
        let missing = self.checker.missing();
        if missing > tally.nacked.load(Ordering::Acquire) {
            let first = self.checker.gap().unwrap_or_default();
            return Err(BenchError::Wrong(format!("{missing} messages are missing: {first}")));
        }
        let here = match self.share {
            Share::All => self.checker.count(),
            Share::Some => tally.consumed.load(Ordering::Acquire),
        };
        Ok(here >= tally.expected())
    }

    /// Cancels; what was delivered before the answer is still checked.
    fn end(&mut self, tally: &Tally) -> Result<()> {
        for index in 0..self.queues {
            let cancel = basic::Cancel { consumer_tag: &format!("{index}"), no_wait: false };
            frame::encode_method(CHANNEL, &cancel.into(), &mut self.out)?;
        }
        self.flush(tally)?;
        let start = clock::now();
        while self.cancelled < self.queues {
            let before = self.checker.count();
            if self.read(tally)? == Fill::Nothing {
                tally.wait_on(start, "basic.cancel is not answered")?;
            }
            tally.consumed.fetch_add(self.checker.count() - before, Ordering::Release);
        }
        if self.acks != Acks::Automatic && self.delivered > self.acked {
            let ack = basic::Ack { delivery_tag: self.delivered, multiple: true };
            frame::encode_method(CHANNEL, &ack.into(), &mut self.out)?;
            self.flush(tally)?;
        }
        self.connection.close_channel()
    }

    /// Reads once and handles every whole frame.
    fn read(&mut self, tally: &Tally) -> Result<Fill> {
        if self.connection.input.fill(&self.connection.stream)? == Fill::Nothing {
            return Ok(Fill::Nothing);
        }
        let now = clock::now();
        let Self { connection, checker, pace, latencies, lanes, .. } = self;
        let (pace, before) = (*pace, checker.count());
        while let Some(frame) = connection.input.next()? {
            match frame.kind {
                FrameKind::Body => {
                    let Some(arrival) = checker.take(frame.payload)? else { continue };
                    if let (Some(pace), Some(latencies)) = (pace, &mut *latencies) {
                        let due = pace.due(arrival.publisher, arrival.sequence);
                        Pace::record(latencies, now.saturating_duration_since(due));
                    }
                    if let Some(lanes) = lanes
                        && arrival.sequence % lanes.count != lanes.current
                    {
                        return Err(BenchError::Wrong(format!(
                            "message {} came from queue {}, where it was not routed",
                            arrival.sequence, lanes.current
                        )));
                    }
                }
                FrameKind::Header => checker.begin(ContentHeader::decode(frame.payload)?.body_size)?,
                FrameKind::Method => {
                    if read_method(&frame, &mut self.delivered, lanes, tally)? {
                        self.cancelled += 1;
                    }
                }
                FrameKind::Heartbeat => {}
            }
        }
        if checker.count() > before {
            self.last = Some(now);
        }
        self.acknowledge(tally)?;
        Ok(Fill::Some)
    }

    /// One ack for each group that is complete.
    fn acknowledge(&mut self, tally: &Tally) -> Result<()> {
        let Acks::Manual { every, .. } = self.acks else { return Ok(()) };
        while self.checker.count() - self.acked >= u64::from(every) {
            self.acked += u64::from(every);
            let ack = basic::Ack { delivery_tag: self.acked, multiple: every > 1 };
            frame::encode_method(CHANNEL, &ack.into(), &mut self.out)?;
        }
        if self.out.is_empty() { Ok(()) } else { self.flush(tally) }
    }

    fn flush(&mut self, tally: &Tally) -> Result<()> {
        tally.go_on()?;
        self.connection.write(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

/// Handles a method; returns whether it answers a cancel.
#[inline]
fn read_method(
    frame: &Frame<'_>,
    delivered: &mut u64,
    lanes: &mut Option<Lanes>,
    tally: &Tally,
) -> Result<bool> {
    match Method::decode(frame.payload)? {
        Method::BasicDeliver(deliver) => {
            *delivered += 1;
            if deliver.delivery_tag != *delivered {
                let tag = deliver.delivery_tag;
                return Err(BenchError::Wrong(format!(
                    "delivery {delivered} of a channel has the tag {tag}"
                )));
            }
            if deliver.redelivered {
                return Err(BenchError::Wrong(format!(
                    "delivery {delivered} is marked as redelivered, and nothing was given back"
                )));
            }
            if let Some(lanes) = lanes {
                lanes.current = deliver.consumer_tag.parse().unwrap_or(u64::MAX);
            }
            Ok(false)
        }
        Method::BasicCancelOk(_) => Ok(true),
        other => {
            note(notice(&other, "a delivery")?, tally);
            Ok(false)
        }
    }
}
