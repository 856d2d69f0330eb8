//! The vhost itself: applies bursts in order, dispatches what became ready, remembers what is left to do.
//!
//! Invariant: between two calls every message is in exactly one place per queue (ready, unacked, or in an
//! outbox), and every queue with ready messages has no consumer that could take one.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use super::cache::{Cache, WaitingGet};
use super::connections::Connections;
use super::counters::ExchangeCounters;
use super::delay;
use super::expiry::{self, Calendar};
use super::history::Histories;
use super::policies::Sweep;
use super::slot::{Keeper, QueueSlot};
use super::{Awaiting, Command, Effects, Event, Publish, Reply, ReplyToken, Request, Settlement};
use crate::model::{
    ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, Message, Outcome, QueueId, Seq, VhostName,
};
use crate::queue::{End, Home, Moment, Queue};
use crate::topology::{ExchangeId, Refusal, Targets, Topology};
use crate::vhost::Delivery;

/// Messages that one slice of left-over work touches: about 0.1 ms under the vhost's lock.
pub(super) const SLICE_MESSAGES: usize = 1_000;

/// Limits of one vhost.
#[derive(Clone, Debug)]
pub struct VhostOptions {
    /// Bytes of deliveries one connection may have on their way out, besides the one that crosses the line;
    /// beyond it its consumers wait until it reads.
    pub outbox_bytes: usize,
    /// Memory that ready messages may take which the log has as well, in bytes; beyond it the oldest of them leave it,
    /// to be read again when they are due.
    pub cache_bytes: u64,
    /// How often clients may fail with a message of a quorum queue that does not say so itself; none is no limit.
    pub default_delivery_limit: Option<u64>,
}

/// One vhost.
#[derive(Debug)]
pub struct Vhost {
    pub(super) name: VhostName,
    pub(super) options: VhostOptions,
    pub(super) topology: Topology,
    pub(super) queues: FxHashMap<QueueId, QueueSlot>,
    pub(super) next_queue: u64,
    pub(super) connections: Connections,
    pub(super) requesters: FxHashMap<ReplyToken, (ChannelKey, ConsumerKey)>,
    pub(super) exchanges: FxHashMap<ExchangeId, ExchangeCounters>,
    /// Where messages wait, by delayed message exchange.
    pub(super) delay_queues: FxHashMap<ExchangeId, QueueId>,
    /// What recent history exchanges remember.
    pub(super) histories: Histories,
    /// Consumers that went with their queues, to be told once the request that did it is answered.
    pub(super) cancelled: Vec<(ConnectionKey, Event)>,
    /// Queues to dispatch before the turn ends.
    pub(super) dirty: Vec<QueueId>,
    /// Queues that still have more messages than they may.
    pub(super) overfull: BTreeSet<QueueId>,
    /// Dead letters, and messages whose delay has ended, on their way to their queues. They reach them before the turn
    /// ends.
    pub(super) letters: VecDeque<(QueueId, Message)>,
    pub(super) releases: VecDeque<Release>,
    /// What may have to follow a change of policies.
    pub(super) sweep: Sweep,
    pub(super) calendar: Calendar,
    pub(super) cache: Cache,
    /// Gets whose messages are being read, by queue.
    pub(super) waiting: FxHashMap<QueueId, VecDeque<WaitingGet>>,
}

/// A closed channel whose messages are still returning to their queues.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) channel: ChannelKey,
    /// Queues that may hold messages for it.
    pub(super) holds_in: Vec<QueueId>,
    /// Who waits for the end of it.
    pub(super) answer: Option<(ConnectionKey, ChannelNumber)>,
}

impl Vhost {
    /// A vhost without anything but what every vhost has, whose first queue gets the id `next_queue` or a higher one.
    pub(super) fn new(name: VhostName, options: VhostOptions, next_queue: u64) -> Self {
        Self {
            topology: Topology::new(name.clone()),
            name,
            options,
            queues: FxHashMap::default(),
            // The replies' deliveries, which come from no queue, have the id 0.
            next_queue: next_queue.max(1),
            connections: Connections::default(),
            requesters: FxHashMap::default(),
            exchanges: FxHashMap::default(),
            delay_queues: FxHashMap::default(),
            histories: Histories::default(),
            cancelled: Vec::new(),
            dirty: Vec::new(),
            overfull: BTreeSet::new(),
            letters: VecDeque::new(),
            releases: VecDeque::new(),
            sweep: Sweep::default(),
            calendar: Calendar::default(),
            cache: Cache::default(),
            waiting: FxHashMap::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &VhostName {
        &self.name
    }

    /// Its exchanges, queues and bindings; a clone is a snapshot.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The queue with this id.
    #[must_use]
    pub fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(&id).map(|slot| &slot.queue)
    }

    /// The queues that keep persistent messages across a restart, in no particular order.
    pub fn durable_queues(&self) -> impl Iterator<Item = (Keeper<'_>, &Queue)> {
        let durable = self.queues.values().filter(|slot| slot.durable);
        durable.map(|slot| {
            let name = Keeper::Queue(&slot.definition.name);
            (slot.delays.as_ref().map_or(name, Keeper::Delay), &slot.queue)
        })
    }

    /// No queue had this id yet, nor a higher one.
    #[must_use]
    pub fn next_queue(&self) -> QueueId {
        QueueId(self.next_queue)
    }

    /// Counters of an exchange, all zero before its first message.
    #[must_use]
    pub fn exchange_counters(&self, id: ExchangeId) -> ExchangeCounters {
        self.exchanges.get(&id).copied().unwrap_or_default()
    }

    /// A new connection.
    pub fn attach(&mut self) -> ConnectionKey {
        self.connections.attach(self.options.outbox_bytes)
    }

    /// Applies a burst of one connection, in order, and leaves `commands` empty.
    pub fn turn(&mut self, connection: ConnectionKey, commands: &mut Vec<Command>, effects: &mut Effects) {
        self.calendar.begin_turn();
        // It collects its events itself when the turn is over; marking it woken spares it the bell.
        self.connections.connection(connection).woken = true;
        self.apply_all(connection, commands.drain(..), effects);
        self.dispatch_dirty(effects);
        effects.more_work |= !self.releases.is_empty();
    }

    /// Takes what happened for a connection since the last call. `events` is expected empty; its room is kept.
    pub fn collect(&mut self, connection: ConnectionKey, events: &mut Vec<Event>) {
        let connection = self.connections.connection(connection);
        connection.woken = false;
        if events.is_empty() {
            std::mem::swap(&mut connection.outbox, events);
        } else {
            events.append(&mut connection.outbox);
        }
    }

    /// Does one slice of what turns have left behind.
    pub fn work(&mut self, effects: &mut Effects) {
        self.calendar.begin_turn();
        self.release_slice(effects);
        self.keep_calendar(effects);
        self.sweep_slice(effects);
        self.drop_overfull(effects);
        self.dispatch_dirty(effects);
        effects.more_work |= !self.releases.is_empty();
    }

    fn apply_all(
        &mut self,
        connection: ConnectionKey,
        commands: impl Iterator<Item = Command>,
        effects: &mut Effects,
    ) {
        for command in commands {
            match command {
                Command::Publish(publish) => self.publish(publish, effects),
                Command::Settle(settlement) => self.settle(settlement, effects),
                Command::Drained { bytes } => self.drained(connection, bytes),
                Command::LimitChannel { channel, prefetch } => self.limit_channel(channel, prefetch),
                Command::Transaction(commands) => {
                    effects.journal.waited_for = true;
                    self.apply_all(connection, commands.into_iter(), effects);
                }
                Command::Request { channel, request } => {
                    // A request sees what stands before it on the wire, deliveries included.
                    self.dispatch_dirty(effects);
                    self.answer(connection, channel, request, effects);
                }
            }
        }
    }

    fn publish(&mut self, publish: Publish, effects: &mut Effects) {
        let Publish { message, route, returned, awaiting } = publish;
        let confirmed = matches!(awaiting, Awaiting::Confirm { .. });
        // An exchange deleted since the snapshot took its counters with it.
        if let Some(counters) = self.exchanges.get_mut(&route.exchange) {
            counters.count(&route.targets, returned, confirmed);
        }
        let stored = effects.journal.places.len();
        let mut taken = true;
        match route.targets {
            Targets::None => {}
            Targets::One(queue) => taken = self.enqueue(queue, message, effects),
            Targets::Many(queues) => {
                for queue in queues.iter() {
                    taken &= self.enqueue(*queue, message.clone(), effects);
                }
            }
            Targets::ReplyTo(token) => self.reply_to(ReplyToken(token), message, effects),
            recorded @ Targets::Recorded(_) => taken = self.publish_recorded(&recorded, &message, effects),
        }
        if !taken {
            Self::note_refused(awaiting, effects);
        }
        effects.journal.waited_for |= confirmed && effects.journal.places.len() > stored;
    }

    /// Says whether the queue has taken the message. One that was deleted since the snapshot has had its copy, and lost
    /// it with itself.
    #[inline]
    pub(super) fn enqueue(&mut self, id: QueueId, message: Message, effects: &mut Effects) -> bool {
        let Some(slot) = self.queues.get_mut(&id) else { return true };
        if slot.settings.is_limited() {
            // A queue that was within its limits is so again, however many publishes the turn has.
            return self.enqueue_limited(id, message, 1, effects);
        }
        Self::push(slot, &mut self.dirty, (message, self.calendar.now), effects);
        true
    }

    /// Puts a message into a queue, which is dispatched before the turn ends.
    #[inline]
    pub(super) fn push(
        slot: &mut QueueSlot,
        dirty: &mut Vec<QueueId>,
        (message, now): (Message, Moment),
        effects: &mut Effects,
    ) {
        let terms = match slot.delays {
            None => expiry::terms(&slot.settings, &message, now),
            Some(_) => delay::terms(&message, now),
        };
        let id = slot.queue.id();
        if slot.durable && (message.persistent() || slot.settings.is_quorum) {
            effects.journal.published(&message, id, slot.queue.next());
            slot.queue.push(message, Home::AWAITED, terms);
        } else {
            slot.queue.push(message, Home::NONE, terms);
        }
        if !slot.dirty {
            slot.dirty = true;
            dirty.push(id);
        }
    }

    fn reply_to(&mut self, token: ReplyToken, message: Message, effects: &mut Effects) {
        let Some(&(channel, consumer)) = self.requesters.get(&token) else { return };
        let (channel, connection) = self.connections.both(channel);
        connection.deliver(Delivery {
            channel: channel.number,
            consumer,
            queue: QueueId(0),
            seq: Seq(0),
            redelivered: false,
            delivery_count: 0,
            message,
        });
        wake(channel.connection, connection, effects);
    }

    fn settle(&mut self, settlement: Settlement, effects: &mut Effects) {
        let Settlement { channel, queue, seq, outcome } = settlement;
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        let Some(settled) = slot.queue.settle(channel, seq, outcome) else { return };
        let consumer = settled.consumer;
        match settled.end {
            End::Done(message) => {
                effects.journal.gone(queue, seq, settled.home);
                effects.discarded.extend(message);
            }
            End::Back => {
                if outcome != Outcome::Undelivered && settled.home.stored().is_some() {
                    effects.journal.came_back(queue, seq, settled.history);
                }
                self.calendar.arm(slot);
                self.came_back(queue, effects);
            }
            End::Left(..) | End::Dying(_) => self.end_unconsumed(queue, seq, settled, effects),
        }
        if self.queues.get(&queue).is_some_and(|slot| slot.queue.front_consumer().is_some()) {
            self.mark_dirty(queue);
        }
        if consumer.is_some() {
            self.regain_credit(channel, 1);
        }
    }

    /// The channel holds so many deliveries fewer: consumers parked at its limit may go on.
    pub(super) fn regain_credit(&mut self, key: ChannelKey, deliveries: u32) {
        let channel = self.connections.channel(key);
        let was_full = channel.is_full();
        channel.unacked = channel.unacked.saturating_sub(deliveries);
        if was_full && !channel.is_full() {
            self.unpark_channel(key);
        }
    }

    fn limit_channel(&mut self, key: ChannelKey, prefetch: u16) {
        let channel = self.connections.channel(key);
        channel.prefetch = u32::from(prefetch);
        if !channel.is_full() {
            self.unpark_channel(key);
        }
    }

    fn unpark_channel(&mut self, key: ChannelKey) {
        for id in std::mem::take(&mut self.connections.channel(key).parked_in) {
            if let Some(slot) = self.queues.get_mut(&id) {
                slot.queue.unpark_channel(key);
                self.mark_dirty(id);
            }
        }
    }

    pub(super) fn drained(&mut self, key: ConnectionKey, bytes: usize) {
        let connection = self.connections.connection(key);
        connection.drain(bytes);
        if connection.is_full() {
            return;
        }
        for (id, channel) in std::mem::take(&mut connection.parked_in) {
            if let Some(slot) = self.queues.get_mut(&id) {
                slot.queue.unpark_channel(channel);
                self.mark_dirty(id);
            }
        }
    }

    /// Puts an event into a connection's outbox.
    pub(super) fn tell(&mut self, key: ConnectionKey, event: Event, effects: &mut Effects) {
        let connection = self.connections.connection(key);
        connection.outbox.push(event);
        wake(key, connection, effects);
    }

    fn answer(
        &mut self,
        connection: ConnectionKey,
        channel: ChannelNumber,
        request: Request,
        effects: &mut Effects,
    ) {
        let answer = self.perform(connection, channel, request, effects);
        if let Some(result) = answer.transpose() {
            self.tell(connection, Event::Replied { channel, result }, effects);
        }
        self.dispatch_dirty(effects);
    }

    /// `None` when the answer comes later.
    fn perform(
        &mut self,
        connection: ConnectionKey,
        number: ChannelNumber,
        request: Request,
        effects: &mut Effects,
    ) -> Result<Option<Reply>, Refusal> {
        let reply = match request {
            Request::OpenChannel => Reply::ChannelOpened(self.connections.open(connection, number)),
            Request::CloseChannel(channel) => {
                self.close_channel(channel, Some((connection, number)), effects);
                return Ok(None);
            }
            Request::DeclareExchange(definition) => self.declare_exchange(definition, effects)?,
            Request::CheckExchange(name) => self.check_exchange(&name)?,
            Request::DeleteExchange { name, if_unused } => self.delete_exchange(&name, if_unused, effects)?,
            Request::Bind(binding) => self.bind(connection, binding, effects)?,
            Request::Unbind(binding) => self.unbind(connection, binding, effects)?,
            Request::DeclareQueue(definition) => self.declare_queue(connection, definition, effects)?,
            Request::CheckQueue(name) => self.check_queue(connection, &name)?,
            Request::DeleteQueue { name, if_unused, if_empty } => {
                self.delete_queue(connection, &name, if_unused, if_empty, effects)?
            }
            Request::PurgeQueue(name) => self.purge_queue(connection, &name, effects)?,
            Request::Get(get) => return self.get(connection, number, get, effects),
            Request::Consume(consume) => self.consume(connection, number, &consume)?,
            Request::ConsumeReplies { channel, consumer, token } => {
                self.consume_replies(channel, consumer, token)?
            }
            Request::CheckReplyTo { token, name } => self.check_reply_to(token, name)?,
            Request::Cancel { channel, consumer } => self.cancel(channel, consumer, effects),
        };
        Ok(Some(reply))
    }
}

/// Rings for a connection that has not been told to look since it last collected.
pub(super) fn wake(
    key: ConnectionKey,
    connection: &mut super::connections::Connection,
    effects: &mut Effects,
) {
    if !connection.woken {
        connection.woken = true;
        effects.wake.push(key);
    }
}
