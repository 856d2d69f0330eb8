//! What time does to a vhost: messages expire, and queues that nobody uses go.
//!
//! Invariant: no message is handed out after its deadline. What is due is found by its moment, not by looking for it:
//! a queue stands in `deadlines` with what it says is the first of its messages' deadlines, or an earlier moment, and in
//! `leases` with the end of its own time.

use std::collections::BTreeSet;

use ferrymq_protocol::properties::Properties;

use super::settings::Settings;
use super::slot::QueueSlot;
use super::state::{SLICE_MESSAGES, Vhost};
use super::{Effects, Overdue};
use crate::model::{Message, QueueId};
use crate::queue::{Moment, Terms};

/// The bits of the first octet of a message's properties that say that they have these (AMQP 0-9-1, 4.2.6.1).
const HAS_PRIORITY: u8 = 0x08;
const HAS_EXPIRATION: u8 = 0x01;

/// Octets of headers whose copying takes as long as the rest of a dead letter.
pub(super) const HEADERS_PER_LETTER: usize = 1_024;

/// When something is to be done.
#[derive(Debug)]
pub(super) struct Calendar {
    /// It never goes back.
    pub(super) now: Moment,
    deadlines: BTreeSet<(Moment, QueueId)>,
    leases: BTreeSet<(Moment, QueueId)>,
    /// Messages that may leave their queues without having been consumed before the turn ends.
    pub(super) left: usize,
}

impl Default for Calendar {
    fn default() -> Self {
        Self { now: Moment(0), deadlines: BTreeSet::new(), leases: BTreeSet::new(), left: SLICE_MESSAGES }
    }
}

impl Calendar {
    /// A turn begins.
    pub(super) fn begin_turn(&mut self) {
        self.left = SLICE_MESSAGES;
    }

    /// Brings the deadlines up to what a queue has.
    #[inline]
    pub(super) fn arm(&mut self, slot: &mut QueueSlot) {
        let due = slot.queue.due();
        if due != slot.armed {
            Self::move_to(&mut self.deadlines, slot.queue.id(), &mut slot.armed, due);
        }
    }

    /// The queue has just been used: its time begins anew, or stands still while it has a consumer.
    pub(super) fn renew(&mut self, slot: &mut QueueSlot) {
        let end = match slot.settings.expires {
            Some(expires) if slot.queue.consumers() == 0 => self.now.after(expires),
            _ => Moment::NEVER,
        };
        if end != slot.lease {
            Self::move_to(&mut self.leases, slot.queue.id(), &mut slot.lease, end);
        }
    }

    /// Forgets a queue that is gone.
    pub(super) fn forget(&mut self, slot: &QueueSlot) {
        self.deadlines.remove(&(slot.armed, slot.queue.id()));
        self.leases.remove(&(slot.lease, slot.queue.id()));
    }

    fn move_to(moments: &mut BTreeSet<(Moment, QueueId)>, id: QueueId, from: &mut Moment, to: Moment) {
        moments.remove(&(*from, id));
        if to < Moment::NEVER {
            moments.insert((to, id));
        }
        *from = to;
    }

    fn next(&self) -> Moment {
        let first = |moments: &BTreeSet<(Moment, QueueId)>| moments.first().map(|(moment, _)| *moment);
        let [deadline, lease] = [first(&self.deadlines), first(&self.leases)];
        deadline.unwrap_or(Moment::NEVER).min(lease.unwrap_or(Moment::NEVER))
    }
}

/// On which terms a queue with these settings takes a message at this moment.
#[inline]
pub(super) fn terms(settings: &Settings, message: &Message, now: Moment) -> Terms {
    let bits = message.properties().first().copied().unwrap_or_default();
    let meant = if settings.priorities.is_some() { HAS_EXPIRATION | HAS_PRIORITY } else { HAS_EXPIRATION };
    if bits & meant != 0 {
        return special_terms(settings, message, now);
    }
    Terms { priority: None, deadline: settings.message_ttl.map_or(Moment::NEVER, |ttl| now.after(ttl)) }
}

fn special_terms(settings: &Settings, message: &Message, now: Moment) -> Terms {
    let properties = Properties::decode(message.properties()).unwrap_or_default();
    let own = properties.expiration.and_then(milliseconds);
    let ttl = settings.message_ttl.into_iter().chain(own).min();
    Terms { priority: properties.priority, deadline: ttl.map_or(Moment::NEVER, |ttl| now.after(ttl)) }
}

/// The priority that the properties of a message say, if they say one.
#[must_use]
pub fn priority_of(properties: &[u8]) -> Option<u8> {
    if properties.first().is_none_or(|bits| bits & HAS_PRIORITY == 0) {
        return None;
    }
    Properties::decode(properties).ok()?.priority
}

/// An accepted expiration in milliseconds.
fn milliseconds(expiration: &str) -> Option<u64> {
    expiration.trim_start_matches(['+', '-']).parse().ok()
}

impl Vhost {
    /// The time from here on, unless it is earlier than it was.
    #[inline]
    pub fn set_time(&mut self, now: Moment) {
        self.calendar.now = self.calendar.now.max(now);
    }

    /// When [`Self::work`] has something to do because of the time.
    #[must_use]
    #[inline]
    pub fn next_deadline(&self) -> Moment {
        self.calendar.next()
    }

    /// Takes out what must not be handed out any more. Says whether all of that is out; otherwise the rest of it goes
    /// with later slices.
    #[inline]
    pub(super) fn expire_overdue(&mut self, id: QueueId, effects: &mut Effects) -> bool {
        let now = self.calendar.now;
        match self.queues.get(&id) {
            // A message without any time is handed out in the turn that it came with, or not at all.
            Some(slot) if slot.queue.due() < now => self.expire(id, Moment(now.0 - 1), effects),
            _ => true,
        }
    }

    /// Takes out what nobody has taken and whose time is up at this moment.
    #[inline]
    pub(super) fn expire_untaken(&mut self, id: QueueId, effects: &mut Effects) {
        let now = self.calendar.now;
        if self.queues.get(&id).is_some_and(|slot| slot.queue.due() <= now) {
            self.expire(id, now, effects);
        }
    }

    /// Takes messages out whose deadline is not later than this, as many as the turn has left. Says whether these were
    /// all.
    fn expire(&mut self, id: QueueId, until: Moment, effects: &mut Effects) -> bool {
        let Some(slot) = self.queues.get_mut(&id) else { return true };
        let mut dead = Vec::new();
        let more = slot.queue.expire(until, self.calendar.left, &mut dead);
        self.cache.count(slot);
        self.calendar.arm(slot);
        effects.more_work |= more;
        let headers =
            dead.iter().filter_map(|dead| dead.message.as_ref()).map(|message| message.properties().len());
        let effort = dead.len() + headers.sum::<usize>() / HEADERS_PER_LETTER;
        self.calendar.left = self.calendar.left.saturating_sub(effort);
        if slot.queue.has_dying() {
            // Not by way of a dispatch: that would come back here, with nothing left of the turn, for ever.
            self.ask_for(id, true, effects);
        }
        // What goes on elsewhere goes on in the order of its deadlines.
        dead.sort_by_key(|dead| (dead.deadline, dead.seq));
        for dead in dead {
            self.remove(id, dead, effects);
        }
        !more
    }

    /// Does one slice of what the time has brought.
    pub(super) fn keep_calendar(&mut self, effects: &mut Effects) {
        let now = self.calendar.now;
        while let Some(&(_, id)) = self.calendar.leases.first().filter(|(end, _)| *end <= now) {
            if self.calendar.left == 0 {
                effects.more_work = true;
                return;
            }
            self.calendar.left -= 1;
            let Some(name) = self.queues.get(&id).map(|slot| slot.definition.name.clone()) else { return };
            self.remove_queue(&name, effects);
            effects.overdue.push(Overdue { queue: name });
        }
        while let Some(&(_, id)) = self.calendar.deadlines.first().filter(|(due, _)| *due <= now) {
            if self.calendar.left == 0 {
                effects.more_work = true;
                return;
            }
            self.expire(id, now, effects);
            // Whoever waited behind what has expired may go on.
            self.mark_dirty(id);
        }
    }
}
