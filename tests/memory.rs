//! Memory is defended: messages leave it, publishers wait if they cannot, consumers go on, and nobody is let down.

mod kit;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferrymq_protocol::method::{Method, basic};
use kit::{Broker, Client, Hello, Incoming, Options, Receiver, data_dir, eventually, publish_frames};

const MIB: usize = 1 << 20;
const WATERMARK: usize = 48 * MIB;
const CONFIG: &str = "[limits]\nmemory_watermark = \"48 MiB\"\nwrite_timeout = \"1 h\"\n";
/// What the process may take beyond the watermark: its code and threads (25 MiB), what it admits between the
/// watermark and the mark at which messages are stopped in the middle (a quarter), buffers of 16 MiB messages
/// that are being copied into larger ones or on their way to the log, and what the allocator keeps. Far less than
/// what is published.
const SLACK: usize = 208 * MIB;
/// Sizes of bodies, and how many of each are published: 128 MiB of each of the larger ones.
const LOADS: [(usize, usize); 4] = [(1_024, 60_000), (65_536, 2_048), (MIB, 128), (16 * MIB, 8)];

/// A publisher that publishes all it has, however long that is not read, and notes what it is told.
struct Publisher {
    writer: std::thread::JoinHandle<()>,
    listener: std::thread::JoinHandle<(u32, u32)>,
}

impl Publisher {
    fn start(broker: &Broker, queue: &'static str, size: usize, count: usize) -> Self {
        let mut client = Client::open(broker.address);
        client.open_channel(1);
        client.confirm_select(1);
        let Client { stream, mut receiver } = client;
        // While it is blocked nothing comes, and nothing it writes is taken.
        stream.set_write_timeout(None).expect("connected");
        stream.set_read_timeout(None).expect("connected");
        let writer = std::thread::spawn(move || {
            let message = publish_frames(1, queue, &vec![b'm'; size]);
            for _ in 0..count {
                std::io::Write::write_all(&mut &stream, &message).expect("the broker takes it in the end");
            }
        });
        let listener = std::thread::spawn(move || listen(&mut receiver, count));
        Self { writer, listener }
    }

    /// Everything is published and confirmed; how often it was blocked and unblocked.
    fn finish(self) -> (u32, u32) {
        self.writer.join().expect("the broker has taken everything");
        self.listener.join().expect("the broker has confirmed everything")
    }
}

fn listen(receiver: &mut Receiver, count: usize) -> (u32, u32) {
    let (mut blocked, mut unblocked) = (0, 0);
    loop {
        let frame = receiver.frame();
        match frame.method() {
            Method::BasicAck(ack) if ack.delivery_tag == count as u64 => return (blocked, unblocked),
            Method::BasicAck(_) => {}
            Method::ConnectionBlocked(reason) => {
                assert_eq!(reason.reason, "low on memory");
                blocked += 1;
                assert_eq!(blocked, unblocked + 1, "told once");
            }
            Method::ConnectionUnblocked(_) => unblocked += 1,
            other => panic!("{other:?}"),
        }
    }
}

/// Runs the loads against a broker that nobody consumes from, serves others meanwhile, drains it.
fn fill_and_drain(mut broker: Broker, limit: usize) {
    let mut owner = Client::open(broker.address);
    owner.open_channel(1);
    owner.declare(1, "load");
    owner.declare(1, "other");
    let mut deaf = Client::open(broker.address);
    deaf.open_channel(1);
    deaf.consume(1, "load", false);
    let mut served = Client::open(broker.address);
    served.open_channel(1);
    for n in 0..100_u8 {
        owner.publish(1, "other", &[n]);
    }
    eventually("the other queue is filled", || owner.declare(1, "other") == 100);

    let publishers: Vec<_> = LOADS.map(|(size, count)| Publisher::start(&broker, "load", size, count)).into();
    // A consumer on another queue is served as if nothing were the matter.
    served.consume(1, "other", false);
    for n in 0..100_u8 {
        let delivered = served.receiver.delivery();
        assert_eq!(delivered.body, [n]);
        served.ack(1, delivered.tag, false);
    }
    // Messages leave memory, so that publishers that had to wait go on without anybody consuming.
    for (blocked, unblocked) in publishers.into_iter().map(Publisher::finish) {
        assert!(blocked - unblocked <= 1, "{blocked} {unblocked}");
    }
    let peak = broker.memory("VmHWM");
    println!("peak {} MiB, limit {} MiB", peak / MIB as u64, limit / MIB);
    assert!(peak < limit as u64, "{} MiB at its peak", peak / MIB as u64);
    drop(deaf);
    let published = LOADS.iter().map(|(_, count)| *count as u64).sum();
    assert_eq!(drain_queue(broker.address, published), published);
    println!("peak {} MiB once it is drained", broker.memory("VmHWM") / MIB as u64);
    broker.assert_sound();
}

/// Gets so many messages, however long the last of them are on their way back to the queue; returns how many there are.
fn drain_queue(address: std::net::SocketAddr, expected: u64) -> u64 {
    let mut client = Client::open(address);
    client.open_channel(1);
    let mut drained = 0;
    loop {
        let answer: Incoming = client.call(1, basic::Get { queue: "load", no_ack: true });
        match answer.method() {
            Method::BasicGetOk(_) => {
                client.receiver.content();
                drained += 1;
            }
            Method::BasicGetEmpty(_) if drained >= expected => return drained,
            Method::BasicGetEmpty(_) => std::thread::yield_now(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn more_than_the_watermark_can_be_published_without_a_consumer() {
    fill_and_drain(Broker::start(CONFIG), WATERMARK + SLACK);
}

/// The same under a hard limit of the kernel, at the default watermark: whoever exceeds it is killed.
#[test]
fn a_control_group_of_512_mib_is_enough() {
    let Some(group) = ControlGroup::make(512 * MIB) else {
        kit::skipped(
            "a_control_group_of_512_mib_is_enough",
            "no control group can be made here; the configured watermark is tested instead",
        );
        return;
    };
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", group.0.display());
    let wrapper = ["sh", "-c", &enter];
    let options = Options { config: "[limits]\nwrite_timeout = \"1 h\"\n", wrapper: &wrapper };
    let broker = Broker::start_with(&options, Arc::new(data_dir()));
    broker.log.wait_for("memory watermark 256 MiB");
    fill_and_drain(broker, 512 * MIB);
}

/// A control group of its own, of either version, removed at the end.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn make(bytes: usize) -> Option<Self> {
        let name = format!("ferrymq-test-{}", std::process::id());
        for (root, limit) in [("", "memory.max"), ("memory", "memory.limit_in_bytes")] {
            let group = Path::new("/sys/fs/cgroup").join(root).join(&name);
            if std::fs::create_dir(&group).is_err() {
                continue;
            }
            let group = Self(group);
            // In a file system that is no control group's the file does not exist.
            let file = group.0.join(limit);
            if file.exists() && std::fs::write(&file, bytes.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // What stays behind limits nobody.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Raises the alarm with messages that a client has and does not settle: they cannot leave memory. Returns that client,
/// and the publisher of the last message, which is only taken later.
fn raise_alarm(broker: &Broker) -> (Client, Client) {
    let mut holder = Client::open(broker.address);
    holder.open_channel(1);
    holder.declare(1, "full");
    holder.consume(1, "full", false);
    let mut owner = Client::open(broker.address);
    owner.open_channel(1);
    let message = vec![b'f'; MIB];
    for _ in 1..WATERMARK / MIB {
        owner.publish(1, "full", &message);
        holder.receiver.delivery();
    }
    owner.publish(1, "full", &message);
    broker.log.wait_for("memory alarm:");
    (holder, owner)
}

#[test]
fn a_blocked_publisher_is_told_once_and_may_be_silent() {
    let broker = Broker::start(CONFIG);
    let (holder, _owner) = raise_alarm(&broker);
    let mut blocked = Client::open_as(broker.address, &Hello { heartbeat: 1, ..Hello::default() });
    let mut silent =
        Client::open_as(broker.address, &Hello { heartbeat: 1, blocked: false, ..Hello::default() });
    for client in [&mut blocked, &mut silent] {
        client.open_channel(1);
        client.publish(1, "full", b"late");
    }
    let frame = blocked.receiver.frame();
    assert!(matches!(frame.method(), Method::ConnectionBlocked(reason) if reason.reason == "low on memory"));
    // Four intervals in which the client says nothing: heartbeats of the broker count the time.
    for client in [&mut blocked, &mut silent] {
        for _ in 0..8 {
            let beat = client.receiver.try_frame().expect("a blocked connection is not closed");
            assert_eq!(beat.kind, ferrymq_protocol::frame::FrameKind::Heartbeat);
        }
        // What it says is not read.
        client.publish(1, "full", b"later");
    }
    // Whoever does not publish is not blocked.
    let mut bystander = Client::open(broker.address);
    bystander.open_channel(1);
    bystander.declare(1, "other");
    // What it held returns to the queue and leaves memory.
    holder.reset();
    assert!(matches!(blocked.receiver.frame().method(), Method::ConnectionUnblocked(_)));
    blocked.close();
    silent.close();
    let all = u32::try_from(WATERMARK / MIB).expect("a few") + 4;
    eventually("what was not read is there", || bystander.declare(1, "full") == all);
}

#[test]
fn a_blocked_publisher_that_is_reset_leaves_at_once_and_costs_nothing() {
    let broker = Broker::start(CONFIG);
    let _clients = raise_alarm(&broker);
    let mut blocked = Client::open(broker.address);
    blocked.open_channel(1);
    blocked.publish(1, "full", b"late");
    assert!(matches!(blocked.receiver.frame().method(), Method::ConnectionBlocked(_)));
    let name = blocked.name();
    blocked.reset();
    broker.log.wait_for(&name);
}

#[test]
fn incomplete_messages_count_and_end_with_their_connection() {
    const PUBLISHERS: usize = 24;
    let mut broker = Broker::start(CONFIG);
    let mut others = Client::open(broker.address);
    others.open_channel(1);
    others.declare(1, "big");
    // Fifteen of 16 MiB announced, each: 360 MiB.
    let address = broker.address;
    let threads: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::open(address);
                client.open_channel(1);
                let message = publish_frames(1, "big", &vec![b'b'; 16 * MIB]);
                client.stream.set_write_timeout(Some(std::time::Duration::from_secs(2))).expect("connected");
                client.try_write(&message[..15 * MIB]);
                client
            })
        })
        .collect();
    let clients: Vec<_> =
        threads.into_iter().map(|thread| thread.join().expect("it may stop writing")).collect();
    broker.log.wait_for("memory alarm:");
    let peak = broker.memory("VmHWM");
    println!("peak {} MiB", peak / MIB as u64);
    assert!(peak < (WATERMARK + SLACK) as u64, "{} MiB at its peak", peak / MIB as u64);
    for client in clients {
        client.reset();
    }
    broker.log.wait_for("memory alarm cleared");
    // Nothing of them is left in the books: a message of ordinary size raises no alarm.
    others.confirm_select(1);
    others.publish(1, "big", &vec![b'b'; 16 * MIB]);
    others.confirmed();
    assert_eq!(others.declare(1, "big"), 1);
    broker.assert_sound();
}

#[test]
fn answers_to_a_client_that_does_not_read_are_bounded() {
    let mut broker = Broker::start("");
    let mut deaf = Client::open(broker.address);
    deaf.open_channel(1);
    let before = broker.memory("VmRSS");
    deaf.stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).expect("connected");
    // Each question of 20 bytes asks for an answer of 1 KiB, for as long as anybody listens.
    let publish = basic::Publish { routing_key: "nowhere", mandatory: true, ..basic::Publish::default() };
    let mut burst = kit::method_frame(1, publish);
    burst.extend(kit::header_frame(1, 1_000));
    burst.extend(kit::raw_frame(3, 1, &[b'r'; 1_000]));
    let burst = burst.repeat(100);
    let mut sent = 0;
    while sent < 256 * MIB && deaf.try_write(&burst) {
        sent += burst.len();
    }
    assert!(sent < 256 * MIB, "the broker stops reading");
    let grown = broker.memory("VmHWM").saturating_sub(before);
    assert!(grown < 32 * MIB as u64, "{} MiB for one client", grown / MIB as u64);
    broker.assert_sound();
}
