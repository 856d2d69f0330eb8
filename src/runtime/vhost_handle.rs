//! A vhost as the runtime holds it: the pure state under its lock, the published snapshot, and the bells of
//! the connections attached to it.
//!
//! Invariant: definitions are appended and snapshots published while the state's lock is held, so that the
//! order of the log is the order of the changes and no reply overtakes the snapshot that shows it.

use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tracing::warn;

use super::Mailbox;
use crate::model::{ConnectionKey, LogPosition, Message, VhostName};
use crate::queue::Detached;
use crate::storage::DefinitionWriter;
use crate::telemetry::printable;
use crate::topology::Topology;
use crate::vhost::{
    Command, Conflict, Effects, Event, IneffectiveArguments, OperatorReport, OperatorTopology, Vhost,
};

/// One vhost, shared by its connections.
#[derive(Debug)]
pub struct VhostHandle {
    name: VhostName,
    state: Mutex<Vhost>,
    topology: RwLock<Arc<Topology>>,
    mailboxes: DashMap<ConnectionKey, Arc<Mailbox>>,
    definitions: Arc<DefinitionWriter>,
    /// Rung when work was left for later slices.
    work_left: Notify,
    /// What is gone and takes long to free.
    garbage: Mutex<Vec<Detached>>,
}

/// Buffers of one caller, kept between turns so that a turn allocates nothing.
#[derive(Debug, Default)]
pub(super) struct TurnBuffers {
    effects: Effects,
}

impl VhostHandle {
    pub(super) fn new(vhost: Vhost, definitions: Arc<DefinitionWriter>) -> Self {
        Self {
            name: vhost.name().clone(),
            topology: RwLock::new(Arc::new(vhost.topology().clone())),
            state: Mutex::new(vhost),
            mailboxes: DashMap::new(),
            definitions,
            work_left: Notify::new(),
            garbage: Mutex::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &VhostName {
        &self.name
    }

    /// The newest published topology.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read())
    }

    pub(super) fn attach(&self, mailbox: Arc<Mailbox>) -> ConnectionKey {
        let key = self.state.lock().attach();
        self.mailboxes.insert(key, mailbox);
        key
    }

    /// Applies the connection's last commands, returns everything it held and forgets it. What is in its outbox
    /// was never sent and goes back unmarked.
    pub(super) fn detach(
        &self,
        connection: ConnectionKey,
        commands: &mut Vec<Command>,
        buffers: &mut TurnBuffers,
    ) {
        self.mailboxes.remove(&connection);
        self.change(buffers, |vhost, effects| {
            vhost.turn(connection, commands, effects);
            vhost.detach(connection, effects);
        });
    }

    /// Applies a burst and takes what the connection's outbox holds. Returns the position that replies of
    /// this turn wait for.
    pub(super) fn turn(
        &self,
        connection: ConnectionKey,
        commands: &mut Vec<Command>,
        events: &mut Vec<Event>,
        buffers: &mut TurnBuffers,
    ) -> LogPosition {
        self.change(buffers, |vhost, effects| {
            vhost.turn(connection, commands, effects);
            vhost.collect(connection, events);
        })
    }

    /// Runs one change under the lock, publishes what it changed, then wakes and frees outside of it.
    pub(super) fn change(
        &self,
        buffers: &mut TurnBuffers,
        change: impl FnOnce(&mut Vhost, &mut Effects),
    ) -> LogPosition {
        let effects = &mut buffers.effects;
        let position = {
            let mut vhost = self.state.lock();
            // Half a turn must never become visible: a panic in here ends the process, and recovery decides.
            let guard = AbortOnPanic;
            change(&mut vhost, effects);
            let position = self.publish(&vhost, effects);
            std::mem::forget(guard);
            position
        };
        for connection in effects.wake.drain(..) {
            if let Some(mailbox) = self.mailboxes.get(&connection) {
                mailbox.ring();
            }
        }
        if std::mem::take(&mut effects.more_work) {
            self.work_left.notify_one();
        }
        for IneffectiveArguments { queue, arguments } in effects.ineffective.drain(..) {
            warn!(
                "queue {}: {arguments} accepted and stored, without effect in this release",
                printable(queue.as_str())
            );
        }
        free(&mut effects.discarded);
        let of_deleted = effects.deleted.drain(..).map(|mut queue| queue.purge());
        self.discard(effects.purged.drain(..).chain(of_deleted));
        position
    }

    /// Frees at once what is little, and leaves the rest to the house-keeping.
    fn discard(&self, gone: impl Iterator<Item = Detached>) {
        for detached in gone {
            if detached.remaining() > FREED_AT_ONCE {
                self.garbage.lock().push(detached);
                self.work_left.notify_one();
            }
        }
    }

    fn publish(&self, vhost: &Vhost, effects: &mut Effects) -> LogPosition {
        if std::mem::take(&mut effects.topology_changed) {
            *self.topology.write() = Arc::new(vhost.topology().clone());
        }
        let relies = std::mem::take(&mut effects.relies_on_definitions);
        if effects.definitions.is_empty() && !relies {
            return LogPosition::START;
        }
        let position = self.definitions.append(&self.name, &effects.definitions);
        effects.definitions.clear();
        position
    }

    /// Brings an operator's file into force.
    ///
    /// # Errors
    /// Every declaration that conflicts with what exists; nothing has changed then.
    pub fn apply_operator(&self, wanted: &OperatorTopology) -> Result<OperatorReport, Vec<Conflict>> {
        let mut result = Err(Vec::new());
        self.change(&mut TurnBuffers::default(), |vhost, effects| {
            result = vhost.apply_operator(wanted, effects);
        });
        result
    }

    /// Finishes, slice by slice, what turns have left behind, for as long as the broker runs.
    pub(super) async fn keep_house(&self, fold: impl Fn()) {
        let mut buffers = TurnBuffers::default();
        loop {
            self.work_left.notified().await;
            let garbage = std::mem::take(&mut *self.garbage.lock());
            for mut detached in garbage {
                while detached.by_ref().take(FREED_AT_A_TIME).count() == FREED_AT_A_TIME {
                    fold();
                    tokio::task::yield_now().await;
                }
            }
            let mut more = true;
            while more {
                self.change(&mut buffers, |vhost, effects| {
                    vhost.work(effects);
                    more = std::mem::take(&mut effects.more_work);
                });
                fold();
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Messages that a turn frees itself when a queue is purged or deleted.
const FREED_AT_ONCE: u64 = 1_000;
/// Messages that the house-keeping frees between two chances for others.
const FREED_AT_A_TIME: usize = 10_000;

/// Drops messages and gives back the room of an exceptionally long list.
fn free(discarded: &mut Vec<Message>) {
    const KEEP: usize = 4_096;
    discarded.clear();
    discarded.shrink_to(KEEP);
}

/// Ends the process when dropped by a panic.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}
