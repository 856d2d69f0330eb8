//! The load program: one publisher and one consumer against a broker on this machine, and what that costs it.
//!
//! `cargo bench --bench load -- --size 16` starts this build's broker; `--address HOST:PORT --pid PID` measures
//! a running one. Every delivery is checked for its size; a wrong count fails the run.

#![allow(clippy::disallowed_methods, reason = "a load program is made of clocks and waiting")]
#![allow(clippy::unwrap_in_result, reason = "a panic of a thread of ours ends the measurement")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded for people")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use clap::Parser;
use ferrymq_protocol::frame::{self, FrameKind};
use ferrymq_protocol::method::{Method, basic, channel, confirm, connection, queue};
use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::TableRef;

/// Measures message rate and broker CPU with one publisher and one consumer.
#[derive(Debug, Parser)]
struct Options {
    /// Body size in bytes.
    #[arg(long, default_value_t = 16)]
    size: usize,
    /// Seconds to publish for.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Manual acknowledgements, this many deliveries at a time; 0 is automatic.
    #[arg(long, default_value_t = 0)]
    ack_every: u64,
    /// Prefetch of the consumer, with manual acknowledgements.
    #[arg(long, default_value_t = 1_000)]
    prefetch: u16,
    /// Persistent messages to a durable queue, with publisher confirms and at most this many unconfirmed; 0 is
    /// transient messages without confirms.
    #[arg(long, default_value_t = 0)]
    window: u64,
    /// Nobody consumes: what is measured is the publishing alone, and memory grows with it.
    #[arg(long)]
    publish_only: bool,
    /// Only open this many idle connections, and report the broker's resident memory.
    #[arg(long, default_value_t = 0)]
    idle_connections: usize,
    /// A running broker; without it this build's own is started.
    #[arg(long)]
    address: Option<SocketAddr>,
    /// Process id of the running broker, for its CPU time.
    #[arg(long)]
    pid: Option<u32>,
    /// Set by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !options.bench && options.address.is_none() {
        // `cargo test --benches` runs this too; a load is no test.
        return Ok(());
    }
    let broker = Broker::find(&options)?;
    if options.idle_connections > 0 {
        return idle(&options, &broker);
    }
    let report = run(&options, &broker)?;
    println!("{report}");
    Ok(())
}

fn idle(options: &Options, broker: &Broker) -> Result<()> {
    let before = broker.resident_bytes()?;
    let clients: Vec<Client> =
        (0..options.idle_connections).map(|_| Client::open(broker.address)).collect::<Result<_>>()?;
    thread::sleep(Duration::from_secs(1));
    let after = broker.resident_bytes()?;
    let each = after.saturating_sub(before) / clients.len() as u64;
    println!(
        "{} idle connections: {} KiB before, {} KiB after, {} bytes each",
        clients.len(),
        before / 1024,
        after / 1024,
        each
    );
    Ok(())
}

/// What was measured.
struct Report {
    messages: u64,
    elapsed: Duration,
    broker_cpu: Option<Duration>,
    own_cpu: Duration,
    resident_bytes: u64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.messages as f64 / self.elapsed.as_secs_f64();
        let per_message = |cpu: Duration| cpu.as_secs_f64() * 1e6 / self.messages as f64;
        write!(f, "{} messages in {:.2} s: {rate:.0}/s", self.messages, self.elapsed.as_secs_f64())?;
        if let Some(cpu) = self.broker_cpu {
            write!(f, ", broker {:.3} us/message", per_message(cpu))?;
        }
        write!(
            f,
            ", generator {:.3} us/message, broker RSS {} KiB",
            per_message(self.own_cpu),
            self.resident_bytes / 1024
        )
    }
}

fn run(options: &Options, broker: &Broker) -> Result<Report> {
    const QUEUE: &str = "load";
    let mut consumer = Client::open(broker.address)?;
    consumer.call(&Method::QueueDeclare(queue::Declare {
        queue: QUEUE,
        passive: false,
        durable: options.window > 0,
        exclusive: false,
        auto_delete: options.window == 0,
        no_wait: false,
        arguments: TableRef::default(),
    }))?;
    if options.ack_every > 0 {
        consumer.call(&Method::BasicQos(basic::Qos {
            prefetch_size: 0,
            prefetch_count: options.prefetch,
            global: false,
        }))?;
    }
    if !options.publish_only {
        consumer.call(&Method::BasicConsume(basic::Consume {
            queue: QUEUE,
            consumer_tag: "load",
            no_local: false,
            no_ack: options.ack_every == 0,
            exclusive: false,
            no_wait: false,
            arguments: TableRef::default(),
        }))?;
    }
    let mut publisher = Client::open(broker.address)?;
    if options.window > 0 {
        publisher.call(&Method::ConfirmSelect(confirm::Select { no_wait: false }))?;
    }

    let cpu_before = (broker.cpu(), own_cpu()?);
    let start = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let published = Arc::new(AtomicU64::new(0));
    let publishing = {
        let (stop, published) = (Arc::clone(&stop), Arc::clone(&published));
        let load = Load { size: options.size, window: options.window };
        thread::spawn(move || publish(publisher, QUEUE, load, &stop, &published))
    };
    let deadline = start + Duration::from_secs(options.seconds);
    let (target_known, total) = (Arc::new(AtomicBool::new(false)), Arc::clone(&published));
    let consuming = {
        let (known, size, ack_every) = (Arc::clone(&target_known), options.size, options.ack_every);
        let consumes = !options.publish_only;
        thread::spawn(
            move || {
                if consumes { consume(consumer, size, ack_every, &known, &total) } else { Ok(0) }
            },
        )
    };
    while Instant::now() < deadline && !publishing.is_finished() {
        thread::sleep(Duration::from_millis(10));
    }
    stop.store(true, Ordering::Relaxed);
    let _publisher = publishing.join().expect("the publisher does not panic")?;
    target_known.store(true, Ordering::Release);
    let consumed = consuming.join().expect("the consumer does not panic")?;
    let elapsed = start.elapsed();
    let messages = published.load(Ordering::Acquire);
    ensure!(options.publish_only || consumed == messages, "consumed {consumed} of {messages}");
    Ok(Report {
        messages,
        elapsed,
        broker_cpu: cpu_before.0.and_then(|before| Some(broker.cpu()? - before)),
        own_cpu: own_cpu()? - cpu_before.1,
        resident_bytes: broker.resident_bytes().unwrap_or(0),
    })
}

/// What is published.
#[derive(Clone, Copy)]
struct Load {
    size: usize,
    /// At most so many unconfirmed; 0 is without confirms.
    window: u64,
}

/// Writes one encoded batch again and again; with confirms, as often as the window allows.
fn publish(
    mut client: Client,
    queue: &str,
    load: Load,
    stop: &AtomicBool,
    published: &AtomicU64,
) -> Result<Client> {
    let mut one = BytesMut::new();
    let publish = basic::Publish { exchange: "", routing_key: queue, mandatory: false, immediate: false };
    frame::encode_method(1, &Method::BasicPublish(publish), &mut one)?;
    let Load { size, window } = load;
    let mut properties = BytesMut::new();
    let delivery_mode = (window > 0).then_some(2);
    Properties { delivery_mode, ..Properties::default() }.encode(&mut properties)?;
    frame::encode_header(1, 60, size as u64, &properties, &mut one);
    for chunk in vec![b'x'; size].chunks(128 * 1024) {
        frame::encode_body(1, chunk, &mut one);
    }
    let quarter = if window > 0 { usize::try_from(window.div_ceil(4))? } else { usize::MAX };
    let in_batch = (64 * 1024 / one.len()).clamp(1, 1_000).min(quarter);
    let batch = one.repeat(in_batch);
    let mut confirmed = 0;
    while !stop.load(Ordering::Relaxed) {
        client.stream.write_all(&batch)?;
        let sent = published.fetch_add(in_batch as u64, Ordering::Release) + in_batch as u64;
        while window > 0 && sent + in_batch as u64 > confirmed + window {
            confirmed = client.next_confirm()?;
        }
    }
    while window > 0 && confirmed < published.load(Ordering::Acquire) {
        confirmed = client.next_confirm()?;
    }
    Ok(client)
}

/// Counts deliveries until all that was published is there.
fn consume(
    mut client: Client,
    size: usize,
    ack_every: u64,
    known: &AtomicBool,
    published: &AtomicU64,
) -> Result<u64> {
    client.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut counted = 0_u64;
    let mut acked = 0_u64;
    let mut body = 0_usize;
    let mut acks = BytesMut::new();
    loop {
        let done = known.load(Ordering::Acquire) && counted == published.load(Ordering::Acquire);
        if done {
            return Ok(counted);
        }
        client.fill_or_time_out()?;
        let consumed = each_frame(&client.input, |kind, payload| {
            if kind == FrameKind::Body as u8 {
                body += payload;
                if body == size {
                    body = 0;
                    counted += 1;
                }
            }
        });
        client.input.drain(..consumed);
        ensure!(body < size, "a delivery is larger than what was published");
        if ack_every > 0 && counted - acked >= ack_every {
            acked = counted - counted % ack_every;
            let ack = Method::BasicAck(basic::Ack { delivery_tag: acked, multiple: true });
            frame::encode_method(1, &ack, &mut acks)?;
            client.stream.write_all(&acks)?;
            acks.clear();
        }
    }
}

/// Calls `see` with kind and payload length of each whole frame; returns the bytes they take.
fn each_frame(input: &[u8], mut see: impl FnMut(u8, usize)) -> usize {
    let mut at = 0;
    while let Some(head) = input.get(at..at + 7) {
        let payload = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if input.len() < at + payload + frame::FRAME_OVERHEAD {
            break;
        }
        see(head[0], payload);
        at += payload + frame::FRAME_OVERHEAD;
    }
    at
}

/// A blocking client that knows just enough.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    chunk: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, input: Vec::new(), chunk: vec![0; 256 * 1024] };
        client.stream.write_all(&frame::PROTOCOL_HEADER)?;
        client.expect(0, "connection.start")?;
        client.send(
            0,
            &Method::ConnectionStartOk(connection::StartOk {
                client_properties: TableRef::default(),
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
            }),
        )?;
        client.expect(0, "connection.tune")?;
        client.send(
            0,
            &Method::ConnectionTuneOk(connection::TuneOk {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 0,
            }),
        )?;
        client.send(0, &Method::ConnectionOpen(connection::Open { vhost: "/" }))?;
        client.expect(0, "connection.open-ok")?;
        client.call(&Method::ChannelOpen(channel::Open {}))?;
        client.chunk.shrink_to_fit();
        Ok(client)
    }

    fn send(&mut self, number: u16, method: &Method<'_>) -> Result<()> {
        let mut out = BytesMut::new();
        frame::encode_method(number, method, &mut out)?;
        Ok(self.stream.write_all(&out)?)
    }

    /// Sends a method on channel 1 and waits for its answer.
    fn call(&mut self, method: &Method<'_>) -> Result<()> {
        self.send(1, method)?;
        let answer = format!("{}-ok", method.name());
        self.expect(1, &answer)
    }

    fn expect(&mut self, number: u16, name: &str) -> Result<()> {
        loop {
            if let Some((frame, consumed)) = frame::decode_frame(&self.input, 131_072)? {
                let method = Method::decode(frame.payload)?;
                ensure!(frame.channel == number && method.name() == name, "expected {name}, got {method:?}");
                self.input.drain(..consumed);
                return Ok(());
            }
            let read = self.stream.read(&mut self.chunk)?;
            ensure!(read > 0, "the broker closed the connection instead of sending {name}");
            self.input.extend_from_slice(&self.chunk[..read]);
        }
    }

    /// Up to which message everything is confirmed.
    fn next_confirm(&mut self) -> Result<u64> {
        loop {
            if let Some((frame, consumed)) = frame::decode_frame(&self.input, 131_072)? {
                let Method::BasicAck(ack) = Method::decode(frame.payload)? else {
                    bail!("something else than a confirm")
                };
                self.input.drain(..consumed);
                return Ok(ack.delivery_tag);
            }
            let read = self.stream.read(&mut self.chunk)?;
            ensure!(read > 0, "the broker closed the connection instead of confirming");
            self.input.extend_from_slice(&self.chunk[..read]);
        }
    }

    fn fill_or_time_out(&mut self) -> Result<()> {
        match self.stream.read(&mut self.chunk) {
            Ok(0) => bail!("the broker closed the connection"),
            Ok(read) => self.input.extend_from_slice(&self.chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The broker under load.
struct Broker {
    address: SocketAddr,
    pid: Option<u32>,
    child: Option<(Child, tempfile::TempDir)>,
}

impl Broker {
    fn find(options: &Options) -> Result<Self> {
        if let Some(address) = options.address {
            return Ok(Self { address, pid: options.pid, child: None });
        }
        let data = tempfile::tempdir()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_ferrymq"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .current_dir(data.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("standard output is piped")?;
        let (sender, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)).map_while(Result::ok) {
                if let Some(at) = line.rsplit_once("listening on ").and_then(|(_, at)| at.trim().parse().ok())
                {
                    let _ = sender.send(at);
                }
            }
        });
        let address = address
            .recv_timeout(Duration::from_secs(10))
            .context("the broker did not say where it listens")?;
        Ok(Self { address, pid: Some(child.id()), child: Some((child, data)) })
    }

    fn cpu(&self) -> Option<Duration> {
        cpu_of(Path::new(&format!("/proc/{}/stat", self.pid?)))
    }

    fn resident_bytes(&self) -> Result<u64> {
        let pid = self.pid.context("the broker's process is not known")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn own_cpu() -> Result<Duration> {
    cpu_of(Path::new("/proc/self/stat")).context("no CPU time of this process")
}

/// User and system time of a process, from fields 14 and 15 of proc(5)'s `stat`, in ticks of 10 ms.
fn cpu_of(stat: &Path) -> Option<Duration> {
    let stat = std::fs::read_to_string(stat).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}
