//! What a session asks of its vhost.
//!
//! Invariant: commands without a reply cannot be refused; whatever can be refused is a [`Request`], and a
//! session ends its burst after one, so that what follows it on the wire sees its outcome.

use ferrymq_protocol::table::Table;

use crate::model::{
    BindingDefinition, ChannelKey, ChannelNumber, ConsumerKey, ExchangeDefinition, ExchangeName, Message,
    Outcome, QueueDefinition, QueueId, QueueName, Seq,
};
use crate::topology::Route;

/// One step of a burst.
#[derive(Debug)]
pub enum Command {
    /// A message that has been routed.
    Publish(Publish),
    /// The end of one delivery.
    Settle(Settlement),
    /// Deliveries that cost this many bytes ([`super::Delivery::cost`]) have left for the socket: the
    /// connection's consumers may get as much again.
    Drained {
        /// Sum of the costs.
        bytes: usize,
    },
    /// The channel-wide prefetch limit (`basic.qos` with `global`), in force at once; 0 is no limit.
    LimitChannel {
        /// The channel.
        channel: ChannelKey,
        /// Unacked deliveries at most, over all its consumers.
        prefetch: u16,
    },
    /// Publishes and settlements that take effect together (`tx.commit`), in order.
    Transaction(Vec<Command>),
    /// Something that is answered, on the channel with this number.
    Request {
        /// Where the reply goes.
        channel: ChannelNumber,
        /// What is asked.
        request: Request,
    },
}

/// A message and where it goes.
#[derive(Debug)]
pub struct Publish {
    /// The message.
    pub message: Message,
    /// What the snapshot said; queues deleted since then count as routed and then deleted.
    pub route: Route,
    /// It goes back to its publisher: mandatory, and the route is empty.
    pub returned: bool,
    /// What the publisher waits for.
    pub awaiting: Awaiting,
}

/// What the publisher of a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaiting {
    /// Nothing.
    Nothing,
    /// The confirm with this delivery tag.
    Confirm {
        /// The channel.
        channel: ChannelNumber,
        /// The tag.
        tag: u64,
    },
    /// The end of the channel's transaction.
    Commit {
        /// The channel.
        channel: ChannelNumber,
    },
}

/// The end of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The channel it was delivered on.
    pub channel: ChannelKey,
    /// Its queue.
    pub queue: QueueId,
    /// Its place there.
    pub seq: Seq,
    /// How it ended.
    pub outcome: Outcome,
}

/// An unguessable name for one requester's direct reply-to consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyToken(pub [u8; 16]);

/// What is answered with a [`super::Reply`] or refused.
#[derive(Debug)]
pub enum Request {
    /// `channel.open`.
    OpenChannel,
    /// `channel.close`, or an error that closes it: everything it holds returns to its queues.
    CloseChannel(ChannelKey),
    /// `exchange.declare`.
    DeclareExchange(ExchangeDefinition),
    /// `exchange.declare` with `passive`.
    CheckExchange(ExchangeName),
    /// `exchange.delete`.
    DeleteExchange {
        /// Which.
        name: ExchangeName,
        /// Refuse while it is the source of a binding.
        if_unused: bool,
    },
    /// `queue.bind`, `exchange.bind`.
    Bind(BindingDefinition),
    /// `queue.unbind`, `exchange.unbind`.
    Unbind(BindingDefinition),
    /// `queue.declare`; the session has already made up the name of a server-named queue.
    DeclareQueue(QueueDefinition),
    /// `queue.declare` with `passive`.
    CheckQueue(QueueName),
    /// `queue.delete`.
    DeleteQueue {
        /// Which.
        name: QueueName,
        /// Refuse while it has consumers.
        if_unused: bool,
        /// Refuse while it has ready messages.
        if_empty: bool,
    },
    /// `queue.purge`.
    PurgeQueue(QueueName),
    /// `basic.get`.
    Get(Get),
    /// `basic.consume`.
    Consume(Consume),
    /// `basic.consume` on `amq.rabbitmq.reply-to`; one per channel.
    ConsumeReplies {
        /// The channel.
        channel: ChannelKey,
        /// The consumer.
        consumer: ConsumerKey,
        /// Where responders will publish to.
        token: ReplyToken,
    },
    /// `queue.declare` of `amq.rabbitmq.reply-to.<token>`: is the requester still there?
    CheckReplyTo {
        /// The token.
        token: ReplyToken,
        /// The name as the client wrote it, for the refusal.
        name: QueueName,
    },
    /// `basic.cancel`.
    Cancel {
        /// The channel.
        channel: ChannelKey,
        /// The consumer.
        consumer: ConsumerKey,
    },
}

/// `basic.get`.
#[derive(Debug)]
pub struct Get {
    /// The channel.
    pub channel: ChannelKey,
    /// The queue.
    pub queue: QueueName,
    /// Gone as soon as it is handed over.
    pub no_ack: bool,
}

/// `basic.consume`.
#[derive(Debug)]
pub struct Consume {
    /// The channel.
    pub channel: ChannelKey,
    /// The session's number for the consumer.
    pub consumer: ConsumerKey,
    /// The queue.
    pub queue: QueueName,
    /// Gone as soon as it is handed over.
    pub no_ack: bool,
    /// No other consumer beside it.
    pub exclusive: bool,
    /// Unacked deliveries at most (`basic.qos` without `global`); 0 is no limit.
    pub prefetch: u16,
    /// As the client sent them; `x-priority` is read from here.
    pub arguments: Table,
}
