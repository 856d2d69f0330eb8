//! The arguments a queue may be declared with: which types know them, and which values they take.
//!
//! Invariant: what is refused is refused with `RabbitMQ`'s words; an argument nobody knows is kept and never
//! looked at.

use ferrymq_protocol::table::{Table, Value};

use super::name::is_generated_queue_name;
use super::refusal::Refusal;
use crate::model::{QueueDefinition, VhostName};

/// The longest time to live: ten years of 365 days, in milliseconds.
pub(super) const MAX_EXPIRY_MS: i64 = 10 * 365 * 86_400 * 1_000;

/// The most priority levels a classic queue may ask for.
const MAX_PRIORITY: i64 = 255;

/// The argument that chooses the queue type.
pub(super) const X_QUEUE_TYPE: &str = "x-queue-type";

/// The argument that names where dead messages go.
const X_DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

/// How a queue keeps its messages, as its declaration asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueType {
    /// One copy; may be exclusive, transient, deleted with its last consumer.
    Classic,
    /// Always durable; every message is kept across a restart.
    Quorum,
}

impl QueueType {
    /// The type that these arguments of an accepted declaration ask for: classic, if they say nothing.
    #[must_use]
    pub fn of(arguments: &Table) -> Self {
        match arguments.get(X_QUEUE_TYPE).and_then(Value::as_str) {
            Some("quorum") => Self::Quorum,
            _ => Self::Classic,
        }
    }

    /// The name in declarations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// The name in refusals: of the module that implements it in `RabbitMQ`.
    fn implementation(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }
}

/// What an argument does in this version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// What it says, or nothing that a single broker could do about it.
    Done,
    /// Accepted, compared, and without effect yet.
    NotYet,
}

/// Which queue types know an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Both,
    Classic,
    Quorum,
    Stream,
}

/// An argument that some queue type knows.
struct Argument {
    name: &'static str,
    known: Known,
    effect: Effect,
    check: fn(&Value, &Table) -> Result<(), String>,
}

impl Argument {
    fn is_known_to(&self, kind: QueueType) -> bool {
        match self.known {
            Known::Both => true,
            Known::Classic => kind == QueueType::Classic,
            Known::Quorum => kind == QueueType::Quorum,
            Known::Stream => false,
        }
    }
}

const fn argument(
    name: &'static str,
    known: Known,
    effect: Effect,
    check: fn(&Value, &Table) -> Result<(), String>,
) -> Argument {
    Argument { name, known, effect, check }
}

/// Every argument that some type knows, in the order in which they are checked. Legacy arguments that
/// never mean anything here (`x-queue-mode`, `x-queue-version`, `x-queue-master-locator`, `ha-*`) are
/// left out: nobody knows them, so they are kept and never looked at.
const ARGUMENTS: &[Argument] = &[
    argument(X_QUEUE_TYPE, Known::Both, Effect::Done, check_text),
    argument("x-expires", Known::Both, Effect::Done, check_expires),
    argument("x-message-ttl", Known::Both, Effect::Done, check_expiry),
    argument(X_DEAD_LETTER_EXCHANGE, Known::Both, Effect::Done, check_text),
    argument("x-dead-letter-routing-key", Known::Both, Effect::Done, check_dead_letter_key),
    argument("x-dead-letter-strategy", Known::Quorum, Effect::NotYet, check_dead_letter_strategy),
    argument("x-max-length", Known::Both, Effect::Done, check_not_negative),
    argument("x-max-length-bytes", Known::Both, Effect::Done, check_not_negative),
    argument("x-max-in-memory-length", Known::Quorum, Effect::Done, check_not_negative),
    argument("x-max-in-memory-bytes", Known::Quorum, Effect::Done, check_not_negative),
    argument("x-max-priority", Known::Classic, Effect::Done, check_max_priority),
    argument("x-overflow", Known::Both, Effect::Done, check_overflow),
    argument("x-single-active-consumer", Known::Both, Effect::Done, check_boolean),
    // RabbitMQ knows it on quorum queues only; a poison message is no less of a nuisance on a classic one.
    argument("x-delivery-limit", Known::Both, Effect::Done, check_integer),
    argument("x-delayed-retry-type", Known::Quorum, Effect::NotYet, check_delayed_retry_type),
    argument("x-delayed-retry-min", Known::Quorum, Effect::NotYet, check_not_negative),
    argument("x-delayed-retry-max", Known::Quorum, Effect::NotYet, check_not_negative),
    argument("x-consumer-timeout", Known::Quorum, Effect::NotYet, check_not_negative),
    argument("x-consumer-disconnected-timeout", Known::Quorum, Effect::Done, check_not_negative),
    argument("x-quorum-initial-group-size", Known::Quorum, Effect::Done, check_positive),
    argument("x-queue-leader-locator", Known::Both, Effect::Done, check_leader_locator),
    argument("x-initial-cluster-size", Known::Stream, Effect::Done, check_positive),
    argument("x-max-age", Known::Stream, Effect::Done, check_text),
    argument("x-stream-max-segment-size-bytes", Known::Stream, Effect::Done, check_not_negative),
    argument("x-stream-filter-size-bytes", Known::Stream, Effect::Done, check_not_negative),
];

/// The arguments that a redeclaration must repeat.
pub(super) fn compared(kind: QueueType) -> impl Iterator<Item = &'static str> {
    ARGUMENTS.iter().filter(move |known| known.is_known_to(kind)).map(|known| known.name)
}

/// The names among these arguments that are accepted but have no effect in this version: to be said in the
/// log at declaration.
#[must_use]
pub fn arguments_without_effect(arguments: &Table) -> Vec<&str> {
    arguments
        .iter()
        .filter(|(name, _)| {
            ARGUMENTS.iter().any(|known| known.name == *name && known.effect == Effect::NotYet)
        })
        .map(|(name, _)| name)
        .collect()
}

/// Refuses a declaration that would create a queue no type can be.
pub(super) fn check(definition: &QueueDefinition, vhost: &VhostName) -> Result<(), Refusal> {
    let subject = || format!("queue '{}'", definition.name);
    let arguments = &definition.arguments;
    if is_generated_queue_name(definition.name.as_str())
        && let Some(implementation) = needs_a_name(arguments)
    {
        return Err(Refusal::ServerNamedQueue { implementation });
    }
    if let Some(other) = arguments.get(X_DEAD_LETTER_EXCHANGE).filter(|v| !matches!(v, Value::LongString(_)))
    {
        return Err(Refusal::InvalidArgumentType {
            argument: X_DEAD_LETTER_EXCHANGE.to_owned(),
            subject: subject(),
            vhost: vhost.clone(),
            received: other.type_name(),
        });
    }
    let invalid = |argument: &str, reason: String| Refusal::InvalidArgument {
        argument: argument.to_owned(),
        subject: subject(),
        vhost: vhost.clone(),
        reason,
    };
    let kind = match arguments.get(X_QUEUE_TYPE) {
        None => QueueType::Classic,
        Some(Value::LongString(name)) => match name.as_slice() {
            b"classic" => QueueType::Classic,
            b"quorum" => QueueType::Quorum,
            b"stream" => return Err(Refusal::NotYet { feature: "queue type 'stream'".to_owned() }),
            other => {
                let reason = format!("\"unsupported queue type '{}'\"", String::from_utf8_lossy(other));
                return Err(invalid(X_QUEUE_TYPE, reason));
            }
        },
        Some(other) => return Err(invalid(X_QUEUE_TYPE, unacceptable(other))),
    };
    for known in ARGUMENTS {
        if arguments.get(known.name).is_some() && !known.is_known_to(kind) {
            return Err(Refusal::ArgumentOfOtherType {
                argument: known.name,
                queue: definition.name.clone(),
                vhost: vhost.clone(),
                implementation: kind.implementation(),
            });
        }
    }
    for known in ARGUMENTS {
        if let Some(value) = arguments.get(known.name) {
            (known.check)(value, arguments).map_err(|reason| invalid(known.name, reason))?;
        }
    }
    check_properties(definition, kind, vhost)
}

/// The name in refusals of the type that these arguments ask for, if its queues cannot be server-named.
fn needs_a_name(arguments: &Table) -> Option<&'static str> {
    match arguments.get(X_QUEUE_TYPE).and_then(Value::as_str) {
        Some("quorum") => Some(QueueType::Quorum.implementation()),
        Some("stream") => Some("rabbit_stream_queue"),
        _ => None,
    }
}

/// Refuses what a quorum queue cannot be.
fn check_properties(definition: &QueueDefinition, kind: QueueType, vhost: &VhostName) -> Result<(), Refusal> {
    if kind != QueueType::Quorum {
        return Ok(());
    }
    let property = if definition.auto_delete {
        "auto-delete"
    } else if definition.exclusive {
        "exclusive-owner"
    } else if !definition.durable {
        "non-durable"
    } else {
        return Ok(());
    };
    Err(Refusal::InvalidProperty { property, queue: definition.name.clone(), vhost: vhost.clone() })
}

fn unacceptable(value: &Value) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

fn integer(value: &Value) -> Result<i64, String> {
    value.as_integer().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn not_negative(value: &Value) -> Result<i64, String> {
    match integer(value)? {
        negative @ ..0 => Err(format!("{{value_negative,{negative}}}")),
        number => Ok(number),
    }
}

fn one_of<'a>(value: &'a Value, allowed: &[&str], otherwise: &str) -> Result<&'a str, String> {
    let Value::LongString(_) = value else { return Err(unacceptable(value)) };
    value.as_str().filter(|text| allowed.contains(text)).ok_or_else(|| otherwise.to_owned())
}

fn check_integer(value: &Value, _: &Table) -> Result<(), String> {
    integer(value).map(|_| ())
}

fn check_not_negative(value: &Value, _: &Table) -> Result<(), String> {
    not_negative(value).map(|_| ())
}

fn check_positive(value: &Value, _: &Table) -> Result<(), String> {
    match not_negative(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        _ => Ok(()),
    }
}

fn check_expiry(value: &Value, _: &Table) -> Result<(), String> {
    match not_negative(value)? {
        ..=MAX_EXPIRY_MS => Ok(()),
        long => Err(format!("{{value_too_large,{long}}}")),
    }
}

fn check_expires(value: &Value, arguments: &Table) -> Result<(), String> {
    check_positive(value, arguments)?;
    check_expiry(value, arguments)
}

fn check_max_priority(value: &Value, _: &Table) -> Result<(), String> {
    match not_negative(value)? {
        ..=MAX_PRIORITY => Ok(()),
        high => Err(format!("{{max_value_exceeded,{high}}}")),
    }
}

fn check_boolean(value: &Value, _: &Table) -> Result<(), String> {
    match value {
        Value::Boolean(_) => Ok(()),
        other => Err(unacceptable(other)),
    }
}

fn check_text(value: &Value, _: &Table) -> Result<(), String> {
    match value {
        Value::LongString(_) => Ok(()),
        other => Err(unacceptable(other)),
    }
}

fn check_dead_letter_key(value: &Value, arguments: &Table) -> Result<(), String> {
    check_text(value, arguments)?;
    match arguments.get(X_DEAD_LETTER_EXCHANGE) {
        Some(_) => Ok(()),
        None => Err("routing_key_but_no_dlx_defined".to_owned()),
    }
}

fn check_dead_letter_strategy(value: &Value, _: &Table) -> Result<(), String> {
    one_of(value, &["at-most-once", "at-least-once"], "invalid_dlx_strategy").map(|_| ())
}

/// A quorum queue cannot reject and dead-letter at once.
fn check_overflow(value: &Value, arguments: &Table) -> Result<(), String> {
    let chosen = one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"], "invalid_overflow")?;
    if chosen == "reject-publish-dlx" && QueueType::of(arguments) == QueueType::Quorum {
        return Err("invalid_overflow".to_owned());
    }
    Ok(())
}

fn check_delayed_retry_type(value: &Value, _: &Table) -> Result<(), String> {
    one_of(value, &["disabled", "all", "failed", "returned"], "invalid_delayed_retry_type").map(|_| ())
}

fn check_leader_locator(value: &Value, _: &Table) -> Result<(), String> {
    let locators = ["client-local", "balanced", "random", "least-leaders", "min-masters"];
    one_of(value, &locators, "invalid_queue_locator_arg").map(|_| ())
}

/// The declared value of an argument, with the default of the one that has one.
pub(super) fn effective<'a>(arguments: &'a Table, name: &str, classic: &'a Value) -> Option<&'a Value> {
    arguments.get(name).or_else(|| (name == X_QUEUE_TYPE).then_some(classic))
}

#[cfg(test)]
mod tests;
