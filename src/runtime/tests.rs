//! Queues on a real log, in a plain model's hands: whatever is done, and however the broker ends, the same messages are
//! there in the same order. Segments are small, so that they are given up and moved all the time.

mod policies;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ferrymq_protocol::table::{Table, Value};
use tempfile::TempDir;

use super::reading::{MAX_BYTES, Reading};
use super::vhost_handle::TurnBuffers;
use super::*;
use crate::auth::Authenticator;
use crate::model::{
    BindingDefinition, ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, Destination, ExchangeName,
    Message, MessageParts, Origin, Outcome, QueueDefinition, QueueId, QueueName, RoutingKey, Seq, VhostName,
};
use crate::queue::Home;
use crate::session::SessionOptions;
use crate::storage::log::{Batch, LogOptions};
use crate::storage::{self, Options};
use crate::vhost::{
    Awaiting, Command, Consume, Event, Get, Publish, Reply, Request, Settlement, VhostOptions,
};

const QUEUES: [&str; 3] = ["a", "b", "c"];
/// The queue that has limits, and what they are.
const LIMITED: usize = 2;
const LENGTH_MAX: usize = 24;
const FAILURES_MAX: u16 = 2;
const BUDGET_BYTES: u64 = 64 << 10;
const WATERMARK_BYTES: u64 = 4 << 20;

/// SplitMix64: enough for choices.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).expect("it is below a usize")
    }
}

/// A message as the model has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    id: u64,
    persistent: bool,
    redelivered: bool,
    /// How often a client has failed with it.
    failures: u16,
}

/// A delivery that has not ended.
#[derive(Clone, Copy, Debug)]
struct Held {
    queue: usize,
    expected: Expected,
    place: (QueueId, Seq),
}

/// A broker, a client of it, and what should be in its queues.
struct World {
    root: TempDir,
    broker: Broker,
    connection: ConnectionKey,
    channel: ChannelKey,
    mailbox: Arc<Mailbox>,
    buffers: TurnBuffers,
    /// By queue, in order of place; what is held is not among them.
    ready: [BTreeMap<u64, Expected>; 3],
    held: Vec<Held>,
    next_id: u64,
    random: Random,
    memory: MemoryBytes,
}

/// What a broker may have in memory.
#[derive(Clone, Copy)]
struct MemoryBytes {
    watermark: u64,
    cache: u64,
}

fn start(path: &Path, memory: MemoryBytes) -> Broker {
    let mut replay = Replay::default();
    let log = LogOptions { segment_bytes_min: 4 << 10, segment_bytes_max: 16 << 10, ..LogOptions::new(3) };
    let options = Options::new(path.to_owned(), log);
    let opened = storage::open(&options, &mut |placed| replay.record(&placed)).expect("it opens");
    assert_eq!(opened.recovery.damage, []);
    let replayed = replay.finish(opened.recovery.clean_stop, &opened.defined_in);
    let found = Found {
        storage: opened.storage,
        replayed,
        definitions: opened.definitions,
        clock: Clock::start(None),
    };
    let options = BrokerOptions {
        session: SessionOptions::default(),
        memory_watermark_bytes: memory.watermark,
        log_budget_bytes: BUDGET_BYTES,
        disk: DiskOptions { look: Box::new(|| Ok((1 << 40, 1 << 40))), free_limit_bytes: 0 },
        vhost: VhostOptions {
            outbox_bytes: 1 << 20,
            cache_bytes: memory.cache,
            default_delivery_limit: None,
        },
    };
    let (broker, reports) = Broker::start(options, Authenticator::new(), found, &[VhostName::from("/")]);
    assert!(
        reports.iter().all(|report| report.refused.is_empty() && report.undefined.is_empty()),
        "{reports:?}"
    );
    broker
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        // From nothing that may stay in memory to everything.
        let cache = [0, 4 << 10, 1 << 20][random.below(3)];
        let watermark = [0, 128 << 10, WATERMARK_BYTES][random.below(3)];
        Self::with_memory(random, MemoryBytes { watermark, cache })
    }

    fn with_memory(random: Random, memory: MemoryBytes) -> Self {
        let root = tempfile::tempdir().unwrap();
        let broker = start(root.path(), memory);
        let mut world = Self {
            root,
            broker,
            connection: ConnectionKey(0),
            channel: ChannelKey(0),
            mailbox: Arc::default(),
            buffers: TurnBuffers::default(),
            ready: Default::default(),
            held: Vec::new(),
            next_id: 0,
            random,
            memory,
        };
        world.connect();
        (0..QUEUES.len()).for_each(|queue| world.declare(queue));
        world
    }

    fn connect(&mut self) {
        let vhost = self.broker.vhost("/").expect("it exists");
        self.mailbox = Arc::default();
        self.connection = vhost.attach(Arc::clone(&self.mailbox));
        match self.ask(Request::OpenChannel) {
            Reply::ChannelOpened(channel) => self.channel = channel,
            other => panic!("{other:?}"),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "nothing here depends on the time")]
    fn turn(&mut self, commands: Vec<Command>) -> Vec<Event> {
        let vhost = self.broker.vhost("/").expect("it exists");
        let (mut commands, mut events) = (commands, Vec::new());
        vhost.turn(self.connection, &mut commands, &mut events, (Instant::now(), &mut self.buffers));
        self.broker.fold_memory(0);
        events
    }

    fn ask(&mut self, request: Request) -> Reply {
        let mut events = self.turn(vec![Command::Request { channel: ChannelNumber(1), request }]);
        while events.is_empty() {
            // A get whose message has to be read is answered later.
            let bell = self.mailbox.rung();
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(bell));
            events = self.turn(Vec::new());
        }
        match events.into_iter().next() {
            Some(Event::Replied { result: Ok(reply), .. }) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn declare(&mut self, queue: usize) {
        self.ask(Request::DeclareQueue(QueueDefinition {
            name: QueueName::from(QUEUES[queue]),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: if queue == LIMITED {
                let length = i64::try_from(LENGTH_MAX).expect("it is small");
                let failures = i64::from(FAILURES_MAX);
                Table::new()
                    .with("x-max-length", Value::I64(length))
                    .with("x-delivery-limit", Value::I64(failures))
            } else {
                Table::default()
            },
            origin: Origin::Client,
        }));
        self.ask(Request::Bind(BindingDefinition {
            source: ExchangeName::from("amq.fanout"),
            destination: Destination::Queue(QueueName::from(QUEUES[queue])),
            routing_key: RoutingKey::from(""),
            arguments: Table::default(),
            origin: Origin::Client,
        }));
    }

    fn publish(&mut self) {
        let queue = self.random.below(QUEUES.len() + 1);
        let persistent = self.random.below(4) > 0;
        let length = 8 + self.random.below(600);
        self.publish_to(queue, persistent, length);
    }

    /// Publishes to a queue, or to all of them if there is none of this number.
    fn publish_to(&mut self, queue: usize, persistent: bool, length: usize) {
        let (exchange, key) = QUEUES.get(queue).map_or(("amq.fanout", ""), |queue| ("", *queue));
        let id = self.next_id;
        self.next_id += 1;
        let mut body = id.to_be_bytes().to_vec();
        body.resize(length, 7);
        let vhost = self.broker.vhost("/").expect("it exists");
        let route = vhost
            .topology()
            .route(exchange, key, &crate::topology::Features::default(), &[])
            .expect("it exists");
        let parts = MessageParts { exchange, routing_key: key, properties: &[0, 0], persistent };
        let message = Message::new(parts, Bytes::from(body));
        let awaiting = Awaiting::Confirm { channel: ChannelNumber(1), tag: 1 };
        self.turn(vec![Command::Publish(Publish { message, route, returned: false, awaiting })]);
        for ready in self.ready.iter_mut().enumerate().filter(|(at, _)| queue == *at || queue == QUEUES.len())
        {
            ready.1.insert(id, Expected { id, persistent, redelivered: false, failures: 0 });
        }
        self.drop_excess();
    }

    /// The head of the queue that has a limit gives way.
    fn drop_excess(&mut self) {
        let limited = &mut self.ready[LIMITED];
        while limited.len() > LENGTH_MAX {
            limited.pop_first();
        }
    }

    /// A message comes back, unless clients have failed with it too often.
    fn put_back(&mut self, queue: usize, expected: Expected, failed: bool) {
        let failures = expected.failures + u16::from(failed);
        if queue != LIMITED || failures <= FAILURES_MAX {
            self.ready[queue].insert(expected.id, Expected { redelivered: true, failures, ..expected });
        }
    }

    /// Gets the next message and checks that it is the one that the model has there.
    fn get(&mut self, queue: usize, no_ack: bool) -> bool {
        let get = Get { channel: self.channel, queue: QueueName::from(QUEUES[queue]), no_ack };
        let Reply::Got(got) = self.ask(Request::Get(get)) else { panic!("no answer to a get") };
        let expected = self.ready[queue].pop_first().map(|(_, expected)| expected);
        let vhost = self.broker.vhost("/").expect("it exists");
        let shown = got.as_ref().map(|got| Expected {
            id: u64::from_be_bytes(*got.message.body().first_chunk().expect("every body has an id")),
            persistent: got.message.persistent(),
            redelivered: got.redelivered,
            // Of a message that is gone nothing more is known.
            failures: match vhost.state.lock().vhost.kept(got.queue, got.seq) {
                Some(kept) => kept.history.delivery_count,
                None => expected.map_or(0, |expected| expected.failures),
            },
        });
        assert_eq!(shown, expected, "in queue {}", QUEUES[queue]);
        if let (Some(got), Some(expected), false) = (&got, expected, no_ack) {
            self.held.push(Held { queue, expected, place: (got.queue, got.seq) });
        }
        got.is_some()
    }

    fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let pick = self.random.below(self.held.len());
        let Held { queue, expected, place: (id, seq) } = self.held.swap_remove(pick);
        let outcomes =
            [Outcome::Ack, Outcome::Ack, Outcome::Ack, Outcome::Discard, Outcome::Requeue, Outcome::Return];
        let outcome = outcomes[self.random.below(outcomes.len())];
        let settlement = Settlement { channel: self.channel, queue: id, seq, outcome };
        self.turn(vec![Command::Settle(settlement)]);
        if matches!(outcome, Outcome::Requeue | Outcome::Return) {
            self.put_back(queue, expected, outcome == Outcome::Requeue);
            self.drop_excess();
        }
    }

    fn act(&mut self) {
        let queue = self.random.below(QUEUES.len());
        match self.random.below(200) {
            0 => {
                self.ask(Request::PurgeQueue(QueueName::from(QUEUES[queue])));
                self.ready[queue].clear();
            }
            1 => {
                let name = QueueName::from(QUEUES[queue]);
                self.ask(Request::DeleteQueue { name, if_unused: false, if_empty: false });
                self.ready[queue].clear();
                self.held.retain(|held| held.queue != queue);
                self.declare(queue);
            }
            2..100 => self.publish(),
            100..150 => {
                let no_ack = self.random.below(4) == 0;
                self.get(queue, no_ack);
            }
            _ => self.settle(),
        }
    }

    /// What is held returns. Its client has failed with it, unless it is the broker that has ended.
    fn return_held(&mut self, failed: bool) {
        for Held { queue, expected, .. } in std::mem::take(&mut self.held) {
            self.put_back(queue, expected, failed);
        }
    }

    /// Ends the broker, starts it again, and takes off the model what need not have survived.
    fn restart(&mut self, clean: bool) {
        let vhost = self.broker.vhost("/").expect("it exists");
        if clean {
            vhost.detach(self.connection, &mut Vec::new(), &mut self.buffers);
            self.broker.finish_work();
            assert!(self.broker.is_quiet());
        }
        // Without the mark of a clean stop it is as if the process had been killed with everything written.
        self.broker.shutdown(clean).expect("the disk takes it");
        let root = tempfile::tempdir().unwrap();
        copy(self.root.path(), root.path());
        self.broker = start(root.path(), self.memory);
        self.root = root;
        self.broker.finish_work();
        self.return_held(clean);
        if clean {
            // What returned did so while those were there that need not survive.
            self.drop_excess();
        }
        for ready in &mut self.ready {
            ready.retain(|_, expected| expected.persistent);
            ready.values_mut().for_each(|expected| expected.redelivered |= !clean);
        }
        self.drop_excess();
        self.connect();
    }

    /// Waits until the log has everything, and nothing that it has is in memory.
    async fn page_out(&mut self) {
        let log = self.broker.storage().log();
        let position = log.append(&mut Batch::new(), true).position;
        log.durable().wait_for(|durable| *durable >= position).await.expect("the log lives");
        while self.broker.vhost("/").expect("it exists").state.lock().vhost.fills_cache() {
            self.turn(Vec::new());
        }
    }

    /// Where the messages of a queue are stored, in order.
    fn stored(&self, queue: usize) -> (QueueId, Vec<(Seq, Home)>) {
        let vhost = self.broker.vhost("/").expect("it exists");
        let id = vhost.topology().queue(QUEUES[queue]).expect("it exists").id;
        let state = vhost.state.lock();
        let kept = (0..self.next_id).map(Seq).filter_map(|seq| Some((seq, state.vhost.kept(id, seq)?.home)));
        (id, kept.collect())
    }

    /// Starts a consumer without acknowledgements, and takes so many messages from it; their ids.
    async fn consume(&mut self, queue: usize, messages: usize) -> Vec<u64> {
        let consume = Consume {
            channel: self.channel,
            consumer: ConsumerKey(1),
            queue: QueueName::from(QUEUES[queue]),
            no_ack: true,
            exclusive: false,
            prefetch: 0,
            arguments: Table::default(),
        };
        let mailbox = Arc::clone(&self.mailbox);
        let mut ids = Vec::new();
        let mut commands =
            vec![Command::Request { channel: ChannelNumber(1), request: Request::Consume(consume) }];
        while ids.len() < messages {
            let bell = mailbox.rung();
            let mut drained = 0;
            for event in self.turn(std::mem::take(&mut commands)) {
                if let Event::Delivery(delivery) = event {
                    drained += delivery.cost();
                    let body = delivery.message.body();
                    ids.push(u64::from_be_bytes(*body.first_chunk().expect("every body has an id")));
                }
            }
            if drained > 0 {
                commands.push(Command::Drained { bytes: drained });
            } else if ids.len() < messages {
                bell.await;
            }
        }
        ids
    }

    /// Bytes that the log takes up once nothing is left to give up.
    async fn settled_log_bytes(&self) -> u64 {
        let log = self.broker.storage().log();
        let position = log.append(&mut Batch::new(), true).position;
        log.durable().wait_for(|durable| *durable >= position).await.expect("the log lives");
        let (mut last, mut unchanged) = (u64::MAX, 0);
        // Reclaiming runs on tasks and threads of its own, looks every second, and tells nobody when it is done.
        while unchanged < 75 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let bytes = log.usage().bytes;
            unchanged = if bytes == last { unchanged + 1 } else { 0 };
            last = bytes;
        }
        last
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn seed() -> u64 {
    const VARIABLE: &str = "FERRYMQ_TEST_SEED";
    let seed = match std::env::var(VARIABLE) {
        Ok(seed) => seed.parse().expect("the seed is a number"),
        Err(_) => RandomState::new().hash_one(VARIABLE),
    };
    println!("replay with {VARIABLE}={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_keep_what_a_model_keeps_across_restarts_clean_and_dirty() {
    let mut world = World::new(seed());
    for _ in 0..12 {
        for _ in 0..400 {
            world.act();
        }
        let clean = world.random.below(2) == 0;
        world.restart(clean);
        if world.random.below(3) == 0 {
            for queue in 0..QUEUES.len() {
                while world.get(queue, false) {}
            }
        }
    }
    for queue in 0..QUEUES.len() {
        while world.get(queue, true) {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_that_nobody_acks_pins_nothing_else() {
    let mut world = World::new(seed());
    world.publish();
    let stuck = world.ready.clone();
    for ready in &mut world.ready {
        ready.clear();
    }
    // It is got and never settled; everything behind it flows through.
    for queue in QUEUES {
        let get = Get { channel: world.channel, queue: QueueName::from(queue), no_ack: false };
        world.ask(Request::Get(get));
    }
    for _ in 0..3_000 {
        world.publish();
        for queue in 0..QUEUES.len() {
            while world.get(queue, true) {}
        }
    }
    let bytes = world.settled_log_bytes().await;
    // The budget, spare files, and the segment that is being written.
    assert!(bytes <= BUDGET_BYTES + 4 * (16 << 10), "{bytes} bytes for one message");
    world.ready = stuck;
    for expected in world.ready.iter_mut().flat_map(BTreeMap::values_mut) {
        expected.redelivered = true;
    }
    world.restart(true);
    for queue in 0..QUEUES.len() {
        while world.get(queue, true) {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_under_a_running_broker_is_lost_and_nothing_else() {
    const MESSAGES: u64 = 100;
    let mut world = World::with_memory(Random(1), MemoryBytes { watermark: WATERMARK_BYTES, cache: 0 });
    (0..MESSAGES).for_each(|_| world.publish_to(0, true, 300));
    world.page_out().await;
    let (_, stored) = world.stored(0);
    assert_eq!(stored.len(), 100);
    let (damaged, home) = stored[41];
    let location = home.location().expect("it is stored");
    let path = world.root.path().join(storage::LOG).join(format!("{:010}.log", location.segment));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = usize::try_from(location.offset).unwrap() + 100;
    bytes[middle] ^= 1;
    // In place, for the broker may have it open.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[middle..=middle], middle as u64).unwrap();

    let ids = world.consume(0, 99).await;
    assert!(ids.into_iter().eq((0..MESSAGES).filter(|id| *id != damaged.0)));
    let vhost = world.broker.vhost("/").expect("it exists");
    let (queue, _) = world.stored(0);
    let counters = *vhost.state.lock().vhost.queue(queue).expect("it exists").counters();
    assert_eq!((counters.lost, counters.delivered_no_ack), (1, 99));
    // Other queues, and the same one, go on.
    world.ready[0].clear();
    world.publish_to(1, true, 10);
    assert!(world.get(1, true));
    world.publish_to(0, true, 10);
    world.page_out().await;
    assert_eq!(vhost.state.lock().vhost.queue(queue).expect("it exists").ready(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_read_takes_little_memory_and_brings_the_first_message() {
    const LENGTH: usize = 400_000;
    let mut world = World::with_memory(Random(1), MemoryBytes { watermark: WATERMARK_BYTES, cache: 0 });
    (0..20).for_each(|_| world.publish_to(QUEUES.len(), true, LENGTH));
    world.page_out().await;
    let vhost = world.broker.vhost("/").expect("it exists");
    let (queue, mut stored) = world.stored(2);
    let said: u64 = stored.iter().map(|(_, home)| u64::from(home.bytes())).sum();
    assert!(said < 20 * LENGTH as u64 / 2, "each place counts for a part of its message");
    // As if the first one had been moved: it is the last one in the log.
    let last = stored.len() - 1;
    stored.swap(0, last);
    let mut reading = Reading::new(world.broker.ledger(), vhost.id, queue);
    reading.read(&stored).unwrap();
    let found: Vec<_> = reading.result.found.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(found[0], stored[0].0);
    assert_eq!(found.len(), MAX_BYTES.div_ceil(LENGTH));
    assert_eq!(reading.result.missing, []);
    // What was not read is read next.
    while world.get(2, true) {}
    assert!(world.ready[2].is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_need_not_survive_leave_memory_when_it_is_scarce() {
    let mut world =
        World::with_memory(Random(seed()), MemoryBytes { watermark: WATERMARK_BYTES, cache: 16 << 10 });
    let mut published = 0_u64;
    // Several times what may be held, of messages that go with the process, in queues that do and do not.
    while published < 4 * WATERMARK_BYTES {
        let length = 8 + world.random.below(6_000);
        world.publish_to(QUEUES.len(), false, length);
        published += length as u64;
        while world.broker.memory().alarm() {
            // As a publisher does.
            tokio::task::yield_now().await;
        }
    }
    let held = u64::try_from(world.broker.memory().bytes()).unwrap();
    assert!(held <= WATERMARK_BYTES, "{held} bytes of memory for {published} bytes of messages");
    // They come back in order, and the end of each is stored like that of any other.
    for queue in 0..QUEUES.len() {
        for _ in 0..world.ready[queue].len() / 2 {
            world.get(queue, true);
        }
    }
    world.restart(true);
    for queue in 0..QUEUES.len() {
        assert!(!world.get(queue, true), "what was stored for the sake of memory is gone after a restart");
    }
}
