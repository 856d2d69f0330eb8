//! Who may hold messages of a queue: its consumers, cancelled consumers whose deliveries are not settled
//! yet, and channels that use `basic.get`.
//!
//! Invariant: a consumer is in the ring of its priority exactly while its phase is [`Phase::Waiting`]; only
//! rings that hold somebody are in `rings`, lowest priority first. Whoever is neither a live consumer nor
//! holds anything is not in here. `single` knows all living consumers, or is not there.

use std::collections::BTreeMap;

use slab::Slab;

use super::single::{Single, Succession};
use super::unacked::List;
use super::{ConsumerOptions, ExclusiveUse};
use crate::model::{ChannelKey, ConsumerKey, Seq};

/// Nobody: the end of a ring.
const NOBODY: u32 = u32::MAX;

/// One who may hold messages.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) channel: ChannelKey,
    pub(super) phase: Phase,
    pub(super) list: List,
    /// The consumer it is or was; none for `basic.get`.
    pub(super) consumer: Option<ConsumerOptions>,
    /// Neighbours in the ring.
    before: u32,
    after: u32,
}

/// What a holder waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A channel that asks with `basic.get`.
    Getting,
    /// A consumer in its ring, with credit.
    Waiting,
    /// A consumer that waits for one of its deliveries to be settled.
    Spent,
    /// A consumer that has credit and waits to be unparked.
    Parked,
    /// A consumer that is no more.
    Cancelled,
}

/// What a holder is called from outside, unique within its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Getter,
    Consumer(ConsumerKey),
    /// By number, for the session may give the consumer's key to another.
    Cancelled(u32),
}

const FIRST_ROLE: Role = Role::Getter;
const LAST_ROLE: Role = Role::Cancelled(u32::MAX);

/// Consumers of one priority that take turns.
#[derive(Debug)]
struct Ring {
    priority: i64,
    front: u32,
    back: u32,
}

/// See the module's invariant.
#[derive(Debug, Default)]
pub(super) struct Holders {
    slots: Slab<Holder>,
    by_role: BTreeMap<(ChannelKey, Role), u32>,
    rings: Vec<Ring>,
    consumers: u64,
    exclusive: bool,
    /// One consumer at a time has the messages.
    single: Option<Box<Single>>,
}

impl Holders {
    /// One consumer at a time has the messages. To be called before there is one.
    pub(super) fn set_single(&mut self, succession: Succession) {
        self.single = Some(Box::new(Single::new(succession)));
    }

    pub(super) fn consumers(&self) -> u64 {
        self.consumers
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Holder> {
        self.slots.iter().map(|(_, holder)| holder)
    }

    pub(super) fn get(&self, number: u32) -> &Holder {
        &self.slots[number as usize]
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Holder {
        &mut self.slots[number as usize]
    }

    /// Adds a consumer at the back of its ring.
    pub(super) fn add(&mut self, options: ConsumerOptions) -> Result<(), ExclusiveUse> {
        if self.exclusive || (options.exclusive && self.consumers > 0) {
            return Err(ExclusiveUse);
        }
        let role = Role::Consumer(options.consumer);
        let number = self.insert(options.channel, role, Phase::Parked, Some(options));
        self.consumers += 1;
        self.exclusive = options.exclusive;
        self.enqueue(number);
        if let Some(single) = &mut self.single {
            single.join(number, options.priority);
            self.choose_single();
        }
        Ok(())
    }

    /// Ends a consumer. What it holds stays held.
    pub(super) fn cancel(&mut self, channel: ChannelKey, consumer: ConsumerKey) -> Option<ConsumerOptions> {
        let number = self.by_role.remove(&(channel, Role::Consumer(consumer)))?;
        if self.get(number).phase == Phase::Waiting {
            self.dequeue(number);
        }
        self.consumers -= 1;
        self.exclusive = false;
        self.by_role.insert((channel, Role::Cancelled(number)), number);
        let holder = self.get_mut(number);
        holder.phase = Phase::Cancelled;
        let options = holder.consumer;
        if let Some(single) = &mut self.single {
            single.leave(number);
        }
        self.settled(number);
        options
    }

    /// The holder that stands for the channel's `basic.get`.
    pub(super) fn getter(&mut self, channel: ChannelKey) -> u32 {
        match self.by_role.get(&(channel, Role::Getter)) {
            Some(number) => *number,
            None => self.insert(channel, Role::Getter, Phase::Getting, None),
        }
    }

    /// The consumer whose turn it is.
    pub(super) fn front(&self) -> Option<u32> {
        match &self.single {
            None => self.rings.last().map(|ring| ring.front),
            Some(single) => single.taker().filter(|number| self.get(*number).phase == Phase::Waiting),
        }
    }

    /// The front consumer has had its turn: to the back, or out of the ring until it has credit.
    pub(super) fn rotate(&mut self) {
        let Some(front) = self.front() else { return };
        let alone = self.single.is_some() || self.rings.last().is_none_or(|ring| ring.front == ring.back);
        if !self.get(front).has_credit() {
            self.dequeue(front);
            self.get_mut(front).phase = Phase::Spent;
        } else if !alone {
            self.dequeue(front);
            self.enqueue(front);
        }
    }

    /// Takes the front consumer out of its ring until it is unparked.
    pub(super) fn park_front(&mut self) {
        if let Some(front) = self.front() {
            self.dequeue(front);
            self.get_mut(front).phase = Phase::Parked;
        }
    }

    pub(super) fn unpark(&mut self, channel: ChannelKey, consumer: ConsumerKey) {
        if let Some(&number) = self.by_role.get(&(channel, Role::Consumer(consumer)))
            && self.get(number).phase == Phase::Parked
        {
            self.enqueue(number);
        }
    }

    pub(super) fn unpark_channel(&mut self, channel: ChannelKey) {
        for number in self.of_channel(channel) {
            if self.get(number).phase == Phase::Parked {
                self.enqueue(number);
            }
        }
    }

    /// The oldest delivery of a holder that may be forgotten by now.
    pub(super) fn first_held(&self, number: u32) -> Option<Seq> {
        self.slots.get(number as usize)?.list.first()
    }

    /// The channel's holders: its getter, then its consumers in the order of their keys, then cancelled ones.
    pub(super) fn of_channel(&self, channel: ChannelKey) -> Vec<u32> {
        self.by_role.range((channel, FIRST_ROLE)..=(channel, LAST_ROLE)).map(|(_, number)| *number).collect()
    }

    /// Something left the holder's list: wakes it if it waited for that, forgets it if that was its last.
    pub(super) fn settled(&mut self, number: u32) {
        let holder = self.get(number);
        let (channel, idle) = (holder.channel, holder.list.len() == 0);
        match holder.phase {
            Phase::Waiting | Phase::Parked => {}
            Phase::Spent => self.enqueue(number),
            Phase::Getting if idle => self.forget((channel, Role::Getter)),
            Phase::Cancelled if idle => self.forget((channel, Role::Cancelled(number))),
            Phase::Getting | Phase::Cancelled => {}
        }
        if self.single.is_some() {
            self.choose_single();
        }
    }

    /// Lets the next consumer have the messages if the one that has them is gone or gives way.
    fn choose_single(&mut self) {
        let Self { single, slots, .. } = self;
        if let Some(single) = single {
            single.choose(|number| slots[number as usize].list.len() == 0);
        }
    }

    fn insert(
        &mut self,
        channel: ChannelKey,
        role: Role,
        phase: Phase,
        consumer: Option<ConsumerOptions>,
    ) -> u32 {
        let list = List::EMPTY;
        let holder = Holder { channel, phase, list, consumer, before: NOBODY, after: NOBODY };
        let number = u32::try_from(self.slots.insert(holder)).expect("a queue has fewer than 2^32 holders");
        let replaced = self.by_role.insert((channel, role), number);
        assert!(replaced.is_none(), "a consumer's key is free when it is given");
        number
    }

    fn forget(&mut self, name: (ChannelKey, Role)) {
        if let Some(number) = self.by_role.remove(&name) {
            self.slots.remove(number as usize);
            if self.slots.is_empty() && self.slots.capacity() > 1024 {
                self.slots = Slab::new();
            }
        }
    }

    /// Puts a consumer at the back of its ring.
    fn enqueue(&mut self, number: u32) {
        let priority = self.get(number).priority();
        let index = self.rings.partition_point(|ring| ring.priority < priority);
        let mut before = NOBODY;
        match self.rings.get_mut(index) {
            Some(ring) if ring.priority == priority => {
                before = std::mem::replace(&mut ring.back, number);
            }
            _ => self.rings.insert(index, Ring { priority, front: number, back: number }),
        }
        if before != NOBODY {
            self.get_mut(before).after = number;
        }
        let holder = self.get_mut(number);
        holder.phase = Phase::Waiting;
        holder.before = before;
        holder.after = NOBODY;
    }

    /// Takes a consumer out of its ring; the caller gives it its next phase.
    fn dequeue(&mut self, number: u32) {
        let holder = self.get(number);
        let (priority, before, after) = (holder.priority(), holder.before, holder.after);
        let index = self.rings.partition_point(|ring| ring.priority < priority);
        if before == NOBODY && after == NOBODY {
            self.rings.remove(index);
            return;
        }
        let ring = &mut self.rings[index];
        if before == NOBODY {
            ring.front = after;
        }
        if after == NOBODY {
            ring.back = before;
        }
        if before != NOBODY {
            self.get_mut(before).after = after;
        }
        if after != NOBODY {
            self.get_mut(after).before = before;
        }
    }
}

impl Holder {
    pub(super) fn is_consumer(&self) -> bool {
        !matches!(self.phase, Phase::Getting | Phase::Cancelled)
    }

    fn priority(&self) -> i64 {
        self.consumer.map_or(0, |options| options.priority)
    }

    fn has_credit(&self) -> bool {
        self.consumer.is_none_or(|options| {
            options.no_ack || options.prefetch == 0 || self.list.len() < u64::from(options.prefetch)
        })
    }
}
