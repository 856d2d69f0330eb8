//! What black-box tests share: a broker in a process of its own, and a blocking client that can also misbehave.
//!
//! Invariant: nothing waits without a bound, and every process that is started ends with its handle.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test drives a real process and bounds its waiting by the clock"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ferrymq_protocol::frame::{self, FrameKind, PROTOCOL_HEADER, decode_frame};
use ferrymq_protocol::method::{Method, basic, channel, confirm, connection, queue};
use ferrymq_protocol::table::{Table, TableRef};
use tempfile::TempDir;

/// How long anything may take that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The lines a broker has logged so far, and how many of the pipes they come through are open.
#[derive(Default)]
pub struct Log {
    lines: Mutex<(Vec<String>, usize)>,
    more: Condvar,
}

impl Log {
    fn follow(self: &Arc<Self>, source: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        log.lines.lock().expect("no reader panics").1 += 1;
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                log.lines.lock().expect("no reader panics").0.push(line);
                log.more.notify_all();
            }
            log.lines.lock().expect("no reader panics").1 -= 1;
            log.more.notify_all();
        });
    }

    pub fn all(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panics").0.clone()
    }

    pub fn matching(&self, part: &str) -> Vec<String> {
        self.all().into_iter().filter(|line| line.contains(part)).collect()
    }

    /// Waits for a line with this part.
    pub fn wait_for(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().expect("no reader panics");
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(part)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && lines.1 > 0, "no line with '{part}' in:\n{}", lines.0.join("\n"));
            lines = self.more.wait_timeout(lines, left).expect("no reader panics").0;
        }
    }
}

/// How a broker is started.
#[derive(Default)]
pub struct Options<'a> {
    /// Text of the configuration file.
    pub config: &'a str,
    /// A program that runs the broker, with its arguments: the broker's command line follows.
    pub wrapper: &'a [&'a str],
}

/// A running broker. Killed when dropped.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    pub log: Arc<Log>,
    pub data: Arc<TempDir>,
}

impl Broker {
    /// Starts a broker with this configuration and an empty data directory.
    pub fn start(config: &str) -> Self {
        Self::start_with(&Options { config, ..Options::default() }, Arc::new(data_dir()))
    }

    /// Starts a broker on a data directory that may have a past.
    pub fn start_with(options: &Options<'_>, data: Arc<TempDir>) -> Self {
        let mut child = command(options, &data, "127.0.0.1:0").spawn().expect("the broker's process starts");
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().expect("piped"));
        log.follow(child.stderr.take().expect("piped"));
        let line = log.wait_for("listening on ");
        let address = line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address");
        log.wait_for("Server startup complete");
        Self { child, address, log, data }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A figure of `/proc/<pid>/status` in bytes, such as `VmRSS` or `VmHWM`.
    pub fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the broker runs");
        let kib = status.lines().find_map(|line| {
            line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        });
        kib.expect("the field exists") * 1024
    }

    /// CPU time used so far, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the broker runs");
        let fields = stat.rsplit(')').next().expect("a name in parentheses").split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    pub fn terminate(&self) {
        let status = Command::new("kill").arg("-TERM").arg(self.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "the broker can be signalled");
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Kills it as a power cut would, and returns its data.
    pub fn kill(mut self) -> Arc<TempDir> {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it can be waited for");
        Arc::clone(&self.data)
    }

    /// Nothing in the log speaks of a bug of ours.
    pub fn assert_sound(&mut self) {
        assert!(
            self.child.try_wait().expect("it can be asked").is_none(),
            "the broker runs:\n{}",
            self.text()
        );
        for sign in ["internal error", "panicked", "INTERNAL_ERROR"] {
            assert!(self.log.matching(sign).is_empty(), "'{sign}' in:\n{}", self.text());
        }
    }

    fn text(&self) -> String {
        self.log.all().join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn data_dir() -> TempDir {
    tempfile::tempdir().expect("there is room for temporary files")
}

/// The command line of a broker.
pub fn command(options: &Options<'_>, data: &TempDir, listen: &str) -> Command {
    let config: PathBuf = data.path().join("config.toml");
    std::fs::write(&config, options.config).expect("the configuration can be written");
    let binary = env!("CARGO_BIN_EXE_ferrymq");
    let mut command = match options.wrapper.split_first() {
        None => Command::new(binary),
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary);
            command
        }
    };
    command.arg("serve").arg("--config").arg(&config).arg("--listen").arg(listen);
    command.arg("--data-dir").arg(data.path().join("data"));
    command.env_remove("FERRYMQ_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a broker that is expected not to start; returns how it ended and what it said.
pub fn refused(data: &TempDir, listen: &str) -> (ExitStatus, String) {
    let mut child = command(&Options::default(), data, listen).spawn().expect("the process starts");
    let log = Arc::new(Log::default());
    log.follow(child.stdout.take().expect("piped"));
    log.follow(child.stderr.take().expect("piped"));
    let line = log.wait_for("error:");
    (wait(&mut child), line)
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("it can be asked") {
            return status;
        }
        assert!(Instant::now() < deadline, "the broker does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells whoever runs the tests that one of them cannot run on this machine.
pub fn skipped(what: &str, why: &str) {
    // Not by a macro: the test runner keeps what those print to itself unless the test fails.
    let told = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
    told.expect("somebody listens");
    if let Some(path) = std::env::var_os("FERRYMQ_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{what}: {why}")).expect("the file of `cargo xtask test`");
    }
}

/// Polls a condition that no event announces.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A frame as it came.
#[derive(Debug)]
pub struct Incoming {
    pub kind: FrameKind,
    pub channel: u16,
    pub payload: Vec<u8>,
}

impl Incoming {
    /// The method in it.
    pub fn method(&self) -> Method<'_> {
        assert_eq!(self.kind, FrameKind::Method, "{self:?}");
        Method::decode(&self.payload).expect("the broker sends what it means")
    }
}

/// A message as a consumer got it.
#[derive(Debug)]
pub struct Delivered {
    pub tag: u64,
    pub redelivered: bool,
    pub body: Vec<u8>,
}

/// What a client says at its handshake.
pub struct Hello {
    pub heartbeat: u16,
    pub frame_max: u32,
    pub channel_max: u16,
    /// It understands `connection.blocked`.
    pub blocked: bool,
}

impl Default for Hello {
    fn default() -> Self {
        Self { heartbeat: 0, frame_max: 131_072, channel_max: 2_047, blocked: true }
    }
}

/// The receiving half of a client.
pub struct Receiver {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

/// A blocking client.
pub struct Client {
    pub stream: TcpStream,
    pub receiver: Receiver,
}

impl Receiver {
    /// The next frame; `None` when the broker has closed the socket.
    pub fn try_frame(&mut self) -> Option<Incoming> {
        loop {
            let decoded =
                decode_frame(&self.buffer[self.start..], 1 << 30).expect("the broker frames correctly");
            if let Some((frame, taken)) = decoded {
                let incoming =
                    Incoming { kind: frame.kind, channel: frame.channel, payload: frame.payload.to_vec() };
                self.start += taken;
                return Some(incoming);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads more; `false` at the end of the stream or after a reset.
    fn fill(&mut self) -> bool {
        self.buffer.drain(..self.start);
        self.start = 0;
        let mut chunk = [0; 65_536];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came from the broker in time: {error}"),
        }
    }

    /// The next frame that is not a heartbeat.
    pub fn frame(&mut self) -> Incoming {
        loop {
            let frame = self.try_frame().expect("the broker has not closed the connection");
            if frame.kind != FrameKind::Heartbeat {
                return frame;
            }
        }
    }

    /// Octets that are no frames, up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads a content, its method having been read.
    pub fn content(&mut self) -> Vec<u8> {
        let header = self.frame();
        assert_eq!(header.kind, FrameKind::Header);
        let size = u64::from_be_bytes(header.payload[4..12].try_into().expect("eight octets"));
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let frame = self.frame();
            assert_eq!(frame.kind, FrameKind::Body);
            body.extend_from_slice(&frame.payload);
        }
        body
    }

    /// The next delivery.
    pub fn delivery(&mut self) -> Delivered {
        let frame = self.frame();
        let Method::BasicDeliver(deliver) = frame.method() else {
            panic!("no delivery: {:?}", frame.method())
        };
        let (tag, redelivered) = (deliver.delivery_tag, deliver.redelivered);
        Delivered { tag, redelivered, body: self.content() }
    }
}

impl Client {
    /// A socket, and nothing said yet.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        let receiver = Receiver {
            stream: stream.try_clone().expect("descriptors are left"),
            buffer: Vec::new(),
            start: 0,
        };
        Self { stream, receiver }
    }

    /// An open connection.
    pub fn open(address: SocketAddr) -> Self {
        Self::open_as(address, &Hello::default())
    }

    pub fn open_as(address: SocketAddr, hello: &Hello) -> Self {
        let mut client = Self::connect(address);
        client.log_in(hello);
        client.send(0, connection::Open { vhost: "/" });
        let answer = client.receiver.frame();
        assert!(matches!(answer.method(), Method::ConnectionOpenOk(_)), "{:?}", answer.method());
        client
    }

    /// The handshake up to tune-ok.
    pub fn log_in(&mut self, hello: &Hello) {
        self.write(&PROTOCOL_HEADER);
        assert!(matches!(self.receiver.frame().method(), Method::ConnectionStart(_)));
        self.start_ok(hello.blocked);
        assert!(matches!(self.receiver.frame().method(), Method::ConnectionTune(_)));
        let Hello { heartbeat, frame_max, channel_max, .. } = *hello;
        self.send(0, connection::TuneOk { channel_max, frame_max, heartbeat });
    }

    pub fn start_ok(&mut self, blocked: bool) {
        let capabilities = Table::new()
            .with("connection.blocked", blocked)
            .with("authentication_failure_close", true)
            .with("consumer_cancel_notify", true);
        let mut octets = BytesMut::new();
        Table::new().with("capabilities", capabilities).encode(&mut octets).expect("a small table");
        let client_properties = TableRef::parse(&octets).expect("just encoded");
        let response = b"\0guest\0guest";
        self.send(
            0,
            connection::StartOk { client_properties, mechanism: "PLAIN", response, locale: "en_US" },
        );
    }

    /// `127.0.0.1:<port> ->`, as the broker's log begins what it says of this connection.
    pub fn name(&self) -> String {
        format!("{} ->", self.stream.local_addr().expect("connected"))
    }

    pub fn write(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("the broker reads");
    }

    /// Writes to a broker that may close the connection meanwhile.
    pub fn try_write(&mut self, octets: &[u8]) -> bool {
        self.stream.write_all(octets).is_ok()
    }

    pub fn send<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        self.write(&method_frame(channel, method));
    }

    /// Sends a method and returns the answer.
    pub fn call<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) -> Incoming {
        self.send(channel, method);
        self.receiver.frame()
    }

    pub fn open_channel(&mut self, number: u16) {
        let answer = self.call(number, channel::Open {});
        assert!(matches!(answer.method(), Method::ChannelOpenOk(_)), "{:?}", answer.method());
    }

    pub fn confirm_select(&mut self, channel: u16) {
        let answer = self.call(channel, confirm::Select { no_wait: false });
        assert!(matches!(answer.method(), Method::ConfirmSelectOk(_)), "{:?}", answer.method());
    }

    /// Declares a transient queue that outlives the connection; returns how many messages it holds.
    pub fn declare(&mut self, channel: u16, name: &str) -> u32 {
        let answer = self.call(channel, queue::Declare { queue: name, ..queue::Declare::default() });
        match answer.method() {
            Method::QueueDeclareOk(declared) => declared.message_count,
            other => panic!("{other:?}"),
        }
    }

    /// How many messages a queue holds that exists however it was declared.
    pub fn declare_count(&mut self, name: &str) -> u32 {
        let answer = self.call(1, queue::Declare { queue: name, passive: true, ..queue::Declare::default() });
        match answer.method() {
            Method::QueueDeclareOk(declared) => declared.message_count,
            other => panic!("{other:?}"),
        }
    }

    pub fn publish(&mut self, channel: u16, key: &str, body: &[u8]) {
        self.write(&publish_frames(channel, key, body));
    }

    pub fn consume(&mut self, channel: u16, queue: &str, no_ack: bool) {
        let consume = basic::Consume { queue, consumer_tag: "c", no_ack, ..basic::Consume::default() };
        let answer = self.call(channel, consume);
        assert!(matches!(answer.method(), Method::BasicConsumeOk(_)), "{:?}", answer.method());
    }

    pub fn ack(&mut self, channel: u16, tag: u64, multiple: bool) {
        self.send(channel, basic::Ack { delivery_tag: tag, multiple });
    }

    /// Waits for a publisher confirm; returns the tag up to which everything is confirmed.
    pub fn confirmed(&mut self) -> u64 {
        let frame = self.receiver.frame();
        match frame.method() {
            Method::BasicAck(ack) => ack.delivery_tag,
            other => panic!("no confirm: {other:?}"),
        }
    }

    /// Reads up to `connection.close`, answers it and waits for the end; returns code and text.
    pub fn closed_with(&mut self) -> (u16, String) {
        let reason = loop {
            let frame = self.receiver.frame();
            if frame.kind != FrameKind::Method {
                continue;
            }
            if let Method::ConnectionClose(close) = frame.method() {
                break (close.reply_code, close.reply_text.to_owned());
            }
        };
        self.try_write(&method_frame(0, connection::CloseOk {}));
        self.ended();
        reason
    }

    /// Reads up to `channel.close` and answers it; returns code and text.
    pub fn channel_closed_with(&mut self) -> (u16, String) {
        let frame = self.receiver.frame();
        let Method::ChannelClose(close) = frame.method() else { panic!("{:?}", frame.method()) };
        let reason = (close.reply_code, close.reply_text.to_owned());
        self.send(frame.channel, channel::CloseOk {});
        reason
    }

    /// Waits until the broker has closed the socket.
    pub fn ended(&mut self) {
        while self.receiver.try_frame().is_some() {}
    }

    /// Says goodbye in form.
    pub fn close(mut self) {
        self.send(0, connection::Close { reply_code: 200, reply_text: "bye", class_id: 0, method_id: 0 });
        loop {
            let frame = self.receiver.frame();
            if frame.kind == FrameKind::Method && matches!(frame.method(), Method::ConnectionCloseOk(_)) {
                break;
            }
        }
        self.ended();
    }

    /// Ends with a TCP reset.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }
}

pub fn method_frame<'m>(channel: u16, method: impl Into<Method<'m>>) -> Vec<u8> {
    let mut octets = BytesMut::new();
    frame::encode_method(channel, &method.into(), &mut octets).expect("the method can be encoded");
    octets.to_vec()
}

/// Any frame, right or wrong.
pub fn raw_frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a small frame");
    let mut octets = vec![kind];
    octets.extend_from_slice(&channel.to_be_bytes());
    octets.extend_from_slice(&size.to_be_bytes());
    octets.extend_from_slice(payload);
    octets.push(frame::FRAME_END);
    octets
}

/// A content header frame without properties.
pub fn header_frame(channel: u16, body_size: u64) -> Vec<u8> {
    let mut octets = BytesMut::new();
    frame::encode_header(channel, basic::Publish::ID.class_id, body_size, &[0, 0], &mut octets);
    octets.to_vec()
}

/// A whole publish to the default exchange.
pub fn publish_frames(channel: u16, key: &str, body: &[u8]) -> Vec<u8> {
    let publish = basic::Publish { routing_key: key, ..basic::Publish::default() };
    let mut octets = BytesMut::from(&method_frame(channel, publish)[..]);
    octets.extend_from_slice(&header_frame(channel, body.len() as u64));
    for chunk in body.chunks(131_072 - frame::FRAME_OVERHEAD) {
        frame::encode_body(channel, chunk, &mut octets);
    }
    octets.to_vec()
}

/// A connection that publishes and consumes in a thread of its own while others misbehave.
pub struct Witness {
    thread: std::thread::JoinHandle<u64>,
    stop: std::sync::mpsc::Sender<()>,
}

impl Witness {
    pub fn start(address: SocketAddr) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut client = Client::open(address);
            client.open_channel(1);
            client.declare(1, "witness");
            client.consume(1, "witness", true);
            let mut rounds = 0_u64;
            loop {
                client.publish(1, "witness", &rounds.to_be_bytes());
                assert_eq!(client.receiver.delivery().body, rounds.to_be_bytes());
                rounds += 1;
                if stopped.recv_timeout(Duration::from_millis(2))
                    != Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    client.close();
                    return rounds;
                }
            }
        });
        Self { thread, stop }
    }

    /// Nothing has happened to it; returns how often it went round.
    pub fn finish(self) -> u64 {
        self.stop.send(()).expect("the witness still runs");
        self.thread.join().expect("the witness was not disturbed")
    }
}
