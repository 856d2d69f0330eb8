//! What each fuzz target does with its input. The stable test suite of `ferrymq-protocol` includes this file and
//! feeds it seeded random and mutated inputs, so the targets are kept working without a nightly compiler.
//!
//! Beyond not panicking, each target holds the crate to this: what was accepted encodes to octets that are accepted
//! again and mean the same.
#![allow(clippy::unwrap_used, reason = "a fuzz target fails by panicking")]

use bytes::BytesMut;
use ferrymq_protocol::frame::{
    FrameKind, decode_frame, decode_protocol_header, encode_frame_end, encode_frame_start, encode_method,
};
use ferrymq_protocol::method::Method;
use ferrymq_protocol::properties::{ContentHeader, Properties};
use ferrymq_protocol::table::{MAX_DEPTH, TableRef, ValueRef};

/// A `frame_max` small enough that both sides of the limit are met.
const MAX_FRAME_SIZE: usize = 4096;

/// A stream of octets as a connection reads it: header, then frames, then what the frames carry.
pub fn frame(input: &[u8]) {
    let _ = decode_protocol_header(input);
    let mut rest = input;
    while let Ok(Some((frame, consumed))) = decode_frame(rest, MAX_FRAME_SIZE) {
        let mut again = BytesMut::new();
        encode_frame_start(frame.kind, frame.channel, frame.payload.len(), &mut again);
        again.extend_from_slice(frame.payload);
        encode_frame_end(&mut again);
        assert_eq!(again, rest[..consumed]);
        match frame.kind {
            FrameKind::Method => method(frame.payload),
            FrameKind::Header => properties(frame.payload),
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
        rest = &rest[consumed..];
    }
    if let Err(error) = decode_frame(rest, MAX_FRAME_SIZE) {
        assert!(error.to_string().len() < 200);
    }
}

/// The payload of a method frame.
pub fn method(input: &[u8]) {
    let Ok(method) = Method::decode(input) else { return };
    let mut again = BytesMut::new();
    encode_method(1, &method, &mut again).unwrap();
    let (frame, consumed) = decode_frame(&again, usize::MAX).unwrap().unwrap();
    assert_eq!(consumed, again.len());
    assert_eq!(Method::decode(frame.payload), Ok(method));
}

/// The content of a field table.
pub fn field_table(input: &[u8]) {
    let Ok(table) = TableRef::parse(input) else { return };
    let owned = table.to_owned();
    assert_eq!(owned.len(), table.iter().count());
    assert!(deepest(table) <= MAX_DEPTH);
    let _ = format!("{owned:?}");
    // `L` becomes `l` and a true boolean becomes 1, so the octets settle after the first copy.
    let mut first = BytesMut::new();
    owned.encode(&mut first).unwrap();
    let mut second = BytesMut::new();
    TableRef::parse(&first).unwrap().to_owned().encode(&mut second).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.len(), input.len());
}

/// The payload of a header frame.
pub fn properties(input: &[u8]) {
    let Ok(header) = ContentHeader::decode(input) else { return };
    let Ok(properties) = Properties::decode(header.raw_properties) else { return };
    let mut again = BytesMut::new();
    properties.encode(&mut again).unwrap();
    assert_eq!(again, header.raw_properties);
    if let Some(headers) = properties.headers {
        field_table(headers.as_bytes());
    }
}

/// The number of levels, the table itself included.
fn deepest(table: TableRef<'_>) -> usize {
    let mut deepest = 1;
    let mut open = vec![(ValueRef::Table(table), 1)];
    while let Some((value, level)) = open.pop() {
        match value {
            ValueRef::Table(table) => open.extend(table.iter().map(|(_, inner)| (inner, level + 1))),
            ValueRef::Array(array) => open.extend(array.iter().map(|inner| (inner, level + 1))),
            _ => continue,
        }
        deepest = deepest.max(level);
    }
    deepest
}
