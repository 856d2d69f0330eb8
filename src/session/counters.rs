//! What happened on a channel, in numbers.

/// Messages that passed a channel since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounters {
    /// Published by the client.
    pub publish: u64,
    /// Of these, returned to it as unroutable.
    pub returned: u64,
    /// Of these, unroutable and not returned.
    pub dropped: u64,
    /// Of these, confirmed.
    pub confirm: u64,
    /// Of these, refused by a full queue, and their publisher told with `basic.nack`.
    pub refused: u64,
    /// Delivered to consumers that acknowledge.
    pub deliver: u64,
    /// Delivered to consumers that do not.
    pub deliver_no_ack: u64,
    /// Fetched with `basic.get`, to be acknowledged.
    pub get: u64,
    /// Fetched with `basic.get`, without acknowledgement.
    pub get_no_ack: u64,
    /// Times that `basic.get` found nothing.
    pub get_empty: u64,
    /// Of those delivered or fetched, marked as redelivered.
    pub redeliver: u64,
    /// Acknowledged by the client.
    pub ack: u64,
}

impl ChannelCounters {
    /// Adds another channel's numbers.
    pub(super) fn add(&mut self, other: &Self) {
        let Self { publish, returned, dropped, confirm, refused, deliver, deliver_no_ack, get, .. } = other;
        self.publish += publish;
        self.returned += returned;
        self.dropped += dropped;
        self.confirm += confirm;
        self.refused += refused;
        self.deliver += deliver;
        self.deliver_no_ack += deliver_no_ack;
        self.get += get;
        self.get_no_ack += other.get_no_ack;
        self.get_empty += other.get_empty;
        self.redeliver += other.redeliver;
        self.ack += other.ack;
    }
}
