//! Gives up segments of the log that hold nothing needed, and moves what is needed out of those that hold little.
//!
//! Invariant: a segment is given up only when everything of it that is alive has been appended again, under the lock
//! of its vhost, so that no later change of it can come before.

use std::io;
use std::time::Duration;

use tracing::{debug, error};

use super::VhostHandle;
use super::broker::Broker;
use super::ledger::Due;
use super::vhost_handle::State;
use crate::model::{Definition, Message, QueueId, Seq};
use crate::storage::Storage;
use crate::storage::log::{Batch, Placed, Record, SegmentNumber, Space, VhostId};
use crate::vhost::Freed;

/// How often the log is looked at when nothing changes in it.
const INTERVAL: Duration = Duration::from_secs(1);
/// Definitions that are appended under one lock.
const DEFINITIONS_AT_A_TIME: usize = 500;
/// Messages that are appended under one lock, and their bytes.
const MESSAGES_AT_A_TIME: usize = 500;
const BYTES_AT_A_TIME: usize = 512 << 10;
/// Bytes that are appended again before the log has written them: so much of its reserve it may cost to find out that
/// the disk is full.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

/// A message of a segment and the places it was stored for.
struct Candidate {
    message: Message,
    places: Vec<(QueueId, Seq)>,
}

impl Broker {
    /// Keeps the log small for as long as the broker runs.
    pub(super) async fn reclaim_forever(self) {
        let ledger = self.ledger();
        let mut retired = SegmentNumber(0);
        loop {
            // What was appended may be written, and what was given up may be gone, without anybody appending more.
            let _ = tokio::time::timeout(INTERVAL, ledger.changed.notified()).await;
            loop {
                match ledger.due(retired) {
                    Due::Nothing => break,
                    Due::Retire(below) => {
                        ledger.storage().log().retire(below);
                        retired = below;
                    }
                    Due::Redefine => self.redefine().await,
                    Due::Relocate(segment) => {
                        debug!("moving what is alive out of segment {segment} of the message log");
                        match self.relocate(segment).await {
                            Ok(Moved::All) => {}
                            Ok(Moved::UntilFull) => break,
                            Err(error) => {
                                // It is tried again when the log changes; until then it only takes up room.
                                error!("cannot read segment {segment} of the message log: {error}");
                                break;
                            }
                        }
                        if ledger.due(retired) == Due::Relocate(segment) {
                            // What is alive in there was not found. Reading it at once again would find no more.
                            error!("segment {segment} of the message log is damaged: it cannot be moved");
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Appends everything again that says what exists.
    async fn redefine(&self) {
        let newest = self.ledger().newest();
        for vhost in self.vhosts() {
            vhost.identify_again();
            let definitions: Vec<_> = vhost.topology().durable_definitions().collect();
            for some in definitions.chunks(DEFINITIONS_AT_A_TIME) {
                vhost.define_again(some);
                tokio::task::yield_now().await;
            }
        }
        self.ledger().redefined(newest);
    }

    /// Appends everything again that is alive in a segment, unless the disk turns out to be full.
    async fn relocate(&self, segment: SegmentNumber) -> io::Result<Moved> {
        let log = self.ledger().storage().log();
        // What is not written yet cannot be read.
        let position = log.append(&mut Batch::new(), true).position;
        let mut durable = log.durable();
        if durable.wait_for(|durable| *durable >= position).await.is_err() {
            return Err(io::Error::other("the message log is closed"));
        }
        let broker = self.clone();
        let reading = tokio::task::spawn_blocking(move || broker.copy_forward(segment));
        reading.await.map_err(io::Error::other)?
    }

    fn copy_forward(&self, segment: SegmentNumber) -> io::Result<Moved> {
        let mut slice = Slice {
            broker: self,
            segment,
            vhost: None,
            candidates: Vec::new(),
            bytes: 0,
            unwritten_bytes: 0,
            moved: Moved::All,
        };
        self.ledger().storage().log().read_segment(segment, &mut |placed| slice.take(&placed))?;
        slice.copy();
        Ok(slice.moved)
    }

    /// Waits until everything appended is written, or the disk is full or fails. Says which. Blocks.
    fn wait_for_disk(&self) -> Moved {
        let log = self.ledger().storage().log();
        let end = log.append(&mut Batch::new(), true).location;
        let (mut written, mut space, mut failed) = (log.written(), log.space(), log.failed());
        tokio::runtime::Handle::current().block_on(async {
            tokio::select! {
                biased;
                _ = failed.wait_for(Option::is_some) => Moved::UntilFull,
                _ = space.wait_for(|space| *space == Space::Full) => Moved::UntilFull,
                _ = written.wait_for(|written| *written >= end) => Moved::All,
            }
        })
    }
}

/// What of a segment has been appended again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    /// Everything alive that was found in it.
    All,
    /// Only what the disk has taken: the rest stays where it is until there is space.
    UntilFull,
}

/// Candidates of one vhost that are looked at under one lock.
struct Slice<'a> {
    broker: &'a Broker,
    segment: SegmentNumber,
    vhost: Option<VhostId>,
    candidates: Vec<Candidate>,
    bytes: usize,
    /// Appended since the log was waited for.
    unwritten_bytes: usize,
    moved: Moved,
}

impl Slice<'_> {
    fn take(&mut self, placed: &Placed<'_>) {
        let Record::Publish { vhost, queues, message, .. } = placed.record else { return };
        if self.moved == Moved::UntilFull {
            return;
        }
        let full = self.candidates.len() >= MESSAGES_AT_A_TIME || self.bytes >= BYTES_AT_A_TIME;
        if full || self.vhost != Some(vhost) {
            self.copy();
            self.vhost = Some(vhost);
        }
        self.bytes += placed.bytes;
        self.candidates.push(Candidate { message: message.to_message(), places: queues.to_vec() });
    }

    fn copy(&mut self) {
        let candidates = std::mem::take(&mut self.candidates);
        self.bytes = 0;
        let Some(vhost) = self.vhost.and_then(|id| self.broker.vhost_of_log(id)) else { return };
        self.unwritten_bytes += vhost.store_again(self.segment, &candidates);
        if self.unwritten_bytes >= UNWRITTEN_BYTES_MAX {
            self.unwritten_bytes = 0;
            self.moved = self.broker.wait_for_disk();
        }
    }
}

impl VhostHandle {
    /// Appends the vhost's identity again.
    fn identify_again(&self) {
        let mut state = self.state.lock();
        state.scribe.identify(self.name());
        self.append(&mut state, &[], &[], false);
    }

    /// Appends those of these definitions again that are still in force, and the identities of queues among them.
    fn define_again(&self, definitions: &[Definition]) {
        let mut state = self.state.lock();
        let State { vhost, scribe, .. } = &mut *state;
        for definition in definitions.iter().filter(|definition| vhost.topology().holds(definition)) {
            scribe.defines = true;
            Storage::define_again(&mut scribe.batch, self.name(), definition);
            if let Definition::Queue(queue) = definition
                && let Some(entry) = vhost.topology().queue(queue.name.as_str())
            {
                let (vhost, queue) = (self.id, entry.id);
                scribe.batch.push(&Record::CreateQueue { vhost, queue, name: &entry.definition.name });
            }
            if let Definition::Exchange(exchange) = definition
                && let Some(queue) = vhost.delay_queue(exchange.name.as_str())
            {
                let (vhost, exchange) = (self.id, &exchange.name);
                scribe.batch.push(&Record::CreateDelay { vhost, queue, exchange });
            }
        }
        self.append(&mut state, &[], &[], false);
    }

    /// Appends those of these messages again that are alive in the segment. Returns how many bytes that takes.
    fn store_again(&self, segment: SegmentNumber, candidates: &[Candidate]) -> usize {
        let segment = super::ledger::number(segment);
        let mut state = self.state.lock();
        let State { vhost, scribe, .. } = &mut *state;
        let mut freed = Vec::new();
        let mut redelivered = Vec::new();
        for Candidate { message, places } in candidates {
            let alive = places.iter().filter_map(|(queue, seq)| {
                let kept = vhost.kept(*queue, *seq)?;
                let (_, bytes) = kept.home.stored().filter(|(home, _)| *home == segment)?;
                freed.push(Freed { segment, places: 1, bytes: u64::from(bytes) });
                if kept.history.redelivered {
                    redelivered.push((*queue, *seq, kept.history));
                }
                Some((*queue, *seq, kept))
            });
            scribe.publish(message, alive);
        }
        for (queue, seq, history) in redelivered {
            scribe.came_back(queue, seq, history);
        }
        scribe.end_ranges();
        let bytes = scribe.batch.size();
        self.append(&mut state, &[], &freed, false);
        bytes
    }
}
