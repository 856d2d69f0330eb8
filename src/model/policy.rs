//! What operators set for all queues and exchanges of matching names.

use ferrymq_protocol::table::Table;

use super::{Origin, PolicyName};

/// On whose behalf a policy speaks. Each queue and exchange has one of either kind at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// Whoever uses the vhost.
    User,
    /// Whoever runs the broker: limits that users' policies cannot exceed.
    Operator,
}

/// Which objects a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplyTo {
    /// Queues of every type, and exchanges.
    All,
    /// Queues of every type.
    Queues,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
    /// Exchanges.
    Exchanges,
}

/// A policy as set.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyDefinition {
    /// Unique among the policies of its kind in its vhost.
    pub name: PolicyName,
    /// Whose it is.
    pub kind: PolicyKind,
    /// A regular expression, to be found anywhere in an object's name.
    pub pattern: String,
    /// Which objects.
    pub apply_to: ApplyTo,
    /// Of several that match, the one with the highest is in force.
    pub priority: i64,
    /// The settings, by their names: those of queue arguments without `x-`.
    pub definition: Table,
    /// Who set it.
    pub origin: Origin,
}
