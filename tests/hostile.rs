//! What hostile and unlucky peers send, and that it concerns nobody but them.
//!
//! Invariant of every test: the right close code, one line of the log, a witness that goes on, and no bug of ours.

mod kit;

use std::io::Write;
use std::time::Duration;

use ferrymq_protocol::frame::{FrameKind, PROTOCOL_HEADER};
use ferrymq_protocol::method::{Method, basic, channel, connection, queue};
use kit::{
    Broker, Client, Hello, Witness, eventually, header_frame, method_frame, publish_frames, raw_frame,
};

/// What becomes of a connection.
enum Fate {
    /// `connection.close` with this code and a text with this part.
    Close(u16, &'static str),
    /// The socket closes without a word.
    Silence,
}

/// Who sends what.
struct Case {
    name: &'static str,
    octets: Vec<u8>,
    fate: Fate,
    /// A part of the line in the log.
    line: &'static str,
}

fn case(name: &'static str, octets: Vec<u8>, code: u16, part: &'static str) -> Case {
    Case { name, octets, fate: Fate::Close(code, part), line: part }
}

fn silent(name: &'static str, octets: Vec<u8>, line: &'static str) -> Case {
    Case { name, octets, fate: Fate::Silence, line }
}

/// A method frame with any fields.
fn method(channel: u16, class: u16, number: u16, fields: &[u8]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend_from_slice(fields);
    raw_frame(1, channel, &payload)
}

/// The beginning of a frame that claims a size.
fn claims(kind: u8, channel: u16, size: u32) -> Vec<u8> {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    vec![kind, c0, c1, s0, s1, s2, s3]
}

/// `queue.declare` of `q` with these octets as its table, length included.
fn declare_with(table: &[u8]) -> Vec<u8> {
    let mut fields = vec![0, 0, 1, b'q', 0];
    fields.extend_from_slice(table);
    method(1, 50, 10, &fields)
}

/// A table that holds a table that holds a table, this deep.
fn nested_tables(depth: usize) -> Vec<u8> {
    let mut octets = Vec::with_capacity(depth * 7 + 4);
    for level in (0..=depth).rev() {
        let inner = u32::try_from(level * 7).expect("small");
        octets.extend_from_slice(&inner.to_be_bytes());
        if level > 0 {
            octets.extend_from_slice(b"\x01xF");
        }
    }
    octets
}

/// A table with an array in an array in an array, this deep.
fn nested_arrays(depth: usize) -> Vec<u8> {
    let inner = depth * 5;
    let mut octets = u32::try_from(inner + 2).expect("small").to_be_bytes().to_vec();
    octets.extend_from_slice(b"\x01x");
    for level in (0..depth).rev() {
        octets.push(b'A');
        octets.extend_from_slice(&u32::try_from(level * 5).expect("small").to_be_bytes());
    }
    octets
}

fn publish_start() -> Vec<u8> {
    method_frame(1, basic::Publish { routing_key: "q", ..basic::Publish::default() })
}

fn after(first: &[u8], then: &[u8]) -> Vec<u8> {
    [first, then].concat()
}

/// `frame_max` of the broker under attack: room for tables 100,000 deep.
const FRAME_MAX: u32 = 1_048_576;
const CONFIG: &str = "[limits]\nframe_max = \"1 MiB\"\nchannel_max = 65535\nmax_message_size = \"1 MiB\"\n";

fn framing_cases() -> Vec<Case> {
    let mut wrong_end = method_frame(1, channel::Flow { active: true });
    *wrong_end.last_mut().expect("not empty") = 0;
    vec![
        case("wrong end octet", wrong_end, 501, "invalid_frame_end_marker"),
        case("unknown frame type", raw_frame(9, 1, b"what"), 501, "unknown_frame"),
        case("frame type 0", raw_frame(0, 0, b""), 501, "unknown_frame"),
        case("length 2^32-1", claims(1, 1, u32::MAX), 501, "frame_too_large"),
        case("body of 2^32-1", claims(3, 1, u32::MAX), 501, "frame_too_large"),
        case("one octet too many", claims(1, 1, FRAME_MAX + 1), 501, "frame_too_large"),
        case("HTTP in mid-stream", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 501, "FRAME_ERROR"),
        case("heartbeat on channel 1", raw_frame(8, 1, b""), 505, "UNEXPECTED_FRAME"),
        case("header on channel 0", header_frame(0, 1), 505, "UNEXPECTED_FRAME"),
        case("body on channel 0", raw_frame(3, 0, b"x"), 505, "UNEXPECTED_FRAME"),
        case("header without publish", header_frame(1, 1), 505, "UNEXPECTED_FRAME"),
        case("body without publish", raw_frame(3, 1, b"x"), 505, "UNEXPECTED_FRAME"),
    ]
}

fn content_cases() -> Vec<Case> {
    let method_instead = after(&publish_start(), &publish_start());
    let body_instead = after(&publish_start(), &raw_frame(3, 1, b"x"));
    let header_twice = after(&after(&publish_start(), &header_frame(1, 4)), &header_frame(1, 4));
    let method_in_body = after(&after(&publish_start(), &header_frame(1, 4)), &publish_start());
    let lying = after(&after(&publish_start(), &header_frame(1, 4)), &raw_frame(3, 1, b"12345"));
    let huge = after(&publish_start(), &header_frame(1, 1 << 63));
    let mut other_class = header_frame(1, 1);
    other_class[8] = 50;
    let truncated = after(&publish_start(), &raw_frame(2, 1, &[0, 60, 0, 0]));
    let flags = after(&publish_start(), &raw_frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe]));
    vec![
        case("publish instead of a header", method_instead, 505, "expected content header"),
        case("body instead of a header", body_instead, 505, "expected content header"),
        case("header instead of a body", header_twice, 505, "expected content body"),
        case("method instead of a body", method_in_body, 505, "expected content body"),
        case("body longer than announced", lying, 501, "FRAME_ERROR"),
        case("body size 2^63", huge, 501, "FRAME_ERROR"),
        case("header of another class", after(&publish_start(), &other_class), 505, "UNEXPECTED_FRAME"),
        case("truncated header", truncated, 501, "FRAME_ERROR"),
        case("unknown property flags", flags, 501, "FRAME_ERROR"),
    ]
}

fn method_cases() -> Vec<Case> {
    let long_string = declare_with(&[0, 0, 0, 7, 1, b'x', b'S', 0xff, 0xff, 0xff, 0xff]);
    let short_string = method(1, 50, 10, &[0, 0, 200, b'q']);
    let server_side = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..basic::Deliver::default() };
    vec![
        case("unknown class", method(1, 999, 10, b""), 503, "COMMAND_INVALID"),
        case("unknown method", method(1, 60, 999, b""), 503, "COMMAND_INVALID"),
        case("method of the broker's", method_frame(1, server_side), 503, "COMMAND_INVALID"),
        case("method of three octets", raw_frame(1, 1, &[0, 60, 0]), 501, "FRAME_ERROR"),
        case("empty method", raw_frame(1, 1, b""), 501, "FRAME_ERROR"),
        case("truncated fields", method(1, 60, 80, &[0, 0, 0]), 501, "FRAME_ERROR"),
        case("left-over octets", method(1, 60, 80, &[0; 30]), 501, "FRAME_ERROR"),
        case("short string past the end", short_string, 501, "FRAME_ERROR"),
        case(
            "short string that is not UTF-8",
            method(1, 50, 10, &[0, 0, 2, 0xff, 0xfe, 0, 0, 0, 0, 0]),
            501,
            "UTF-8",
        ),
        case("table of 2^32-1", declare_with(&[0xff; 4]), 501, "FRAME_ERROR"),
        case("long string of 2^32-1", long_string, 501, "FRAME_ERROR"),
        case("unknown field type", declare_with(&[0, 0, 0, 3, 1, b'x', b'?']), 501, "FRAME_ERROR"),
        case("tables 33 deep", declare_with(&nested_tables(33)), 501, "nested deeper"),
        case("tables 100,000 deep", declare_with(&nested_tables(100_000)), 501, "nested deeper"),
        case("arrays 100,000 deep", declare_with(&nested_arrays(100_000)), 501, "nested deeper"),
        case("channel.open twice", method_frame(1, channel::Open {}), 504, "second 'channel.open'"),
        case(
            "channel that is not open",
            method_frame(65_535, channel::Flow { active: true }),
            504,
            "expected 'channel.open'",
        ),
        case("queue.declare on channel 0", method_frame(0, queue::Declare::default()), 504, "CHANNEL_ERROR"),
        case(
            "connection method on channel 1",
            method_frame(1, connection::Open { vhost: "/" }),
            503,
            "COMMAND_INVALID",
        ),
        case("connection.open twice", method_frame(0, connection::Open { vhost: "/" }), 504, "CHANNEL_ERROR"),
        case(
            "immediate",
            method_frame(1, basic::Publish { immediate: true, ..basic::Publish::default() }),
            540,
            "NOT_IMPLEMENTED",
        ),
    ]
}

#[test]
fn each_mistake_costs_its_own_connection_and_one_line() {
    let mut broker = Broker::start(CONFIG);
    let witness = Witness::start(broker.address);
    let cases: Vec<_> = framing_cases().into_iter().chain(content_cases()).chain(method_cases()).collect();
    let mut names = Vec::new();
    for Case { name, octets, fate, line } in cases {
        let mut client = Client::open_as(broker.address, &Hello { frame_max: FRAME_MAX, ..Hello::default() });
        client.open_channel(1);
        client.write(&octets);
        let Fate::Close(code, part) = fate else { panic!("{name}: a connection that is open is told") };
        let (got, text) = client.closed_with();
        assert_eq!(got, code, "{name}: {text}");
        assert!(text.contains(part), "{name}: {text}");
        names.push((name, client.name(), line));
    }
    assert!(witness.finish() > 0);
    for (name, connection, line) in &names {
        let logged = broker.log.wait_for(connection);
        assert!(logged.contains(line) && logged.contains("WARN"), "{name}: {logged}");
    }
    for (name, connection, _) in &names {
        assert_eq!(broker.log.matching(connection).len(), 1, "{name}: {:?}", broker.log.matching(connection));
    }
    broker.assert_sound();
}

/// After [`PROTOCOL_HEADER`], which is answered.
fn after_header(octets: &[u8]) -> Vec<u8> {
    after(&PROTOCOL_HEADER, octets)
}

fn start_ok(mechanism: &str, response: &[u8], table: &[u8]) -> Vec<u8> {
    let mut fields = table.to_vec();
    fields.push(u8::try_from(mechanism.len()).expect("short"));
    fields.extend_from_slice(mechanism.as_bytes());
    fields.extend_from_slice(&u32::try_from(response.len()).expect("short").to_be_bytes());
    fields.extend_from_slice(response);
    fields.extend_from_slice(b"\x05en_US");
    method(0, 10, 11, &fields)
}

fn handshake_cases() -> Vec<Case> {
    let early_open = method_frame(1, channel::Open {});
    let early_tune = method_frame(0, connection::TuneOk { channel_max: 1, frame_max: 4096, heartbeat: 0 });
    let empty = [0, 0, 0, 0];
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 400]].concat();
    let escapes = b"\x1b[31m\r\nfake: line\n".to_vec();
    vec![
        silent("HTTP", b"GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "HTTP request"),
        silent("TLS", tls, "TLS handshake"),
        silent("AMQP 1.0", b"AMQP\0\x01\0\0".to_vec(), "AMQP 1.0"),
        silent("MQTT", b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04test".to_vec(), "unknown protocol header"),
        silent("terminal escapes", escapes, "unknown protocol header"),
        silent("channel.open first", after_header(&early_open), "UNEXPECTED_FRAME"),
        silent("tune-ok first", after_header(&early_tune), "CHANNEL_ERROR"),
        silent("unknown mechanism", after_header(&start_ok("GUESS", b"", &empty)), "COMMAND_INVALID"),
        silent("PLAIN without NUL", after_header(&start_ok("PLAIN", b"guest", &empty)), "SYNTAX_ERROR"),
        silent("PLAIN of NULs", after_header(&start_ok("PLAIN", &[0; 100], &empty)), "SYNTAX_ERROR"),
        silent(
            "AMQPLAIN of garbage",
            after_header(&start_ok("AMQPLAIN", &[0xff; 9], &empty)),
            "SYNTAX_ERROR",
        ),
        silent("wrong password", after_header(&start_ok("PLAIN", b"\0guest\0x", &empty)), "login refused"),
        silent(
            "deep client properties",
            after_header(&start_ok("PLAIN", b"", &nested_tables(1_000))),
            "nested deeper",
        ),
        silent("frame of 8,193 before the login", after_header(&claims(1, 0, 8_193)), "frame_too_large"),
        silent("heartbeat on channel 7", after_header(&raw_frame(8, 7, b"")), "UNEXPECTED_FRAME"),
        silent("content first", after_header(&header_frame(0, 1)), "UNEXPECTED_FRAME"),
    ]
}

#[test]
fn mistakes_before_the_login_end_in_silence_and_one_line() {
    let mut broker = Broker::start(CONFIG);
    let witness = Witness::start(broker.address);
    // All at once: the broker takes its time before it lets go of a peer that failed to log in.
    let mut clients = Vec::new();
    for Case { name, octets, fate, line } in handshake_cases() {
        assert!(matches!(fate, Fate::Silence));
        let mut client = Client::connect(broker.address);
        client.write(&octets);
        clients.push((name, client, line));
    }
    let mut names = Vec::new();
    for (name, mut client, line) in clients {
        let said = client.receiver.rest();
        let close = method(0, 10, 50, b"");
        assert!(!said.windows(11).any(|octets| octets == &close[..11]), "{name}: {said:?}");
        if line.contains("unknown protocol") || line.contains("AMQP 1.0") {
            assert_eq!(said, PROTOCOL_HEADER, "{name}");
        }
        names.push((name, client.name(), line));
    }
    assert!(witness.finish() > 0);
    for (name, connection, line) in &names {
        broker.log.wait_for(connection);
        eventually(name, || broker.log.matching(connection).iter().any(|logged| logged.contains(line)));
        let logged = broker.log.matching(connection).concat();
        assert!(logged.contains("WARN") && !logged.contains('\u{1b}'), "{name}: {logged}");
    }
    for (name, connection, _) in &names {
        assert_eq!(broker.log.matching(connection).len(), 1, "{name}");
    }
    broker.assert_sound();
}

#[test]
fn connections_that_say_nothing_or_little_are_no_event() {
    let mut broker = Broker::start("");
    for octets in [&b""[..], b"AM", &PROTOCOL_HEADER, &PROTOCOL_HEADER[..7]] {
        let mut client = Client::connect(broker.address);
        client.write(octets);
        client.stream.shutdown(std::net::Shutdown::Write).expect("connected");
        let name = client.name();
        client.ended();
        assert!(broker.log.matching(&name).is_empty(), "{octets:?}");
    }
    broker.assert_sound();
}

#[test]
fn what_tune_ok_asks_for_is_checked() {
    let mut broker = Broker::start("");
    let cases = [
        (0, 2_047, "negotiated frame_max = 0 is higher than the maximum allowed value (131072)"),
        (1, 2_047, "negotiated frame_max = 1 is lower than the minimum allowed value (4096)"),
        (4_095, 2_047, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
        (
            u32::MAX,
            2_047,
            "negotiated frame_max = 4294967295 is higher than the maximum allowed value (131072)",
        ),
        (131_072, 0, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
        (131_072, 2_048, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"),
    ];
    for (frame_max, channel_max, expected) in cases {
        let mut client = Client::connect(broker.address);
        client.log_in(&Hello { frame_max, channel_max, ..Hello::default() });
        let (code, text) = client.closed_with();
        assert_eq!((code, text), (530, format!("NOT_ALLOWED - {expected}")));
    }
    let mut client = Client::open_as(broker.address, &Hello { frame_max: 4_096, ..Hello::default() });
    client.open_channel(1);
    client.declare(1, "small-frames");
    client.consume(1, "small-frames", true);
    let mut octets = publish_start();
    octets.clear();
    let publish = basic::Publish { routing_key: "small-frames", ..basic::Publish::default() };
    octets.extend(method_frame(1, publish));
    octets.extend(header_frame(1, 10_000));
    for chunk in [4_000, 4_000, 2_000] {
        octets.extend(raw_frame(3, 1, &vec![b'x'; chunk]));
    }
    client.write(&octets);
    let deliver = client.receiver.frame();
    assert!(matches!(deliver.method(), Method::BasicDeliver(_)));
    assert_eq!(client.receiver.frame().kind, FrameKind::Header);
    let mut received = 0;
    while received < 10_000 {
        let body = client.receiver.frame();
        assert!(body.payload.len() <= 4_096 - 8, "{}", body.payload.len());
        received += body.payload.len();
    }
    broker.assert_sound();
}

#[test]
fn too_large_a_message_costs_only_its_channel() {
    let mut broker = Broker::start(CONFIG);
    let mut client = Client::open(broker.address);
    client.open_channel(1);
    client.open_channel(2);
    client.declare(2, "other");
    client.write(&after(&publish_start(), &header_frame(1, 1_048_577)));
    // What follows of it is discarded with the channel.
    client.write(&raw_frame(3, 1, &[7; 1000]));
    let (code, text) = client.channel_closed_with();
    assert_eq!(code, 406);
    assert_eq!(text, "PRECONDITION_FAILED - message size 1048577 is larger than configured max size 1048576");
    assert_eq!(client.declare(2, "other"), 0, "the other channel goes on");
    client.open_channel(1);
    for (tag, multiple) in [(0, false), (1, false), (u64::MAX, true)] {
        client.ack(1, tag, multiple);
        let (code, text) = client.channel_closed_with();
        assert_eq!((code, text), (406, format!("PRECONDITION_FAILED - unknown delivery tag {tag}")));
        client.open_channel(1);
    }
    let broken = client.name();
    assert_eq!(broker.log.matching(&broken).len(), 4, "one line for each channel that was closed");
    broker.assert_sound();
}

#[test]
fn a_closed_channel_takes_nothing_until_it_is_open_again() {
    let mut broker = Broker::start("");
    let mut client = Client::open(broker.address);
    client.open_channel(9);
    let close = channel::Close { reply_code: 200, ..channel::Close::default() };
    assert!(matches!(client.call(9, close).method(), Method::ChannelCloseOk(_)));
    client.open_channel(9);
    assert!(matches!(client.call(9, close).method(), Method::ChannelCloseOk(_)));
    client.write(&publish_frames(9, "q", b"x"));
    assert_eq!(client.closed_with().0, 504);
    broker.assert_sound();
}

#[test]
fn frames_may_be_cut_anywhere() {
    let mut broker = Broker::start("");
    let mut client = Client::open(broker.address);
    client.open_channel(1);
    client.declare(1, "cut");
    client.consume(1, "cut", true);
    let publish = publish_frames(1, "cut", b"a body");
    for boundary in 1..publish.len() {
        client.write(&publish[..boundary]);
        // An answer to something on another channel proves that the first part has been read.
        if boundary % 8 == 0 {
            client.stream.flush().expect("connected");
        }
        client.write(&publish[boundary..]);
        assert_eq!(client.receiver.delivery().body, b"a body", "cut at {boundary}");
    }
    let mut slow = Client::connect(broker.address);
    let open = connection::Open { vhost: "/" };
    let tune = connection::TuneOk { channel_max: 10, frame_max: 4096, heartbeat: 0 };
    let parts = [
        PROTOCOL_HEADER.to_vec(),
        start_ok("PLAIN", b"\0guest\0guest", &[0, 0, 0, 0]),
        [method_frame(0, tune), method_frame(0, open), method_frame(10, channel::Open {})].concat(),
    ];
    for part in &parts {
        for octet in part {
            slow.write(&[*octet]);
        }
        slow.receiver.frame();
    }
    assert!(matches!(slow.receiver.frame().method(), Method::ChannelOpenOk(_)));
    broker.assert_sound();
}

#[test]
fn a_hundred_thousand_empty_body_frames_take_no_memory() {
    let mut broker = Broker::start("");
    let witness = Witness::start(broker.address);
    let mut client = Client::open(broker.address);
    client.open_channel(1);
    client.declare(1, "empty-frames");
    client.consume(1, "empty-frames", true);
    let before = broker.memory("VmRSS");
    let publish = basic::Publish { routing_key: "empty-frames", ..basic::Publish::default() };
    client.write(&after(&method_frame(1, publish), &header_frame(1, 4)));
    let empty = raw_frame(3, 1, b"").repeat(1_000);
    for _ in 0..100 {
        client.write(&empty);
    }
    client.write(&raw_frame(3, 1, b"body"));
    assert_eq!(client.receiver.delivery().body, b"body");
    assert!(broker.memory("VmRSS") < before + (8 << 20));
    assert!(witness.finish() > 0);
    broker.assert_sound();
}

#[test]
fn ten_thousand_channels_are_cheap_and_one_too_many_is_refused() {
    let mut broker = Broker::start(CONFIG);
    let witness = Witness::start(broker.address);
    let before = broker.memory("VmRSS");
    let mut client = Client::open_as(broker.address, &Hello { channel_max: 10_000, ..Hello::default() });
    // The last ones first: numbers are not indices.
    let numbers: Vec<u16> = (55_536..=65_535).rev().collect();
    for batch in numbers.chunks(1_000) {
        client.write(&batch.iter().flat_map(|n| method_frame(*n, channel::Open {})).collect::<Vec<_>>());
        for number in batch {
            let answer = client.receiver.frame();
            assert_eq!(answer.channel, *number);
            assert!(matches!(answer.method(), Method::ChannelOpenOk(_)));
        }
    }
    let grown = broker.memory("VmRSS").saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 10,000 channels");
    client.send(1, channel::Open {});
    let (code, text) = client.closed_with();
    let expected =
        "NOT_ALLOWED - number of channels opened (10000) has reached the negotiated channel_max (10000)";
    assert_eq!((code, text.as_str()), (530, expected));
    assert!(witness.finish() > 0);
    broker.assert_sound();
}

#[test]
fn strangers_are_limited_in_time_and_number() {
    let config = "[limits]\nhandshake_timeout = \"1 s\"\nmax_unauthenticated_connections = 3\n";
    let mut broker = Broker::start(config);
    let friend = Client::open(broker.address);
    let mut strangers: Vec<_> = (0..3).map(|_| Client::connect(broker.address)).collect();
    for stranger in &mut strangers {
        stranger.write(&PROTOCOL_HEADER[..3]);
    }
    let mut fourth = Client::connect(broker.address);
    fourth.ended();
    broker.log.wait_for("limit of connections");
    let names: Vec<_> = strangers.iter().map(Client::name).collect();
    // A byte now and then does not buy time.
    for octet in PROTOCOL_HEADER.iter().skip(3).take(4) {
        strangers[0].try_write(&[*octet]);
    }
    for stranger in &mut strangers {
        stranger.ended();
    }
    for name in &names {
        assert!(broker.log.wait_for(name).contains("handshake timeout"));
    }
    Client::open(broker.address).close();
    friend.close();
    broker.assert_sound();
}

#[test]
fn a_consumer_that_does_not_read_is_closed_and_loses_nothing() {
    const MESSAGES: usize = 256;
    let mut broker = Broker::start("[limits]\nwrite_timeout = \"1 s\"\n");
    let witness = Witness::start(broker.address);
    let mut publisher = Client::open(broker.address);
    publisher.open_channel(1);
    publisher.declare(1, "unread");
    let mut deaf = Client::open(broker.address);
    deaf.open_channel(1);
    deaf.consume(1, "unread", false);
    let name = deaf.name();
    publisher.confirm_select(1);
    // More than the socket's buffers and the outbox take.
    for _ in 0..MESSAGES {
        publisher.publish(1, "unread", &vec![b'x'; 131_072]);
    }
    let line = broker.log.wait_for(&name);
    assert!(line.contains("read nothing for 1 s"), "{line}");
    while publisher.confirmed() < MESSAGES as u64 {}
    eventually("all messages are back", || publisher.declare(1, "unread") as usize == MESSAGES);
    publisher.consume(1, "unread", true);
    for n in 0..MESSAGES {
        assert_eq!(publisher.receiver.delivery().body.len(), 131_072, "message {n}");
    }
    drop(deaf);
    assert!(witness.finish() > 0);
    broker.assert_sound();
}

#[test]
fn connections_may_die_at_any_moment() {
    let mut broker = Broker::start("");
    let witness = Witness::start(broker.address);
    let mut observer = Client::open(broker.address);
    observer.open_channel(1);
    observer.declare(1, "mortal");
    observer.confirm_select(1);
    // In mid-body: the message has never existed.
    for reset in [false, true] {
        let mut dying = Client::open(broker.address);
        dying.open_channel(1);
        let message = publish_frames(1, "mortal", &[7; 100_000]);
        dying.write(&message[..90_000]);
        let name = dying.name();
        if reset {
            dying.reset();
        } else {
            drop(dying);
        }
        broker.log.wait_for(&name);
    }
    assert_eq!(observer.declare(1, "mortal"), 0);
    // During deliveries: everything comes back.
    for n in 0..200_u8 {
        observer.publish(1, "mortal", &vec![n; 20_000]);
    }
    while observer.confirmed() < 200 {}
    for _ in 0..5 {
        let mut dying = Client::open(broker.address);
        dying.open_channel(1);
        dying.consume(1, "mortal", false);
        dying.receiver.delivery();
        dying.reset();
        eventually("all messages are back", || observer.declare(1, "mortal") == 200);
    }
    observer.consume(1, "mortal", true);
    for n in 0..200_u8 {
        let delivered = observer.receiver.delivery();
        assert_eq!(delivered.body, vec![n; 20_000], "in the old order");
        assert!(n > 0 || delivered.redelivered);
    }
    assert!(witness.finish() > 0);
    broker.assert_sound();
}

#[test]
fn garbage_after_a_mistake_is_swallowed() {
    let mut broker = Broker::start("");
    let mut client = Client::open(broker.address);
    client.write(b"\xff\xff\xff\xff\xff\xff\xff\xff");
    for _ in 0..100 {
        client.try_write(&[0xab; 10_000]);
    }
    assert_eq!(client.receiver.frame().method().name(), "connection.close");
    // The answer is understood even if it comes in two pieces.
    let close_ok = method_frame(0, connection::CloseOk {});
    client.write(&close_ok[..5]);
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("connected");
    std::thread::yield_now();
    client.write(&close_ok[5..]);
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).expect("connected");
    client.ended();
    broker.assert_sound();
}
