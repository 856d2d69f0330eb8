//! A vhost as the runtime holds it: the pure state under its lock, the published snapshot, and the bells of
//! the connections attached to it.
//!
//! Invariant: what a turn changed is appended to the log and snapshots are published while the state's lock is held,
//! so that the order of the log is the order of the changes and no reply overtakes the snapshot that shows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, info, warn};

use super::journal::Scribe;
use super::ledger::{Ledger, Outgoing};
use super::{Clock, Mailbox, Memory};
use crate::model::{ConnectionKey, DefinitionChange, LogPosition, Message, Seq, VhostName};
use crate::queue::{Detached, Home, Moment, Queue};
use crate::storage::log::{self, VhostId};
use crate::telemetry::printable;
use crate::topology::Topology;
use crate::vhost::{
    Awaiting, Command, Conflict, Delayed, Effects, Event, Freed, IneffectiveArguments, Journal, Lost,
    OperatorReport, OperatorTopology, Overdue, Read, Vhost,
};

/// One vhost, shared by its connections.
#[derive(Debug)]
pub struct VhostHandle {
    name: VhostName,
    pub(super) id: VhostId,
    pub(super) state: Mutex<State>,
    topology: RwLock<Arc<Topology>>,
    mailboxes: DashMap<ConnectionKey, Arc<Mailbox>>,
    pub(super) ledger: Arc<Ledger>,
    memory: Arc<Memory>,
    /// Rung when memory is scarce and messages could be stored for its sake.
    memory_scarce: Notify,
    clock: Clock,
    /// Rung when something is due before the house-keeping would look.
    alarm_is_earlier: Notify,
    /// Rung when work was left for later slices.
    work_left: Notify,
    /// Rung when messages are to leave memory as soon as they are written.
    cache_overfull: Notify,
    /// What is gone and takes long to free.
    garbage: Mutex<Vec<Detached>>,
    /// Takes what is to be read.
    reads: mpsc::UnboundedSender<Read>,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) vhost: Vhost,
    pub(super) scribe: Scribe,
    /// When the house-keeping looks at the calendar next.
    alarm: Moment,
}

/// Where in the log a turn stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turned {
    /// What its confirms and replies wait for.
    pub(super) gate: LogPosition,
    /// Where it stored messages or definitions; not the mere ends of deliveries.
    pub(super) stored: LogPosition,
}

impl Turned {
    const NOWHERE: Self = Self { gate: LogPosition::START, stored: LogPosition::START };
}

/// Buffers of one caller, kept between turns so that a turn allocates nothing.
#[derive(Debug, Default)]
pub(super) struct TurnBuffers {
    effects: Effects,
}

impl TurnBuffers {
    /// The publishes of the turn that queues have refused.
    pub(super) fn take_refused(&mut self) -> std::vec::Drain<'_, Awaiting> {
        self.effects.refused.drain(..)
    }
}

impl VhostHandle {
    /// A vhost, whose reads go to the sender's other end.
    pub(super) fn new(
        id: VhostId,
        vhost: Vhost,
        ledger: Arc<Ledger>,
        memory: Arc<Memory>,
        clock: Clock,
        reads: mpsc::UnboundedSender<Read>,
    ) -> Self {
        Self {
            name: vhost.name().clone(),
            id,
            topology: RwLock::new(Arc::new(vhost.topology().clone())),
            state: Mutex::new(State { vhost, scribe: Scribe::new(id), alarm: Moment::NEVER }),
            mailboxes: DashMap::new(),
            ledger,
            clock,
            alarm_is_earlier: Notify::new(),
            work_left: Notify::new(),
            memory,
            memory_scarce: Notify::new(),
            cache_overfull: Notify::new(),
            garbage: Mutex::default(),
            reads,
        }
    }

    /// Stores the vhost's identity and what its restoration has changed.
    pub(super) fn begin(&self, journal: &mut Journal) {
        let mut effects = Effects { journal: std::mem::take(journal), ..Effects::default() };
        let mut state = self.state.lock();
        state.scribe.identify(self.name());
        self.publish(&mut state, &mut effects);
        // What is above its queue's limits goes before anybody asks for it.
        self.work_left.notify_one();
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
        let key = self.state.lock().vhost.attach();
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
        // Nobody is there to be told.
        buffers.effects.refused.clear();
    }

    /// Applies a burst and takes what the connection's outbox holds.
    pub(super) fn turn(
        &self,
        connection: ConnectionKey,
        commands: &mut Vec<Command>,
        events: &mut Vec<Event>,
        (now, buffers): (Instant, &mut TurnBuffers),
    ) -> Turned {
        self.change_at(self.clock.moment(now), buffers, |vhost, effects| {
            vhost.turn(connection, commands, effects);
            vhost.collect(connection, events);
        })
    }

    /// Runs one change under the lock, publishes what it changed, then wakes and frees outside of it.
    pub(super) fn change(
        &self,
        buffers: &mut TurnBuffers,
        change: impl FnOnce(&mut Vhost, &mut Effects),
    ) -> Turned {
        self.change_at(self.clock.now(), buffers, change)
    }

    /// The same for whoever knows what time it is.
    fn change_at(
        &self,
        now: Moment,
        buffers: &mut TurnBuffers,
        change: impl FnOnce(&mut Vhost, &mut Effects),
    ) -> Turned {
        let effects = &mut buffers.effects;
        let turned = {
            let mut state = self.state.lock();
            // Half a turn must never become visible: a panic in here ends the process, and recovery decides.
            let guard = AbortOnPanic;
            state.vhost.set_time(now);
            change(&mut state.vhost, effects);
            let turned = self.publish(&mut state, effects);
            if state.vhost.next_deadline() < state.alarm {
                state.alarm = state.vhost.next_deadline();
                self.alarm_is_earlier.notify_one();
            }
            if state.vhost.can_spill() && self.memory.is_scarce() {
                self.memory_scarce.notify_one();
            }
            if state.vhost.fills_cache() && state.vhost.page_out(self.ledger.written(), effects) {
                self.cache_overfull.notify_one();
            }
            std::mem::forget(guard);
            turned
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
        for Overdue { queue } in effects.overdue.drain(..) {
            info!(
                "queue {}: deleted, nobody has used it for as long as it was to stay",
                printable(queue.as_str())
            );
        }
        effects.cycles.dedup();
        for queue in effects.cycles.drain(..) {
            warn!(
                "queue {}: dead letters dropped that would go round for ever, no client refuses them on their way",
                printable(queue.as_str())
            );
        }
        for read in effects.reads.drain(..) {
            // Without a reader the broker has ended.
            let _ = self.reads.send(read);
        }
        for Lost { queue, messages } in effects.lost.drain(..) {
            error!(
                "queue {}: {messages} messages are lost, the message log is damaged where they were; \
                 `ferrymq fsck` on the stopped broker's data directory says more",
                printable(queue.as_str())
            );
        }
        free(&mut effects.discarded);
        let of_deleted = effects.deleted.drain(..).map(Queue::into_detached);
        self.discard(effects.purged.drain(..).chain(of_deleted));
        turned
    }

    /// Frees at once what is little, and leaves the rest to the house-keeping.
    fn discard(&self, gone: impl Iterator<Item = Detached>) {
        for mut detached in gone {
            if detached.remaining() > FREED_AT_ONCE {
                self.garbage.lock().push(detached);
                self.work_left.notify_one();
            } else {
                self.free_homes(&mut detached);
            }
        }
    }

    /// Frees messages, and counts where they were stored. Returns how many they were.
    fn free_homes(&self, homes: &mut dyn Iterator<Item = Home>) -> usize {
        let mut journal = Journal::default();
        let mut count = 0;
        for home in homes {
            count += 1;
            if let Some((segment, bytes)) = home.stored() {
                journal.freed(segment, bytes);
            }
        }
        if !journal.freed.is_empty() {
            self.ledger.free(&journal.freed);
        }
        count
    }

    /// Publishes what a turn has changed: the snapshot, and what is to survive a restart.
    fn publish(&self, state: &mut State, effects: &mut Effects) -> Turned {
        let State { vhost, scribe, .. } = state;
        if std::mem::take(&mut effects.topology_changed) {
            *self.topology.write() = Arc::new(vhost.topology().clone());
        }
        let relies = std::mem::take(&mut effects.relies_on_definitions);
        let journal = &mut effects.journal;
        if journal.is_empty() && effects.definitions.is_empty() && !relies {
            journal.waited_for = false;
            return Turned::NOWHERE;
        }
        scribe.write(vhost, journal);
        let nothing = scribe.batch.is_empty() && effects.definitions.is_empty();
        let waits = relies || (!nothing && (journal.waited_for || !effects.definitions.is_empty()));
        if nothing && !waits && journal.freed.is_empty() {
            journal.clear();
            return Turned::NOWHERE;
        }
        let stores = !scribe.places.is_empty() || !effects.definitions.is_empty();
        let position = self.append(state, &effects.definitions, &effects.journal.freed, waits);
        let mut turned = Turned::NOWHERE;
        if waits {
            turned.gate = position;
        }
        if stores {
            turned.stored = position;
        }
        effects.journal.clear();
        effects.definitions.clear();
        turned
    }

    /// Appends what the scribe has written, and says where its messages are stored from here on.
    pub(super) fn append(
        &self,
        state: &mut State,
        definitions: &[DefinitionChange],
        freed: &[Freed],
        waits: bool,
    ) -> LogPosition {
        let State { vhost, scribe, .. } = state;
        let stored = self.ledger.append(Outgoing {
            batch: &mut scribe.batch,
            vhost: &self.name,
            definitions,
            defines: scribe.defines,
            extents: &scribe.extents,
            freed,
            waits,
        });
        let homes = scribe.extents.iter().map(|extent| stored.home(*extent));
        vhost.store_all(scribe.places.iter().copied().zip(homes));
        scribe.clear();
        stored.position
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

    /// At most so many of the messages that wait at an exchange from this place on, in the order of their places. None
    /// if it is no delayed message exchange.
    #[must_use]
    pub fn delayed(&self, exchange: &str, from: Seq, limit: usize) -> Option<Vec<Delayed>> {
        let state = self.state.lock();
        Some(state.vhost.delayed(exchange, from)?.take(limit).collect())
    }

    /// Drops a message that waits at an exchange. Says whether it was there.
    pub fn cancel_delayed(&self, exchange: &str, seq: Seq) -> bool {
        let mut cancelled = false;
        self.change(&mut TurnBuffers::default(), |vhost, effects| {
            cancelled = vhost.cancel_delayed(exchange, seq, effects);
        });
        cancelled
    }

    /// Whether no connection is attached.
    pub(super) fn is_quiet(&self) -> bool {
        self.mailboxes.is_empty()
    }

    /// Finishes what turns have left behind, without a pause.
    pub(super) fn finish_work(&self) {
        let mut buffers = TurnBuffers::default();
        let mut more = true;
        while more {
            self.change(&mut buffers, |vhost, effects| {
                vhost.work(effects);
                more = std::mem::take(&mut effects.more_work);
            });
        }
    }

    /// Waits until the log has written more while messages wait for that to leave memory: publishers may have been
    /// stopped because of the memory, so that no turn of theirs comes by.
    async fn cache_can_shrink(&self, written: &mut watch::Receiver<log::Location>) {
        self.cache_overfull.notified().await;
        if written.changed().await.is_err() {
            // The log has ended, and the broker with it.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until something is due.
    async fn alarm_rings(&self) {
        loop {
            let alarm = {
                let mut state = self.state.lock();
                state.alarm = state.vhost.next_deadline();
                state.alarm
            };
            tokio::select! {
                () = self.clock.sleep_until(alarm), if alarm < Moment::NEVER => {
                    if alarm <= self.clock.now() {
                        return;
                    }
                }
                () = self.alarm_is_earlier.notified() => {}
            }
        }
    }

    /// Has messages stored, slice by slice, that are in memory only, until memory is not scarce any more or nothing is
    /// left of them.
    async fn spill(&self, buffers: &mut TurnBuffers, fold: &impl Fn()) {
        let mut more = true;
        while more && self.memory.is_scarce() {
            if self.ledger.storage().log().congested() {
                // Not for as long as a full disk takes: what the house-keeping frees may make room.
                tokio::time::sleep(SPILL_PAUSE).await;
                self.memory_scarce.notify_one();
                return;
            }
            self.change(buffers, |vhost, effects| {
                vhost.spill(effects);
                more = std::mem::take(&mut effects.more_work);
            });
            fold();
            tokio::task::yield_now().await;
        }
    }

    /// Finishes, slice by slice, what turns have left behind, for as long as the broker runs.
    pub(super) async fn keep_house(&self, fold: impl Fn()) {
        let mut buffers = TurnBuffers::default();
        let mut written = self.ledger.storage().log().written();
        loop {
            tokio::select! {
                () = self.work_left.notified() => {}
                () = self.alarm_rings() => {}
                () = self.cache_can_shrink(&mut written) => {}
                () = self.memory_scarce.notified() => self.spill(&mut buffers, &fold).await,
            }
            let garbage = std::mem::take(&mut *self.garbage.lock());
            for mut detached in garbage {
                while self.free_homes(&mut detached.by_ref().take(FREED_AT_A_TIME)) == FREED_AT_A_TIME {
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
/// How long nothing more is stored for the sake of memory while too much is unwritten.
const SPILL_PAUSE: Duration = Duration::from_millis(10);
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
