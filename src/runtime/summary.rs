//! What all vhosts amount to at a clean stop, as records, so that the next start need not read the log.
//!
//! Invariant: replaying the summary gives what replaying the whole log gives.

use parking_lot::MutexGuard;
use tracing::warn;

use super::Broker;
use super::vhost_handle::{State, VhostHandle};
use crate::queue::{History, Kept, Queue};
use crate::storage::Storage;
use crate::storage::log::{
    Batch, Location, Record, SegmentNumber, ShutdownError, Space, StoredPlace, VhostId,
};
use crate::vhost::{Keeper, Vhost};

/// Places in one record.
const PLACES_PER_RECORD: usize = 4_096;

impl Broker {
    /// Waits until what the start itself has stored is durable: from then on nobody takes the stop before it for one
    /// behind which nothing was delivered. A disk that is full or fails is not waited for.
    pub async fn settled(&self) {
        let log = self.storage().log();
        let position = log.append(&mut Batch::new(), true).position;
        let (mut durable, mut space, mut failed) = (log.durable(), log.space(), log.failed());
        // Whichever it is, and even if the log has ended, there is nothing more to wait for.
        tokio::select! {
            _ = durable.wait_for(|durable| *durable >= position) => {}
            _ = space.wait_for(|space| *space == Space::Full) => {}
            _ = failed.wait_for(Option::is_some) => {}
        }
    }

    /// Makes everything durable and closes the log, so that nothing more is stored. If no connection was attached when
    /// the last work was finished, the stop is a clean one: it is known which messages were delivered. Blocks until
    /// the disk has it.
    ///
    /// # Errors
    /// If not everything that was stored is durable.
    pub fn shutdown(&self, clean: bool) -> Result<(), ShutdownError> {
        let vhosts = self.vhosts();
        // While they are locked nothing is appended, so that what is summed up is what the log says.
        let states: Vec<_> = vhosts.iter().map(|vhost| vhost.state.lock()).collect();
        let summary = clean.then(|| sum_up(vhosts.iter().map(AsRef::as_ref).zip(&states)));
        self.storage().shutdown(clean)?;
        if let Some(summary) = summary
            && let Err(error) = self.storage().log().summarise(&summary, &self.ledger().defined_in())
        {
            warn!("the summary of the message log cannot be written, the next start takes longer: {error}");
        }
        Ok(())
    }
}

fn sum_up<'a>(vhosts: impl Iterator<Item = (&'a VhostHandle, &'a MutexGuard<'a, State>)>) -> Batch {
    let mut summary = Batch::new();
    let mut places = Vec::with_capacity(PLACES_PER_RECORD);
    for (handle, state) in vhosts {
        let vhost = &state.vhost;
        let id = handle.id;
        summary.push(&Record::CreateVhost { vhost: id, name: handle.name() });
        for definition in vhost.topology().durable_definitions() {
            Storage::define_again(&mut summary, handle.name(), &definition);
        }
        push_queues(&mut summary, id, vhost, &mut places);
    }
    summary
}

fn push_queues(summary: &mut Batch, id: VhostId, vhost: &Vhost, places: &mut Vec<StoredPlace>) {
    // A deletion says that the id of a queue was given away, whether or not it was this one that was deleted.
    if let Some(last) = vhost.next_queue().0.checked_sub(1) {
        summary.push(&Record::DeleteQueue { vhost: id, queue: crate::model::QueueId(last) });
    }
    for (keeper, queue) in vhost.durable_queues() {
        summary.push(&match keeper {
            Keeper::Queue(name) => Record::CreateQueue { vhost: id, queue: queue.id(), name },
            Keeper::Delay(exchange) => Record::CreateDelay { vhost: id, queue: queue.id(), exchange },
        });
        let mut stored = stored(queue).peekable();
        let mut state = |places: &[StoredPlace]| {
            let (queue, next) = (queue.id(), queue.next());
            summary.push(&Record::QueueState { vhost: id, queue, next, places });
        };
        state(&[]);
        while stored.peek().is_some() {
            places.clear();
            places.extend(stored.by_ref().take(PLACES_PER_RECORD));
            state(places);
        }
    }
}

fn stored(queue: &Queue) -> impl Iterator<Item = StoredPlace> {
    queue.iter_kept().filter_map(|(seq, kept)| {
        let Kept { home, history, terms, body_bytes } = kept;
        let location = home.location().filter(|_| !home.is_transient())?;
        let segment = SegmentNumber(u64::from(location.segment));
        let History { redelivered, delivery_count } = history;
        Some(StoredPlace {
            seq,
            location: Location { segment, offset: location.offset },
            bytes: home.bytes(),
            redelivered,
            delivery_count,
            // A queue in which it means something knows it.
            priority: terms.priority.unwrap_or(0),
            body_bytes,
            deadline: terms.deadline.0,
        })
    })
}
