//! The connections attached to a vhost and their channels: outboxes, budgets and credit.
//!
//! Invariant: a connection's outstanding bytes are the costs of the deliveries in its outbox and of those its
//! session has taken and not reported as drained; at the budget its consumers are parked until it drains.

use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;

use super::{Delivery, Event, ReplyToken};
use crate::model::{ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, QueueId, QueueName};

/// One attached connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) outbox: Vec<Event>,
    outstanding_bytes: usize,
    budget_bytes: usize,
    /// Its session has been told to look.
    pub(super) woken: bool,
    pub(super) channels: Vec<ChannelKey>,
    /// Queues that go with it.
    pub(super) exclusive_queues: Vec<QueueName>,
    /// Queues in which consumers of its channels are parked until it drains.
    pub(super) parked_in: FxHashSet<(QueueId, ChannelKey)>,
}

impl Connection {
    pub(super) fn is_full(&self) -> bool {
        self.outstanding_bytes >= self.budget_bytes
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        self.outstanding_bytes += delivery.cost();
        self.outbox.push(Event::Delivery(delivery));
    }

    pub(super) fn drain(&mut self, bytes: usize) {
        self.outstanding_bytes = self.outstanding_bytes.saturating_sub(bytes);
    }

    /// Takes back the deliveries of one channel that its session has not seen.
    pub(super) fn withdraw(&mut self, number: ChannelNumber) -> Vec<Delivery> {
        let is_of_channel =
            |event: &mut Event| matches!(event, Event::Delivery(delivery) if delivery.channel == number);
        let withdrawn: Vec<Delivery> = self
            .outbox
            .extract_if(.., is_of_channel)
            .filter_map(|event| match event {
                Event::Delivery(delivery) => Some(delivery),
                Event::Replied { .. } | Event::ConsumerCancelled { .. } => None,
            })
            .collect();
        self.drain(withdrawn.iter().map(Delivery::cost).sum());
        withdrawn
    }
}

/// One open channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) connection: ConnectionKey,
    pub(super) number: ChannelNumber,
    /// Unacked deliveries at most, over all its consumers (`basic.qos` with `global`); 0 is no limit.
    pub(super) prefetch: u32,
    /// Unacked deliveries to its consumers; what `basic.get` took does not count.
    pub(super) unacked: u32,
    pub(super) consumers: Vec<(ConsumerKey, QueueId)>,
    /// Queues that may hold messages for it, each once.
    pub(super) holds_in: FxHashSet<QueueId>,
    pub(super) replies: Option<(ReplyToken, ConsumerKey)>,
    /// Queues in which consumers of it are parked until it acks.
    pub(super) parked_in: FxHashSet<QueueId>,
}

impl Channel {
    pub(super) fn is_full(&self) -> bool {
        self.prefetch > 0 && self.unacked >= self.prefetch
    }
}

/// Why a channel must be there: sessions speak of channels they have open, and queues forget those that close.
const OPEN: &str = "the channel is open";

/// All connections and channels of a vhost.
#[derive(Debug, Default)]
pub(super) struct Connections {
    connections: Slab<Connection>,
    channels: FxHashMap<ChannelKey, Channel>,
    next_channel: u64,
}

impl Connections {
    pub(super) fn attach(&mut self, budget_bytes: usize) -> ConnectionKey {
        let key = self.connections.insert(Connection {
            outbox: Vec::new(),
            outstanding_bytes: 0,
            budget_bytes,
            woken: false,
            channels: Vec::new(),
            exclusive_queues: Vec::new(),
            parked_in: FxHashSet::default(),
        });
        ConnectionKey(u32::try_from(key).expect("fewer than 2^32 sockets"))
    }

    pub(super) fn detach(&mut self, connection: ConnectionKey) -> Connection {
        self.connections.remove(index(connection.0))
    }

    pub(super) fn open(&mut self, connection: ConnectionKey, number: ChannelNumber) -> ChannelKey {
        let key = ChannelKey(self.next_channel);
        self.next_channel += 1;
        let channel = Channel {
            connection,
            number,
            prefetch: 0,
            unacked: 0,
            consumers: Vec::new(),
            holds_in: FxHashSet::default(),
            replies: None,
            parked_in: FxHashSet::default(),
        };
        self.channels.insert(key, channel);
        self.connection(connection).channels.push(key);
        key
    }

    pub(super) fn forget_channel(&mut self, channel: ChannelKey) {
        self.channels.remove(&channel);
    }

    pub(super) fn connection(&mut self, key: ConnectionKey) -> &mut Connection {
        &mut self.connections[index(key.0)]
    }

    pub(super) fn channel(&mut self, key: ChannelKey) -> &mut Channel {
        self.channels.get_mut(&key).expect(OPEN)
    }

    /// A channel and the connection it is on.
    pub(super) fn both(&mut self, key: ChannelKey) -> (&mut Channel, &mut Connection) {
        let channel = self.channels.get_mut(&key).expect(OPEN);
        let connection = &mut self.connections[index(channel.connection.0)];
        (channel, connection)
    }
}

fn index(key: u32) -> usize {
    usize::try_from(key).expect("a key fits the address space")
}
