//! Identities: one newtype per role, so that no bare integer crosses a room's border.

/// A queue, for as long as it exists. Never reused; a redeclared queue gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// A message's place in its queue: ascending in publish order, never reused within the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// A connection attached to a vhost. Reused only after the vhost has forgotten the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u32);

/// An open channel of a vhost. Never reused: what comes late for a closed channel means nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey(pub u64);

/// A channel's number on its connection, as it stands in every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(pub u16);

/// A consumer of a channel, numbered by the session that owns the channel. A number is reused only
/// after the consumer's cancel has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerKey(pub u32);

/// A point in the order of durable changes. A reply that waits for `p` may be sent once the durable
/// position is at least `p`; [`LogPosition::START`] waits for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogPosition(pub u64);

impl LogPosition {
    /// Before the first change: always durable.
    pub const START: Self = Self(0);
}
