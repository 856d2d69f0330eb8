//! Octets written out by hand from the layout in the AMQP 0-9-1 specification and RabbitMQ's extensions, compared
//! with what the crate writes and reads. The round trips elsewhere would pass if both sides shared a mistake.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use ferrymq_protocol::frame::{
    FRAME_END, FrameKind, HEARTBEAT_FRAME, PROTOCOL_HEADER, ProtocolHeader, decode_frame,
    decode_protocol_header, encode_body, encode_frame_end, encode_frame_start, encode_header, encode_method,
};
use ferrymq_protocol::method::{Method, access, basic, channel, confirm, connection, exchange, queue, tx};
use ferrymq_protocol::properties::{ContentHeader, Properties};
use ferrymq_protocol::table::{Table, TableRef, Value};

/// Checks that the method frame has exactly these octets as payload, and that they read as the method.
#[track_caller]
fn golden<'a>(channel: u16, method: impl Into<Method<'a>>, payload: &[&[u8]]) {
    let (method, payload) = (method.into(), payload.concat());
    let size = u32::try_from(payload.len()).unwrap();
    let frame = [&[1], &channel.to_be_bytes()[..], &size.to_be_bytes(), &payload, &[0xCE]].concat();

    let mut out = BytesMut::new();
    encode_method(channel, &method, &mut out).unwrap();
    assert_eq!(out, frame[..], "{}", method.name());
    let (decoded, consumed) = decode_frame(&frame, 4096).unwrap().unwrap();
    assert_eq!((decoded.kind, decoded.channel, consumed), (FrameKind::Method, channel, frame.len()));
    assert_eq!(Method::decode(decoded.payload), Ok(method));
}

#[test]
fn the_protocol_header() {
    assert_eq!(PROTOCOL_HEADER, [65, 77, 81, 80, 0, 0, 9, 1]);
    assert_eq!(decode_protocol_header(&PROTOCOL_HEADER), Some(ProtocolHeader::Amqp091));
}

#[test]
fn a_heartbeat() {
    assert_eq!(HEARTBEAT_FRAME, [8, 0, 0, 0, 0, 0, 0, 0xCE]);
    let (frame, consumed) = decode_frame(&HEARTBEAT_FRAME, 4096).unwrap().unwrap();
    assert_eq!((frame.kind, frame.channel, frame.payload, consumed), (FrameKind::Heartbeat, 0, &[][..], 8));
}

#[test]
fn the_handshake() {
    let properties =
        b"\x07productS\x00\x00\x00\x07FerryMQ\x0ccapabilitiesF\x00\x00\x00\x0d\x0abasic.nackt\x01";
    golden(
        0,
        connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: TableRef::parse(properties).unwrap(),
            mechanisms: b"PLAIN AMQPLAIN",
            locales: b"en_US",
        },
        &[&[0, 10, 0, 10, 0, 9], &[0, 0, 0, 51], properties, b"\0\0\0\x0ePLAIN AMQPLAIN", b"\0\0\0\x05en_US"],
    );
    golden(
        0,
        connection::StartOk {
            client_properties: TableRef::EMPTY,
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        },
        &[&[0, 10, 0, 11], &[0, 0, 0, 0], b"\x05PLAIN", b"\0\0\0\x0c\0guest\0guest", b"\x05en_US"],
    );
    golden(
        0,
        connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 },
        &[&[0, 10, 0, 30], &[0x07, 0xFF], &[0, 2, 0, 0], &[0, 60]],
    );
    golden(
        0,
        connection::TuneOk { channel_max: 1, frame_max: 4096, heartbeat: 0 },
        &[&[0, 10, 0, 31], &[0, 1], &[0, 0, 0x10, 0], &[0, 0]],
    );
    golden(0, connection::Open { vhost: "/" }, &[&[0, 10, 0, 40], b"\x01/", &[0], &[0]]);
    golden(0, connection::OpenOk {}, &[&[0, 10, 0, 41], &[0]]);
    golden(7, channel::Open {}, &[&[0, 20, 0, 10], &[0]]);
    golden(7, channel::OpenOk {}, &[&[0, 20, 0, 11], &[0, 0, 0, 0]]);
}

#[test]
fn the_end() {
    golden(
        0,
        connection::Close { reply_code: 320, reply_text: "bye", class_id: 60, method_id: 40 },
        &[&[0, 10, 0, 50], &[1, 64], b"\x03bye", &[0, 60], &[0, 40]],
    );
    golden(0, connection::CloseOk {}, &[&[0, 10, 0, 51]]);
    golden(
        9,
        channel::Close { reply_code: 404, reply_text: "", class_id: 50, method_id: 10 },
        &[&[0, 20, 0, 40], &[1, 148], &[0], &[0, 50], &[0, 10]],
    );
    golden(9, channel::CloseOk {}, &[&[0, 20, 0, 41]]);
}

#[test]
fn the_extensions_of_the_connection() {
    golden(0, connection::Blocked { reason: "low on memory" }, &[&[0, 10, 0, 60], b"\x0dlow on memory"]);
    golden(0, connection::Unblocked {}, &[&[0, 10, 0, 61]]);
    golden(
        0,
        connection::UpdateSecret { new_secret: b"s3", reason: "old" },
        &[&[0, 10, 0, 70], b"\0\0\0\x02s3", b"\x03old"],
    );
    golden(0, connection::UpdateSecretOk {}, &[&[0, 10, 0, 71]]);
}

#[test]
fn declaring_a_queue_with_arguments() {
    let arguments = Table::new().with("x-max-length", 10).with("x-queue-type", "quorum");
    let mut raw = BytesMut::new();
    arguments.encode(&mut raw).unwrap();
    let expected = b"\x0cx-max-lengthI\0\0\0\x0a\x0cx-queue-typeS\0\0\0\x06quorum";
    assert_eq!(raw, expected[..]);

    let declare = queue::Declare {
        queue: "tasks",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: true,
        no_wait: false,
        arguments: TableRef::parse(&raw).unwrap(),
    };
    golden(1, declare, &[&[0, 50, 0, 10, 0, 0], b"\x05tasks", &[0b0000_1010], &[0, 0, 0, 42], expected]);
    assert_eq!(declare.arguments.to_owned(), arguments);
    golden(
        1,
        queue::DeclareOk { queue: "tasks", message_count: 3, consumer_count: 258 },
        &[&[0, 50, 0, 11], b"\x05tasks", &[0, 0, 0, 3], &[0, 0, 1, 2]],
    );
}

#[test]
fn bits_share_an_octet_from_the_lowest_up() {
    let flags = |place: u32| {
        let bit = |index| place == index;
        queue::Declare {
            passive: bit(0),
            durable: bit(1),
            exclusive: bit(2),
            auto_delete: bit(3),
            no_wait: bit(4),
            ..Default::default()
        }
    };
    for place in 0..5 {
        golden(1, flags(place), &[&[0, 50, 0, 10, 0, 0, 0], &[1 << place], &[0, 0, 0, 0]]);
    }
    let access = |place: u32| {
        let bit = |index| place == index;
        access::Request {
            realm: "/data",
            exclusive: bit(0),
            passive: bit(1),
            active: bit(2),
            write: bit(3),
            read: bit(4),
        }
    };
    for place in 0..5 {
        golden(1, access(place), &[&[0, 30, 0, 10], b"\x05/data", &[1 << place]]);
    }
    golden(1, access::RequestOk { ticket: 1 }, &[&[0, 30, 0, 11, 0, 1]]);
}

#[test]
fn bits_beyond_the_fields_are_passed_over() {
    let payload = [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0xFE];
    assert_eq!(
        Method::decode(&payload),
        Ok(Method::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }))
    );
}

#[test]
fn reserved_fields_are_passed_over() {
    let open = [&[0, 10, 0, 40][..], b"\x01/", b"\x03old", &[1]].concat();
    assert_eq!(Method::decode(&open), Ok(Method::ConnectionOpen(connection::Open { vhost: "/" })));
    let get = [&[0, 60, 0, 70][..], &[0xAB, 0xCD], b"\x01q", &[1]].concat();
    assert_eq!(Method::decode(&get), Ok(Method::BasicGet(basic::Get { queue: "q", no_ack: true })));
}

#[test]
fn exchanges_and_bindings() {
    golden(
        2,
        exchange::Declare {
            exchange: "logs",
            kind: "topic",
            durable: true,
            internal: true,
            ..Default::default()
        },
        &[&[0, 40, 0, 10, 0, 0], b"\x04logs", b"\x05topic", &[0b0_1010], &[0, 0, 0, 0]],
    );
    golden(
        2,
        exchange::Bind { destination: "to", source: "from", routing_key: "key", ..Default::default() },
        &[&[0, 40, 0, 30, 0, 0], b"\x02to", b"\x04from", b"\x03key", &[0], &[0, 0, 0, 0]],
    );
    golden(2, exchange::BindOk {}, &[&[0, 40, 0, 31]]);
    golden(2, exchange::UnbindOk {}, &[&[0, 40, 0, 51]]);
    golden(
        2,
        queue::Bind { queue: "q", exchange: "ex", routing_key: "key", no_wait: true, ..Default::default() },
        &[&[0, 50, 0, 20, 0, 0], b"\x01q", b"\x02ex", b"\x03key", &[1], &[0, 0, 0, 0]],
    );
    golden(
        2,
        queue::Unbind { queue: "q", exchange: "ex", routing_key: "key", ..Default::default() },
        &[&[0, 50, 0, 50, 0, 0], b"\x01q", b"\x02ex", b"\x03key", &[0, 0, 0, 0]],
    );
    golden(
        2,
        queue::Delete { queue: "q", if_unused: false, if_empty: true, no_wait: false },
        &[&[0, 50, 0, 40, 0, 0], b"\x01q", &[0b010]],
    );
}

#[test]
fn publishing_and_delivering() {
    golden(
        1,
        basic::Publish { exchange: "ex", routing_key: "key", mandatory: true, immediate: false },
        &[&[0, 60, 0, 40, 0, 0], b"\x02ex", b"\x03key", &[0b01]],
    );
    golden(
        1,
        basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange: "ex", routing_key: "key" },
        &[&[0, 60, 0, 50], &[1, 56], b"\x08NO_ROUTE", b"\x02ex", b"\x03key"],
    );
    golden(
        1,
        basic::Consume { queue: "q", consumer_tag: "c", no_ack: true, ..Default::default() },
        &[&[0, 60, 0, 20, 0, 0], b"\x01q", b"\x01c", &[0b0010], &[0, 0, 0, 0]],
    );
    golden(
        65_535,
        basic::Deliver {
            consumer_tag: "c",
            delivery_tag: 0x0102_0304_0506_0708,
            redelivered: true,
            exchange: "ex",
            routing_key: "key",
        },
        &[&[0, 60, 0, 60], b"\x01c", &[1, 2, 3, 4, 5, 6, 7, 8], &[1], b"\x02ex", b"\x03key"],
    );
    golden(
        1,
        basic::GetOk {
            delivery_tag: 1,
            redelivered: false,
            exchange: "ex",
            routing_key: "key",
            message_count: 9,
        },
        &[&[0, 60, 0, 71], &[0, 0, 0, 0, 0, 0, 0, 1], &[0], b"\x02ex", b"\x03key", &[0, 0, 0, 9]],
    );
    golden(1, basic::GetEmpty {}, &[&[0, 60, 0, 72], &[0]]);
    golden(
        1,
        basic::Qos { prefetch_size: 0, prefetch_count: 300, global: true },
        &[&[0, 60, 0, 10], &[0, 0, 0, 0], &[1, 44], &[1]],
    );
}

#[test]
fn acknowledging() {
    golden(
        1,
        basic::Ack { delivery_tag: 5, multiple: true },
        &[&[0, 60, 0, 80], &[0, 0, 0, 0, 0, 0, 0, 5], &[1]],
    );
    golden(
        1,
        basic::Nack { delivery_tag: 6, multiple: false, requeue: true },
        &[&[0, 60, 0, 120], &[0, 0, 0, 0, 0, 0, 0, 6], &[0b10]],
    );
    golden(
        1,
        basic::Reject { delivery_tag: 7, requeue: true },
        &[&[0, 60, 0, 90], &[0, 0, 0, 0, 0, 0, 0, 7], &[1]],
    );
    golden(1, basic::RecoverAsync { requeue: true }, &[&[0, 60, 0, 100, 1]]);
    golden(1, basic::Recover { requeue: true }, &[&[0, 60, 0, 110, 1]]);
    golden(1, basic::RecoverOk {}, &[&[0, 60, 0, 111]]);
    golden(1, confirm::Select { no_wait: true }, &[&[0, 85, 0, 10, 1]]);
    golden(1, confirm::SelectOk {}, &[&[0, 85, 0, 11]]);
    golden(1, tx::Select {}, &[&[0, 90, 0, 10]]);
    golden(1, tx::RollbackOk {}, &[&[0, 90, 0, 31]]);
}

/// All fourteen properties as octets: flags, then fields in the order of the flags.
fn all_properties() -> Vec<u8> {
    [
        &[0xFF, 0xFC][..],
        b"\x0atext/plain",
        b"\x04gzip",
        &[0, 0, 0, 6],
        b"\x01kB\x07\x00V",
        &[2],
        &[9],
        b"\x02c1",
        b"\x05reply",
        b"\x0560000",
        b"\x02m1",
        &[0, 0, 0, 0, 0x66, 0x55, 0x44, 0x33],
        b"\x04kind",
        b"\x05guest",
        b"\x03app",
        b"\x07cluster",
    ]
    .concat()
}

#[test]
fn a_content_header_with_all_properties() {
    let raw = all_properties();
    let expected = Properties {
        content_type: Some("text/plain"),
        content_encoding: Some("gzip"),
        headers: Some(TableRef::parse(b"\x01kB\x07\x00V").unwrap()),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some("c1"),
        reply_to: Some("reply"),
        expiration: Some("60000"),
        message_id: Some("m1"),
        timestamp: Some(0x6655_4433),
        kind: Some("kind"),
        user_id: Some("guest"),
        app_id: Some("app"),
        cluster_id: Some("cluster"),
    };
    assert_eq!(Properties::decode(&raw), Ok(expected));
    let mut out = BytesMut::new();
    expected.encode(&mut out).unwrap();
    assert_eq!(out, raw[..]);

    let payload = [&[0, 60, 0, 0][..], &[0, 0, 0, 0, 0, 0, 1, 0], &raw].concat();
    let size = u8::try_from(payload.len()).unwrap();
    let frame = [&[2, 0, 3, 0, 0, 0, size][..], &payload, &[0xCE]].concat();
    let mut out = BytesMut::new();
    encode_header(3, 60, 256, &raw, &mut out);
    assert_eq!(out, frame[..]);
    let (decoded, _) = decode_frame(&frame, 4096).unwrap().unwrap();
    assert_eq!(decoded.kind, FrameKind::Header);
    let header = ContentHeader::decode(decoded.payload).unwrap();
    assert_eq!(header, ContentHeader { class_id: 60, body_size: 256, raw_properties: &raw });
}

#[test]
fn each_property_has_its_flag() {
    let text = Some("x");
    let one_by_one = [
        (0x8000, Properties { content_type: text, ..Default::default() }),
        (0x4000, Properties { content_encoding: text, ..Default::default() }),
        (0x2000, Properties { headers: Some(TableRef::EMPTY), ..Default::default() }),
        (0x1000, Properties { delivery_mode: Some(2), ..Default::default() }),
        (0x0800, Properties { priority: Some(0), ..Default::default() }),
        (0x0400, Properties { correlation_id: text, ..Default::default() }),
        (0x0200, Properties { reply_to: text, ..Default::default() }),
        (0x0100, Properties { expiration: text, ..Default::default() }),
        (0x0080, Properties { message_id: text, ..Default::default() }),
        (0x0040, Properties { timestamp: Some(1), ..Default::default() }),
        (0x0020, Properties { kind: text, ..Default::default() }),
        (0x0010, Properties { user_id: text, ..Default::default() }),
        (0x0008, Properties { app_id: text, ..Default::default() }),
        (0x0004, Properties { cluster_id: text, ..Default::default() }),
    ];
    for (flags, properties) in one_by_one {
        let mut out = BytesMut::new();
        properties.encode(&mut out).unwrap();
        assert_eq!(out[..2], u16::to_be_bytes(flags));
        assert_eq!(Properties::decode(&out), Ok(properties));
    }
    assert_eq!(Properties::decode(&[0, 0]), Ok(Properties::default()));
}

#[test]
fn a_body_in_one_piece_and_in_segments() {
    let mut out = BytesMut::new();
    encode_body(2, b"hello", &mut out);
    assert_eq!(out[..], [&[3, 0, 2, 0, 0, 0, 5][..], b"hello", &[FRAME_END]].concat());

    let mut segments = BytesMut::new();
    encode_frame_start(FrameKind::Body, 2, 5, &mut segments);
    segments.extend_from_slice(b"hello");
    encode_frame_end(&mut segments);
    assert_eq!(segments, out);
}

#[test]
fn every_type_of_a_table() {
    let octets = [
        &b"\x01at\x01"[..],
        b"\x01bb\xff",
        b"\x01cB\xff",
        b"\x01ds\xff\xfe",
        b"\x01eu\xff\xfe",
        b"\x01fI\xff\xff\xff\xfe",
        b"\x01gi\xff\xff\xff\xfe",
        b"\x01hl\xff\xff\xff\xff\xff\xff\xff\xfe",
        b"\x01if\x3f\x80\0\0",
        b"\x01jd\x3f\xf0\0\0\0\0\0\0",
        b"\x01kD\x02\0\0\x01\x3a",
        b"\x01lS\0\0\0\x02hi",
        b"\x01mA\0\0\0\x04t\0B\x05",
        b"\x01nT\0\0\0\0\0\0\x10\0",
        b"\x01oF\0\0\0\x03\x01zV",
        b"\x01pV",
        b"\x01qx\0\0\0\x02\0\x01",
    ]
    .concat();
    let expected = Table::new()
        .with("a", true)
        .with("b", -1i8)
        .with("c", 255u8)
        .with("d", -2i16)
        .with("e", 65_534u16)
        .with("f", -2i32)
        .with("g", 4_294_967_294u32)
        .with("h", -2i64)
        .with("i", 1.0f32)
        .with("j", 1.0f64)
        .with("k", Value::Decimal { scale: 2, value: 314 })
        .with("l", "hi")
        .with("m", vec![Value::Boolean(false), Value::U8(5)])
        .with("n", Value::Timestamp(4096))
        .with("o", Table::new().with("z", Value::Void))
        .with("p", Value::Void)
        .with("q", Value::Binary(vec![0, 1]));
    let table = TableRef::parse(&octets).unwrap();
    assert_eq!(table.to_owned(), expected);
    let mut out = BytesMut::new();
    expected.encode(&mut out).unwrap();
    assert_eq!(out, octets[..]);

    let names = "bool byte unsignedbyte short unsignedshort signedint unsignedint long float double decimal longstr \
                 array timestamp table void binary";
    let seen: Vec<_> = table.iter().map(|(_, value)| value.type_name()).collect();
    assert_eq!(seen.join(" "), names);
    let owned: Vec<_> = expected.iter().map(|(_, value)| value.type_name()).collect();
    assert_eq!(owned.join(" "), names);
}

#[test]
fn both_letters_of_a_long_integer_read_the_same() {
    for letter in [b'l', b'L'] {
        let octets = [&[1, b'n', letter][..], &[0xFF; 8]].concat();
        let table = TableRef::parse(&octets).unwrap();
        assert_eq!(table.get("n").and_then(|value| value.as_integer()), Some(-1));
        assert_eq!(table.to_owned(), Table::new().with("n", -1i64));
    }
}
