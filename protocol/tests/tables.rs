//! Field tables: round trips, and what a hostile peer may try.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::BytesMut;
use ferrymq_protocol::table::{MAX_DEPTH, Table, TableRef, Value, ValueRef};
use ferrymq_protocol::{DecodeError, EncodeError, Fault};
use proptest::prelude::*;

/// Less than the smallest stack a thread gets anywhere; an unbounded recursion would end the test run.
const SMALL_STACK: usize = 64 * 1024;

fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(SMALL_STACK).spawn(run).unwrap().join().unwrap();
}

fn fault(octets: &[u8]) -> Fault {
    match TableRef::parse(octets) {
        Err(DecodeError::Malformed { what: "field table", fault }) => fault,
        other => panic!("{other:?}"),
    }
}

/// A table of that many levels, the outermost included. Below the first, `A` makes arrays and `F` tables.
fn nested(letter: u8, levels: usize) -> Vec<u8> {
    let name: &[u8] = if letter == b'F' { &[0] } else { &[] };
    let per_level = name.len() + 5;
    let mut octets = vec![0];
    for below in (0..levels - 1).rev() {
        let size = u32::try_from(below * per_level).unwrap();
        if octets.len() > 1 {
            octets.extend_from_slice(name);
        }
        octets.push(letter);
        octets.extend_from_slice(&size.to_be_bytes());
    }
    if levels == 1 { Vec::new() } else { octets }
}

#[test]
fn the_depth_limit_is_exact() {
    for letter in [b'A', b'F'] {
        for levels in [1, 2, MAX_DEPTH] {
            let octets = nested(letter, levels);
            let table = TableRef::parse(&octets).unwrap();
            assert_eq!(common::content(&table.to_owned()), octets);
        }
        assert_eq!(fault(&nested(letter, MAX_DEPTH + 1)), Fault::TooDeep);
    }
}

#[test]
fn depth_beyond_all_measure_is_refused_on_a_small_stack() {
    on_a_small_stack(|| {
        for letter in [b'A', b'F'] {
            assert_eq!(fault(&nested(letter, 100_000)), Fault::TooDeep);
        }
    });
}

#[test]
fn the_deepest_table_works_on_a_small_stack() {
    on_a_small_stack(|| {
        for letter in [b'A', b'F'] {
            let octets = nested(letter, MAX_DEPTH);
            let table = TableRef::parse(&octets).unwrap();
            let owned = table.to_owned();
            let copy = owned.clone();
            assert_eq!(copy, owned);
            assert!(format!("{owned:?}").len() > format!("{table:?}").len());
            assert_eq!(common::content(&copy), octets);
            let mut outer = Table::new();
            assert_eq!(outer.insert("deeper", copy), Err(EncodeError::TooDeep));
        }
    });
}

#[test]
fn a_value_nested_by_our_own_code_is_refused_where_it_enters_a_table() {
    let arrays = |levels| (0..levels).fold(Value::Void, |inner, _| Value::Array(vec![inner]));
    let mut table = Table::new();
    assert_eq!(table.insert("a", arrays(MAX_DEPTH)), Err(EncodeError::TooDeep));
    assert!(table.is_empty());
    table.insert("a", arrays(MAX_DEPTH - 1)).unwrap();
    TableRef::parse(&common::content(&table)).unwrap();
}

#[test]
fn many_levels_side_by_side_are_not_deep() {
    let siblings: Vec<u8> = b"\x00A\0\0\0\x05A\0\0\0\0".repeat(10_000);
    assert_eq!(TableRef::parse(&siblings).unwrap().iter().count(), 10_000);
}

#[test]
fn a_length_beyond_the_end_is_refused() {
    for letter in [b'S', b'x', b'A', b'F'] {
        for length in [u32::MAX, 1 << 31, 4] {
            let octets = [&[1, b'k', letter][..], &length.to_be_bytes(), b"abc"].concat();
            assert_eq!(fault(&octets), Fault::Truncated, "{} {length}", char::from(letter));
        }
    }
    assert_eq!(fault(b"\xff"), Fault::Truncated);
}

#[test]
fn an_inner_length_may_not_reach_past_its_table() {
    // The long string would fit the outer table, which goes on after the inner one.
    let octets = b"\x01aF\0\0\0\x07\x01bS\0\0\0\x03\x01cV";
    assert_eq!(fault(octets), Fault::Truncated);
}

#[test]
fn each_type_cut_short_is_refused() {
    for (letter, size) in
        [(b't', 1), (b'b', 1), (b'B', 1), (b's', 2), (b'u', 2), (b'I', 4), (b'i', 4), (b'l', 8), (b'L', 8)]
            .into_iter()
            .chain([(b'f', 4), (b'd', 8), (b'D', 5), (b'S', 4), (b'A', 4), (b'T', 8), (b'F', 4), (b'x', 4)])
    {
        let whole = [&[1, b'k', letter][..], &vec![0; size]].concat();
        assert_eq!(TableRef::parse(&whole).unwrap().iter().count(), 1);
        for length in 1..whole.len() {
            assert_eq!(fault(&whole[..length]), Fault::Truncated);
        }
    }
}

#[test]
fn only_known_letters_are_types() {
    let known = b"tbBsuIilLfdDSATFVx";
    for letter in 0..=u8::MAX {
        let octets = [&[1, b'k', letter][..], &[0; 8]].concat();
        let unknown = fault_if_any(&octets) == Some(Fault::UnknownFieldType(letter));
        assert_eq!(unknown, !known.contains(&letter), "{letter}");
    }
}

fn fault_if_any(octets: &[u8]) -> Option<Fault> {
    match TableRef::parse(octets) {
        Err(DecodeError::Malformed { fault, .. }) => Some(fault),
        _ => None,
    }
}

#[test]
fn a_name_is_utf8_and_a_long_string_need_not_be() {
    assert_eq!(fault(b"\x01\xffV"), Fault::NotUtf8);
    let table = TableRef::parse(b"\x01kS\0\0\0\x01\xff").unwrap();
    assert_eq!(table.get("k"), Some(ValueRef::LongString(&[0xFF])));
    assert_eq!(table.get("k").unwrap().as_str(), None);
}

#[test]
fn any_octet_but_zero_is_true() {
    for (octet, expected) in [(0, false), (1, true), (2, true), (255, true)] {
        let octets = [1, b'k', b't', octet];
        assert_eq!(TableRef::parse(&octets).unwrap().get("k"), Some(ValueRef::Boolean(expected)));
    }
}

#[test]
fn repeated_names_stay_and_the_first_one_answers() {
    let octets = b"\x01kB\x01\x01kB\x02\x01jB\x03";
    let table = TableRef::parse(octets).unwrap();
    assert_eq!(table.get("k"), Some(ValueRef::U8(1)));
    let mut owned = table.to_owned();
    assert_eq!(common::content(&owned), octets);
    assert_eq!(owned.get("k"), Some(&Value::U8(1)));
    owned.insert("k", 9u8).unwrap();
    assert_eq!(common::content(&owned), b"\x01kB\x09\x01kB\x02\x01jB\x03");
    assert_eq!(owned.remove("k"), Some(Value::U8(9)));
    assert_eq!(owned, Table::new().with("j", 3u8));
}

#[test]
fn names_are_limited_to_what_a_short_string_holds() {
    let mut table = Table::new();
    table.insert("n".repeat(255), 1).unwrap();
    let refused = table.insert("n".repeat(256), 1);
    assert_eq!(refused, Err(EncodeError::ShortStringTooLong { length: 256 }));
    assert_eq!(table.len(), 1);
}

#[test]
fn integers_of_all_types_are_integers_and_nothing_else_is() {
    let integers =
        [Value::I8(-7), Value::I16(-7), Value::I32(-7), Value::I64(-7)].map(|value| value.as_integer());
    assert_eq!(integers, [Some(-7); 4]);
    let unsigned = [Value::U8(7), Value::U16(7), Value::U32(7)].map(|value| value.as_integer());
    assert_eq!(unsigned, [Some(7); 3]);
    let others = [Value::Timestamp(7), Value::F64(7.0), Value::Boolean(true), Value::from("7")];
    assert_eq!(others.map(|value| value.as_integer()), [None; 4]);
}

proptest! {
    #[test]
    fn tables_come_back_as_they_were(table in common::table()) {
        let octets = common::content(&table);
        let read = TableRef::parse(&octets).unwrap();
        prop_assert_eq!(read.as_bytes(), &octets);
        prop_assert_eq!(&read.to_owned(), &table);
        prop_assert_eq!(read.is_empty(), table.is_empty());

        let mut sized = BytesMut::new();
        table.encode_with_length(&mut sized).unwrap();
        let length = u32::try_from(octets.len()).unwrap();
        prop_assert_eq!(&sized[..4], &length.to_be_bytes());
        prop_assert_eq!(&sized[4..], &octets);
    }

    #[test]
    fn looking_in_place_sees_what_the_copy_has(table in common::table()) {
        let octets = common::content(&table);
        let read = TableRef::parse(&octets).unwrap();
        for ((name, value), (owned_name, owned_value)) in read.iter().zip(table.iter()) {
            prop_assert_eq!(name, owned_name);
            prop_assert_eq!(value.type_name(), owned_value.type_name());
            prop_assert_eq!(value.as_integer(), owned_value.as_integer());
            prop_assert_eq!(&value.to_owned(), owned_value);
            prop_assert_eq!(read.get(name), Some(value));
        }
        prop_assert_eq!(read.iter().count(), table.len());
    }

    #[test]
    fn a_cut_table_is_refused_or_ends_between_entries(table in common::table(), cut in any::<prop::sample::Index>()) {
        let octets = common::content(&table);
        let cut = &octets[..cut.index(octets.len() + 1)];
        if let Ok(shorter) = TableRef::parse(cut) {
            let copy = shorter.to_owned();
            prop_assert_eq!(common::content(&copy), cut);
            prop_assert!(copy.iter().eq(table.iter().take(copy.len())));
        }
    }
}
