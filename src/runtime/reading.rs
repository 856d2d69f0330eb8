//! Reads messages back that are in the log only, for the queues that need them next.
//!
//! Invariant: nothing is read before it is written, and no lock is held while the disk is waited for.

use std::io;
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
/// How long a read that the operating system refused is put off.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl VhostHandle {
    /// Performs the reads that turns ask for, for as long as the broker runs.
    pub(super) async fn read_forever(
        self: Arc<Self>,
        mut reads: mpsc::UnboundedReceiver<Read>,
        fold: impl Fn() + Clone + Send + 'static,
    ) {
        let permits = Arc::new(Semaphore::new(READS_AT_A_TIME));
        while let Some(read) = reads.recv().await {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let (vhost, fold) = (Arc::clone(&self), fold.clone());
            tokio::spawn(async move {
                vhost.perform(read, fold).await;
                drop(permit);
            });
        }
    }

    async fn perform(self: Arc<Self>, read: Read, fold: impl Fn() + Send + 'static) {
        let Read { queue, wanted } = read;
        let nothing = ReadResult { queue, found: Vec::new(), missing: Vec::new() };
        if !self.written(&wanted).await {
            // The log has ended, and the broker with it.
            return;
        }
        let (ledger, id) = (Arc::clone(&self.ledger), self.id);
        let reading = tokio::task::spawn_blocking(move || {
            let result = read_messages(&ledger, id, queue, &wanted);
            fold();
            result
        });
        let result = match reading.await.map_err(io::Error::other).flatten() {
            Ok(result) => result,
            Err(error) => {
                error!("cannot read messages from the log, to be tried again: {error}");
                tokio::time::sleep(RETRY_AFTER).await;
                nothing
            }
        };
        self.change(&mut TurnBuffers::default(), |vhost, effects| vhost.read(result, effects));
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

/// Reads messages of a queue. What is not there any more, or damaged, is missing.
fn read_messages(
    ledger: &Ledger,
    vhost: VhostId,
    queue: QueueId,
    wanted: &[(Seq, Home)],
) -> io::Result<ReadResult> {
    let mut places: Vec<_> =
        wanted.iter().map(|&(seq, home)| (home.location().unwrap_or_default(), seq, home)).collect();
    places.sort_unstable_by_key(|(location, ..)| *location);
    let mut result = ReadResult { queue, found: Vec::with_capacity(places.len()), missing: Vec::new() };
    for of_segment in places.chunk_by(|(one, ..), (other, ..)| one.segment == other.segment) {
        let segment = SegmentNumber(of_segment[0].0.segment.into());
        let wanted: Vec<_> = of_segment.iter().map(|(location, _, home)| record(*location, *home)).collect();
        let read = ledger.storage().log().read_records(segment, &wanted, &mut |number, record| {
            let (_, seq, home) = of_segment[number];
            match record.and_then(|record| message_of(&record, (vhost, queue, seq))) {
                Some(message) => result.found.push((seq, home, message)),
                None => result.missing.push((seq, home)),
            }
        });
        match read {
            Ok(()) => {}
            // The medium does not give it back: that is damage, like any other.
            Err(error) if error.raw_os_error() == Some(EIO) => {
                let is_found = |seq| result.found.iter().any(|(found, ..)| *found == seq);
                let unread: Vec<_> = of_segment.iter().filter(|(_, seq, _)| !is_found(*seq)).collect();
                result.missing.extend(unread.iter().map(|(_, seq, home)| (*seq, *home)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(result)
}

/// What Linux and every other Unix call an error of the device.
const EIO: i32 = 5;

fn record(location: Location, home: Home) -> Wanted {
    Wanted { offset: location.offset, bytes: usize::try_from(home.bytes()).unwrap_or(usize::MAX) }
}

/// The message, if the record is what was stored for this place.
fn message_of(record: &Record<'_>, (vhost, queue, seq): (VhostId, QueueId, Seq)) -> Option<Message> {
    match record {
        Record::Publish { vhost: of, queues, message } if *of == vhost && queues.contains(&(queue, seq)) => {
            Some(message.to_message())
        }
        _ => None,
    }
}
