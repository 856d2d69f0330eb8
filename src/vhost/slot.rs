//! A queue as its vhost has it: its state, and what was declared.
//!
//! Invariant: the settings are those of the definition.

use std::sync::Arc;

use super::settings::Settings;
use crate::model::{QueueDefinition, QueueId};
use crate::queue::Queue;

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
    /// What it last counted for in [`Vhost::cache`].
    pub(super) counted_bytes: u64,
    pub(super) counted_unstored: u64,
}

impl QueueSlot {
    pub(super) fn new(id: QueueId, definition: Arc<QueueDefinition>) -> Self {
        Self {
            queue: Queue::new(id),
            durable: definition.durable,
            settings: Settings::of(&definition),
            definition,
            dirty: false,
            counted_bytes: 0,
            counted_unstored: 0,
        }
    }
}
