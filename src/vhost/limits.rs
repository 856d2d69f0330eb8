//! Full queues: what gives way to a message, who is refused, and what clients have failed with too often.
//!
//! Invariant: when a turn ends, a queue that drops its head is within its limits, or stands in `overfull` and the slices
//! that follow bring it there. What a queue refuses has never been in it.

use std::sync::Arc;

use super::expiry::HEADERS_PER_LETTER;
use super::settings::{Overflow, Settings};
use super::slot::QueueSlot;
use super::state::Vhost;
use super::{Awaiting, Effects};
use crate::model::{Message, QueueId, Seq};
use crate::queue::{Dead, Dropped, End, Moment, Reason, Settled};

impl Settings {
    /// Whether the queue may be full.
    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }

    /// Whether so many ready messages, with bodies of so many octets, are too many.
    fn is_exceeded(&self, messages: u64, bytes: u64) -> bool {
        self.max_length.is_some_and(|max| messages > max)
            || self.max_length_bytes.is_some_and(|max| bytes > max)
    }
}

impl QueueSlot {
    /// Whether the first messages have to give way.
    pub(super) fn is_overfull(&self) -> bool {
        self.settings.overflow == Overflow::DropHead
            && self.settings.is_exceeded(self.queue.ready(), self.queue.backlog().body_bytes())
    }

    /// Whether it refuses the message.
    fn refuses(&self, message: &Message) -> bool {
        let messages = self.queue.ready() + 1;
        let bytes = self.queue.backlog().body_bytes() + message.body().len() as u64;
        self.settings.overflow != Overflow::DropHead && self.settings.is_exceeded(messages, bytes)
    }
}

impl Vhost {
    /// Puts a message into a queue that may be full. Says whether it was taken. `at_least` so many messages may give way
    /// to it, however much this turn has done already.
    #[inline(never)]
    pub(super) fn enqueue_limited(
        &mut self,
        id: QueueId,
        message: Message,
        at_least: usize,
        effects: &mut Effects,
    ) -> bool {
        let refuses = |vhost: &Self| vhost.queues.get(&id).is_some_and(|slot| slot.refuses(&message));
        if refuses(self) {
            self.serve_who_waits(id, effects);
            if refuses(self) {
                self.refuse(id, message, effects);
                return false;
            }
        }
        let Some(slot) = self.queues.get_mut(&id) else { return true };
        Self::push(slot, &mut self.dirty, (message, self.calendar.now), effects);
        if self.queues.get(&id).is_some_and(QueueSlot::is_overfull) {
            self.serve_who_waits(id, effects);
            self.calendar.left = self.calendar.left.max(at_least);
            self.drop_excess(id, effects);
        }
        true
    }

    /// Hands ready messages of this turn to whoever could have had them before the next one came: they do not count.
    fn serve_who_waits(&mut self, id: QueueId, effects: &mut Effects) {
        let waits = self.queues.get(&id).is_some_and(|slot| slot.queue.front_consumer().is_some())
            || self.waiting.contains_key(&id);
        if waits {
            self.serve(id, effects);
        }
    }

    /// Turns a message away, to where dead letters go if the queue says so.
    fn refuse(&mut self, id: QueueId, message: Message, effects: &mut Effects) {
        let Some(slot) = self.queues.get_mut(&id) else { return };
        slot.queue.count_refused();
        if slot.settings.overflow == Overflow::RejectPublishDlx
            && let Some(to) = slot.settings.dead_letters.clone()
        {
            let source = Arc::clone(&slot.definition);
            self.bury(&message, Reason::MaxLen, &source, &to, effects);
        }
        effects.discarded.push(message);
    }

    /// A queue has refused a publish.
    #[cold]
    pub(super) fn note_refused(awaiting: Awaiting, effects: &mut Effects) {
        if awaiting != Awaiting::Nothing {
            effects.refused.push(awaiting);
        }
    }

    /// Takes messages from the head of a queue until it is within its limits: as many as the turn has left, and the rest
    /// with later slices.
    pub(super) fn drop_excess(&mut self, id: QueueId, effects: &mut Effects) {
        while let Some(slot) = self.queues.get_mut(&id).filter(|slot| slot.is_overfull()) {
            if self.calendar.left == 0 {
                self.overfull.insert(id);
                effects.more_work = true;
                break;
            }
            let effort = match slot.queue.drop_front() {
                None => break,
                Some(Dropped::Gone(dead)) => {
                    let headers = dead.message.as_ref().map_or(0, |message| message.properties().len());
                    self.remove(id, dead, effects);
                    1 + headers / HEADERS_PER_LETTER
                }
                Some(Dropped::Dying) => {
                    self.mark_dirty(id);
                    1
                }
            };
            self.calendar.left = self.calendar.left.saturating_sub(effort);
        }
        if let Some(slot) = self.queues.get_mut(&id) {
            self.cache.count(slot);
            self.calendar.arm(slot);
        }
    }

    /// Goes on with what [`Self::drop_excess`] has left behind.
    pub(super) fn drop_overfull(&mut self, effects: &mut Effects) {
        while let Some(id) = self.overfull.pop_first() {
            if self.calendar.left == 0 {
                self.overfull.insert(id);
                effects.more_work = true;
                return;
            }
            self.drop_excess(id, effects);
        }
    }

    /// Messages have come back to a queue from clients. A classic queue makes room before it serves anybody, a quorum
    /// queue afterwards: so does RabbitMQ.
    pub(super) fn came_back(&mut self, id: QueueId, effects: &mut Effects) {
        let Some(slot) = self.queues.get(&id).filter(|slot| slot.settings.is_limited()) else { return };
        if slot.settings.is_quorum {
            self.mark_dirty(id);
        } else {
            self.drop_excess(id, effects);
        }
    }

    /// A message has not come back from its client.
    pub(super) fn end_unconsumed(&mut self, id: QueueId, seq: Seq, settled: Settled, effects: &mut Effects) {
        let Settled { home, history, end, .. } = settled;
        match end {
            End::Left(reason, message) => {
                let deadline = Moment::NEVER;
                self.remove(id, Dead { reason, seq, home, deadline, message }, effects);
            }
            End::Dying(reason) => {
                if reason == Reason::DeliveryLimit && home.stored().is_some() {
                    // A restart that finds it again must know.
                    effects.journal.came_back(id, seq, history);
                }
                self.mark_dirty(id);
            }
            End::Done(_) | End::Back => {}
        }
    }
}
