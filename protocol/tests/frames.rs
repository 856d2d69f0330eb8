//! Cutting a stream into frames: every split of the stream, every fault, and the texts that go with them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use ferrymq_protocol::frame::{
    DeliveryStart, FRAME_END, FRAME_OVERHEAD, FrameError, FrameKind, PROTOCOL_HEADER, ProtocolHeader,
    decode_frame, decode_protocol_header, encode_body, encode_delivery_start, encode_header, encode_method,
};
use ferrymq_protocol::method::{Method, basic, connection};
use ferrymq_protocol::{EncodeError, ErlangBinary};
use proptest::prelude::*;

const MAX: usize = 4096;

fn frame(kind: u8, size: u32, payload: &[u8], end: u8) -> Vec<u8> {
    [&[kind, 0, 1][..], &size.to_be_bytes(), payload, &[end]].concat()
}

fn text(input: &[u8]) -> String {
    decode_frame(input, MAX).unwrap_err().to_string()
}

#[test]
fn an_unfinished_frame_asks_for_more_at_every_length() {
    let whole = frame(3, 5, b"hello", FRAME_END);
    for length in 0..whole.len() {
        assert_eq!(decode_frame(&whole[..length], MAX), Ok(None), "{length}");
    }
    let (decoded, consumed) = decode_frame(&whole, MAX).unwrap().unwrap();
    assert_eq!((decoded.kind, decoded.channel, decoded.payload), (FrameKind::Body, 1, &b"hello"[..]));
    assert_eq!(consumed, whole.len());
}

#[test]
fn only_the_first_frame_is_taken() {
    let mut stream = frame(3, 1, b"a", FRAME_END);
    stream.extend(frame(99, 1, b"b", 0));
    assert_eq!(decode_frame(&stream, MAX).unwrap().unwrap().1, 9);
}

#[test]
fn a_payload_may_be_as_large_as_a_frame_and_no_larger() {
    let size = u32::try_from(MAX).unwrap();
    let largest = frame(3, size, &vec![0; MAX], FRAME_END);
    assert_eq!(decode_frame(&largest, MAX).unwrap().unwrap().1, MAX + FRAME_OVERHEAD);
    let start = &frame(3, size + 1, b"", 0)[..7];
    let too_large = FrameError::TooLarge { kind: 3, channel: 1, size: MAX + 1, max: MAX - FRAME_OVERHEAD };
    assert_eq!(decode_frame(start, MAX), Err(too_large));
    assert_eq!(text(start), "type 3, all octets = <<>>: {frame_too_large,4097,4088}");
    assert!(matches!(decode_frame(&frame(3, u32::MAX, b"", 0), MAX), Err(FrameError::TooLarge { .. })));
}

#[test]
fn every_other_kind_is_refused() {
    for kind in 0..=u8::MAX {
        let known = matches!(kind, 1 | 2 | 3 | 8);
        assert_eq!(decode_frame(&frame(kind, 0, b"", FRAME_END), MAX).is_ok(), known, "{kind}");
    }
}

#[test]
fn the_texts_quote_what_came() {
    let digits = frame(0, 20, b"1234567890\x0012345xyz", 0);
    let quoted =
        "type 0, first 16 octets = <<49,50,51,52,53,54,55,56,57,48,0,49,50,51,52,53>>: unknown_frame";
    assert_eq!(text(&digits), quoted);
    assert_eq!(text(&digits[..23]), quoted);
    assert_eq!(decode_frame(&digits[..22], MAX), Ok(None));
    assert_eq!(text(&frame(9, 2, b"hi", 0)), "type 9, all octets = <<\"hi\">>: unknown_frame");
    assert_eq!(
        text(&frame(1, 3, &[1, 2, 3], 0)),
        "type 1, all octets = <<1,2,3>>: {invalid_frame_end_marker,0}"
    );
}

#[test]
fn an_end_octet_out_of_place_is_refused() {
    for end in (0..=u8::MAX).filter(|end| *end != FRAME_END) {
        let refused = decode_frame(&frame(3, 2, b"ab", end), MAX).unwrap_err();
        assert_eq!(refused, FrameError::BadEnd { kind: 3, channel: 1, first: b"ab".to_vec(), size: 2, end });
    }
}

#[test]
fn a_refused_method_leaves_nothing_behind() {
    let mut out = BytesMut::from(&b"before"[..]);
    let long = "x".repeat(256);
    let publish = basic::Publish { exchange: "ex", routing_key: &long, ..Default::default() };
    let refused = encode_method(1, &publish.into(), &mut out);
    assert_eq!(refused, Err(EncodeError::ShortStringTooLong { length: 256 }));
    assert_eq!(out, b"before"[..]);
    let close = connection::Close { reply_text: &long[1..], ..Default::default() };
    encode_method(0, &close.into(), &mut out).unwrap();
    let (decoded, _) = decode_frame(&out[6..], MAX).unwrap().unwrap();
    assert_eq!(Method::decode(decoded.payload), Ok(close.into()));
}

#[test]
fn protocol_headers_are_told_apart() {
    let header = |version: [u8; 4]| [b"AMQP", &version[..]].concat();
    let read = |octets: &[u8]| decode_protocol_header(octets).unwrap();
    assert_eq!(read(&header([0, 0, 9, 1])), ProtocolHeader::Amqp091);
    assert_eq!(read(&header([1, 1, 0, 9])), ProtocolHeader::Amqp09);
    assert_eq!(read(&header([0, 1, 0, 0])), ProtocolHeader::Amqp10);
    assert_eq!(read(&header([2, 1, 0, 0])), ProtocolHeader::Amqp10Tls);
    assert_eq!(read(&header([3, 1, 0, 0])), ProtocolHeader::Amqp10Sasl);
    assert_eq!(read(&header([1, 1, 8, 0])), ProtocolHeader::OtherAmqp(*b"AMQP\x01\x01\x08\x00"));
    assert_eq!(read(b"AMQP\0\0\x09\x01and more"), ProtocolHeader::Amqp091);
    assert_eq!(read(b"GET / HTTP/1.1"), ProtocolHeader::Http);
    assert_eq!(read(b"PRI * HTTP/2.0"), ProtocolHeader::Http);
    assert_eq!(read(b"\x16\x03\x01\x02\0\x01"), ProtocolHeader::Tls);
    assert_eq!(read(b"hello wo"), ProtocolHeader::Unknown(*b"hello wo"));
}

#[test]
fn a_header_is_waited_for_only_while_it_can_still_come() {
    for length in 0..8 {
        assert_eq!(decode_protocol_header(&PROTOCOL_HEADER[..length]), None);
    }
    assert_eq!(decode_protocol_header(b"P"), None);
    assert_eq!(decode_protocol_header(b"DELETE"), None);
    assert_eq!(decode_protocol_header(b"\x16"), Some(ProtocolHeader::Tls));
    assert_eq!(decode_protocol_header(b"AMQQ"), Some(ProtocolHeader::Unknown(*b"AMQQ\0\0\0\0")));
    assert_eq!(decode_protocol_header(b"x"), Some(ProtocolHeader::Unknown(*b"x\0\0\0\0\0\0\0")));
}

proptest! {
    #[test]
    fn a_stream_comes_apart_as_it_was_put_together(
        pieces in prop::collection::vec((any::<u16>(), 0..3u8, prop::collection::vec(any::<u8>(), 0..200)), 0..20),
    ) {
        let mut stream = BytesMut::new();
        for (channel, kind, octets) in &pieces {
            match kind {
                0 => encode_body(*channel, octets, &mut stream),
                1 => encode_header(*channel, 60, 1 << 40, octets, &mut stream),
                _ => {
                    let response = connection::SecureOk { response: octets };
                    encode_method(*channel, &response.into(), &mut stream).unwrap();
                }
            }
        }
        let mut rest = &stream[..];
        for (channel, kind, octets) in &pieces {
            let (frame, consumed) = decode_frame(rest, MAX).unwrap().unwrap();
            prop_assert_eq!(frame.channel, *channel);
            let kinds = [FrameKind::Body, FrameKind::Header, FrameKind::Method];
            prop_assert_eq!(frame.kind, kinds[usize::from(*kind)]);
            prop_assert!(frame.payload.ends_with(octets));
            rest = &rest[consumed..];
        }
        prop_assert!(rest.is_empty());
    }
}

#[test]
fn octets_are_quoted_as_erlang_prints_them() {
    let text = |octets: &[u8]| ErlangBinary(octets).to_string();
    assert_eq!(text(b""), "<<>>");
    assert_eq!(text(b"it's \"so\" \\ \n"), r#"<<"it's \"so\" \\ \n">>"#);
    assert_eq!(text(b"a\0"), "<<97,0>>");
    assert_eq!(format!("{:#}", ErlangBinary(b"ab")), "<<97,98>>");
}

#[test]
fn a_delivery_starts_with_the_frames_of_its_method_and_its_header() {
    let long = "ö".repeat(127);
    for (consumer_tag, exchange, routing_key, raw_properties) in [
        ("", "", "", &[0, 0][..]),
        ("tag", "amq.topic", "a.b", &[0x10, 0, 2]),
        (&long, &long, &long, &[7; 3_000]),
    ] {
        for (delivery_tag, redelivered, body_size) in [(1, false, 0), (u64::MAX, true, u64::MAX - 1)] {
            let (mut expected, mut encoded) = (BytesMut::from("before"), BytesMut::from("before"));
            let deliver = basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key };
            encode_method(258, &deliver.into(), &mut expected).unwrap();
            encode_header(258, basic::Deliver::ID.class_id, body_size, raw_properties, &mut expected);
            let (exchange, routing_key) = (exchange.as_bytes(), routing_key.as_bytes());
            let start = DeliveryStart {
                consumer_tag,
                delivery_tag,
                redelivered,
                exchange,
                routing_key,
                raw_properties,
                body_size,
            };
            encode_delivery_start(258, &start, &mut encoded);
            assert_eq!(encoded, expected);
        }
    }
}
