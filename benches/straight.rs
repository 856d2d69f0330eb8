//! The straight way of a message in one thread, for counting instructions: recorded bytes of a publisher, protocol,
//! session, vhost, outbox, bytes for a consumer.
//!
//! `straight BURST MESSAGES` publishes so many transient messages of 16 octets, so many at a time, and checks that the
//! consumer is sent each of them. `cargo xtask instructions` runs it under callgrind, which counts in [`pass`] alone.
//! Invariant: nothing in there reads a clock, waits for another thread or makes a system call but for memory.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use bytes::BytesMut;
use ferrymq::auth::Authenticator;
use ferrymq::model::VhostName;
use ferrymq::runtime::{Broker, BrokerOptions, Clock, Connection, DiskOptions, Found, Next, Replay};
use ferrymq::session::{Peer, SessionOptions};
use ferrymq::storage::log::LogOptions;
use ferrymq::storage::{self, Options};
use ferrymq::vhost::VhostOptions;
use ferrymq_protocol::frame;
use ferrymq_protocol::method::{Method, basic, channel, connection, queue};

/// The broker's, which `src/main.rs` explains. It also keeps what a thread allocates to itself: with the system's
/// allocator counts differ from run to run with what the broker's other threads do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QUEUE: &str = "straight";
const BODY: [u8; 16] = *b"sixteen octets..";
const CHANNEL: u16 = 1;
/// What a socket's reader hands over at most at a time.
const READ_BYTES: usize = 128 << 10;
/// Messages before the counted ones, so that every buffer has its size: more than the largest burst.
const WARM_UP: usize = 2_000;

/// A peer of the broker, without a socket.
struct Client {
    connection: Connection,
    now: Instant,
}

impl Client {
    fn open(broker: &Broker, name: &str, now: Instant) -> Self {
        let peer = Peer { loopback: true, name: name.to_owned() };
        let mut client = Self { connection: broker.connect(peer, now), now };
        client.send(&frame::PROTOCOL_HEADER);
        let login = connection::StartOk {
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
            ..connection::StartOk::default()
        };
        client.call(0, login);
        client.call(0, connection::TuneOk { channel_max: 8, frame_max: 131_072, heartbeat: 0 });
        client.call(0, connection::Open { vhost: "/" });
        client.call(CHANNEL, channel::Open {});
        assert!(client.connection.is_open(), "the handshake has failed");
        client
    }

    fn call<'m>(&mut self, number: u16, method: impl Into<Method<'m>>) {
        let mut octets = BytesMut::new();
        frame::encode_method(number, &method.into(), &mut octets).expect("it fits in a frame");
        self.send(&octets);
        self.read();
    }

    /// What its socket would bring, whole frames that are all taken.
    fn send(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let piece = &octets[..octets.len().min(READ_BYTES)];
            let (consumed, next) = self.connection.receive(piece, self.now);
            assert!(consumed > 0 && next == Next::Continue, "the broker takes no more");
            octets = &octets[consumed..];
        }
    }

    /// Takes everything there is for its socket; how many bytes.
    fn read(&mut self) -> usize {
        let mut bytes = 0;
        if self.connection.mailbox().take() {
            assert_eq!(self.connection.woken(self.now), Next::Continue);
        }
        while !self.connection.output().is_empty() {
            let output = self.connection.output();
            let length = output.len();
            output.advance(length);
            bytes += length;
            assert_eq!(self.connection.written(self.now), Next::Continue);
        }
        bytes
    }
}

/// The broker as it starts on an empty folder. Its own tasks never run: nobody drives the runtime.
fn start(folder: &Path) -> Broker {
    let mut replay = Replay::default();
    let options = Options::new(folder.to_owned(), LogOptions::new(1));
    let opened =
        storage::open(&options, &mut |placed| replay.record(&placed)).expect("an empty folder opens");
    let replayed = replay.finish(opened.recovery.clean_stop, &opened.defined_in);
    let found = Found {
        storage: opened.storage,
        replayed,
        definitions: opened.definitions,
        clock: Clock::start(None),
    };
    let options = BrokerOptions {
        session: SessionOptions::default(),
        memory_watermark_bytes: 1 << 30,
        log_budget_bytes: 1 << 30,
        disk: DiskOptions { look: Box::new(|| Ok((1 << 40, 1 << 40))), free_limit_bytes: 0 },
        vhost: VhostOptions { outbox_bytes: 1 << 20, cache_bytes: 1 << 30, default_delivery_limit: None },
    };
    Broker::start(options, Authenticator::new(), found, &[VhostName::from("/")]).0
}

/// The publisher's bytes for one burst.
fn publishes(burst: usize) -> BytesMut {
    let mut octets = BytesMut::new();
    let publish = basic::Publish { routing_key: QUEUE, ..basic::Publish::default() };
    for _ in 0..burst {
        frame::encode_method(CHANNEL, &publish.into(), &mut octets).expect("it fits in a frame");
        frame::encode_header(CHANNEL, basic::Publish::ID.class_id, BODY.len() as u64, &[0, 0], &mut octets);
        frame::encode_body(CHANNEL, &BODY, &mut octets);
    }
    octets
}

/// Sends the burst so often; how many bytes came out. A function of its own in the program, because callgrind is told
/// its name.
#[inline(never)]
fn pass(publisher: &mut Client, consumer: &mut Client, burst: &[u8], times: usize) -> usize {
    let mut bytes = 0;
    for _ in 0..times {
        publisher.send(black_box(burst));
        bytes += publisher.read() + consumer.read();
    }
    bytes
}

/// The consumer's bytes for deliveries with the tags `first..=last`.
fn deliveries(first: u64, last: u64) -> usize {
    let mut octets = BytesMut::new();
    let mut bytes = 0;
    for delivery_tag in first..=last {
        let deliver = basic::Deliver {
            consumer_tag: "c",
            delivery_tag,
            routing_key: QUEUE,
            ..basic::Deliver::default()
        };
        octets.clear();
        frame::encode_method(CHANNEL, &deliver.into(), &mut octets).expect("it fits in a frame");
        frame::encode_header(CHANNEL, basic::Publish::ID.class_id, BODY.len() as u64, &[0, 0], &mut octets);
        frame::encode_body(CHANNEL, &BODY, &mut octets);
        bytes += octets.len();
    }
    bytes
}

fn run(burst: usize, messages: usize) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    #[expect(clippy::disallowed_methods, reason = "sessions are told the time, and it stands still")]
    let now = Instant::now();
    let broker = start(folder.path());
    let mut publisher = Client::open(&broker, "publisher", now);
    let mut consumer = Client::open(&broker, "consumer", now);
    consumer.call(CHANNEL, queue::Declare { queue: QUEUE, ..queue::Declare::default() });
    let consume =
        basic::Consume { queue: QUEUE, consumer_tag: "c", no_ack: true, ..basic::Consume::default() };
    consumer.call(CHANNEL, consume);

    let octets = publishes(burst);
    let (warm_up, times) = (WARM_UP / burst, messages / burst);
    for _ in 0..warm_up {
        publisher.send(&octets);
        consumer.read();
    }
    let bytes = pass(&mut publisher, &mut consumer, &octets, times);
    let first = (warm_up * burst) as u64 + 1;
    assert_eq!(bytes, deliveries(first, first + (times * burst) as u64 - 1), "not every message came out");
    println!("{} messages delivered", times * burst);
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [burst, messages] = numbers[..] else { panic!("usage: straight BURST MESSAGES") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs no more than memory");
    let _entered = runtime.enter();
    run(burst, messages);
}
