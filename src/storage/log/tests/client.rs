//! A client of the log that does what a broker does, and remembers all of it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{frame, record};
use super::disk::{Event, SimDisk};
use super::*;
use crate::model::{Message, MessageParts, QueueId, QueueName, Seq};

const VHOST: VhostId = VhostId(3);

/// What the records amount to: what a visitor has to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) queues: BTreeMap<QueueId, Queue>,
}

#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// Copied forward, it may come after messages.
    name: Option<QueueName>,
    /// Where its name is stored.
    segment: SegmentNumber,
    messages: BTreeMap<Seq, Kept>,
}

/// A queue's name and its messages with their redelivered flags.
type QueueState = (Option<QueueName>, BTreeMap<Seq, (Message, bool)>);

#[derive(Clone, Debug)]
struct Kept {
    message: Message,
    redelivered: bool,
    segment: SegmentNumber,
}

impl Model {
    pub(super) fn apply(&mut self, segment: SegmentNumber, record: &Record<'_>) {
        match *record {
            Record::Publish { vhost, queues, message, .. } => {
                assert_eq!(vhost, VHOST);
                for (queue, seq) in queues {
                    let queue = self.queue(*queue, segment);
                    let kept = Kept { message: message.to_message(), redelivered: false, segment };
                    let kept = queue.messages.entry(*seq).or_insert(kept);
                    assert_eq!(kept.message, message.to_message(), "another message in the same place");
                    kept.segment = segment;
                }
            }
            Record::Ack { queue, seqs, .. } => self.each(queue, seqs, |messages, seq| {
                messages.remove(&seq);
            }),
            Record::Return { queue, seqs, .. } => self.each(queue, seqs, |messages, seq| {
                if let Some(kept) = messages.get_mut(&seq) {
                    kept.redelivered = true;
                }
            }),
            Record::CreateQueue { queue, name, .. } => {
                let queue = self.queue(queue, segment);
                queue.name = Some(name.clone());
                queue.segment = segment;
            }
            Record::DeleteQueue { queue, .. } => {
                self.queues.remove(&queue);
            }
            Record::CreateVhost { .. }
            | Record::CreateDelay { .. }
            | Record::Define { .. }
            | Record::QueueState { .. }
            | Record::CleanStop => {}
        }
    }

    fn queue(&mut self, id: QueueId, segment: SegmentNumber) -> &mut Queue {
        self.queues.entry(id).or_insert(Queue { name: None, segment, messages: BTreeMap::new() })
    }

    fn each(
        &mut self,
        queue: QueueId,
        seqs: &[SeqRange],
        mut act: impl FnMut(&mut BTreeMap<Seq, Kept>, Seq),
    ) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            for range in seqs {
                let there: Vec<_> =
                    queue.messages.range(range.first..=range.last).map(|(seq, _)| *seq).collect();
                there.into_iter().for_each(|seq| act(&mut queue.messages, seq));
            }
        }
    }

    /// Everything but where it is stored.
    pub(super) fn state(&self) -> BTreeMap<QueueId, QueueState> {
        let messages = |queue: &Queue| {
            queue
                .messages
                .iter()
                .map(|(seq, kept)| (*seq, (kept.message.clone(), kept.redelivered)))
                .collect()
        };
        self.queues.iter().map(|(id, queue)| (*id, (queue.name.clone(), messages(queue)))).collect()
    }

    fn oldest(&self) -> Option<SegmentNumber> {
        let of_queue =
            |queue: &Queue| queue.messages.values().map(|kept| kept.segment).chain([queue.segment]).min();
        self.queues.values().filter_map(of_queue).min()
    }
}

/// Reads everything the log hands out.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) model: Model,
    /// Encoded records by position.
    pub(super) batches: BTreeMap<u64, Vec<u8>>,
    pub(super) oldest: Option<SegmentNumber>,
}

impl Replayed {
    pub(super) fn visit(&mut self, placed: Placed<'_>) {
        self.model.apply(placed.location.segment, &placed.record);
        let batch = self.batches.entry(placed.position.0).or_default();
        let at = batch.len();
        frame::begin(batch);
        record::put(&placed.record, batch);
        frame::end(batch, at, 0);
        assert_eq!(placed.bytes, batch.len() - at);
        let last = *self.batches.last_key_value().unwrap().0;
        assert_eq!(last, placed.position.0, "out of order");
        self.oldest.get_or_insert(placed.location.segment);
    }
}

/// Opens what is on a disk. A check before finds the same and changes nothing.
pub(super) fn replay(disk: &SimDisk) -> (Driven, RecoveryReport, Replayed) {
    let changes = disk.changes();
    let (checked, seen) = look(disk);
    assert_eq!(disk.changes(), changes, "a check changed something");
    let mut replayed = Replayed::default();
    let (driven, report) = Driven::open(disk, small_options(), &mut |placed| replayed.visit(placed)).unwrap();
    assert_eq!(checked.recovery, report);
    assert_eq!(seen.batches, replayed.batches);
    (driven, report, replayed)
}

/// Checks what is on a disk.
pub(super) fn look(disk: &SimDisk) -> (CheckReport, Replayed) {
    let mut seen = Replayed::default();
    let report = check(Arc::new(disk.clone()), &mut |placed| seen.visit(placed)).unwrap();
    let sum = |of: fn(&SegmentReport) -> u64| report.segments.iter().map(of).sum::<u64>();
    assert_eq!(sum(|segment| segment.bytes), report.recovery.bytes);
    assert_eq!(sum(|segment| segment.batches), report.recovery.batches);
    assert_eq!(sum(|segment| segment.records), report.recovery.records);
    let damage = report.segments.iter().filter_map(|segment| segment.damage);
    assert!(damage.eq(report.recovery.damage.iter().copied()));
    (report, seen)
}

/// Acts on a log.
pub(super) struct Client {
    pub(super) disk: SimDisk,
    pub(super) driven: Driven,
    model: Model,
    /// All batches ever appended: position 1 first.
    pub(super) batches: Vec<Vec<u8>>,
    next_id: u64,
    batch: Batch,
    random: Random,
}

impl Client {
    pub(super) fn new(seed: u64) -> Self {
        let disk = SimDisk::new(BTreeMap::new());
        let (driven, _, _) = replay(&disk);
        Self::resume(disk, driven, Model::default(), Vec::new(), seed)
    }

    /// Goes on with a recovered log.
    pub(super) fn resume(
        disk: SimDisk,
        driven: Driven,
        model: Model,
        batches: Vec<Vec<u8>>,
        seed: u64,
    ) -> Self {
        // Ids of messages and queues are never reused, not even those of what a crash cut off.
        let next_id = 1 + batches.len() as u64 * 1000 + (seed << 32);
        Self { disk, driven, model, batches, next_id, batch: Batch::new(), random: Random(seed) }
    }

    /// Appends, writes, retires at random. An error of the disk ends it.
    pub(super) fn act(&mut self, actions: usize) -> Result<(), WriteError> {
        for _ in 0..actions {
            match self.random.below(14) {
                0..=5 => self.turn(),
                6 => (0..3).for_each(|_| self.turn()),
                7 => self.reclaim(),
                8..=9 => {
                    self.driven.zeroer.step();
                    self.pump()?;
                }
                _ => self.pump()?,
            }
        }
        Ok(())
    }

    pub(super) fn pump(&mut self) -> Result<(), WriteError> {
        let durable = self.driven.pump()?;
        self.disk.note(Event::Durable(durable.0));
        Ok(())
    }

    /// One to four records that belong together.
    fn turn(&mut self) {
        let records = 1 + if self.random.one_in(3) { self.random.below(4) } else { 0 };
        let newest = self.driven.log.usage().newest;
        for _ in 0..records {
            self.record(newest);
        }
        self.append();
    }

    fn append(&mut self) {
        let bytes = self.batch.bytes[super::super::format::BATCH_HEADER_BYTES..].to_vec();
        let appended = self.driven.log.append(&mut self.batch, self.random.one_in(2));
        if bytes.is_empty() {
            return;
        }
        assert_eq!(appended.position.0, self.batches.len() as u64 + 1);
        // The segment is known for certain only here.
        let mut model = std::mem::take(&mut self.model);
        let mut scratch = record::Scratch::default();
        record::read_all(&bytes, &mut scratch, &mut |_, record| {
            model.apply(appended.location.segment, &record);
        })
        .unwrap();
        self.model = model;
        self.batches.push(bytes);
        self.disk.note(Event::Appended(self.batches.len()));
    }

    fn push(&mut self, segment: SegmentNumber, record: &Record<'_>) {
        self.batch.push(record);
        self.model.apply(segment, record);
    }

    fn record(&mut self, segment: SegmentNumber) {
        let queues: Vec<_> = self.model.queues.keys().copied().collect();
        self.next_id += 1;
        if queues.is_empty() || (queues.len() < 3 && self.random.one_in(8)) {
            let name = QueueName::from(&*format!("q{}", self.next_id));
            let queue = QueueId(self.next_id);
            return self.push(segment, &Record::CreateQueue { vhost: VHOST, queue, name: &name });
        }
        let queue = queues[self.random.below(queues.len())];
        let seqs: Vec<_> = self.model.queues[&queue].messages.keys().copied().collect();
        let pick = seqs.get(self.random.below(seqs.len().max(1))).copied();
        let ranges =
            pick.map(|seq| [SeqRange { first: seq, last: Seq(seq.0 + self.random.below(3) as u64) }]);
        match (self.random.below(20), pick, ranges) {
            (0, ..) => self.push(segment, &Record::DeleteQueue { vhost: VHOST, queue }),
            (1, Some(last), _) => {
                let seqs = [SeqRange { first: Seq(0), last }];
                self.push(segment, &Record::Ack { vhost: VHOST, queue, seqs: &seqs });
            }
            (2..=3, _, Some(seqs)) => {
                self.push(segment, &Record::Return { vhost: VHOST, queue, delivery_count: 1, seqs: &seqs });
            }
            (4..=10, _, Some(seqs)) => self.push(segment, &Record::Ack { vhost: VHOST, queue, seqs: &seqs }),
            _ => {
                let places: Vec<_> = queues.iter().filter(|_| !self.random.one_in(3)).collect();
                let places: Vec<_> = places.into_iter().map(|queue| (*queue, Seq(self.next_id))).collect();
                let message = self.message();
                self.push(
                    segment,
                    &Record::Publish {
                        vhost: VHOST,
                        queues: &places,
                        deadlines: &[],
                        message: (&message).into(),
                    },
                );
            }
        }
    }

    fn message(&mut self) -> Message {
        let length = match self.random.below(30) {
            // Larger than any segment.
            0 => 5000,
            1..=3 => 700,
            _ => self.random.below(80),
        };
        let body: Vec<u8> = (0..length).map(|_| self.random.next().to_le_bytes()[0]).collect();
        let parts =
            MessageParts { exchange: "e", routing_key: "k", properties: &[0x10, 0, 2], persistent: true };
        Message::new(parts, Bytes::from(body))
    }

    /// Deletes all queues and retires what held them.
    pub(super) fn delete_all(&mut self) {
        for queue in self.model.queues.keys() {
            self.batch.push(&Record::DeleteQueue { vhost: VHOST, queue: *queue });
        }
        self.append();
        let newest = self.driven.log.usage().newest;
        self.driven.log.retire(newest);
    }

    /// Copies what is left of the oldest segment forward and retires it.
    fn reclaim(&mut self) {
        let usage = self.driven.log.usage();
        if usage.segments > 2 {
            let below = SegmentNumber(usage.oldest.0 + 1);
            let model = self.model.clone();
            for (id, queue) in &model.queues {
                if queue.segment < below
                    && let Some(name) = &queue.name
                {
                    self.batch.push(&Record::CreateQueue { vhost: VHOST, queue: *id, name });
                }
                for (seq, kept) in queue.messages.iter().filter(|(_, kept)| kept.segment < below) {
                    let queues = [(*id, *seq)];
                    self.batch.push(&Record::Publish {
                        vhost: VHOST,
                        queues: &queues,
                        deadlines: &[],
                        message: (&kept.message).into(),
                    });
                    if kept.redelivered {
                        let seqs = [SeqRange { first: *seq, last: *seq }];
                        self.batch.push(&Record::Return {
                            vhost: VHOST,
                            queue: *id,
                            delivery_count: 1,
                            seqs: &seqs,
                        });
                    }
                }
            }
            self.append();
        }
        let newest = self.driven.log.usage().newest;
        self.driven.log.retire(self.model.oldest().unwrap_or(newest));
    }
}

/// What the records of some batches amount to.
pub(super) fn outcome(batches: &[Vec<u8>]) -> Model {
    let mut model = Model::default();
    let mut scratch = record::Scratch::default();
    for batch in batches {
        record::read_all(batch, &mut scratch, &mut |_, record| model.apply(SegmentNumber(0), &record))
            .unwrap();
    }
    model
}
