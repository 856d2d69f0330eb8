//! Why the broker refuses an operation, worded as RabbitMQ words it: clients and people match on the text.
//!
//! Invariant: a refusal is the peer's mistake and carries facts only; `session` alone knows reply codes.

use crate::model::{ExchangeName, PolicyName, QueueName, VhostName};
use thiserror::Error;

/// An operation that was refused and changed nothing. What a field means is plain from the text it stands in.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// 404.
    #[error("no queue '{queue}' in vhost '{vhost}'")]
    NoQueue { queue: QueueName, vhost: VhostName },
    /// 404.
    #[error("no exchange '{exchange}' in vhost '{vhost}'")]
    NoExchange { exchange: ExchangeName, vhost: VhostName },
    /// 404: an empty queue name before any declare on the channel.
    #[error("no previously declared queue")]
    NoPreviousQueue,
    /// 403: creation under the reserved prefix. `kind` is `queue` or `exchange`.
    #[error("{kind} name '{name}' contains reserved prefix 'amq.*'")]
    ReservedName { kind: &'static str, name: String },
    /// 403.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// 403.
    #[error("deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed")]
    SystemExchange { exchange: ExchangeName, vhost: VhostName },
    /// 403.
    #[error("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'")]
    InternalExchange { exchange: ExchangeName, vhost: VhostName },
    /// 403: another consumer has the queue for itself, or this one cannot have it.
    #[error("queue '{queue}' in vhost '{vhost}' in exclusive use")]
    ExclusiveUse { queue: QueueName, vhost: VhostName },
    /// 403: the direct reply-to pseudo-queue can neither be bound nor deleted.
    #[error("operation not permitted on the reply-to pseudo-queue '{queue}'")]
    ReplyToQueue { queue: QueueName },
    /// 405: an exclusive queue of another connection, or a mismatch of the exclusive flag.
    #[error(
        "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
    )]
    Locked { queue: QueueName, vhost: VhostName },
    /// 405: the messages belong to the active consumer.
    #[error(
        "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. basic.get operations are not supported by quorum queues with single active consumer"
    )]
    SingleActiveGet { queue: QueueName, vhost: VhostName },
    /// 406: a redeclaration that differs. `subject` is `queue 'q'` or `exchange 'x'`; `received` and
    /// `current` are worded by the comparison: `'false'`, `none`, `the value '1' of type 'byte'`.
    #[error(
        "inequivalent arg '{argument}' for {subject} in vhost '{vhost}': received {received} but current is {current}"
    )]
    Inequivalent { argument: String, subject: String, vhost: VhostName, received: String, current: String },
    /// 406: an argument that no queue can have. `reason` as RabbitMQ prints it: `{value_negative,-5}`.
    #[error("invalid arg '{argument}' for {subject} in vhost '{vhost}': {reason}")]
    InvalidArgument { argument: String, subject: String, vhost: VhostName, reason: String },
    /// 406: an argument of the wrong type.
    #[error("invalid type '{received}' for arg '{argument}' in {subject} in vhost '{vhost}'")]
    InvalidArgumentType { argument: String, subject: String, vhost: VhostName, received: &'static str },
    /// 406: an argument that only other queue types know.
    #[error("invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}' of queue type {implementation}")]
    ArgumentOfOtherType {
        argument: &'static str,
        queue: QueueName,
        vhost: VhostName,
        implementation: &'static str,
    },
    /// 406: what a quorum queue cannot be.
    #[error("invalid property '{property}' for queue '{queue}' in vhost '{vhost}'")]
    InvalidProperty { property: &'static str, queue: QueueName, vhost: VhostName },
    /// 406: only classic queues may leave their name to the broker.
    #[error("Cannot declare a server-named queue for type {implementation}")]
    ServerNamedQueue { implementation: &'static str },
    /// 406.
    #[error("unknown exchange type '{kind}'")]
    UnknownExchangeType { kind: String },
    /// 406: `subject` is `queue 'q'` or `exchange 'x'`.
    #[error("{subject} in vhost '{vhost}' in use")]
    InUse { subject: String, vhost: VhostName },
    /// 406.
    #[error("queue '{queue}' in vhost '{vhost}' not empty")]
    NotEmpty { queue: QueueName, vhost: VhostName },
    /// 406: arguments that no exchange of this type can have.
    #[error("{reason}")]
    ExchangeArguments { reason: String },
    /// 406: arguments of a binding to a headers exchange, or the weight of one to a consistent hash exchange.
    #[error("{reason}")]
    InvalidBinding { reason: String },
    /// 406.
    #[error("fast reply consumer does not exist")]
    NoReplyConsumer,
    /// 406.
    #[error("reply consumer already set")]
    ReplyConsumerSet,
    /// 406.
    #[error("reply consumer cannot acknowledge")]
    ReplyConsumerAcknowledges,
    /// A policy that cannot be set.
    #[error("Validation failed\n\n{reason}\n")]
    InvalidPolicy { reason: String },
    /// A policy that is not there.
    #[error("Parameter does not exist")]
    NoPolicy,
    /// A policy that only the file can change or remove.
    #[error("policy '{policy}' is declared in the configuration file, and can only be changed there")]
    PolicyOfFile { policy: PolicyName },
    /// A policy of the file that was set otherwise by somebody else.
    #[error("policy '{policy}' exists already, and was set otherwise")]
    PolicyDiffers { policy: PolicyName },
    /// 540: a quorum queue cannot tell at once whether the condition holds, which is `if-unused` or `if-empty`.
    #[error(
        "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete operations with {condition} flag set are not supported by quorum queues"
    )]
    ConditionalDelete { queue: QueueName, vhost: VhostName, condition: &'static str },
    /// 540: the argument asks for what this version does not have.
    #[error("{feature} is not supported yet")]
    NotYet { feature: String },
}
