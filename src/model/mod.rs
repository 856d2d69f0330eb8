//! The names every room speaks of: identities, names, definitions and messages.
//!
//! Invariant: values only. Nothing here acts, locks, or reads a clock.

mod definition;
mod id;
mod message;
mod name;
mod outcome;
mod policy;

pub use definition::{
    BindingDefinition, Definition, DefinitionChange, Destination, ExchangeDefinition, ExchangeKind, Origin,
    QueueDefinition,
};
pub use id::{ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, LogPosition, QueueId, Seq};
pub use message::{Body, Message, MessageParts, count_queue_bytes, settle_message_bytes};
pub use name::{ExchangeName, PolicyName, QueueName, RoutingKey, UserName, VhostName};
pub use outcome::Outcome;
pub use policy::{ApplyTo, PolicyDefinition, PolicyKind};
