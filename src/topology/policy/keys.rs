//! The settings that policies can have: which values they take, who may set them, and for which queues they are.
//!
//! Invariant: what is refused is refused with `RabbitMQ`'s words, and a value that is accepted is one that an argument
//! of that name could have.

use ferrymq_protocol::table::{Table, Value};

use super::term::term;
use crate::model::PolicyKind;
use crate::topology::QueueType;
use crate::topology::arguments::MAX_EXPIRY_MS;

/// Longest name or routing key, in bytes.
const NAME_MAX: usize = 255;

/// What becomes of a setting that both a user's and an operator's policy have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// The lower number.
    Lower,
    /// The higher number.
    Higher,
    /// The lower number, where a negative one is no limit.
    LowerLimit,
    /// The operator's.
    Operators,
}

/// A setting.
struct Key {
    name: &'static str,
    /// Whether it takes the value.
    takes: fn(&Value) -> bool,
    /// The end of what is said about any other.
    wrong: &'static str,
    /// Operators' policies may have it too.
    merge: Option<Merge>,
    /// Queues of these types are passed over by every policy that has it.
    not_for: &'static [QueueType],
}

const fn key(name: &'static str, takes: fn(&Value) -> bool, wrong: &'static str) -> Key {
    Key { name, takes, wrong, merge: None, not_for: &[] }
}

impl Key {
    const fn merged(self, merge: Merge) -> Self {
        Self { merge: Some(merge), ..self }
    }

    const fn not_for(self, not_for: &'static [QueueType]) -> Self {
        Self { not_for, ..self }
    }
}

const CLASSIC: &[QueueType] = &[QueueType::Classic];
const QUORUM: &[QueueType] = &[QueueType::Quorum];
const CLASSIC_AND_QUORUM: &[QueueType] = &[QueueType::Classic, QueueType::Quorum];

/// Every setting.
const KEYS: &[Key] = &[
    key("alternate-exchange", is_name, "alternate exchange name"),
    key("dead-letter-exchange", is_name, "dead letter exchange name"),
    key("dead-letter-routing-key", is_name, "dead letter routing key"),
    key("dead-letter-strategy", is_strategy, "dead letter strategy").not_for(CLASSIC),
    key("message-ttl", is_expiry, "message TTL").merged(Merge::Lower),
    key("expires", is_lease, "queue expiry").merged(Merge::Lower),
    key("max-length", is_count, "maximum length").merged(Merge::Lower),
    key("max-length-bytes", is_count, "maximum length in bytes").merged(Merge::Lower),
    key("max-in-memory-length", is_count, "maximum memory in bytes").merged(Merge::Lower).not_for(CLASSIC),
    key("max-in-memory-bytes", is_count, "maximum memory in bytes").merged(Merge::Lower).not_for(CLASSIC),
    key("overflow", is_overflow, "overflow value").merged(Merge::Operators),
    key("delivery-limit", is_integer, "delivery limit").merged(Merge::LowerLimit).not_for(CLASSIC),
    key("delayed-retry-type", is_retry_type, "delayed retry type").merged(Merge::Operators).not_for(CLASSIC),
    key("delayed-retry-min", is_count, "minimum retry delay").merged(Merge::Lower).not_for(CLASSIC),
    key("delayed-retry-max", is_count, "maximum retry delay").merged(Merge::Lower).not_for(CLASSIC),
    key("consumer-timeout", is_count, "consumer timeout value"),
    key("consumer-disconnected-timeout", is_count, "consumer disconnected timeout value"),
    key("queue-mode", is_mode, "queue-mode value").not_for(QUORUM),
    key("queue-version", is_version, "queue-version value").merged(Merge::Operators),
    key("queue-leader-locator", is_locator, "queue leader locator value"),
    key("target-group-size", is_positive, "qq target count value").merged(Merge::Higher).not_for(CLASSIC),
    key("initial-cluster-size", is_count, "cluster size").not_for(CLASSIC_AND_QUORUM),
    key("max-age", is_age, "max age").not_for(CLASSIC_AND_QUORUM),
    key("stream-max-segment-size-bytes", is_count, "segment size").not_for(CLASSIC_AND_QUORUM),
    key("stream-filter-size-bytes", is_filter_size, "filter size. Valid range is 16-255"),
    // What mirrored queues had: old definitions are full of these, and nothing depends on them.
    key("ha-mode", is_anything, "").merged(Merge::Operators).not_for(QUORUM),
    key("ha-params", is_anything, "").merged(Merge::Operators).not_for(QUORUM),
    key("ha-sync-mode", is_anything, "").merged(Merge::Operators).not_for(QUORUM),
    key("ha-sync-batch-size", is_anything, "").merged(Merge::Operators),
    key("ha-promote-on-shutdown", is_anything, "").merged(Merge::Operators).not_for(QUORUM),
    key("ha-promote-on-failure", is_anything, "").merged(Merge::Operators).not_for(QUORUM),
];

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Checks the settings of a policy.
///
/// # Errors
/// The first value that is wrong, or else all settings that are none, as `RabbitMQ` words it.
pub(super) fn check(kind: PolicyKind, definition: &Table) -> Result<(), String> {
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    let mut settings: Vec<_> = definition.iter().collect();
    settings.sort_by_key(|(name, _)| *name);
    let mut unknown = Vec::new();
    for (name, value) in settings {
        match find(name).filter(|key| kind == PolicyKind::User || key.merge.is_some()) {
            Some(key) if !(key.takes)(value) => {
                return Err(format!("{} is not a valid {}", term(value), key.wrong));
            }
            Some(_) => {}
            None => unknown.push(format!("{{{},{}}}", term(&Value::from(name)), term(value))),
        }
    }
    match unknown.as_slice() {
        [] => Ok(()),
        unknown => Err(format!("[{}] are not recognised policy settings", unknown.join(",\n "))),
    }
}

/// Whether a policy with these settings can be for queues of this type.
pub(super) fn is_for(definition: &Table, kind: QueueType) -> bool {
    definition.iter().all(|(name, _)| find(name).is_none_or(|key| !key.not_for.contains(&kind)))
}

/// Which of two values of a setting is in force.
pub(super) fn merge<'v>(name: &str, user: &'v Value, operator: &'v Value) -> &'v Value {
    let rule = find(name).and_then(|key| key.merge).unwrap_or(Merge::Operators);
    let (Some(of_user), Some(of_operator)) = (user.as_integer(), operator.as_integer()) else {
        return operator;
    };
    let users = match rule {
        Merge::Lower => of_user < of_operator,
        Merge::Higher => of_user > of_operator,
        Merge::LowerLimit => lower_limit(of_user, of_operator) == of_user,
        Merge::Operators => false,
    };
    if users { user } else { operator }
}

/// The stricter of two limits; a negative one is none.
#[must_use]
pub fn lower_limit(left: i64, right: i64) -> i64 {
    if left < 0 || right < 0 { left.max(right) } else { left.min(right) }
}

fn is_anything(_: &Value) -> bool {
    true
}

fn is_integer(value: &Value) -> bool {
    value.as_integer().is_some()
}

fn is_count(value: &Value) -> bool {
    value.as_integer().is_some_and(|number| number >= 0)
}

fn is_positive(value: &Value) -> bool {
    value.as_integer().is_some_and(|number| number > 0)
}

fn is_expiry(value: &Value) -> bool {
    value.as_integer().is_some_and(|number| (0..=MAX_EXPIRY_MS).contains(&number))
}

fn is_lease(value: &Value) -> bool {
    value.as_integer().is_some_and(|number| (1..=MAX_EXPIRY_MS).contains(&number))
}

fn is_version(value: &Value) -> bool {
    matches!(value.as_integer(), Some(1 | 2))
}

fn is_filter_size(value: &Value) -> bool {
    value.as_integer().is_some_and(|number| (16..=255).contains(&number))
}

fn is_name(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() <= NAME_MAX)
}

fn is_one_of(value: &Value, words: &[&str]) -> bool {
    value.as_str().is_some_and(|text| words.contains(&text))
}

fn is_strategy(value: &Value) -> bool {
    is_one_of(value, &["at-most-once", "at-least-once"])
}

fn is_overflow(value: &Value) -> bool {
    is_one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"])
}

fn is_retry_type(value: &Value) -> bool {
    is_one_of(value, &["disabled", "all", "failed", "returned"])
}

fn is_mode(value: &Value) -> bool {
    is_one_of(value, &["default", "lazy"])
}

fn is_locator(value: &Value) -> bool {
    is_one_of(value, &["client-local", "balanced", "random", "least-leaders"])
}

/// A number and its unit: `7D`.
fn is_age(value: &Value) -> bool {
    let digits = value.as_str().and_then(|text| text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
