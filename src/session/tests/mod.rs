//! Tests of the session as a whole: bytes in, exactly these commands and these frames out.

mod channels;
mod closing;
mod consuming;
mod declaring;
mod gating;
mod handshake;
mod publishing;
mod robustness;
mod transactions;

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use ferrymq_protocol::frame::{self, FrameKind, PROTOCOL_HEADER};
use ferrymq_protocol::method::{Method, basic, channel, connection};
use ferrymq_protocol::properties::{ContentHeader, Properties};
use ferrymq_protocol::table::{Table, TableRef};

use super::{Context, Peer, Session, SessionOptions, Step};
use crate::model::{
    ChannelKey, ChannelNumber, ConsumerKey, ExchangeDefinition, ExchangeKind, LogPosition, Message,
    MessageParts, Origin, QueueDefinition, QueueId, Seq, UserName, VhostName,
};
use crate::topology::{Refusal, Topology};
use crate::vhost::{Awaiting, Command, Delivery, Event, Outcome, Publish, Reply, Request};

/// The largest frame of an open connection of the kit, in bytes.
const FRAME_MAX: u32 = 4_096;
/// The longest heartbeat interval that leaves the clock to the test.
const NO_HEARTBEAT: u16 = 0;

/// A session, the runtime's part played by the test.
struct Kit {
    session: Session,
    topology: Topology,
    now: Instant,
    randoms: u8,
    input: Vec<u8>,
    step: Step,
    commands: Vec<Command>,
    output: BytesMut,
    attached: bool,
}

impl Kit {
    fn new() -> Self {
        Self::with(SessionOptions::default())
    }

    fn with(options: SessionOptions) -> Self {
        let now = some_time();
        let peer = Peer { loopback: true, name: "127.0.0.1:1 -> 127.0.0.1:5672".into() };
        Self {
            session: Session::new(Arc::new(options), peer, now),
            topology: Topology::new(VhostName::from("/")),
            now,
            randoms: 0,
            input: Vec::new(),
            step: Step::NeedInput,
            commands: Vec::new(),
            output: BytesMut::new(),
            attached: false,
        }
    }

    /// An open connection of user `guest` whose client understands everything.
    fn open() -> Self {
        Self::open_with(SessionOptions::default(), &capabilities())
    }

    fn open_with(options: SessionOptions, client_properties: &Table) -> Self {
        let mut kit = Self::with(options);
        kit.log_in(client_properties);
        kit.tune(2_047, FRAME_MAX, NO_HEARTBEAT);
        kit.open_vhost();
        kit
    }

    fn log_in(&mut self, client_properties: &Table) {
        self.feed(&PROTOCOL_HEADER);
        self.skip(1);
        self.start_ok(client_properties, "PLAIN", b"\0guest\0secret");
        self.session.authenticated(Ok(UserName::from("guest")));
        self.run();
        self.skip(1);
    }

    fn start_ok(&mut self, client_properties: &Table, mechanism: &str, response: &[u8]) {
        let mut table = BytesMut::new();
        client_properties.encode(&mut table).unwrap();
        let client_properties = TableRef::parse(&table).unwrap();
        self.send(0, connection::StartOk { client_properties, mechanism, response, locale: "en_US" });
    }

    fn tune(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) {
        self.send(0, connection::TuneOk { channel_max, frame_max, heartbeat });
    }

    fn open_vhost(&mut self) {
        self.send(0, connection::Open { vhost: "/" });
        assert!(matches!(&self.step, Step::OpenVhost(vhost) if vhost.as_str() == "/"), "{:?}", self.step);
        self.session.vhost_opened(Ok(()));
        self.attached = true;
        self.run();
        self.expect(0, connection::OpenOk {});
    }

    /// Opens a channel; its key is its number and a hundred.
    fn channel(&mut self, number: u16) {
        self.send(number, channel::Open {});
        assert!(matches!(self.request(), Request::OpenChannel));
        self.reply(number, Reply::ChannelOpened(ChannelKey(u64::from(number) + 100)));
        self.expect(number, channel::OpenOk {});
    }

    /// Adds a queue to the snapshot.
    fn queue(&mut self, name: &str, id: u64) {
        self.queue_with(name, id, Table::new());
    }

    fn queue_with(&mut self, name: &str, id: u64, arguments: Table) {
        let definition = QueueDefinition {
            name: name.into(),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments,
            origin: Origin::Client,
        };
        self.topology.declare_queue(definition, QueueId(id), None).unwrap();
    }

    fn exchange(&mut self, name: &str, kind: ExchangeKind, internal: bool) {
        let definition = ExchangeDefinition {
            name: name.into(),
            kind,
            durable: true,
            auto_delete: false,
            internal,
            arguments: Table::new(),
            origin: Origin::Client,
        };
        self.topology.declare_exchange(definition).unwrap();
    }

    /// Starts a consumer; its key is returned.
    fn consumer(&mut self, number: u16, tag: &str, no_ack: bool) -> ConsumerKey {
        self.send(number, consume("q", tag, no_ack));
        let key = match self.request() {
            Request::Consume(consume) => consume.consumer,
            Request::ConsumeReplies { consumer, .. } => consumer,
            other => panic!("{other:?}"),
        };
        self.reply(number, Reply::Consuming(key));
        self.expect(number, basic::ConsumeOk { consumer_tag: tag });
        key
    }

    fn deliver(&mut self, number: u16, consumer: ConsumerKey, seq: u64, body: &[u8]) {
        let message = message("", "q", body);
        let delivery = Delivery {
            channel: ChannelNumber(number),
            consumer,
            queue: QueueId(1),
            seq: Seq(seq),
            redelivered: false,
            delivery_count: 0,
            message,
        };
        self.session.event(Event::Delivery(delivery), LogPosition::START);
        self.run();
    }

    /// Delivers and forgets what the client gets.
    fn deliver_quietly(&mut self, number: u16, consumer: ConsumerKey, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            self.deliver(number, consumer, seq, b"x");
            self.skip(3);
        }
    }

    fn send<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        self.feed(&encoded(channel, method));
    }

    fn publish(&mut self, channel: u16, routing_key: &str, body: &[u8]) {
        let method = basic::Publish { exchange: "", routing_key, mandatory: false, immediate: false };
        self.feed(&published(channel, method, Properties::default(), body));
    }

    fn publish_with(&mut self, channel: u16, routing_key: &str, properties: Properties<'_>) {
        let method = basic::Publish { exchange: "", routing_key, mandatory: false, immediate: false };
        self.feed(&published(channel, method, properties, b"body"));
    }

    fn feed(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        self.run();
    }

    /// Lets the session go on until it needs something of the test.
    fn run(&mut self) {
        let randoms = &mut self.randoms;
        let mut random = || {
            *randoms += 1;
            [*randoms; 16]
        };
        let topology = self.attached.then_some(&self.topology);
        let mut context = Context { now: self.now, topology, random: &mut random };
        let (consumed, step) = self.session.receive(&self.input, &mut context, &mut self.commands);
        self.input.drain(..consumed);
        self.step = step;
        let output = self.session.output();
        loop {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = output.fill(&mut slices);
            slices[..count].iter().for_each(|slice| self.output.extend_from_slice(slice));
            let written = slices[..count].iter().map(|slice| slice.len()).sum();
            if written == 0 {
                return;
            }
            output.advance(written);
        }
    }

    /// The vhost answers; what it logged has position `gate`.
    fn reply_gated(&mut self, channel: u16, reply: Reply, gate: u64) {
        let event = Event::Replied { channel: ChannelNumber(channel), result: Ok(reply) };
        self.session.event(event, LogPosition(gate));
        self.applied(gate);
    }

    fn reply(&mut self, channel: u16, reply: Reply) {
        self.reply_gated(channel, reply, 0);
    }

    fn refuse(&mut self, channel: u16, refusal: Refusal) {
        let event = Event::Replied { channel: ChannelNumber(channel), result: Err(refusal) };
        self.session.event(event, LogPosition::START);
        self.applied(0);
    }

    /// The turn has been applied.
    fn applied(&mut self, position: u64) {
        self.session.turn_applied(LogPosition(position));
        self.run();
    }

    fn durable(&mut self, position: u64) {
        self.session.durable(LogPosition(position));
        self.run();
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        self.session.tick(self.now);
        self.run();
    }

    /// The one request among the commands, which has no other beside it.
    fn request(&mut self) -> Request {
        match self.commands.pop() {
            Some(Command::Request { request, .. }) if self.commands.is_empty() => {
                assert!(matches!(self.step, Step::NeedTurn), "{:?}", self.step);
                request
            }
            other => panic!("{other:?} after {:?}", self.commands),
        }
    }

    fn take_publishes(&mut self) -> Vec<Publish> {
        let publish = |command| match command {
            Command::Publish(publish) => publish,
            other => panic!("{other:?}"),
        };
        self.commands.drain(..).map(publish).collect()
    }

    /// Settlements at hand, those that take effect together among them.
    fn take_settlements(&mut self) -> Vec<(u64, Outcome)> {
        let settlements = |command| match command {
            Command::Transaction(commands) => commands,
            command => vec![command],
        };
        let settlement = |command| match command {
            Command::Settle(settlement) => (settlement.seq.0, settlement.outcome),
            other => panic!("{other:?}"),
        };
        self.commands.drain(..).flat_map(settlements).map(settlement).collect()
    }

    /// The next frame is this method.
    #[track_caller]
    fn expect<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        let expected = method.into();
        let octets = self.pop_frame().unwrap_or_else(|| panic!("expected {expected:?}, got nothing"));
        let (frame, _) = frame::decode_frame(&octets, usize::MAX).unwrap().unwrap();
        assert_eq!((frame.channel, Method::decode(frame.payload)), (channel, Ok(expected)));
    }

    fn pop_frame(&mut self) -> Option<Bytes> {
        let (_, taken) = frame::decode_frame(&self.output, usize::MAX).unwrap()?;
        Some(self.output.split_to(taken).freeze())
    }

    /// The next frames are these of a message's content.
    #[track_caller]
    fn expect_content(&mut self, channel: u16) -> (Bytes, Bytes) {
        let octets = self.pop_frame().expect("a content header");
        let (frame, _) = frame::decode_frame(&octets, usize::MAX).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel), (FrameKind::Header, channel));
        let header = ContentHeader::decode(frame.payload).unwrap();
        let properties = Bytes::copy_from_slice(header.raw_properties);
        let mut body = BytesMut::new();
        while (body.len() as u64) < header.body_size {
            let octets = self.pop_frame().expect("a content body");
            assert!(octets.len() <= FRAME_MAX as usize);
            let (frame, _) = frame::decode_frame(&octets, usize::MAX).unwrap().unwrap();
            assert_eq!((frame.kind, frame.channel), (FrameKind::Body, channel));
            body.extend_from_slice(frame.payload);
        }
        (properties, body.freeze())
    }

    #[track_caller]
    fn expect_nothing(&mut self) {
        if let Some(octets) = self.pop_frame() {
            let (frame, _) = frame::decode_frame(&octets, usize::MAX).unwrap().unwrap();
            panic!("unexpected on channel {}: {:?}", frame.channel, Method::decode(frame.payload));
        }
        assert_eq!(self.output.remaining(), 0, "{:?}", self.output);
    }

    /// The channel is closed for this; the vhost is told.
    #[track_caller]
    fn expect_channel_error(
        &mut self,
        channel: u16,
        code: u16,
        text: &str,
        (class_id, method_id): (u16, u16),
    ) {
        self.expect(channel, channel::Close { reply_code: code, reply_text: text, class_id, method_id });
        match self.commands.pop() {
            Some(Command::Request { request: Request::CloseChannel(key), .. }) => {
                assert_eq!(key, ChannelKey(u64::from(channel) + 100));
            }
            other => panic!("{other:?}"),
        }
    }

    /// The connection is closed for this; the vhost forgets it.
    #[track_caller]
    fn expect_connection_error(&mut self, code: u16, text: &str, (class_id, method_id): (u16, u16)) {
        self.expect(0, connection::Close { reply_code: code, reply_text: text, class_id, method_id });
        self.expect_nothing();
        if !self.commands.is_empty() {
            assert!(matches!(self.step, Step::NeedTurn), "{:?}", self.step);
            self.commands.clear();
            self.applied(0);
        }
        assert!(matches!(self.step, Step::Detach), "{:?}", self.step);
        self.detach();
    }

    fn detach(&mut self) {
        self.session.detach(&mut self.commands);
        self.attached = false;
        self.session.detached();
        self.run();
    }

    /// Drops frames of the output.
    #[track_caller]
    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.pop_frame().expect("a frame");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be had from a clock; it stands still here"
)]
fn some_time() -> Instant {
    Instant::now()
}

/// What every modern client says it can do.
fn capabilities() -> Table {
    let capabilities = Table::new()
        .with("consumer_cancel_notify", true)
        .with("connection.blocked", true)
        .with("authentication_failure_close", true);
    Table::new().with("capabilities", capabilities).with("connection_name", "kit")
}

fn encoded<'m>(channel: u16, method: impl Into<Method<'m>>) -> BytesMut {
    let mut octets = BytesMut::new();
    frame::encode_method(channel, &method.into(), &mut octets).unwrap();
    octets
}

fn published(channel: u16, method: basic::Publish<'_>, properties: Properties<'_>, body: &[u8]) -> BytesMut {
    let mut octets = encoded(channel, method);
    let mut raw = BytesMut::new();
    properties.encode(&mut raw).unwrap();
    frame::encode_header(channel, 60, body.len() as u64, &raw, &mut octets);
    for chunk in body.chunks(FRAME_MAX as usize - frame::FRAME_OVERHEAD) {
        frame::encode_body(channel, chunk, &mut octets);
    }
    octets
}

fn consume<'a>(queue: &'a str, consumer_tag: &'a str, no_ack: bool) -> basic::Consume<'a> {
    basic::Consume {
        queue,
        consumer_tag,
        no_local: false,
        no_ack,
        exclusive: false,
        no_wait: false,
        arguments: TableRef::default(),
    }
}

fn message(exchange: &str, routing_key: &str, body: &[u8]) -> Message {
    let mut properties = BytesMut::new();
    Properties::default().encode(&mut properties).unwrap();
    let parts = MessageParts { exchange, routing_key, properties: &properties, persistent: false };
    Message::new(parts, Bytes::copy_from_slice(body))
}

fn ack(delivery_tag: u64, multiple: bool) -> basic::Ack {
    basic::Ack { delivery_tag, multiple }
}

fn nack(delivery_tag: u64, multiple: bool, requeue: bool) -> basic::Nack {
    basic::Nack { delivery_tag, multiple, requeue }
}
