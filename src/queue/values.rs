//! What goes into a queue and comes out of it.
//!
//! Invariant: values only; what they mean together is the queue's.

use thiserror::Error;

use super::{History, Home, Reason, Terms};
use crate::model::{ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, Message, Seq};

/// A consumer as it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Its channel.
    pub channel: ChannelKey,
    /// The connection of its channel.
    pub connection: ConnectionKey,
    /// Its channel's number on the connection.
    pub number: ChannelNumber,
    /// Its key, unique among the living consumers of its channel.
    pub consumer: ConsumerKey,
    /// Its messages are gone as soon as they are handed over.
    pub no_ack: bool,
    /// No other consumer beside it.
    pub exclusive: bool,
    /// `x-priority`: consumers of a higher priority go first for as long as they take messages.
    pub priority: i64,
    /// Deliveries it may hold at most; 0 is no limit. Without meaning for a no-ack consumer.
    pub prefetch: u16,
}

/// A consumer was refused: it wants the queue for itself and is not alone, or another has it for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the queue is in exclusive use")]
pub struct ExclusiveUse;

/// What happened in a queue since it was made. Each number only grows, and
/// `published = ready + unacked + delivered_no_ack + got_no_ack + acked + discarded + expired + dropped + exhausted +
/// purged + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Messages that entered.
    pub published: u64,
    /// Deliveries to consumers that acknowledge.
    pub delivered: u64,
    /// Deliveries to no-ack consumers.
    pub delivered_no_ack: u64,
    /// Messages handed over by `basic.get`, to be acknowledged.
    pub got: u64,
    /// Messages handed over by `basic.get` with no-ack.
    pub got_no_ack: u64,
    /// `basic.get`s that found nothing.
    pub got_empty: u64,
    /// Messages among all those handed over that a client may have received before.
    pub redelivered: u64,
    /// Deliveries that ended with an ack.
    pub acked: u64,
    /// Deliveries that ended with the message back in its place, marked; by release of a channel, too.
    pub requeued: u64,
    /// Deliveries that ended with the message refused for good.
    pub discarded: u64,
    /// Messages whose deadline has come while nobody held them.
    pub expired: u64,
    /// Messages that the queue had no room for any more.
    pub dropped: u64,
    /// Messages that clients had failed with too often.
    pub exhausted: u64,
    /// Messages that the queue had no room for and refused: they never entered.
    pub refused: u64,
    /// Deliveries that were counted above and never left the broker.
    pub undelivered: u64,
    /// Messages that were purged.
    pub purged: u64,
    /// Messages that could not be read again, because what is stored is damaged.
    pub lost: u64,
}

/// A message on its way to a consumer.
#[derive(Debug)]
pub struct Dispatched {
    /// The consumer.
    pub consumer: ConsumerOptions,
    /// The message's place.
    pub seq: Seq,
    /// What clients have done with it before.
    pub history: History,
    /// Where it is stored.
    pub home: Home,
    /// The message.
    pub message: Message,
}

/// A message handed over by `basic.get`.
#[derive(Debug)]
pub struct Got {
    /// The message's place.
    pub seq: Seq,
    /// What clients have done with it before.
    pub history: History,
    /// Ready messages left.
    pub remaining: u64,
    /// Where it is stored.
    pub home: Home,
    /// The message.
    pub message: Message,
}

/// What came of a `basic.get`.
#[derive(Debug)]
pub enum Asked {
    /// There is no message.
    Empty,
    /// The message has to be read first.
    Absent,
    /// A message.
    Got(Got),
}

/// A delivery that has ended.
#[derive(Debug)]
pub struct Settled {
    /// The consumer that held the message and has its credit back, even if it is cancelled; none if the
    /// message came by `basic.get`, which takes no credit.
    pub consumer: Option<ConsumerKey>,
    /// Where the message is stored.
    pub home: Home,
    /// What clients have done with it from here on.
    pub history: History,
    /// What has become of it.
    pub end: End,
}

/// What has become of a message whose delivery has ended.
#[derive(Debug, PartialEq)]
pub enum End {
    /// A client is done with it. The message, if it was in memory.
    Done(Option<Message>),
    /// It is back in its place.
    Back,
    /// It has left without having been consumed. The message, if it was in memory.
    Left(Reason, Option<Message>),
    /// It leaves for this reason as soon as it has been read.
    Dying(Reason),
}

/// A message that is still in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it is stored.
    pub home: Home,
    /// What clients have done with it, apart from whoever holds it at this moment.
    pub history: History,
    /// On which terms it is kept.
    pub terms: Terms,
    /// Octets of its body.
    pub body_bytes: u32,
}

/// One slice of a channel's release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// Messages that went back to their places in this slice.
    pub messages: usize,
    /// The channel holds nothing more.
    pub finished: bool,
}

/// What somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The channel.
    pub channel: ChannelKey,
    /// The consumer, living or cancelled; none for what came by `basic.get`.
    pub consumer: Option<ConsumerKey>,
    /// Unacked messages.
    pub messages: u64,
}
