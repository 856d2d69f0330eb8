//! What a queue does with its messages: its arguments, read once.
//!
//! Invariant: whatever has been accepted means something here; what an argument does not say is what RabbitMQ does
//! without it.

use std::sync::Arc;

use ferrymq_protocol::table::{Table, Value};

use super::death::DeadLetters;
use crate::model::QueueDefinition;
use crate::topology::QueueType;

/// What happens to a message that a full queue has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The first of the queue makes room for it.
    #[default]
    DropHead,
    /// It is refused: its publisher's confirm is a `basic.nack`.
    RejectPublish,
    /// The same, and it is dead-lettered.
    RejectPublishDlx,
}

/// What a queue's arguments amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How long a message stays at most, in milliseconds, unless its own expiration is shorter.
    pub message_ttl: Option<u64>,
    /// How long the queue stays unused, in milliseconds.
    pub expires: Option<u64>,
    /// Ready messages at most.
    pub max_length: Option<u64>,
    /// Octets of bodies of ready messages at most.
    pub max_length_bytes: Option<u64>,
    /// What happens beyond these.
    pub overflow: Overflow,
    /// The highest priority that counts; without it, all messages are equal.
    pub max_priority: Option<u8>,
    /// One consumer at a time gets messages.
    pub single_active_consumer: bool,
    /// How often clients may fail with a message before it is dropped or dead-lettered.
    pub delivery_limit: Option<u64>,
    /// Where what is dropped goes.
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    /// Its consumers are told how often clients have failed with a message.
    pub tells_failures: bool,
}

impl Settings {
    /// What the arguments of an accepted declaration say.
    #[must_use]
    pub(super) fn of(definition: &QueueDefinition) -> Self {
        let arguments = &definition.arguments;
        let number = |name| number(arguments, name);
        Self {
            message_ttl: number("x-message-ttl"),
            expires: number("x-expires"),
            max_length: number("x-max-length"),
            max_length_bytes: number("x-max-length-bytes"),
            overflow: match arguments.get("x-overflow").and_then(Value::as_str) {
                Some("reject-publish") => Overflow::RejectPublish,
                Some("reject-publish-dlx") => Overflow::RejectPublishDlx,
                _ => Overflow::DropHead,
            },
            max_priority: number("x-max-priority").and_then(|levels| u8::try_from(levels).ok()),
            single_active_consumer: arguments.get("x-single-active-consumer") == Some(&Value::Boolean(true)),
            // A negative limit is none.
            delivery_limit: number("x-delivery-limit"),
            dead_letters: DeadLetters::of(definition).map(Arc::new),
            tells_failures: QueueType::of(arguments) == QueueType::Quorum,
        }
    }
}

/// A number that is there and not negative.
fn number(arguments: &Table, name: &str) -> Option<u64> {
    arguments.get(name).and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Origin, QueueName};

    fn settings(arguments: Table) -> Settings {
        Settings::of(&QueueDefinition {
            name: QueueName::from("q"),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments,
            origin: Origin::Client,
        })
    }

    #[test]
    fn arguments_mean_what_they_say() {
        let arguments = Table::new()
            .with("x-message-ttl", Value::I32(0))
            .with("x-max-length", Value::I64(5))
            .with("x-overflow", "reject-publish-dlx")
            .with("x-max-priority", Value::I32(10))
            .with("x-single-active-consumer", Value::Boolean(true))
            .with("x-delivery-limit", Value::I32(-1));
        let expected = Settings {
            message_ttl: Some(0),
            max_length: Some(5),
            overflow: Overflow::RejectPublishDlx,
            max_priority: Some(10),
            single_active_consumer: true,
            ..Settings::default()
        };
        assert_eq!(settings(arguments), expected);
        assert_eq!(settings(Table::new()), Settings::default());
    }
}
