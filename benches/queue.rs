//! One queue's hot path: what a message costs from publish to delivery, and from delivery to ack.

#![allow(clippy::disallowed_methods, reason = "to measure is to read the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferrymq::model::{
    ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, Message, MessageParts, Outcome, QueueId, Seq,
};
use ferrymq::queue::{ConsumerOptions, Home, Location, Moment, Priorities, Queue, Terms};

const CHANNEL: ChannelKey = ChannelKey(1);

fn message() -> Message {
    let parts = MessageParts { exchange: "", routing_key: "q", properties: &[0, 0], persistent: false };
    Message::new(parts, Bytes::from_static(&[0; 64]))
}

fn consumer(key: u32, no_ack: bool, prefetch: u16) -> ConsumerOptions {
    ConsumerOptions {
        channel: CHANNEL,
        connection: ConnectionKey(1),
        number: ChannelNumber(1),
        consumer: ConsumerKey(key),
        no_ack,
        exclusive: false,
        priority: 0,
        prefetch,
    }
}

fn queue(consumers: u32, no_ack: bool, prefetch: u16) -> Queue {
    let mut queue = Queue::new(QueueId(1));
    for key in 0..consumers {
        queue.add_consumer(consumer(key, no_ack, prefetch)).expect("nobody is exclusive");
    }
    queue
}

fn deliver(queue: &mut Queue) -> Option<Seq> {
    black_box(queue.front_consumer()?);
    queue.deliver_front(Location::default()).map(|dispatched| black_box(dispatched).seq)
}

/// Pushes and delivers by `burst`, each message being a clone of one: its making is not the queue's.
fn push_and_deliver(queue: &mut Queue, message: &Message, burst: usize) {
    for _ in 0..burst {
        black_box(queue.push(message.clone(), Home::NONE, Terms::default()));
    }
    while deliver(queue).is_some() {}
}

fn no_ack(c: &mut Criterion) {
    let message = message();
    let mut group = c.benchmark_group("no-ack: push, deliver");
    for (name, consumers, burst) in
        [("1 consumer", 1, 1), ("1 consumer, bursts", 1, 256), ("8 consumers", 8, 256)]
    {
        group.throughput(Throughput::Elements(burst as u64));
        group.bench_function(name, |b| {
            let mut queue = queue(consumers, true, 0);
            b.iter(|| push_and_deliver(&mut queue, &message, burst));
        });
    }
    group.finish();
}

fn acked(c: &mut Criterion) {
    let message = message();
    let mut group = c.benchmark_group("acked: push, deliver, settle");
    for (name, consumers, prefetch, held) in [
        ("one by one", 1, 1, 1),
        ("100 held", 1, 0, 100),
        ("100,000 held", 1, 0, 100_000),
        ("8 consumers, prefetch 32", 8, 32, 256),
    ] {
        group.throughput(Throughput::Elements(held));
        group.bench_function(name, |b| {
            let mut queue = queue(consumers, false, prefetch);
            let mut settled = 0;
            b.iter(|| {
                for _ in 0..held {
                    queue.push(message.clone(), Home::NONE, Terms::default());
                    deliver(&mut queue);
                }
                for _ in 0..held {
                    black_box(queue.settle(CHANNEL, Seq(settled), Outcome::Ack));
                    settled += 1;
                }
            });
        });
    }
    group.finish();
}

/// Settlements alone, by the thousand.
fn settle(c: &mut Criterion) {
    const HELD: u64 = 1000;
    let message = message();
    let mut group = c.benchmark_group("settle");
    for (name, outcome) in [("ack", Outcome::Ack), ("requeue", Outcome::Requeue)] {
        group.bench_function(name, |b| {
            let mut queue = queue(1, false, 0);
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                let mut left = count;
                while left > 0 {
                    let held = left.min(HELD);
                    let missing = held.saturating_sub(queue.ready());
                    for _ in 0..missing {
                        queue.push(message.clone(), Home::NONE, Terms::default());
                    }
                    let seqs: Vec<Seq> = (0..held).filter_map(|_| deliver(&mut queue)).collect();
                    let start = Instant::now();
                    for seq in &seqs {
                        black_box(queue.settle(CHANNEL, *seq, outcome));
                    }
                    spent += start.elapsed();
                    left -= held;
                }
                spent
            });
        });
    }
    group.finish();
}

/// The same road for queues that do more: every message is pushed, delivered and acked, a batch at a time or with many
/// that wait behind it.
fn features(c: &mut Criterion) {
    const BATCH: u64 = 100;
    let message = message();
    let mut group = c.benchmark_group("features: push, deliver, settle");
    group.throughput(Throughput::Elements(BATCH));
    let priorities = Priorities { highest: 10, unsaid: 0 };
    for (name, prioritised, expires) in [
        ("plain", false, false),
        ("10 priorities", true, false),
        ("deadlines, dead letters", false, true),
        ("10 priorities, deadlines, dead letters", true, true),
    ] {
        for (depth, waiting) in [("", 0), (", 100,000 waiting", 100_000)] {
            group.bench_function(format!("{name}{depth}"), |b| {
                let mut queue = queue(0, false, 0);
                if prioritised {
                    queue.prioritise(priorities);
                }
                queue.set_keeps_dead(expires);
                let mut pushed = 0_u64;
                let mut push = |queue: &mut Queue| {
                    pushed += 1;
                    let deadline = if expires { Moment(1_000_000 + pushed / 1_000) } else { Moment::NEVER };
                    let priority = u8::try_from(pushed * 7 % 11).ok();
                    queue.push(message.clone(), Home::NONE, Terms { priority, deadline });
                };
                (0..waiting).for_each(|_| push(&mut queue));
                queue.add_consumer(consumer(1, false, 0)).expect("nobody is exclusive");
                let mut held = Vec::new();
                b.iter(|| {
                    (0..BATCH).for_each(|_| push(&mut queue));
                    held.extend((0..BATCH).filter_map(|_| deliver(&mut queue)));
                    for seq in held.drain(..) {
                        black_box(queue.settle(CHANNEL, seq, Outcome::Ack));
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, no_ack, acked, settle, features);
criterion_main!(benches);
