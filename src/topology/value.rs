//! When two table values count as equal, and how refusals word them.
//!
//! Invariant: the width of an integer, like that of a float, never matters; the class of a value always does.

use ferrymq_protocol::table::{Value, ValueRef};

/// Whether two declared values are the same: any integer type equals any other, but 10.0 is not 10.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (numbers(left), numbers(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// Whether a message's header has the value that a binding asks for. RabbitMQ compares bare values here, whatever
/// their types say: 1 matches 1.0 and the timestamp 1, text matches the same octets, an empty table an empty array.
pub(super) fn matches(wanted: &Value, header: ValueRef<'_>) -> bool {
    match (wanted, header) {
        (
            Value::LongString(wanted) | Value::Binary(wanted),
            ValueRef::LongString(header) | ValueRef::Binary(header),
        ) => wanted.as_slice() == header,
        (Value::LongString(_) | Value::Binary(_), _) | (_, ValueRef::LongString(_) | ValueRef::Binary(_)) => {
            false
        }
        _ => {
            let header = header.to_owned();
            match (Number::of(wanted), Number::of(&header)) {
                (Some(wanted), Some(header)) => wanted.equals(&header),
                _ if is_empty(wanted) => is_empty(&header),
                _ => *wanted == header,
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Table(table) => table.is_empty(),
        Value::Array(values) => values.is_empty(),
        _ => false,
    }
}

#[derive(PartialEq)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// Of a value whose bare form is a number.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Timestamp(seconds) => Some(Number::Integer(i128::from(*seconds))),
            _ => numbers(value),
        }
    }

    /// Whether both stand for the same number.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float out of range saturates, and is unequal then"
    )]
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Number::Integer(integer), Number::Float(float))
            | (Number::Float(float), Number::Integer(integer)) => {
                // Both conversions have to hold: beyond 2^53 either alone is too generous.
                *integer as f64 == *float && *float as i128 == *integer
            }
            _ => self == other,
        }
    }
}

fn numbers(value: &Value) -> Option<Number> {
    match value {
        Value::F32(float) => Some(Number::Float(f64::from(*float))),
        Value::F64(float) => Some(Number::Float(*float)),
        _ => value.as_integer().map(|integer| Number::Integer(integer.into())),
    }
}

/// The bare value as Erlang prints it, without quotes around text. Tables and arrays are not spelt out.
pub(super) fn bare(value: &Value) -> String {
    match value {
        Value::Boolean(value) => value.to_string(),
        Value::F32(value) => format!("{value:?}"),
        Value::F64(value) => format!("{value:?}"),
        Value::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        Value::LongString(octets) | Value::Binary(octets) => String::from_utf8_lossy(octets).into_owned(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
        Value::Array(values) if values.is_empty() => "[]".to_owned(),
        Value::Table(table) if table.is_empty() => "[]".to_owned(),
        Value::Array(_) | Value::Table(_) => "[...]".to_owned(),
        integer => integer.as_integer().map(|integer| integer.to_string()).unwrap_or_default(),
    }
}

/// The value beside one that is absent: `none`, or `the value '1' of type 'byte'`.
pub(super) fn with_type(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!("the value '{}' of type '{}'", bare(value), value.type_name()),
    }
}

#[cfg(test)]
mod tests {
    use ferrymq_protocol::table::TableRef;

    use super::*;

    #[test]
    fn widths_do_not_matter_but_classes_do() {
        assert!(same(&Value::I8(10), &Value::I64(10)));
        assert!(same(&Value::U32(10), &Value::I16(10)));
        assert!(same(&Value::F32(0.5), &Value::F64(0.5)));
        assert!(!same(&Value::F64(10.0), &Value::I64(10)));
        assert!(!same(&Value::Timestamp(10), &Value::I64(10)));
        assert!(!same(&Value::from("10"), &Value::I64(10)));
        assert!(!same(&Value::from("a"), &Value::Binary(b"a".to_vec())));
        assert!(same(&Value::Void, &Value::Void));
    }

    #[test]
    fn headers_match_by_their_bare_values() {
        assert!(matches(&Value::I8(10), ValueRef::I64(10)));
        assert!(matches(&Value::I8(10), ValueRef::F32(10.0)));
        assert!(!matches(&Value::I8(10), ValueRef::F32(10.5)));
        assert!(matches(&Value::F64(10.0), ValueRef::Timestamp(10)));
        assert!(!matches(&Value::I64((1 << 53) + 1), ValueRef::F64(9_007_199_254_740_992.0)));
        assert!(!matches(&Value::F64(f64::NAN), ValueRef::F64(f64::NAN)));
        assert!(!matches(&Value::I8(1), ValueRef::Boolean(true)));
        assert!(!matches(&Value::I8(1), ValueRef::Decimal { scale: 0, value: 1 }));
        assert!(matches(&Value::Array(Vec::new()), ValueRef::Table(TableRef::default())));
        assert!(matches(&Value::from("a"), ValueRef::LongString(b"a")));
        assert!(matches(&Value::from("a"), ValueRef::Binary(b"a")));
        assert!(!matches(&Value::from("1"), ValueRef::I8(1)));
    }

    #[test]
    fn values_are_worded_as_rabbitmq_words_them() {
        assert_eq!(with_type(None), "none");
        assert_eq!(with_type(Some(&Value::I8(1))), "the value '1' of type 'byte'");
        assert_eq!(with_type(Some(&Value::from("foo"))), "the value 'foo' of type 'longstr'");
        assert_eq!(bare(&Value::F64(10.0)), "10.0");
        assert_eq!(bare(&Value::Boolean(true)), "true");
    }
}
