//! Consumers, gets, and the ends of channels and connections.
//!
//! Invariant: whatever a channel or connection held returns to its queues or goes with them, whichever way it ended.

use super::connections::Channel;
use super::state::{Release, SLICE_MESSAGES, Vhost};
use super::{Consume, Effects, Event, Get, Got, Outcome, Reply, ReplyToken};
use crate::model::{ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, QueueId, QueueName};
use crate::queue::{self, Asked, ConsumerOptions, End, Succession};
use crate::topology::Refusal;

impl Vhost {
    pub(super) fn get(
        &mut self,
        connection: ConnectionKey,
        number: ChannelNumber,
        get: Get,
        effects: &mut Effects,
    ) -> Result<Option<Reply>, Refusal> {
        let id = self.topology.check_queue(get.queue.as_str(), connection)?.id;
        // Whoever waits already comes first.
        let got = if self.waiting.contains_key(&id) { None } else { self.take(id, &get, effects) };
        if got.is_none() {
            self.wait_for_message(id, (connection, number), get);
        }
        Ok(got.map(Reply::Got))
    }

    /// What a get finds, or nothing if that has to be read first.
    pub(super) fn take(&mut self, id: QueueId, get: &Get, effects: &mut Effects) -> Option<Option<Got>> {
        if !self.expire_overdue(id, effects) {
            return None;
        }
        let Some(slot) = self.queues.get_mut(&id) else { return Some(None) };
        self.calendar.renew(slot);
        let taken = match slot.queue.get(get.channel, get.no_ack) {
            Asked::Empty => return Some(None),
            Asked::Absent => return None,
            Asked::Got(taken) => taken,
        };
        self.cache.count(slot);
        let queue::Got { seq, history, remaining, home, message } = taken;
        let delivery_count = if slot.settings.tells_failures { history.delivery_count } else { 0 };
        if get.no_ack {
            effects.journal.gone(id, seq, home);
        } else {
            self.note_holder(get.channel, id);
        }
        let redelivered = history.redelivered;
        Some(Some(Got { queue: id, seq, redelivered, delivery_count, remaining, message }))
    }

    pub(super) fn consume(
        &mut self,
        connection: ConnectionKey,
        number: ChannelNumber,
        consume: &Consume,
    ) -> Result<Reply, Refusal> {
        let entry = self.topology.check_queue(consume.queue.as_str(), connection)?;
        let id = entry.id;
        let priority = self.consumer_priority(consume)?;
        let slot = self.queues.get_mut(&id).expect("a queue of the topology has its state");
        let in_use = || Refusal::ExclusiveUse { queue: consume.queue.clone(), vhost: self.name.clone() };
        // One consumer at a time has the messages anyway; in a quorum queue RabbitMQ lets it pass.
        if consume.exclusive && slot.settings.single_active == Some(Succession::AtItsEnd) {
            return Err(in_use());
        }
        slot.queue
            .add_consumer(ConsumerOptions {
                connection,
                channel: consume.channel,
                number,
                consumer: consume.consumer,
                no_ack: consume.no_ack,
                exclusive: consume.exclusive,
                priority,
                prefetch: consume.prefetch,
            })
            .map_err(|_exclusive| in_use())?;
        self.calendar.renew(slot);
        self.connections.channel(consume.channel).consumers.push((consume.consumer, id));
        if !consume.no_ack {
            self.note_holder(consume.channel, id);
        }
        self.mark_dirty(id);
        Ok(Reply::Consuming(consume.consumer))
    }

    /// From here on the channel may hold messages of the queue. Queues that are gone are forgotten now and then.
    fn note_holder(&mut self, key: ChannelKey, id: QueueId) {
        let holds_in = &mut self.connections.channel(key).holds_in;
        holds_in.insert(id);
        if holds_in.len() == holds_in.capacity() {
            holds_in.retain(|id| self.queues.contains_key(id));
        }
    }

    fn consumer_priority(&self, consume: &Consume) -> Result<i64, Refusal> {
        let Some(value) = consume.arguments.get("x-priority") else { return Ok(0) };
        value.as_integer().ok_or_else(|| Refusal::InvalidArgument {
            argument: "x-priority".to_owned(),
            subject: format!("queue '{}'", consume.queue),
            vhost: self.name.clone(),
            reason: format!("\"expected integer, got {}\"", value.type_name()),
        })
    }

    pub(super) fn consume_replies(
        &mut self,
        key: ChannelKey,
        consumer: ConsumerKey,
        token: ReplyToken,
    ) -> Result<Reply, Refusal> {
        let channel = self.connections.channel(key);
        if channel.replies.is_some() {
            return Err(Refusal::ReplyConsumerSet);
        }
        channel.replies = Some((token, consumer));
        self.requesters.insert(token, (key, consumer));
        Ok(Reply::Consuming(consumer))
    }

    pub(super) fn check_reply_to(&self, token: ReplyToken, name: QueueName) -> Result<Reply, Refusal> {
        if self.requesters.contains_key(&token) {
            Ok(Reply::QueueDeclared { name, messages: 0, consumers: 1 })
        } else {
            Err(Refusal::NoQueue { queue: name, vhost: self.name.clone() })
        }
    }

    pub(super) fn cancel(&mut self, key: ChannelKey, consumer: ConsumerKey, effects: &mut Effects) -> Reply {
        let channel = self.connections.channel(key);
        if let Some((token, _)) = channel.replies.take_if(|(_, replies_to)| *replies_to == consumer) {
            self.requesters.remove(&token);
        } else if let Some(place) = channel.consumers.iter().position(|(own, _)| *own == consumer) {
            let (_, id) = channel.consumers.swap_remove(place);
            self.remove_consumer(key, consumer, id, effects);
        }
        Reply::Cancelled(consumer)
    }

    /// Takes a consumer off its queue; an auto-delete queue goes with its last one.
    fn remove_consumer(
        &mut self,
        channel: ChannelKey,
        consumer: ConsumerKey,
        id: QueueId,
        effects: &mut Effects,
    ) {
        let Some(slot) = self.queues.get_mut(&id) else { return };
        slot.queue.remove_consumer(channel, consumer);
        self.calendar.renew(slot);
        if slot.queue.consumers() == 0 {
            self.delete_if_abandoned(id, effects);
        }
        // Others of the queue may be next in the ring that it stood in front of.
        self.mark_dirty(id);
    }

    /// Closes a channel: consumers go, replies to it end, and what it holds returns, in slices if it is much.
    pub(super) fn close_channel(
        &mut self,
        key: ChannelKey,
        answer: Option<(ConnectionKey, ChannelNumber)>,
        effects: &mut Effects,
    ) {
        self.begin_close(key, answer, effects);
        self.release_slice(effects);
    }

    fn begin_close(
        &mut self,
        key: ChannelKey,
        answer: Option<(ConnectionKey, ChannelNumber)>,
        effects: &mut Effects,
    ) {
        self.forget_gets(key);
        let (channel, connection) = self.connections.both(key);
        connection.channels.retain(|open| *open != key);
        let Channel { consumers, replies, number, holds_in, connection: connection_key, .. } = channel;
        let consumers = std::mem::take(consumers);
        let holds_in: Vec<QueueId> = std::mem::take(holds_in).into_iter().collect();
        let connection_key = *connection_key;
        let unsent = connection.withdraw(*number);
        if let Some((token, _)) = replies.take() {
            self.requesters.remove(&token);
        }
        for delivery in unsent {
            if let Some(slot) = self.queues.get_mut(&delivery.queue) {
                slot.queue.settle(key, delivery.seq, Outcome::Undelivered);
                self.came_back(delivery.queue, effects);
            }
        }
        for (consumer, id) in consumers {
            self.remove_consumer(key, consumer, id, effects);
        }
        // What was withdrawn has made room for the connection's other channels.
        self.drained(connection_key, 0);
        // Each queue waits from here on: what it returns must go out before what stands behind.
        for id in &holds_in {
            if let Some(slot) = self.queues.get_mut(id) {
                slot.queue.release_channel(key, 0, |_, _| {});
            }
        }
        self.releases.push_back(Release { channel: key, holds_in, answer });
    }

    /// Returns at most [`SLICE_MESSAGES`] messages of closed channels to their queues.
    pub(super) fn release_slice(&mut self, effects: &mut Effects) {
        let mut budget = SLICE_MESSAGES;
        while budget > 0
            && let Some(release) = self.releases.front_mut()
        {
            let Some(&id) = release.holds_in.last() else {
                self.finish_release(effects);
                continue;
            };
            budget -= 1;
            if let Some(slot) = self.queues.get_mut(&id) {
                let mut given_up = Vec::new();
                let released =
                    slot.queue.release_channel(release.channel, budget, |seq, settled| match settled.end {
                        End::Back if settled.home.stored().is_some() => {
                            effects.journal.came_back(id, seq, settled.history);
                        }
                        End::Back => {}
                        _ => given_up.push((seq, settled)),
                    });
                budget = budget.saturating_sub(released.messages);
                if released.finished {
                    release.holds_in.pop();
                }
                for (seq, settled) in given_up {
                    self.end_unconsumed(id, seq, settled, effects);
                }
                self.came_back(id, effects);
            } else {
                release.holds_in.pop();
            }
            self.mark_dirty(id);
        }
    }

    fn finish_release(&mut self, effects: &mut Effects) {
        let Some(release) = self.releases.pop_front() else { return };
        self.connections.forget_channel(release.channel);
        if let Some((connection, channel)) = release.answer {
            self.tell(connection, Event::Replied { channel, result: Ok(Reply::ChannelClosed) }, effects);
        }
    }

    /// Forgets a connection: its channels close and its exclusive queues go, in this one turn.
    pub fn detach(&mut self, connection: ConnectionKey, effects: &mut Effects) {
        for release in &mut self.releases {
            release.answer.take_if(|(waits, _)| *waits == connection);
        }
        for name in std::mem::take(&mut self.connections.connection(connection).exclusive_queues) {
            self.remove_queue(&name, effects);
        }
        for channel in self.connections.connection(connection).channels.clone() {
            self.begin_close(channel, None, effects);
        }
        self.connections.detach(connection);
        self.cancelled.retain(|(told, _)| *told != connection);
        // One slice for all its channels, however many there are.
        self.release_slice(effects);
        self.dispatch_dirty(effects);
        effects.more_work |= !self.releases.is_empty();
    }
}
