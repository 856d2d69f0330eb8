//! Reads messages back that are in the log only, for the queues that need them next.
//!
//! Invariant: nothing is read before it is written, and no lock is held while the disk is waited for.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tracing::error;

use super::VhostHandle;
use super::ledger::{Ledger, location};
use super::vhost_handle::TurnBuffers;
use crate::model::{Message, QueueId, Seq};
use crate::queue::{Home, Location};
use crate::storage::log::{Batch, Record, SegmentNumber, VhostId, Wanted};
use crate::vhost::{Read, ReadResult};

/// Reads of one vhost that are under way at the same time.
const READS_AT_A_TIME: usize = 4;
/// Memory that the messages of one read may take, and one message.
pub(super) const MAX_BYTES: usize = 2 << 20;
/// How long a read that the operating system refused is put off.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl VhostHandle {
    /// Performs the reads that turns ask for, for as long as the broker runs.
    pub(super) async fn read_forever(
        self: Arc<Self>,
        mut reads: mpsc::UnboundedReceiver<Read>,
        fold: impl Fn() + Clone + Send + Sync + 'static,
    ) {
        let permits = Arc::new(Semaphore::new(READS_AT_A_TIME));
        while let Some(read) = reads.recv().await {
            // A queue has one read under way at most, which bounds the tasks.
            tokio::spawn(Arc::clone(&self).perform(read, Arc::clone(&permits), fold.clone()));
        }
    }

    async fn perform(
        self: Arc<Self>,
        read: Read,
        permits: Arc<Semaphore>,
        fold: impl Fn() + Clone + Send + Sync + 'static,
    ) {
        let Read { queue, wanted } = read;
        let nothing = ReadResult { queue, found: Vec::new(), missing: Vec::new() };
        // Without a permit: what a full disk does not take must not keep others from what is there.
        if !self.written(&wanted).await {
            // The log has ended, and the broker with it.
            return;
        }
        let Ok(permit) = permits.acquire_owned().await else { return };
        let (ledger, id, folds) = (Arc::clone(&self.ledger), self.id, fold.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut reading = Reading::new(&ledger, id, queue);
            let outcome = reading.read(&wanted);
            folds();
            outcome.map(|()| reading.result)
        });
        let outcome = reading.await.map_err(io::Error::other).flatten();
        drop(permit);
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                error!("cannot read messages from the log, to be tried again: {error}");
                tokio::time::sleep(RETRY_AFTER).await;
                nothing
            }
        };
        self.change(&mut TurnBuffers::default(), |vhost, effects| vhost.read(result, effects));
        fold();
    }

    /// Waits until all of it is in the files. Says whether it ever will be.
    async fn written(&self, wanted: &[(Seq, Home)]) -> bool {
        let last = wanted.iter().filter_map(|(_, home)| home.location()).max().unwrap_or_default();
        let log = self.ledger.storage().log();
        let mut written = log.written();
        if location(*written.borrow()) > last {
            return true;
        }
        log.append(&mut Batch::new(), true);
        written.wait_for(|written| location(*written) > last).await.is_ok()
    }
}

/// Messages of one queue on their way from the log.
pub(super) struct Reading<'a> {
    ledger: &'a Ledger,
    vhost: VhostId,
    pub(super) result: ReadResult,
    /// What the messages found so far take in memory.
    bytes: usize,
}

/// A message that is wanted, and where it is.
type Place = (Location, Seq, Home);

impl<'a> Reading<'a> {
    pub(super) fn new(ledger: &'a Ledger, vhost: VhostId, queue: QueueId) -> Self {
        let result = ReadResult { queue, found: Vec::new(), missing: Vec::new() };
        Self { ledger, vhost, result, bytes: 0 }
    }

    /// Reads messages of the queue, as far as memory for them goes; the others are neither found nor missing. What is
    /// not there any more, or damaged, is missing.
    pub(super) fn read(&mut self, wanted: &[(Seq, Home)]) -> io::Result<()> {
        // With the first one the queue gets on, wherever it is and however large the others are: a message that is in
        // many queues counts for each of them with a part of its bytes only.
        let (first, others) = wanted.split_at(wanted.len().min(1));
        self.read_some(first)?;
        self.read_some(others)
    }

    fn read_some(&mut self, wanted: &[(Seq, Home)]) -> io::Result<()> {
        let mut places: Vec<Place> =
            wanted.iter().map(|&(seq, home)| (home.location().unwrap_or_default(), seq, home)).collect();
        places.sort_unstable_by_key(|(location, ..)| *location);
        for of_segment in places.chunk_by(|(one, ..), (other, ..)| one.segment == other.segment) {
            let mut done = 0;
            match self.read_records(of_segment, &mut done) {
                // Somewhere in there the medium does not give back what was written. One by one it shows where.
                Err(error) if is_damage(&error) => {
                    of_segment[done..].iter().try_for_each(|place| self.read_one(place))?;
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn read_one(&mut self, place: &Place) -> io::Result<()> {
        match self.read_records(std::slice::from_ref(place), &mut 0) {
            Err(error) if is_damage(&error) => {
                self.result.missing.push((place.1, place.2));
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Reads records of one segment, and says how many of them it has got through.
    fn read_records(&mut self, places: &[Place], done: &mut usize) -> io::Result<()> {
        let Some((location, ..)) = places.first().filter(|_| self.bytes < MAX_BYTES) else { return Ok(()) };
        let segment = SegmentNumber(location.segment.into());
        let wanted: Vec<_> = places.iter().map(|(location, _, home)| record(*location, *home)).collect();
        self.ledger.storage().log().read_records(segment, &wanted, &mut |number, record| {
            let (_, seq, home) = places[number];
            *done = number + 1;
            match record.and_then(|record| message_of(&record, (self.vhost, self.result.queue, seq))) {
                Some(message) => {
                    self.bytes += message.cost();
                    self.result.found.push((seq, home, message));
                }
                None => self.result.missing.push((seq, home)),
            }
            if self.bytes < MAX_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    }
}

/// Whether it is the medium that does not give something back: that is damage, like any other.
fn is_damage(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}

/// What Linux and every other Unix call an error of the device.
const EIO: i32 = 5;

fn record(location: Location, home: Home) -> Wanted {
    Wanted { offset: location.offset, bytes: usize::try_from(home.bytes()).unwrap_or(usize::MAX) }
}

/// The message, if the record is what was stored for this place.
fn message_of(record: &Record<'_>, (vhost, queue, seq): (VhostId, QueueId, Seq)) -> Option<Message> {
    match record {
        Record::Publish { vhost: of, queues, message, .. }
            if *of == vhost && queues.contains(&(queue, seq)) =>
        {
            Some(message.to_message())
        }
        _ => None,
    }
}
