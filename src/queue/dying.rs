//! Messages that leave a queue without having been consumed: at once, or, if what becomes of them needs their bodies
//! and these are in the log only, when they have been read.
//!
//! Invariant: what is dying is handed out to nobody, and stays where it is stored until it has been read.

use super::chunk::Taken;
use super::{Backlog, End, History, Home, Kept, Moment, Queue};
use crate::model::{Message, Seq};

/// Why a message leaves its queue without having been consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A client has refused it for good.
    Rejected,
    /// Its deadline has come.
    Expired,
    /// The queue is full.
    MaxLen,
    /// Clients have failed with it too often.
    DeliveryLimit,
}

/// A message that has left its queue without having been consumed.
#[derive(Debug)]
pub struct Dead {
    /// Why.
    pub reason: Reason,
    /// Its place.
    pub seq: Seq,
    /// Where it is stored.
    pub home: Home,
    /// Its deadline, whether that was the reason or not.
    pub deadline: Moment,
    /// The message; none if it is in the log only and nobody asked for it.
    pub message: Option<Message>,
}

/// What has become of a message that the queue has no room for.
#[derive(Debug)]
pub enum Dropped {
    /// It has left.
    Gone(Dead),
    /// It leaves as soon as it has been read.
    Dying,
}

/// See the module's invariant. A list, because mostly there is no reason at all.
#[derive(Debug, Default)]
pub(super) struct Dying(Vec<(Reason, Backlog)>);

impl Dying {
    fn put(&mut self, reason: Reason, taken: Taken) {
        let place = self.0.iter().position(|(of, _)| *of == reason).unwrap_or_else(|| {
            self.0.push((reason, Backlog::default()));
            self.0.len() - 1
        });
        // It keeps its deadline: a restart may find it where it was.
        self.0[place].1.put(taken);
    }

    /// Takes the message in this place that is stored at this home.
    pub(super) fn take(&mut self, seq: Seq, home: Home) -> Option<(Reason, Taken)> {
        let (reason, messages) = self
            .0
            .iter_mut()
            .find(|(_, messages)| messages.find(seq).is_some_and(|slot| slot.home == home))?;
        let taken = messages.remove(seq)?;
        let reason = *reason;
        self.0.retain(|(_, messages)| !messages.is_empty());
        Some((reason, taken))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn kept(&self, seq: Seq) -> Option<Kept> {
        self.0.iter().find_map(|(_, messages)| messages.kept(seq))
    }

    pub(super) fn store(&mut self, seq: Seq, home: Home) -> bool {
        self.0.iter_mut().any(|(_, messages)| messages.store(seq, home))
    }

    pub(super) fn backlogs(&self) -> impl Iterator<Item = &Backlog> {
        self.0.iter().map(|(_, messages)| messages)
    }

    pub(super) fn into_backlogs(self) -> impl Iterator<Item = Backlog> {
        self.0.into_iter().map(|(_, messages)| messages)
    }
}

impl Queue {
    /// Whether what leaves without having been consumed is to be handed over with its message.
    pub fn set_keeps_dead(&mut self, keeps_dead: bool) {
        self.keeps_dead = keeps_dead;
    }

    /// Messages that have left and are still to be read.
    #[must_use]
    pub fn dying(&self) -> u64 {
        self.dying.backlogs().map(Backlog::len).sum()
    }

    /// What is ready, and what is still to be read before it has left, with what is known of it. The ready ones come
    /// first; within each kind the places ascend.
    pub fn iter_kept(&self) -> impl Iterator<Item = (Seq, Kept)> {
        std::iter::once(&self.ready).chain(self.dying.backlogs()).flat_map(Backlog::iter_kept)
    }

    /// When the next ready message may expire.
    #[must_use]
    #[inline]
    pub fn due(&self) -> Moment {
        self.ready.due()
    }

    /// Takes up to so many ready messages out whose deadline is not later than `now`. Says whether there may be more.
    pub fn expire(&mut self, now: Moment, budget: usize, dead: &mut Vec<Dead>) -> bool {
        let Self { ready, dying, counters, keeps_dead, .. } = self;
        ready.expire(now, budget, |taken| {
            counters.expired += 1;
            dead.extend(leave(dying, *keeps_dead, Reason::Expired, taken));
        })
    }

    /// Takes the next ready message out, because the queue is full. None if there is no ready message.
    pub fn drop_front(&mut self) -> Option<Dropped> {
        let taken = self.ready.pop()?;
        self.counters.dropped += 1;
        let dead = leave(&mut self.dying, self.keeps_dead, Reason::MaxLen, taken);
        Some(dead.map_or(Dropped::Dying, Dropped::Gone))
    }

    /// A message has been refused, because the queue is full.
    pub fn count_refused(&mut self) {
        self.counters.refused += 1;
    }

    /// With how many failures of clients a message is still handed out; none is no limit, and so are 65,535 and more,
    /// where counting ends.
    pub fn set_delivery_limit(&mut self, limit: Option<u64>) {
        self.delivery_limit = limit.and_then(|limit| u16::try_from(limit).ok()).unwrap_or(u16::MAX);
    }

    /// The ready messages that must not be handed out any more, because clients have failed with them too often: what a
    /// restart finds, or a lower limit. Costs a look at every message, unless there is no limit.
    #[must_use]
    pub fn exhausted(&self) -> Vec<(Seq, History)> {
        if self.delivery_limit == u16::MAX {
            return Vec::new();
        }
        let slots = self.ready.iter().map(|(seq, _, history)| (seq, history));
        slots.filter(|(_, history)| history.delivery_count > self.delivery_limit).collect()
    }

    /// Takes a message out that [`Self::exhausted`] has named. None if it is not ready or has to be read first.
    pub fn exhaust(&mut self, seq: Seq) -> Option<Dead> {
        let taken = self.ready.remove(seq)?;
        self.counters.exhausted += 1;
        leave(&mut self.dying, self.keeps_dead, Reason::DeliveryLimit, taken)
    }

    /// Takes a message out that is neither ready nor held any more.
    pub(super) fn give_up(&mut self, reason: Reason, taken: Taken) -> End {
        let dead = leave(&mut self.dying, self.keeps_dead, reason, taken);
        dead.map_or(End::Dying(reason), |dead| End::Left(reason, dead.message))
    }
}

fn leave(dying: &mut Dying, keeps_dead: bool, reason: Reason, taken: Taken) -> Option<Dead> {
    if keeps_dead && taken.message.is_none() {
        dying.put(reason, taken);
        return None;
    }
    let Taken { seq, slot, deadline, message } = taken;
    Some(Dead { reason, seq, home: slot.home, deadline, message })
}
