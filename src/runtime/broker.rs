//! The broker as the front-ends see it: a cheap handle to its vhosts, its users and its alarms.
//!
//! Invariant: front-ends reach vhosts and storage only through here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::disk::{Disk, DiskOptions};
use super::ledger::Ledger;
use super::{AlarmChange, Clock, Connection, Durability, Mailbox, Memory, Replayed, VhostHandle};
use crate::auth::Authenticator;
use crate::model::{Definition, UserName, VhostName};
use crate::session::{Credentials, LoginRefusal, OpenRefusal, Peer, SessionOptions};
use crate::storage::Storage;
use crate::storage::log::VhostId;
use crate::telemetry::Counters;
use crate::vhost::{Journal, RestoreReport, Restored, Vhost, VhostOptions};

/// What the broker is made of.
#[derive(Debug)]
pub struct BrokerOptions {
    /// What every session needs to know.
    pub session: SessionOptions,
    /// Bytes of messages and buffers above which publishers are blocked.
    pub memory_watermark_bytes: u64,
    /// Bytes that the message log may take up besides twice what is alive in it.
    pub log_budget_bytes: u64,
    /// The disk that the log is on.
    pub disk: DiskOptions,
    /// Limits of every vhost.
    pub vhost: VhostOptions,
}

/// What the storage holds at start.
#[derive(Debug)]
pub struct Found {
    /// Takes what changes from here on.
    pub storage: Storage,
    /// What durable queues kept.
    pub replayed: Replayed,
    /// The definitions of each vhost.
    pub definitions: BTreeMap<VhostName, Vec<Definition>>,
    /// The time from here on.
    pub clock: Clock,
}

/// A cheap handle to the one broker of this process.
#[derive(Clone, Debug)]
pub struct Broker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    session_options: Arc<SessionOptions>,
    authenticator: Authenticator,
    vhosts: DashMap<VhostName, Arc<VhostHandle>>,
    mailboxes: DashMap<usize, Arc<Mailbox>>,
    memory: Arc<Memory>,
    disk: Disk,
    durability: Durability,
    ledger: Arc<Ledger>,
    clock: Clock,
    counters: Counters,
    stopping: AtomicBool,
}

impl Broker {
    /// Puts the broker together from what the storage holds, with these vhosts at least; must be called within a tokio
    /// runtime, on which it keeps its own tasks. The reports say what could not be brought back.
    #[must_use]
    pub fn start(
        options: BrokerOptions,
        authenticator: Authenticator,
        found: Found,
        vhosts: &[VhostName],
    ) -> (Self, Vec<RestoreReport>) {
        let Found { storage, replayed, definitions, clock } = found;
        let durable = storage.log().durable();
        let ledger = Arc::new(Ledger::new(storage, options.log_budget_bytes));
        let shared = Shared {
            session_options: Arc::new(options.session),
            authenticator,
            vhosts: DashMap::new(),
            mailboxes: DashMap::new(),
            memory: Arc::new(Memory::new(options.memory_watermark_bytes)),
            disk: Disk::new(options.disk),
            durability: Durability::new(durable),
            ledger,
            clock,
            counters: Counters::default(),
            stopping: AtomicBool::new(false),
        };
        let broker = Self(Arc::new(shared));
        let reports = broker.restore(&options.vhost, replayed, definitions, vhosts);
        let durability = broker.clone();
        tokio::spawn(async move { durability.0.durability.ring_forever().await });
        tokio::spawn(broker.clone().reclaim_forever());
        tokio::spawn(broker.clone().watch_disk());
        (broker, reports)
    }

    /// Brings the vhosts back.
    fn restore(
        &self,
        options: &VhostOptions,
        replayed: Replayed,
        mut definitions: BTreeMap<VhostName, Vec<Definition>>,
        vhosts: &[VhostName],
    ) -> Vec<RestoreReport> {
        let Replayed { vhosts: mut kept, segments, mut next_vhost, .. } = replayed;
        for (segment, live) in segments {
            self.0.ledger.found(segment, live);
        }
        for name in vhosts.iter().chain(definitions.keys()) {
            kept.entry(name.clone()).or_insert_with(|| {
                next_vhost = next_vhost.max(1);
                let id = VhostId(next_vhost);
                next_vhost += 1;
                (id, Restored::default())
            });
        }
        let restored = kept.into_iter().map(|(name, (id, mut restored))| {
            restored.definitions = definitions.remove(&name).unwrap_or_default();
            restored.now = self.0.clock.now();
            let (vhost, mut report) = Vhost::restore(name, options.clone(), restored);
            self.add_vhost(id, vhost, &mut report.journal);
            report
        });
        restored.collect()
    }

    fn add_vhost(&self, id: VhostId, vhost: Vhost, journal: &mut Journal) {
        let (reads, to_read) = mpsc::unbounded_channel();
        let (ledger, memory) = (Arc::clone(&self.0.ledger), Arc::clone(&self.0.memory));
        let handle = Arc::new(VhostHandle::new(id, vhost, ledger, memory, self.0.clock, reads));
        handle.begin(journal);
        self.0.vhosts.insert(handle.name().clone(), Arc::clone(&handle));
        let broker = self.clone();
        let fold = move || broker.fold_memory(0);
        tokio::spawn(Arc::clone(&handle).read_forever(to_read, fold.clone()));
        tokio::spawn(async move { handle.keep_house(fold).await });
    }

    /// A connection of this broker, before its first byte.
    #[must_use]
    pub fn connect(&self, peer: Peer, now: Instant) -> Connection {
        let connection = Connection::new(self.clone(), peer, now);
        let mailbox = connection.mailbox();
        self.0.mailboxes.insert(mailbox_key(mailbox), Arc::clone(mailbox));
        connection
    }

    /// The vhost of this name.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<Arc<VhostHandle>> {
        self.0.vhosts.get(name).map(|handle| Arc::clone(&handle))
    }

    /// Connections there are, open or not yet.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.mailboxes.len()
    }

    /// Node-wide counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The memory gauge.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// What is durable, and who waits for it.
    #[must_use]
    pub fn durability(&self) -> &Durability {
        &self.0.durability
    }

    /// Whether connections are to be closed.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// Closes every connection; the caller has stopped accepting.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.ring_all();
    }

    /// Whether no connection is attached to a vhost: whoever has not closed its socket yet holds no message.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.vhosts().iter().all(|vhost| vhost.is_quiet())
    }

    /// Finishes what turns have left behind: everything that was held is back in its queues. To be called when all
    /// connections are gone.
    pub fn finish_work(&self) {
        for vhost in self.vhosts() {
            vhost.finish_work();
        }
    }

    pub(super) fn session_options(&self) -> &Arc<SessionOptions> {
        &self.0.session_options
    }

    pub(super) fn forget(&self, mailbox: &Arc<Mailbox>) {
        self.0.mailboxes.remove(&mailbox_key(mailbox));
    }

    pub(super) fn authenticate(
        &self,
        credentials: &Credentials,
        peer: &Peer,
    ) -> Result<UserName, LoginRefusal> {
        self.0
            .authenticator
            .check(&credentials.user, &credentials.password, peer.loopback)
            .map_err(|refusal| LoginRefusal(format!("{} login refused: {refusal}", credentials.mechanism)))
    }

    pub(super) fn open_vhost(&self, name: &VhostName) -> Result<Arc<VhostHandle>, OpenRefusal> {
        self.vhost(name.as_str()).ok_or_else(|| OpenRefusal::NoVhost(name.clone()))
    }

    /// Appending must wait until the disk has caught up.
    pub(super) fn outruns_disk(&self) -> bool {
        let storage = self.0.ledger.storage();
        storage.log().congested() || storage.definitions().is_full()
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.0.disk
    }

    /// Whether nothing can be made durable any more.
    pub(super) fn storage_failed(&self) -> bool {
        self.storage().log().failed().borrow().is_some()
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Where everything is kept.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        self.0.ledger.storage()
    }

    /// All vhosts, in no particular order.
    pub(super) fn vhosts(&self) -> Vec<Arc<VhostHandle>> {
        self.0.vhosts.iter().map(|handle| Arc::clone(&handle)).collect()
    }

    /// The vhost of this id in the log.
    pub(super) fn vhost_of_log(&self, id: VhostId) -> Option<Arc<VhostHandle>> {
        self.vhosts().into_iter().find(|handle| handle.id == id)
    }

    pub(super) fn fold_memory(&self, buffers_changed_bytes: i64) {
        let memory = &self.0.memory;
        match memory.fold(buffers_changed_bytes) {
            AlarmChange::Unchanged => return,
            AlarmChange::Raised => warn!(
                "memory alarm: {} MiB held, the watermark is {} MiB; publishers are blocked until consumers catch up",
                memory.bytes() >> 20,
                memory.watermark_bytes() >> 20
            ),
            AlarmChange::Cleared => {
                info!("memory alarm cleared: {} MiB held; publishers go on", memory.bytes() >> 20);
            }
        }
        self.ring_all();
    }

    /// 16 bytes nobody can guess.
    ///
    /// # Panics
    /// If the operating system has no randomness to give: no token could be trusted.
    #[expect(clippy::unused_self, reason = "randomness is the broker's to give, as a seeded one may be")]
    pub(super) fn random_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        bytes
    }

    pub(super) fn ring_all(&self) {
        for mailbox in &self.0.mailboxes {
            mailbox.ring();
        }
    }
}

/// A mailbox is known by its address for as long as it lives.
fn mailbox_key(mailbox: &Arc<Mailbox>) -> usize {
    Arc::as_ptr(mailbox).addr()
}
