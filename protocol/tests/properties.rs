//! Message properties and content headers: round trips and refusals.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::BytesMut;
use ferrymq_protocol::properties::{ContentHeader, Properties};
use ferrymq_protocol::table::{Table, TableRef};
use ferrymq_protocol::{DecodeError, EncodeError, Fault};
use proptest::option;
use proptest::prelude::*;

fn fault(raw: &[u8]) -> Fault {
    match Properties::decode(raw) {
        Err(DecodeError::Malformed { what: "properties", fault }) => fault,
        other => panic!("{other:?}"),
    }
}

/// Properties that own what [`Properties`] borrows: the texts in the order of the wire.
#[derive(Clone, Debug)]
struct Owned {
    texts: Vec<Option<String>>,
    headers: Option<Table>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    timestamp: Option<u64>,
}

fn owned() -> impl Strategy<Value = Owned> {
    let texts = prop::collection::vec(option::of(common::short_text()), 10);
    let numbers = (option::of(any::<u8>()), option::of(any::<u8>()), option::of(any::<u64>()));
    (texts, option::of(common::table()), numbers).prop_map(
        |(texts, headers, (delivery_mode, priority, timestamp))| Owned {
            texts,
            headers,
            delivery_mode,
            priority,
            timestamp,
        },
    )
}

impl Owned {
    fn borrow<'a>(&'a self, headers: &'a [u8]) -> Properties<'a> {
        let text = |index: usize| self.texts[index].as_deref();
        Properties {
            content_type: text(0),
            content_encoding: text(1),
            headers: self.headers.as_ref().map(|_| TableRef::parse(headers).unwrap()),
            delivery_mode: self.delivery_mode,
            priority: self.priority,
            correlation_id: text(2),
            reply_to: text(3),
            expiration: text(4),
            message_id: text(5),
            timestamp: self.timestamp,
            kind: text(6),
            user_id: text(7),
            app_id: text(8),
            cluster_id: text(9),
        }
    }
}

#[test]
fn flags_without_a_property_are_refused() {
    assert_eq!(fault(&[0, 1]), Fault::UnknownProperty(1));
    assert_eq!(fault(&[0, 2]), Fault::UnknownProperty(2));
    assert_eq!(fault(&[0x10, 3, 2]), Fault::UnknownProperty(3));
}

#[test]
fn what_is_left_over_or_missing_is_refused() {
    assert_eq!(fault(&[]), Fault::Truncated);
    assert_eq!(fault(&[0]), Fault::Truncated);
    assert_eq!(fault(&[0, 0, 0]), Fault::TrailingOctets);
    assert_eq!(fault(&[0x10, 0]), Fault::Truncated);
    assert_eq!(fault(&[0x10, 0, 2, 0]), Fault::TrailingOctets);
    assert_eq!(fault(&[0x80, 0, 1, 0xFF]), Fault::NotUtf8);
}

#[test]
fn the_headers_are_checked() {
    assert_eq!(fault(b"\x20\0\0\0\0\x03\x01kQ"), Fault::UnknownFieldType(b'Q'));
    assert_eq!(fault(b"\x20\0\xff\xff\xff\xff\x01kV"), Fault::Truncated);
    assert_eq!(fault(b"\x20\0\0\0\0\x02\x01kV"), Fault::Truncated);
}

#[test]
fn a_property_that_does_not_fit_leaves_nothing_behind() {
    let long = "x".repeat(256);
    let properties = Properties { content_type: Some("a"), cluster_id: Some(&long), ..Default::default() };
    let mut out = BytesMut::from(&b"before"[..]);
    assert_eq!(properties.encode(&mut out), Err(EncodeError::ShortStringTooLong { length: 256 }));
    assert_eq!(out, b"before"[..]);
}

#[test]
fn a_content_header_needs_its_flags() {
    let payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0];
    for length in 0..payload.len() {
        let truncated = DecodeError::Malformed { what: "content header", fault: Fault::Truncated };
        assert_eq!(ContentHeader::decode(&payload[..length]), Err(truncated));
    }
    let header = ContentHeader { class_id: 60, body_size: 9, raw_properties: &[0, 0] };
    assert_eq!(ContentHeader::decode(&payload), Ok(header));
    // The fields are not looked at.
    let claims = ContentHeader::decode(&[0, 60, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0xFF, 0xFF]);
    assert_eq!(claims.unwrap().body_size, u64::MAX);
}

proptest! {
    #[test]
    fn properties_come_back_as_they_were(owned in owned()) {
        let headers = owned.headers.as_ref().map(common::content).unwrap_or_default();
        let properties = owned.borrow(&headers);
        let mut raw = BytesMut::new();
        properties.encode(&mut raw).unwrap();
        prop_assert_eq!(Properties::decode(&raw), Ok(properties));
        for length in 0..raw.len() {
            prop_assert!(Properties::decode(&raw[..length]).is_err());
        }
    }
}
