//! Strategies the property tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::BytesMut;
use ferrymq_protocol::table::{Table, Value};
use proptest::prelude::*;

/// Text that fits a short string, of any characters.
pub(crate) fn short_text() -> impl Strategy<Value = String> {
    let text = |length| {
        prop::collection::vec(any::<char>(), length).prop_map(|characters| {
            let mut text: String = characters.into_iter().collect();
            while text.len() > 255 {
                text.pop();
            }
            text
        })
    };
    prop_oneof![9 => text(0..12), 1 => text(200..255)]
}

/// Any value but a table or an array. Not-a-number is left out, because it does not equal itself.
fn leaf() -> impl Strategy<Value = Value> {
    let octets = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        prop::num::f32::ANY.prop_filter("a number", |value| !value.is_nan()).prop_map(Value::F32),
        prop::num::f64::ANY.prop_filter("a number", |value| !value.is_nan()).prop_map(Value::F64),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| Value::Decimal { scale, value }),
        octets().prop_map(Value::LongString),
        any::<u64>().prop_map(Value::Timestamp),
        Just(Value::Void),
        octets().prop_map(Value::Binary),
    ]
}

fn table_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Table> {
    prop::collection::vec((short_text(), value), 0..6).prop_map(|pairs| Table::from_pairs(pairs).unwrap())
}

/// Any table, nested up to five levels.
pub(crate) fn table() -> impl Strategy<Value = Table> {
    let value = leaf().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            table_of(inner).prop_map(Value::Table),
        ]
    });
    table_of(value)
}

/// The table's content as on the wire.
pub(crate) fn content(table: &Table) -> Vec<u8> {
    let mut out = BytesMut::new();
    table.encode(&mut out).unwrap();
    out.to_vec()
}
