//! What one queue is: messages that are ready, messages that somebody holds, and consumers that take turns.
//!
//! In: messages, consumers, requests for the next message, the ends of deliveries.
//! Out: messages, each to one consumer or getter at a time, and what that did to the consumer's credit.
//! The vhost drives it and owns what spans queues: a channel's limit over all its consumers and a
//! connection's outbox budget, both of which it enforces by parking consumers.
//!
//! Invariant: a message is ready, held by one channel, or gone; the places of the ready ones ascend in
//! publish order, and a message that comes back takes its old place. Who is first is the one in the first
//! place, among those of the highest priority if the queue has priorities.

mod backlog;
mod chunk;
mod counted;
mod detached;
mod dying;
mod history;
mod holders;
mod home;
mod levels;
mod residence;
mod single;
mod terms;
mod unacked;
mod values;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests;

pub use backlog::{Backlog, ChunkNumber};
pub use detached::Detached;
pub use dying::{Dead, Dropped, Reason};
pub use history::History;
pub use home::{Home, Location};
pub use single::Succession;
pub use terms::{Moment, Priorities, Terms};
pub use values::{
    Asked, ConsumerOptions, Dispatched, End, ExclusiveUse, Got, Holding, Kept, QueueCounters, Released,
    Settled,
};

use rustc_hash::FxHashSet;

use crate::model::{ChannelKey, ConsumerKey, Message, Outcome, QueueId, Seq};
use chunk::{Slot, Taken};
use dying::Dying;
use holders::Holders;
use unacked::Unacked;

/// One queue. To drop it takes time in proportion to its messages.
#[derive(Debug)]
pub struct Queue {
    id: QueueId,
    ready: Backlog,
    /// The place that the next message gets.
    next: u64,
    priorities: Option<Priorities>,
    unacked: Unacked,
    dying: Dying,
    /// What leaves without having been consumed is handed over with its message.
    keeps_dead: bool,
    /// With how many failures of clients a message is still handed out.
    delivery_limit: u16,
    holders: Holders,
    /// Channels whose release has begun and not finished.
    releasing: FxHashSet<ChannelKey>,
    counters: QueueCounters,
    had_consumer: bool,
    /// Messages of it are being read.
    reading: bool,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(id: QueueId) -> Self {
        Self {
            id,
            ready: Backlog::default(),
            next: 0,
            priorities: None,
            unacked: Unacked::default(),
            dying: Dying::default(),
            keeps_dead: false,
            delivery_limit: u16::MAX,
            holders: Holders::default(),
            releasing: FxHashSet::default(),
            counters: QueueCounters::default(),
            had_consumer: false,
            reading: false,
        }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Messages nobody holds.
    #[must_use]
    pub fn ready(&self) -> u64 {
        self.ready.len()
    }

    /// Messages somebody holds.
    #[must_use]
    pub fn unacked(&self) -> u64 {
        self.unacked.len()
    }

    /// Living consumers.
    #[must_use]
    pub fn consumers(&self) -> u64 {
        self.holders.consumers()
    }

    /// Whether there ever was a consumer: only then does auto-delete apply.
    #[must_use]
    pub fn had_consumer(&self) -> bool {
        self.had_consumer
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &QueueCounters {
        &self.counters
    }

    /// The living consumers, in no particular order.
    pub fn iter_consumers(&self) -> impl Iterator<Item = &ConsumerOptions> {
        self.holders
            .iter()
            .filter(|holder| holder.is_consumer())
            .filter_map(|holder| holder.consumer.as_ref())
    }

    /// Who holds how much, in no particular order: what the vhost has to take off the channels' limits
    /// before it drops the queue.
    pub fn holdings(&self) -> impl Iterator<Item = Holding> {
        self.holders.iter().filter(|holder| holder.list.len() > 0).map(|holder| Holding {
            channel: holder.channel,
            consumer: holder.consumer.map(|options| options.consumer),
            messages: holder.list.len(),
        })
    }

    /// The place that the next message gets.
    #[must_use]
    pub fn next(&self) -> Seq {
        Seq(self.next)
    }

    /// Messages of a higher priority go first. To be called once, before anything else.
    pub fn prioritise(&mut self, priorities: Priorities) {
        self.priorities = Some(priorities);
        self.ready.prioritise(priorities);
    }

    /// One consumer at a time gets messages. To be called once, before anything else.
    pub fn set_single_active(&mut self, succession: Succession) {
        self.holders.set_single(succession);
    }

    /// Takes a message in, behind all others of its priority. Its home is [`Home::NONE`] or [`Home::AWAITED`].
    pub fn push(&mut self, message: Message, home: Home, terms: Terms) -> Seq {
        self.counters.published += 1;
        let seq = Seq(self.next);
        self.next += 1;
        let slot = Slot::new(home, body_bytes(&message), self.priority(terms));
        self.ready.put(Taken { seq, slot, deadline: terms.deadline, message: Some(message) });
        seq
    }

    fn priority(&self, terms: Terms) -> Option<u8> {
        match self.priorities {
            Some(priorities) => Some(priorities.of(terms.priority)),
            None => terms.priority,
        }
    }

    /// Takes back what the queue kept across a restart. Places from `next` on were never used. To be called once,
    /// before the first message.
    ///
    /// # Panics
    /// In a debug build, if the queue holds something.
    pub fn recover(&mut self, backlog: Backlog, next: Seq) {
        debug_assert!(self.next == 0, "recovery comes before the first message");
        self.counters.published += backlog.len();
        self.ready = backlog;
        if let Some(priorities) = self.priorities {
            self.ready.prioritise(priorities);
        }
        self.next = next.0;
    }

    /// The message in this place, ready or held; none if it is gone.
    #[must_use]
    pub fn kept(&self, seq: Seq) -> Option<Kept> {
        let ready = self.ready.kept(seq);
        ready.or_else(|| self.unacked.find(seq)).or_else(|| self.dying.kept(seq))
    }

    /// The message in this place is stored here from this moment on. Nothing happens if it is gone.
    pub fn store(&mut self, seq: Seq, home: Home) {
        if !self.ready.store(seq, home) && !self.dying.store(seq, home) {
            self.unacked.store(seq, home);
        }
    }

    /// Starts a consumer, last in the turn among those of its priority.
    ///
    /// # Errors
    /// [`ExclusiveUse`] if it or a consumer that is there wants to be alone.
    ///
    /// # Panics
    /// If its channel already has a living consumer with this key.
    pub fn add_consumer(&mut self, options: ConsumerOptions) -> Result<(), ExclusiveUse> {
        self.holders.add(options)?;
        self.had_consumer = true;
        Ok(())
    }

    /// Ends a consumer and says what it was, or nothing if there is none. Its unacked deliveries stay with
    /// the channel, to be settled or released.
    pub fn remove_consumer(&mut self, channel: ChannelKey, consumer: ConsumerKey) -> Option<ConsumerOptions> {
        self.holders.cancel(channel, consumer)
    }

    /// The consumer that gets the next message: the one whose turn it is among those of the highest
    /// priority that have credit and are not parked. If one at a time gets messages, nobody but that one.
    /// None if there is nobody or nothing, or while the release of a channel is unfinished, for that would
    /// deliver out of order.
    #[must_use]
    #[inline]
    pub fn front_consumer(&self) -> Option<&ConsumerOptions> {
        if self.ready.is_empty() || !self.releasing.is_empty() {
            return None;
        }
        self.holders.get(self.holders.front()?).consumer.as_ref()
    }

    /// Hands the next message to [`Self::front_consumer`], which takes its turn again behind the others. None when
    /// there is no such consumer, or when the message has to be read first. What was stored before `forget_before`
    /// does not stay in memory while it is unacked.
    pub fn deliver_front(&mut self, forget_before: Location) -> Option<Dispatched> {
        let consumer = *self.front_consumer()?;
        let number = self.holders.front()?;
        let (taken, message) = self.take()?;
        let (seq, home, history) = (taken.seq, taken.slot.home, taken.slot.history());
        if consumer.no_ack {
            self.counters.delivered_no_ack += 1;
        } else {
            self.counters.delivered += 1;
            let kept = home.location().is_none_or(|location| location >= forget_before);
            let taken = Taken { message: kept.then(|| message.clone()), ..taken };
            self.unacked.insert(taken, number, &mut self.holders.get_mut(number).list);
        }
        self.holders.rotate();
        Some(Dispatched { consumer, seq, history, home, message })
    }

    /// The first message, if it is in memory. It is taken out of what it is returned with.
    fn take(&mut self) -> Option<(Taken, Message)> {
        let (.., in_memory) = self.ready.front()?;
        in_memory?;
        let mut taken = self.ready.pop()?;
        let message = taken.message.take()?;
        self.counters.redelivered += u64::from(taken.slot.history().redelivered);
        Some((taken, message))
    }

    /// Passes [`Self::front_consumer`] over until it is unparked: its channel's limit or its connection's
    /// budget is used up. Nothing happens when there is no such consumer.
    pub fn park_front(&mut self) {
        if self.front_consumer().is_some() {
            self.holders.park_front();
        }
    }

    /// Lets a parked consumer take its turn again, behind the others.
    pub fn unpark(&mut self, channel: ChannelKey, consumer: ConsumerKey) {
        self.holders.unpark(channel, consumer);
    }

    /// Unparks all consumers of a channel, in the order of their keys.
    pub fn unpark_channel(&mut self, channel: ChannelKey) {
        self.holders.unpark_channel(channel);
    }

    /// Hands the next message to a channel that asks for it (`basic.get`). Takes no credit.
    pub fn get(&mut self, channel: ChannelKey, no_ack: bool) -> Asked {
        if self.ready.is_empty() {
            self.counters.got_empty += 1;
            return Asked::Empty;
        }
        let Some((taken, message)) = self.take() else { return Asked::Absent };
        let (seq, home, history) = (taken.seq, taken.slot.home, taken.slot.history());
        if no_ack {
            self.counters.got_no_ack += 1;
        } else {
            self.counters.got += 1;
            let number = self.holders.getter(channel);
            let taken = Taken { message: Some(message.clone()), ..taken };
            self.unacked.insert(taken, number, &mut self.holders.get_mut(number).list);
        }
        Asked::Got(Got { seq, history, remaining: self.ready.len(), home, message })
    }

    /// Ends a delivery. None, and no change, if the channel does not hold the message.
    pub fn settle(&mut self, channel: ChannelKey, seq: Seq, outcome: Outcome) -> Option<Settled> {
        let holders = &mut self.holders;
        let slot = self.unacked.take(seq, |number| holders.get(number).channel == channel)?;
        let number = slot.holder;
        let holder = holders.get_mut(number);
        let consumer = holder.consumer.map(|options| options.consumer);
        holder.list.remove(&slot);
        holders.settled(number);
        let unacked::Slot { message, ready, deadline, .. } = slot;
        let before = ready.history();
        let taken = Taken { seq, slot: ready, deadline, message };
        let home = ready.home;
        let history = match outcome {
            Outcome::Ack => {
                self.counters.acked += 1;
                let message = taken.message;
                return Some(Settled { consumer, home, history: before, end: End::Done(message) });
            }
            Outcome::Discard => {
                self.counters.discarded += 1;
                let end = self.give_up(Reason::Rejected, taken);
                return Some(Settled { consumer, home, history: before, end });
            }
            Outcome::Requeue | Outcome::Return => before.returned(outcome == Outcome::Requeue),
            Outcome::Undelivered => {
                self.counters.undelivered += 1;
                self.ready.put(taken);
                return Some(Settled { consumer, home, history: before, end: End::Back });
            }
        };
        let taken = Taken { slot: ready.with(history), ..taken };
        let end = if history.delivery_count > self.delivery_limit {
            self.counters.exhausted += 1;
            self.give_up(Reason::DeliveryLimit, taken)
        } else {
            self.counters.requeued += 1;
            self.ready.put(taken);
            End::Back
        };
        Some(Settled { consumer, home, history, end })
    }

    /// Returns up to `budget` of the messages that a channel holds to their places, marked as redelivered.
    /// To be called again until it is finished: before that, no consumer gets anything, for what is still
    /// to return may have to go first. A budget of 0 only begins. The channel's consumers are not removed
    /// by this; if they are to go, they go first. What has become of each message is told.
    pub fn release_channel(
        &mut self,
        channel: ChannelKey,
        budget: usize,
        mut released: impl FnMut(Seq, Settled),
    ) -> Released {
        let mut messages = 0;
        let mut finished = true;
        for number in self.holders.of_channel(channel) {
            while let Some(seq) = self.holders.first_held(number) {
                if messages == budget {
                    finished = false;
                    break;
                }
                if let Some(settled) = self.settle(channel, seq, Outcome::Requeue) {
                    released(seq, settled);
                }
                messages += 1;
            }
        }
        if finished {
            self.releasing.remove(&channel);
        } else {
            self.releasing.insert(channel);
        }
        Released { messages, finished }
    }

    /// Takes all ready messages out, at a cost that does not depend on their number.
    pub fn purge(&mut self) -> Detached {
        let detached = self.ready.detach();
        self.counters.purged += detached.remaining();
        detached
    }

    /// The places that a message was ever in and nobody holds: what a purge leaves empty. Costs a sort of the held
    /// ones.
    #[must_use]
    pub fn unheld(&self) -> Vec<(Seq, Seq)> {
        let mut ranges = Vec::new();
        let mut from = 0;
        let mut seqs = self.unacked.seqs();
        if !self.dying.is_empty() {
            seqs.extend(self.dying.backlogs().flat_map(|messages| messages.iter().map(|(seq, ..)| seq)));
            seqs.sort_unstable();
        }
        for held in seqs {
            if held.0 > from {
                ranges.push((Seq(from), Seq(held.0 - 1)));
            }
            from = held.0 + 1;
        }
        if self.next > from {
            ranges.push((Seq(from), Seq(self.next - 1)));
        }
        ranges
    }

    /// Everything that is ready, held or dying, to be freed piece by piece.
    #[must_use]
    pub fn into_detached(mut self) -> Detached {
        let ready = self.ready.detach();
        self.dying.into_backlogs().fold(ready, Detached::with).with_unacked(self.unacked)
    }
}

/// Octets of the message's body.
fn body_bytes(message: &Message) -> u32 {
    u32::try_from(message.body().len()).unwrap_or(u32::MAX)
}
