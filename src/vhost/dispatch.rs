//! Ready messages go to consumers.
//!
//! Invariant: when a turn ends no queue has both a ready message in memory and a consumer that could take it.

use super::state::{Vhost, wake};
use super::{Delivery, Effects};
use crate::model::QueueId;

impl Vhost {
    pub(super) fn mark_dirty(&mut self, id: QueueId) {
        if let Some(slot) = self.queues.get_mut(&id)
            && !slot.dirty
        {
            slot.dirty = true;
            self.dirty.push(id);
        }
    }

    pub(super) fn dispatch_dirty(&mut self, effects: &mut Effects) {
        for (connection, event) in std::mem::take(&mut self.cancelled) {
            self.tell(connection, event, effects);
        }
        loop {
            // A list, not calls in calls: one letter may make the next.
            while let Some((id, letter)) = self.letters.pop_front() {
                self.deliver_letter(id, letter, effects);
            }
            let Some(id) = self.dirty.pop() else { break };
            self.dispatch(id, effects);
        }
        self.look_through_list();
    }

    /// Hands ready messages to consumers until one of the two runs out.
    fn dispatch(&mut self, id: QueueId, effects: &mut Effects) {
        let Some(slot) = self.queues.get_mut(&id) else { return };
        slot.dirty = false;
        self.serve(id, effects);
        if self.queues.get(&id).is_some_and(|slot| slot.settings.is_limited()) {
            self.drop_excess(id, effects);
        }
    }

    /// The same for a queue that may be dispatched again before the turn ends.
    pub(super) fn serve(&mut self, id: QueueId, effects: &mut Effects) {
        if !self.expire_overdue(id, effects) {
            // The slice that takes the rest out comes back to this.
            return;
        }
        if !self.waiting.is_empty() {
            self.serve_gets(id, effects);
        }
        let needed = self.hand_out(id, effects);
        self.expire_untaken(id, effects);
        if let Some(needed) = needed {
            self.ask_for(id, needed, effects);
        }
    }

    /// Says whether messages are wanted, if some are not in memory.
    fn hand_out(&mut self, id: QueueId, effects: &mut Effects) -> Option<bool> {
        let forget_before = self.forget_before();
        let slot = self.queues.get_mut(&id)?;
        let queue = &mut slot.queue;
        let mut taken = false;
        while let Some(consumer) = queue.front_consumer() {
            let (channel, connection) = self.connections.both(consumer.channel);
            if connection.is_full() {
                connection.parked_in.insert((id, consumer.channel));
                queue.park_front();
                continue;
            }
            if channel.is_full() {
                channel.parked_in.insert(id);
                queue.park_front();
                continue;
            }
            taken = true;
            let Some(dispatched) = queue.deliver_front(forget_before) else { break };
            if dispatched.consumer.no_ack {
                effects.journal.gone(id, dispatched.seq, dispatched.home);
            } else {
                channel.unacked += 1;
            }
            connection.deliver(Delivery {
                channel: channel.number,
                consumer: dispatched.consumer.consumer,
                queue: id,
                seq: dispatched.seq,
                redelivered: dispatched.history.redelivered,
                delivery_count: if slot.settings.tells_failures {
                    dispatched.history.delivery_count
                } else {
                    0
                },
                message: dispatched.message,
            });
            wake(channel.connection, connection, effects);
        }
        self.cache.count(slot);
        self.calendar.arm(slot);
        let absent = slot.queue.has_absent() || slot.queue.has_dying();
        absent.then_some(taken || slot.queue.has_dying())
    }
}
