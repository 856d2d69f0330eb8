//! What clients and operators declare: exchanges, queues, bindings and policies.

use ferrymq_protocol::table::Table;

use super::{ExchangeName, PolicyDefinition, QueueName, RoutingKey};

/// Who declared an object: what the file declared, an edit of the file may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The broker itself, at the creation of the vhost: the default exchange and `amq.*`.
    System,
    /// A client, over the wire.
    Client,
    /// The operator, in `config.toml`.
    Config,
}

/// How an exchange picks destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// Binding key equals routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Binding key is a pattern of words, `*` and `#`.
    Topic,
    /// Binding arguments are compared with the message's headers.
    Headers,
    /// One destination, by a hash; the binding key is its weight (`x-consistent-hash`).
    ConsistentHash,
    /// One binding, by chance (`x-random`).
    Random,
    /// One binding, by the hash of the routing key modulo their number (`x-modulus-hash`).
    ModulusHash,
    /// Every binding, and a new one gets the latest messages first (`x-recent-history`).
    RecentHistory,
    /// Like another type, which an argument names, and later if the message asks for it (`x-delayed-message`).
    Delayed,
}

/// An exchange as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeDefinition {
    /// Unique in its vhost.
    pub name: ExchangeName,
    /// The routing rule.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted when its last binding as a source goes, if it ever had one.
    pub auto_delete: bool,
    /// Closed to publishers; reached through bindings only.
    pub internal: bool,
    /// As the client sent them.
    pub arguments: Table,
    /// Who declared it.
    pub origin: Origin,
}

/// A queue as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDefinition {
    /// Unique in its vhost.
    pub name: QueueName,
    /// Survives a restart. Always false for an exclusive queue.
    pub durable: bool,
    /// Belongs to the connection that declared it and goes with it.
    pub exclusive: bool,
    /// Deleted when its last consumer goes, if it ever had one.
    pub auto_delete: bool,
    /// As the client sent them.
    pub arguments: Table,
    /// Who declared it.
    pub origin: Origin,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// A queue, by name.
    Queue(QueueName),
    /// Another exchange, by name.
    Exchange(ExchangeName),
}

/// A binding. Two with equal source, destination, key and arguments are the same binding.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingDefinition {
    /// The exchange that routes.
    pub source: ExchangeName,
    /// Where it routes to.
    pub destination: Destination,
    /// Matched against the message's routing key, by the source's rule.
    pub routing_key: RoutingKey,
    /// Matched against the message's headers by a headers exchange; otherwise part of the identity only.
    pub arguments: Table,
    /// Who declared it.
    pub origin: Origin,
}

/// One object of a vhost.
#[derive(Clone, Debug, PartialEq)]
pub enum Definition {
    /// An exchange.
    Exchange(ExchangeDefinition),
    /// A queue.
    Queue(QueueDefinition),
    /// A binding.
    Binding(BindingDefinition),
    /// A policy.
    Policy(PolicyDefinition),
}

/// A change of a vhost's durable definitions, to be made durable before it is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum DefinitionChange {
    /// The object exists from here on. Replaces one of the same identity.
    Put(Definition),
    /// The object is gone. Deleting what is not there is no error.
    Delete(Definition),
}
