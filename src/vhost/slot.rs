//! A queue as its vhost has it: its state, and what was declared.
//!
//! Invariant: the settings are those of the definition and of the policies in force, or the queue stands in the sweep
//! that will make them so.

use std::sync::Arc;

use super::settings::Settings;
use super::state::Vhost;
use super::{Effects, VhostOptions};
use crate::model::{ExchangeName, QueueDefinition, QueueId, QueueName};
use crate::queue::{Moment, Queue};
use crate::topology::AppliedPolicies;

/// What a queue is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper<'a> {
    /// Itself.
    Queue(&'a QueueName),
    /// The delayed message exchange whose messages wait in it.
    Delay(&'a ExchangeName),
}

/// A queue in its vhost.
#[derive(Debug)]
pub(super) struct QueueSlot {
    pub(super) queue: Queue,
    pub(super) definition: Arc<QueueDefinition>,
    /// It keeps persistent messages across a restart.
    pub(super) durable: bool,
    /// What it does with its messages.
    pub(super) settings: Settings,
    /// It stands in [`Vhost::dirty`].
    pub(super) dirty: bool,
    /// Where it stands among the deadlines.
    pub(super) armed: Moment,
    /// When it goes if nobody uses it before.
    pub(super) lease: Moment,
    /// The exchange whose messages wait in it, if that is what it is there for.
    pub(super) delays: Option<ExchangeName>,
    /// What it last counted for in [`Vhost::cache`].
    pub(super) counted_bytes: u64,
    pub(super) counted_unstored: u64,
}

impl QueueSlot {
    pub(super) fn new(
        id: QueueId,
        definition: Arc<QueueDefinition>,
        policies: AppliedPolicies<'_>,
        options: &VhostOptions,
    ) -> Self {
        let settings = Settings::of(&definition, policies, options.default_delivery_limit);
        let mut queue = Queue::new(id);
        queue.set_keeps_dead(settings.dead_letters.is_some());
        queue.set_delivery_limit(settings.delivery_limit);
        if let Some(priorities) = settings.priorities {
            queue.prioritise(priorities);
        }
        if let Some(succession) = settings.single_active {
            queue.set_single_active(succession);
        }
        Self {
            queue,
            durable: definition.durable,
            settings,
            definition,
            armed: Moment::NEVER,
            lease: Moment::NEVER,
            delays: None,
            dirty: false,
            counted_bytes: 0,
            counted_unstored: 0,
        }
    }
}

impl Vhost {
    /// Acts on new settings of a queue that exists: called once for each queue whose settings a policy has changed.
    pub(super) fn settings_changed(&mut self, id: QueueId, effects: &mut Effects) {
        let Some(slot) = self.queues.get_mut(&id) else { return };
        slot.queue.set_keeps_dead(slot.settings.dead_letters.is_some());
        slot.queue.set_delivery_limit(slot.settings.delivery_limit);
        // As RabbitMQ has it, the time of an unused queue begins anew.
        self.calendar.renew(slot);
        self.mark_dirty(id);
        self.drop_excess(id, effects);
    }
}
