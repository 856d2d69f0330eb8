//! What the log's records amount to at start: the messages of every durable queue, in their places.
//!
//! Invariant: a record may come twice, come before what it speaks of, or speak of what is gone; none of that changes
//! the result. The room's page on reclaim in `storage::log` says when that happens.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::journal::bytes_per_place;
use super::ledger::{Live, location, number};
use crate::model::{ExchangeName, QueueId, QueueName, Seq, VhostName};
use crate::queue::{Backlog, History, Home, Moment, Terms};
use crate::storage::log::{Placed, Record, SegmentNumber, SeqRange, StoredPlace, VhostId};
use crate::vhost::{Restored, RestoredQueue, priority_of};

/// The records so far.
#[derive(Debug, Default)]
pub struct Replay {
    vhosts: BTreeMap<VhostId, ReplayedVhost>,
    places: Vec<Seq>,
    identified_in: BTreeSet<u32>,
}

#[derive(Debug, Default)]
struct ReplayedVhost {
    name: Option<VhostName>,
    queues: FxHashMap<QueueId, ReplayedQueue>,
    next_queue: u64,
}

#[derive(Debug, Default)]
struct ReplayedQueue {
    keeper: Option<Kept>,
    next: u64,
    messages: Backlog,
}

/// What a queue is kept for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Queue(QueueName),
    Delay(ExchangeName),
}

/// What the records amount to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// What each vhost kept, under the id it has in the log. Definitions are to be added.
    pub vhosts: BTreeMap<VhostName, (VhostId, Restored)>,
    /// Messages that are there, counted once for each queue.
    pub messages: u64,
    /// Where they are, and where identities and definitions are.
    pub(super) segments: BTreeMap<u32, Live>,
    pub(super) next_vhost: u32,
}

impl Replay {
    /// Takes the next record of the log.
    pub fn record(&mut self, placed: &Placed<'_>) {
        let segment = number(placed.location.segment);
        match placed.record {
            Record::Publish { message, .. } if !message.survives => {}
            Record::Publish { vhost, queues, deadlines, message } => {
                let home = Home::new(location(placed.location), bytes_per_place(placed.bytes, queues.len()));
                let priority = priority_of(message.parts.properties);
                let body_bytes = u32::try_from(message.body.len()).unwrap_or(u32::MAX);
                for (index, (queue, seq)) in queues.iter().enumerate() {
                    let deadline = deadlines.get(index).map_or(Moment::NEVER, |deadline| Moment(*deadline));
                    let queue = self.queue(vhost, *queue);
                    queue.next = queue.next.max(seq.0.saturating_add(1));
                    // It may be there, copied forward from an old segment.
                    queue.messages.restore(*seq, home, body_bytes, Terms { priority, deadline });
                }
            }
            Record::Ack { vhost, queue, seqs } => {
                for range in seqs {
                    self.each(vhost, queue, *range, |messages, seq| {
                        messages.forget(seq);
                    });
                }
            }
            Record::Return { vhost, queue, delivery_count, seqs } => {
                let history = History { redelivered: true, delivery_count };
                for range in seqs {
                    self.each(vhost, queue, *range, |messages, seq| messages.mark(seq, history));
                }
            }
            Record::CreateQueue { vhost, queue, name } => {
                self.identified_in.insert(segment);
                self.queue(vhost, queue).keeper = Some(Kept::Queue(name.clone()));
            }
            Record::CreateDelay { vhost, queue, exchange } => {
                self.identified_in.insert(segment);
                self.queue(vhost, queue).keeper = Some(Kept::Delay(exchange.clone()));
            }
            Record::DeleteQueue { vhost, queue } => {
                self.queue(vhost, queue);
                if let Some(vhost) = self.vhosts.get_mut(&vhost) {
                    vhost.queues.remove(&queue);
                }
            }
            Record::CreateVhost { vhost, name } => {
                self.identified_in.insert(segment);
                self.vhosts.entry(vhost).or_default().name = Some(name.clone());
            }
            Record::QueueState { vhost, queue, next, places } => {
                let queue = self.queue(vhost, queue);
                queue.next = queue.next.max(next.0);
                for place in places {
                    let StoredPlace { seq, redelivered, delivery_count, priority, body_bytes, .. } = *place;
                    let home = Home::new(location(place.location), place.bytes);
                    let terms = Terms { priority: Some(priority), deadline: Moment(place.deadline) };
                    queue.messages.restore(seq, home, body_bytes, terms);
                    queue.messages.mark(seq, History { redelivered, delivery_count });
                }
            }
            Record::Define { .. } | Record::CleanStop => {}
        }
    }

    fn queue(&mut self, vhost: VhostId, queue: QueueId) -> &mut ReplayedQueue {
        let vhost = self.vhosts.entry(vhost).or_default();
        vhost.next_queue = vhost.next_queue.max(queue.0.saturating_add(1));
        vhost.queues.entry(queue).or_default()
    }

    /// Does something to every message that is there of a range, however long the range is.
    fn each(
        &mut self,
        vhost: VhostId,
        queue: QueueId,
        range: SeqRange,
        mut act: impl FnMut(&mut Backlog, Seq),
    ) {
        let queue = self.vhosts.get_mut(&vhost).and_then(|vhost| vhost.queues.get_mut(&queue));
        let Some(queue) = queue else { return };
        queue.next = queue.next.max(range.last.0.saturating_add(1));
        if range.first == range.last {
            return act(&mut queue.messages, range.first);
        }
        self.places.clear();
        self.places.extend(queue.messages.places(range.first, range.last));
        for seq in &self.places {
            act(&mut queue.messages, *seq);
        }
    }

    /// The result. After anything but a clean stop every message may have been delivered.
    #[must_use]
    pub fn finish(self, clean_stop: bool, defined_in: &BTreeSet<SegmentNumber>) -> Replayed {
        let mut replayed = Replayed::default();
        for segment in self.identified_in.into_iter().chain(defined_in.iter().copied().map(number)) {
            replayed.segments.entry(segment).or_default().defines = true;
        }
        for (id, vhost) in self.vhosts {
            replayed.next_vhost = replayed.next_vhost.max(id.0.saturating_add(1));
            let mut restored =
                Restored { next_queue: vhost.next_queue, marks_unknown: !clean_stop, ..Restored::default() };
            // Of two queues of the same name the later one is in force: damage has cost the end of the other.
            let mut named = BTreeMap::new();
            for (id, kept) in vhost.queues.into_iter().collect::<BTreeMap<_, _>>() {
                // Without a name nothing was promised about the queue: its creation did not become durable.
                if let Some(keeper) = kept.keeper.clone() {
                    named.insert(keeper, (id, kept));
                }
            }
            for (keeper, (id, ReplayedQueue { next, mut messages, .. })) in named {
                replayed.count(&messages);
                if !clean_stop {
                    messages.mark_all();
                }
                let kept = RestoredQueue { id, next: Seq(next), messages };
                match keeper {
                    Kept::Queue(name) => restored.queues.insert(name, kept),
                    Kept::Delay(exchange) => restored.delays.insert(exchange, kept),
                };
            }
            if let Some(name) = vhost.name {
                replayed.vhosts.insert(name, (id, restored));
            }
        }
        replayed
    }
}

impl Replayed {
    fn count(&mut self, messages: &Backlog) {
        self.messages += messages.len();
        let mut homes = messages.iter().filter_map(|(_, home, _)| home.stored()).peekable();
        while let Some(&(segment, _)) = homes.peek() {
            let live = self.segments.entry(segment).or_default();
            while let Some((_, bytes)) = homes.next_if(|(other, _)| *other == segment) {
                live.places += 1;
                live.bytes += u64::from(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{LogPosition, Message, MessageParts};
    use crate::storage::log;

    const VHOST: VhostId = VhostId(1);
    const QUEUE: QueueId = QueueId(3);

    /// Name, id, next place, and place, segment and mark of each message.
    type Shown = (String, u64, u64, Vec<(u64, u32, bool)>);

    #[derive(Default)]
    struct Kit(Replay);

    impl Kit {
        fn record(&mut self, segment: u64, record: Record<'_>) {
            let location = log::Location { segment: SegmentNumber(segment), offset: 64 };
            self.0.record(&Placed { location, bytes: 40, position: LogPosition(1), record });
        }

        fn named(name: &str) -> Self {
            let mut kit = Self::default();
            kit.record(1, Record::CreateVhost { vhost: VHOST, name: &VhostName::from("/") });
            kit.record(1, Record::CreateQueue { vhost: VHOST, queue: QUEUE, name: &QueueName::from(name) });
            kit
        }

        fn publish(&mut self, segment: u64, places: &[(u64, u64)]) {
            let parts = MessageParts { exchange: "", routing_key: "", properties: &[0, 0], persistent: true };
            let message = Message::new(parts, Bytes::from_static(b"body"));
            let queues: Vec<_> = places.iter().map(|(queue, seq)| (QueueId(*queue), Seq(*seq))).collect();
            self.record(
                segment,
                Record::Publish { vhost: VHOST, queues: &queues, deadlines: &[], message: (&message).into() },
            );
        }

        fn range(first: u64, last: u64) -> [SeqRange; 1] {
            [SeqRange { first: Seq(first), last: Seq(last) }]
        }

        fn finish(self, clean: bool) -> Vec<Shown> {
            let mut replayed = self.0.finish(clean, &BTreeSet::new());
            let (_, restored) = replayed.vhosts.remove("/").expect("it has a name");
            let mut queues: Vec<_> = restored.queues.into_iter().collect();
            queues.sort_by_key(|(_, kept)| kept.id);
            let mut places = 0;
            let shown = queues.into_iter().map(|(name, kept)| {
                places += kept.messages.len();
                let messages = kept.messages.iter().map(|(seq, home, history)| {
                    (seq.0, home.stored().expect("it was read").0, history.redelivered)
                });
                (name.as_str().to_owned(), kept.id.0, kept.next.0, messages.collect())
            });
            let shown = shown.collect();
            assert_eq!(replayed.messages, places);
            assert_eq!(replayed.segments.values().map(|live| live.places).sum::<u64>(), places);
            shown
        }
    }

    #[test]
    fn messages_come_back_in_their_places() {
        let mut kit = Kit::named("q");
        for seq in [0, 1, 2, 3, 4] {
            kit.publish(1, &[(3, seq)]);
        }
        kit.record(1, Record::Ack { vhost: VHOST, queue: QUEUE, seqs: &Kit::range(1, 2) });
        kit.record(
            1,
            Record::Return { vhost: VHOST, queue: QUEUE, delivery_count: 0, seqs: &Kit::range(3, 3) },
        );
        let expected = vec![(0, 1, false), (3, 1, true), (4, 1, false)];
        assert_eq!(kit.finish(true), [("q".into(), 3, 5, expected)]);
    }

    #[test]
    fn after_a_crash_every_message_may_have_been_delivered() {
        let mut kit = Kit::named("q");
        kit.publish(1, &[(3, 7)]);
        assert_eq!(kit.finish(false), [("q".into(), 3, 8, vec![(7, 1, true)])]);
    }

    #[test]
    fn a_message_that_was_moved_is_there_once_and_keeps_its_mark() {
        let mut kit = Kit::default();
        // Its queue's identity has moved behind it, and what acked an older one speaks of nothing.
        kit.record(4, Record::Ack { vhost: VHOST, queue: QUEUE, seqs: &Kit::range(0, u64::MAX - 1) });
        kit.publish(4, &[(3, 8), (5, 2)]);
        kit.record(
            4,
            Record::Return { vhost: VHOST, queue: QUEUE, delivery_count: 2, seqs: &Kit::range(0, 8) },
        );
        kit.publish(6, &[(3, 8)]);
        kit.record(6, Record::CreateVhost { vhost: VHOST, name: &VhostName::from("/") });
        kit.record(6, Record::CreateQueue { vhost: VHOST, queue: QUEUE, name: &QueueName::from("q") });
        let shown = kit.finish(true);
        assert_eq!(shown, [("q".into(), 3, 9, vec![(8, 6, true)])]);
    }

    #[test]
    fn what_is_deleted_stays_deleted_and_its_id_is_not_given_out_again() {
        let mut kit = Kit::named("q");
        kit.publish(1, &[(3, 0)]);
        kit.record(1, Record::DeleteQueue { vhost: VHOST, queue: QUEUE });
        kit.record(1, Record::Ack { vhost: VHOST, queue: QUEUE, seqs: &Kit::range(0, 0) });
        kit.record(1, Record::DeleteQueue { vhost: VHOST, queue: QueueId(9) });
        let replayed = kit.0.finish(true, &BTreeSet::new());
        let restored = &replayed.vhosts["/"].1;
        assert!(restored.queues.is_empty());
        assert_eq!((restored.next_queue, replayed.messages), (10, 0));
    }

    #[test]
    fn of_two_queues_of_one_name_the_later_is_in_force() {
        let mut kit = Kit::named("q");
        kit.publish(1, &[(3, 0)]);
        let name = QueueName::from("q");
        kit.record(2, Record::CreateQueue { vhost: VHOST, queue: QueueId(4), name: &name });
        kit.publish(2, &[(4, 0), (4, 1)]);
        assert_eq!(kit.finish(true), [("q".into(), 4, 2, vec![(0, 2, false), (1, 2, false)])]);
    }
}
