//! What the delayed message exchange's arguments and headers say. It routes like an exchange of another type, which an
//! argument names; a message that asks for a delay waits in a queue of the vhost first.
//!
//! Invariant: the type it routes by is not the delayed one itself.

use ferrymq_protocol::table::{Table, TableRef, Value, ValueRef};

use super::exchange::parse_exchange_kind;
use super::refusal::Refusal;
use crate::model::ExchangeKind;

/// The argument that names the type to route by.
const DELAYED_TYPE: &str = "x-delayed-type";

/// The header that says for how long a message waits, in milliseconds; once it has waited, the number is negative.
pub const DELAY: &str = "x-delay";

/// The type that the exchange routes by.
pub(super) fn delayed_type(arguments: &Table) -> Option<ExchangeKind> {
    let name = arguments.get(DELAYED_TYPE).and_then(Value::as_str)?;
    parse_exchange_kind(name).ok().filter(|kind| *kind != ExchangeKind::Delayed)
}

/// The type to route by, or the refusal of arguments that name none.
pub(super) fn check_arguments(arguments: &Table) -> Result<ExchangeKind, Refusal> {
    delayed_type(arguments).ok_or_else(|| Refusal::ExchangeArguments {
        reason: format!("Invalid argument, '{DELAYED_TYPE}' must be an existing exchange type"),
    })
}

/// For how long a message with these headers waits, in milliseconds. What is no positive number is no delay.
#[must_use]
pub fn delay_of(headers: Option<TableRef<'_>>) -> u64 {
    let mut headers = headers.iter().flat_map(TableRef::iter);
    let value = headers.find(|(name, _)| *name == DELAY).map(|(_, value)| value);
    let number = value.and_then(|value| match value {
        ValueRef::LongString(_) => value.as_str()?.parse().ok(),
        other => other.to_owned().as_integer(),
    });
    number.and_then(|number: i64| u64::try_from(number).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn only_positive_numbers_delay() {
        let delay = |value: Value| {
            let mut encoded = BytesMut::new();
            Table::new().with("a", "b").with(DELAY, value).encode(&mut encoded).unwrap();
            delay_of(Some(TableRef::parse(&encoded).unwrap()))
        };
        assert_eq!(delay(Value::I32(5000)), 5_000);
        assert_eq!(delay(Value::I64(1 << 40)), 1 << 40, "longer than 49 days");
        assert_eq!(delay("70".into()), 70);
        for none in [Value::I32(-5), Value::I32(0), Value::Void, Value::Boolean(true), "soon".into()] {
            assert_eq!(delay(none.clone()), 0, "{none:?}");
        }
        assert_eq!(delay_of(None), 0);
    }

    #[test]
    fn the_type_to_route_by_is_named_and_another_one() {
        let check = |name: &str| check_arguments(&Table::new().with(DELAYED_TYPE, name));
        assert!(["direct", "topic", "x-consistent-hash"].iter().all(|name| check(name).is_ok()));
        assert!(["", "x-delayed-message", "x-unknown"].iter().all(|name| check(name).is_err()));
        assert!(check_arguments(&Table::new()).is_err());
    }
}
