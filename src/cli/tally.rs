//! What the records of the log amount to: names, and which messages are there.
//!
//! Invariant: a place in a queue counts once, however often its message was copied forward, and records about what
//! is not there mean nothing, as at a start. Costs some twenty bytes per message that is there.

use std::collections::BTreeMap;

use crate::model::QueueId;
use crate::storage::log::{Record, SeqRange, VhostId};

/// Names by id, as far as the log tells them.
#[derive(Debug, Default)]
pub(super) struct Names {
    vhosts: BTreeMap<VhostId, String>,
    queues: BTreeMap<(VhostId, QueueId), String>,
}

impl Names {
    pub(super) fn apply(&mut self, record: &Record<'_>) {
        match *record {
            Record::CreateVhost { vhost, name } => {
                self.vhosts.insert(vhost, name.as_str().to_owned());
            }
            Record::CreateQueue { vhost, queue, name } => {
                self.queues.insert((vhost, queue), name.as_str().to_owned());
            }
            Record::CreateDelay { vhost, queue, exchange } => {
                self.queues.insert((vhost, queue), format!("exchange {exchange}, delayed"));
            }
            _ => {}
        }
    }

    pub(super) fn vhost(&self, vhost: VhostId) -> Option<&str> {
        self.vhosts.get(&vhost).map(String::as_str)
    }

    pub(super) fn queue(&self, vhost: VhostId, queue: QueueId) -> Option<&str> {
        self.queues.get(&(vhost, queue)).map(String::as_str)
    }
}

/// The messages of all queues.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) names: Names,
    queues: BTreeMap<(VhostId, QueueId), Messages>,
}

/// Places, and the bytes of the body there.
type Messages = BTreeMap<u64, u64>;

/// What one queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) vhost: VhostId,
    pub(super) queue: QueueId,
    pub(super) messages: u64,
    /// Of their bodies.
    pub(super) bytes: u64,
}

impl Tally {
    pub(super) fn apply(&mut self, record: &Record<'_>) {
        self.names.apply(record);
        match *record {
            // A start drops it: it was stored for the sake of memory.
            Record::Publish { message, .. } if !message.survives => {}
            Record::Publish { vhost, queues, message, .. } => {
                for (queue, seq) in queues {
                    let bytes = message.body.len() as u64;
                    self.queues.entry((vhost, *queue)).or_default().insert(seq.0, bytes);
                }
            }
            Record::Ack { vhost, queue, seqs } => {
                if let Some(messages) = self.queues.get_mut(&(vhost, queue)) {
                    seqs.iter().for_each(|range| remove(messages, *range));
                }
            }
            Record::CreateQueue { vhost, queue, .. } | Record::CreateDelay { vhost, queue, .. } => {
                self.queues.entry((vhost, queue)).or_default();
            }
            Record::DeleteQueue { vhost, queue } => {
                self.queues.remove(&(vhost, queue));
            }
            // Only a summary has those, which is not read here.
            Record::QueueState { .. }
            | Record::Return { .. }
            | Record::CreateVhost { .. }
            | Record::Define { .. }
            | Record::CleanStop => {}
        }
    }

    /// All queues that were not deleted, by vhost and name.
    pub(super) fn held(&self) -> Vec<Held> {
        let held = self.queues.iter().map(|((vhost, queue), messages)| Held {
            vhost: *vhost,
            queue: *queue,
            messages: messages.len() as u64,
            bytes: messages.values().sum(),
        });
        let mut held: Vec<_> = held.collect();
        held.sort_by_key(|held| {
            (self.names.vhost(held.vhost), self.names.queue(held.vhost, held.queue), held.queue)
        });
        held
    }
}

fn remove(messages: &mut Messages, range: SeqRange) {
    if range.first <= range.last {
        let gone: Vec<_> = messages.range(range.first.0..=range.last.0).map(|(seq, _)| *seq).collect();
        gone.iter().for_each(|seq| {
            messages.remove(seq);
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Message, MessageParts, QueueName, Seq, VhostName};
    use crate::storage::log::StoredMessage;

    const VHOST: VhostId = VhostId(1);

    fn publish(tally: &mut Tally, queues: &[(QueueId, Seq)], length: usize) {
        let parts = MessageParts { exchange: "", routing_key: "", properties: &[], persistent: true };
        let message = Message::new(parts, Bytes::from(vec![0; length]));
        tally.apply(&Record::Publish { vhost: VHOST, queues, deadlines: &[], message: (&message).into() });
    }

    fn held(tally: &Tally) -> Vec<(u64, u64, u64)> {
        tally.held().iter().map(|held| (held.queue.0, held.messages, held.bytes)).collect()
    }

    fn ack(tally: &mut Tally, queue: u64, first: u64, last: u64) {
        let seqs = [SeqRange { first: Seq(first), last: Seq(last) }];
        tally.apply(&Record::Ack { vhost: VHOST, queue: QueueId(queue), seqs: &seqs });
    }

    #[test]
    fn what_was_published_and_not_acked_is_there() {
        let mut tally = Tally::default();
        for seq in 1..=10 {
            publish(&mut tally, &[(QueueId(1), Seq(seq)), (QueueId(2), Seq(seq + 5))], 100);
        }
        // Copied forward.
        publish(&mut tally, &[(QueueId(1), Seq(9))], 100);
        ack(&mut tally, 1, 2, 4);
        ack(&mut tally, 1, 4, u64::MAX);
        ack(&mut tally, 7, 1, 1);
        assert_eq!(held(&tally), [(1, 1, 100), (2, 10, 1000)]);
        ack(&mut tally, 2, 0, 14);
        tally.apply(&Record::DeleteQueue { vhost: VHOST, queue: QueueId(1) });
        assert_eq!(held(&tally), [(2, 1, 100)]);
    }

    #[test]
    fn what_is_not_persistent_counts_if_it_survives() {
        let mut tally = Tally::default();
        let parts = MessageParts { exchange: "", routing_key: "", properties: &[], persistent: false };
        let message = Message::new(parts, Bytes::from_static(b"body"));
        for (seq, survives) in [(1, false), (2, true)] {
            let (queues, message) =
                ([(QueueId(1), Seq(seq))], StoredMessage { survives, ..(&message).into() });
            tally.apply(&Record::Publish { vhost: VHOST, queues: &queues, deadlines: &[], message });
        }
        assert_eq!(held(&tally), [(1, 1, 4)]);
    }

    #[test]
    fn names_may_come_late_and_give_the_order() {
        let mut tally = Tally::default();
        publish(&mut tally, &[(QueueId(1), Seq(1)), (QueueId(2), Seq(1))], 1);
        tally.apply(&Record::CreateVhost { vhost: VHOST, name: &VhostName::from("/") });
        for (queue, name) in [(1, "b"), (2, "a")] {
            let name = QueueName::from(name);
            tally.apply(&Record::CreateQueue { vhost: VHOST, queue: QueueId(queue), name: &name });
        }
        assert_eq!(held(&tally), [(2, 1, 1), (1, 1, 1)]);
        assert_eq!(tally.names.vhost(VHOST), Some("/"));
        assert_eq!(tally.names.queue(VHOST, QueueId(1)), Some("b"));
        assert_eq!(tally.names.queue(VhostId(2), QueueId(1)), None);
    }
}
