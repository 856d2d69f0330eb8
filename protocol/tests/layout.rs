//! Every method against its layout, written down here a second time from the specification: payloads made from the
//! layout must decode, carry the right name, and encode to the same octets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashSet;

use bytes::BytesMut;
use ferrymq_protocol::frame::{decode_frame, encode_method};
use ferrymq_protocol::method::{Method, MethodId};
use ferrymq_protocol::{DecodeError, Fault};
use proptest::prelude::*;

/// `class method name: fields`. A field in brackets is reserved: written as zero or empty.
const LAYOUTS: &str = "
10 10 connection.start: octet octet table longstr longstr
10 11 connection.start-ok: table shortstr longstr shortstr
10 20 connection.secure: longstr
10 21 connection.secure-ok: longstr
10 30 connection.tune: short long short
10 31 connection.tune-ok: short long short
10 40 connection.open: shortstr [shortstr] [octet]
10 41 connection.open-ok: [shortstr]
10 50 connection.close: short shortstr short short
10 51 connection.close-ok:
10 60 connection.blocked: shortstr
10 61 connection.unblocked:
10 70 connection.update-secret: longstr shortstr
10 71 connection.update-secret-ok:
20 10 channel.open: [shortstr]
20 11 channel.open-ok: [longstr]
20 20 channel.flow: bits1
20 21 channel.flow-ok: bits1
20 40 channel.close: short shortstr short short
20 41 channel.close-ok:
30 10 access.request: shortstr bits5
30 11 access.request-ok: short
40 10 exchange.declare: [short] shortstr shortstr bits5 table
40 11 exchange.declare-ok:
40 20 exchange.delete: [short] shortstr bits2
40 21 exchange.delete-ok:
40 30 exchange.bind: [short] shortstr shortstr shortstr bits1 table
40 31 exchange.bind-ok:
40 40 exchange.unbind: [short] shortstr shortstr shortstr bits1 table
40 51 exchange.unbind-ok:
50 10 queue.declare: [short] shortstr bits5 table
50 11 queue.declare-ok: shortstr long long
50 20 queue.bind: [short] shortstr shortstr shortstr bits1 table
50 21 queue.bind-ok:
50 30 queue.purge: [short] shortstr bits1
50 31 queue.purge-ok: long
50 40 queue.delete: [short] shortstr bits3
50 41 queue.delete-ok: long
50 50 queue.unbind: [short] shortstr shortstr shortstr table
50 51 queue.unbind-ok:
60 10 basic.qos: long short bits1
60 11 basic.qos-ok:
60 20 basic.consume: [short] shortstr shortstr bits4 table
60 21 basic.consume-ok: shortstr
60 30 basic.cancel: shortstr bits1
60 31 basic.cancel-ok: shortstr
60 40 basic.publish: [short] shortstr shortstr bits2
60 50 basic.return: short shortstr shortstr shortstr
60 60 basic.deliver: shortstr longlong bits1 shortstr shortstr
60 70 basic.get: [short] shortstr bits1
60 71 basic.get-ok: longlong bits1 shortstr shortstr long
60 72 basic.get-empty: [shortstr]
60 80 basic.ack: longlong bits1
60 90 basic.reject: longlong bits1
60 100 basic.recover-async: bits1
60 110 basic.recover: bits1
60 111 basic.recover-ok:
60 120 basic.nack: longlong bits2
85 10 confirm.select: bits1
85 11 confirm.select-ok:
90 10 tx.select:
90 11 tx.select-ok:
90 20 tx.commit:
90 21 tx.commit-ok:
90 30 tx.rollback:
90 31 tx.rollback-ok:
";

#[derive(Clone, Debug)]
struct Layout {
    id: MethodId,
    name: &'static str,
    fields: Vec<&'static str>,
}

fn layouts() -> Vec<Layout> {
    let parse = |line: &'static str| {
        let (head, fields) = line.split_once(':').unwrap();
        let head: Vec<_> = head.split(' ').collect();
        let id = MethodId { class_id: head[0].parse().unwrap(), method_id: head[1].parse().unwrap() };
        Layout { id, name: head[2], fields: fields.split_whitespace().collect() }
    };
    LAYOUTS.trim().lines().map(parse).collect()
}

/// Values for the field of that type, as octets.
fn field(kind: &str) -> BoxedStrategy<Vec<u8>> {
    let sized = |octets: Vec<u8>| [&u32::try_from(octets.len()).unwrap().to_be_bytes()[..], &octets].concat();
    match kind {
        "octet" => any::<u8>().prop_map(|value| vec![value]).boxed(),
        "short" => any::<u16>().prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        "long" => any::<u32>().prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        "longlong" => any::<u64>().prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        "shortstr" => common::short_text()
            .prop_map(|text| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat())
            .boxed(),
        "longstr" => prop::collection::vec(any::<u8>(), 0..300).prop_map(sized).boxed(),
        "table" => common::table().prop_map(move |table| sized(common::content(&table))).boxed(),
        "[octet]" => Just(vec![0]).boxed(),
        "[short]" => Just(vec![0; 2]).boxed(),
        "[shortstr]" => Just(vec![0]).boxed(),
        "[longstr]" => Just(vec![0; 4]).boxed(),
        bits => {
            let count: u32 = bits.strip_prefix("bits").unwrap().parse().unwrap();
            (0..1u8 << count).prop_map(|value| vec![value]).boxed()
        }
    }
}

/// A payload of the method.
fn payload(layout: &Layout) -> BoxedStrategy<Vec<u8>> {
    let ids = [layout.id.class_id.to_be_bytes(), layout.id.method_id.to_be_bytes()].concat();
    layout
        .fields
        .iter()
        .fold(Just(ids).boxed(), |start, kind| {
            (start, field(kind)).prop_map(|(start, field)| [start, field].concat()).boxed()
        })
        .boxed()
}

fn any_payload() -> impl Strategy<Value = (Layout, Vec<u8>)> {
    prop::sample::select(layouts()).prop_flat_map(|layout| {
        let payload = payload(&layout);
        (Just(layout), payload)
    })
}

/// The payload of the frame the method encodes to.
fn encoded(method: &Method<'_>) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_method(1, method, &mut out).unwrap();
    let (frame, consumed) = decode_frame(&out, usize::MAX).unwrap().unwrap();
    assert_eq!(consumed, out.len());
    frame.payload.to_vec()
}

#[test]
fn no_other_method_exists() {
    let known: HashSet<_> = layouts().iter().map(|layout| layout.id).collect();
    assert_eq!(known.len(), layouts().len());
    for class_id in 0..=200 {
        for method_id in 0..=200 {
            let id = MethodId { class_id, method_id };
            let payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
            let unknown = Method::decode(&payload) == Err(DecodeError::UnknownMethod(id));
            assert_eq!(unknown, !known.contains(&id), "{id}");
        }
    }
}

#[test]
fn only_four_methods_have_content() {
    let mut with_content = Vec::new();
    for layout in layouts() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let payload = payload(&layout).new_tree(&mut runner).unwrap().current();
        if Method::decode(&payload).unwrap().has_content() {
            with_content.push(layout.name);
        }
    }
    assert_eq!(with_content, ["basic.publish", "basic.return", "basic.deliver", "basic.get-ok"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn methods_come_back_as_they_were((layout, payload) in any_payload()) {
        let method = Method::decode(&payload).unwrap();
        prop_assert_eq!(method.name(), layout.name);
        prop_assert_eq!(method.id(), layout.id);
        prop_assert_eq!(encoded(&method), payload);
    }

    #[test]
    fn a_shortened_or_lengthened_payload_is_refused((layout, payload) in any_payload(), cut in any::<prop::sample::Index>()) {
        let shorter = &payload[..cut.index(payload.len())];
        let what = if shorter.len() < 4 { "method" } else { layout.name };
        let refused = Method::decode(shorter);
        // A cut string can also end within a character, and a cut length can make other fields of what follows.
        let malformed = matches!(refused, Err(DecodeError::Malformed { what: named, .. }) if named == what);
        prop_assert!(malformed, "{refused:?}");

        let longer = [&payload[..], &[0]].concat();
        let trailing = DecodeError::Malformed { what: layout.name, fault: Fault::TrailingOctets };
        prop_assert_eq!(Method::decode(&longer), Err(trailing));
    }
}
