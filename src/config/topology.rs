//! The exchanges, queues, bindings and policies that the file declares, in plain types.
//!
//! Invariant: what has a readable name in the file stands in [`Arguments`] under its AMQP name and type, so
//! that an object of the file and one that a client declared compare alike.

use std::collections::BTreeMap;
use std::fmt;

/// Something with its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// The line it begins in, from 1.
    pub line: u32,
    /// It.
    pub value: T,
}

/// AMQP arguments by their AMQP names.
pub type Arguments = BTreeMap<String, Argument>;

/// The value of an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A boolean.
    Bool(bool),
    /// An integer of 64 bits.
    Integer(i64),
    /// A double.
    Float(f64),
    /// A long string.
    Text(String),
    /// An array.
    List(Vec<Argument>),
    /// A table.
    Table(Arguments),
}

/// How an exchange picks destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeType {
    /// By equal keys.
    Direct,
    /// All.
    Fanout,
    /// By pattern of words.
    Topic,
    /// By message headers.
    Headers,
    /// One destination, by a hash and by weights.
    ConsistentHash,
    /// One binding, by chance.
    Random,
    /// One binding, by a hash.
    ModulusHash,
    /// All, and new ones get the latest messages.
    RecentHistory,
    /// `x-delayed-message`.
    Delayed,
}

impl ExchangeType {
    /// All of them, those that every AMQP broker has first.
    pub const ALL: [Self; 9] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::Random,
        Self::ModulusHash,
        Self::RecentHistory,
        Self::Delayed,
    ];

    /// Its AMQP name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::Random => "x-random",
            Self::ModulusHash => "x-modulus-hash",
            Self::RecentHistory => "x-recent-history",
            Self::Delayed => "x-delayed-message",
        }
    }
}

/// `[[exchange]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// 1 to 255 bytes, not beginning with `amq.`.
    pub name: String,
    /// The routing rule.
    pub kind: ExchangeType,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted when its last binding as a source goes.
    pub auto_delete: bool,
    /// Closed to publishers.
    pub internal: bool,
    /// With `alternate-exchange`, if one is set.
    pub arguments: Arguments,
}

/// `[[queue]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// 1 to 255 bytes, not beginning with `amq.`.
    pub name: String,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// The `x-` arguments.
    pub arguments: Arguments,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// The queue of this name.
    Queue(String),
    /// The exchange of this name.
    Exchange(String),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue '{name}'"),
            Self::Exchange(name) => write!(f, "exchange '{name}'"),
        }
    }
}

/// `[[binding]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange that routes, never the default exchange.
    pub source: String,
    /// Where it routes to.
    pub destination: Destination,
    /// At most 255 bytes.
    pub routing_key: String,
    /// The headers to match and `x-match`, if any.
    pub arguments: Arguments,
}

/// `[[policy]]` or `[[operator_policy]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// 1 to 255 bytes.
    pub name: String,
    /// It is an operator policy.
    pub operator: bool,
    /// What matches; not compiled yet.
    pub pattern: Located<String>,
    /// As RabbitMQ calls it: `all`, `queues`, `classic_queues`, `quorum_queues`, `streams` or `exchanges`.
    pub apply_to: &'static str,
    /// The highest that matches is in force.
    pub priority: i64,
    /// The settings by the names that RabbitMQ gives them.
    pub definition: Arguments,
}

/// How much a file declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopologyCounts {
    /// `[[exchange]]` entries.
    pub exchanges: usize,
    /// `[[queue]]` entries.
    pub queues: usize,
    /// `[[binding]]` entries.
    pub bindings: usize,
    /// `[[policy]]` and `[[operator_policy]]` entries.
    pub policies: usize,
}

impl fmt::Display for TopologyCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: usize, one: &str, many: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {many}"),
        };
        let Self { exchanges, queues, bindings, policies } = *self;
        let exchanges = counted(exchanges, "exchange", "exchanges");
        let queues = counted(queues, "queue", "queues");
        let bindings = counted(bindings, "binding", "bindings");
        write!(f, "{exchanges}, {queues}, {bindings}, {}", counted(policies, "policy", "policies"))
    }
}
