//! What a vhost tells the session of a connection, and what it asks of the runtime.
//!
//! Invariant: events of one connection are in the order in which they happened; a consumer's
//! [`Reply::Consuming`] stands before its first delivery.

use super::{Awaiting, Journal, Lost, Read};
use crate::model::{
    ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, DefinitionChange, Message, QueueId, QueueName, Seq,
};
use crate::queue::{Detached, Queue};
use crate::topology::Refusal;

/// One thing that happened for a connection.
#[derive(Debug)]
pub enum Event {
    /// A message for a consumer.
    Delivery(Delivery),
    /// The answer to the channel's request.
    Replied {
        /// The channel.
        channel: ChannelNumber,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// The consumer is gone because its queue is.
    ConsumerCancelled {
        /// The channel.
        channel: ChannelNumber,
        /// The consumer.
        consumer: ConsumerKey,
    },
}

/// A message on its way to a consumer. Unless the consumer is no-ack, it stays unacked in its queue.
#[derive(Debug)]
pub struct Delivery {
    /// The consumer's channel.
    pub channel: ChannelNumber,
    /// The consumer.
    pub consumer: ConsumerKey,
    /// The queue it comes from. Meaningless for replies, which come from none.
    pub queue: QueueId,
    /// Its place there.
    pub seq: Seq,
    /// A client may have received it before.
    pub redelivered: bool,
    /// How often clients have failed with it, if its queue tells them; 0 if not.
    pub delivery_count: u16,
    /// The message.
    pub message: Message,
}

/// What a delivery costs beyond its message's bytes: frames, tag and entries on the way out.
const DELIVERY_OVERHEAD_BYTES: usize = 64;

impl Delivery {
    /// What it takes of its connection's outbox budget, in bytes.
    #[must_use]
    pub fn cost(&self) -> usize {
        DELIVERY_OVERHEAD_BYTES + self.message.cost()
    }
}

/// The answer to a [`super::Request`] that was not refused.
#[derive(Debug)]
pub enum Reply {
    /// The channel is open under this key.
    ChannelOpened(ChannelKey),
    /// Everything the channel held has returned.
    ChannelClosed,
    /// The exchange exists as declared.
    ExchangeDeclared,
    /// The exchange does not exist (any more).
    ExchangeDeleted,
    /// The binding exists.
    Bound,
    /// The binding does not exist (any more).
    Unbound,
    /// The queue exists as declared.
    QueueDeclared {
        /// Its name.
        name: QueueName,
        /// Ready messages.
        messages: u64,
        /// Consumers.
        consumers: u64,
    },
    /// The queue does not exist (any more).
    QueueDeleted {
        /// Ready messages that went with it.
        messages: u64,
    },
    /// The queue's ready messages are gone.
    QueuePurged {
        /// How many there were.
        messages: u64,
    },
    /// What `basic.get` found.
    Got(Option<Got>),
    /// The consumer exists; its deliveries follow.
    Consuming(ConsumerKey),
    /// The consumer does not exist (any more); no delivery of it follows.
    Cancelled(ConsumerKey),
}

/// A message handed over by `basic.get`.
#[derive(Debug)]
pub struct Got {
    /// Its queue.
    pub queue: QueueId,
    /// Its place there.
    pub seq: Seq,
    /// A client may have received it before.
    pub redelivered: bool,
    /// How often clients have failed with it, if its queue tells them; 0 if not.
    pub delivery_count: u16,
    /// Ready messages left in the queue.
    pub remaining: u64,
    /// The message.
    pub message: Message,
}

/// A queue created with arguments that this release stores and does not act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IneffectiveArguments {
    /// The queue.
    pub queue: QueueName,
    /// Their names, separated by commas.
    pub arguments: String,
}

/// A queue that has gone because nobody has used it for as long as it was declared for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The queue.
    pub queue: QueueName,
}

/// What the runtime has to do after a turn, once the vhost's lock is released unless said otherwise.
#[derive(Debug, Default)]
pub struct Effects {
    /// Connections whose outbox is no longer empty; the one whose turn it was is not among them.
    pub wake: Vec<ConnectionKey>,
    /// What durable queues keep or do not keep any more: to be appended while the lock is still held, in one batch
    /// with the definitions.
    pub journal: Journal,
    /// Durable definitions that changed: to be appended, in order, while the lock is still held.
    pub definitions: Vec<DefinitionChange>,
    /// A reply of this turn says that durable definitions are as asked for, though this turn did not change
    /// them: it must wait until whoever did is durable.
    pub relies_on_definitions: bool,
    /// Queues created with arguments that are stored and do nothing: worth a line of the log.
    pub ineffective: Vec<IneffectiveArguments>,
    /// The topology changed: sessions must route through a new snapshot, published while the lock is held.
    pub topology_changed: bool,
    /// Publishes of this turn that a queue refused, in order: their publishers are to be told.
    pub refused: Vec<Awaiting>,
    /// Messages that are gone; freeing many of them takes time that the lock need not be held for.
    pub discarded: Vec<Message>,
    /// The same for what queues were purged of.
    pub purged: Vec<Detached>,
    /// The same for queues that are gone.
    pub deleted: Vec<Queue>,
    /// Messages to be read.
    pub reads: Vec<Read>,
    /// Queues that have lost messages: to be said loudly.
    pub lost: Vec<Lost>,
    /// Queues that have gone because nobody has used them.
    pub overdue: Vec<Overdue>,
    /// Queues whose dead letters would have come round again without any client's doing, and were dropped.
    pub cycles: Vec<QueueName>,
    /// Work was left for later slices ([`super::Vhost::work`]).
    pub more_work: bool,
}
