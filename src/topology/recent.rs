//! What the recent history exchange's arguments say. Its rule is the fanout exchange's; the messages are the vhost's.
//!
//! Invariant: a length is at least 1.

use ferrymq_protocol::table::{Table, Value};

use super::refusal::Refusal;
use super::value;

/// The argument that says how many messages are remembered.
const LENGTH: &str = "x-recent-history-length";
/// How many it is without the argument.
const DEFAULT_LENGTH: u64 = 20;

/// Refuses arguments that no recent history exchange can have.
pub(super) fn check_arguments(arguments: &Table) -> Result<(), Refusal> {
    match arguments.get(LENGTH) {
        None => Ok(()),
        Some(length) if length.as_integer().is_some_and(|length| length > 0) => Ok(()),
        Some(other) => {
            let other = match other {
                Value::LongString(_) | Value::Binary(_) => format!("<<\"{}\">>", value::bare(other)),
                other => value::bare(other),
            };
            let reason = format!("Invalid argument {other}, '{LENGTH}' must be a positive integer");
            Err(Refusal::ExchangeArguments { reason })
        }
    }
}

/// How many messages are remembered, by arguments that were checked.
pub(super) fn history_length(arguments: &Table) -> u64 {
    let length = arguments.get(LENGTH).and_then(Value::as_integer);
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or(DEFAULT_LENGTH)
}
