//! A queue against a reference made of plain vectors: every sequence of steps shows the same on both.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{consumer, get, home, message, number};
use crate::model::{ChannelKey, ConsumerKey, Outcome, QueueId, Seq};
use crate::queue::{
    Asked, ChunkNumber, ConsumerOptions, Dropped, End, ExclusiveUse, Home, Location, Moment, Priorities,
    Queue, QueueCounters, Reason, Released, Succession, Terms,
};

/// One step. Numbers that pick something are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Push(u16),
    Add {
        channel: u64,
        consumer: u32,
        no_ack: bool,
        exclusive: bool,
        priority: i64,
        prefetch: u16,
    },
    Cancel {
        channel: u64,
        consumer: u32,
    },
    Deliver(u16),
    ParkFront,
    Unpark {
        channel: u64,
        consumer: u32,
    },
    UnparkChannel {
        channel: u64,
    },
    Get {
        channel: u64,
        no_ack: bool,
    },
    /// The end of one of the deliveries that are held.
    Settle {
        pick: usize,
        outcome: Outcome,
    },
    /// A settlement that may well be wrong.
    SettleAny {
        channel: u64,
        seq: u64,
        outcome: Outcome,
    },
    Release {
        channel: u64,
        budget: usize,
    },
    Purge,
    /// The queue is full.
    DropFront,
    /// With so many failures a message still comes back.
    LimitFailures(u16),
    /// Takes messages out of memory that are stored below this segment.
    Evict(u32),
    /// From here on what is delivered and stored below this segment does not stay in memory.
    Forget(u32),
    /// Asks for what is to be read next.
    Ask,
    /// Answers that; one in so many is lost, none if it is 0.
    Answer(u64),
}

#[derive(Debug)]
struct Held {
    seq: u64,
    redelivered: bool,
    in_memory: bool,
    channel: u64,
    /// The consumer's instance; none for a get.
    instance: Option<usize>,
}

#[derive(Debug)]
struct Started {
    options: ConsumerOptions,
    alive: bool,
    parked: bool,
    /// The lower, the sooner.
    turn: u64,
}

/// The reference. A message's body is its place, which also says what priority it asks for.
#[derive(Debug, Default)]
struct Reference {
    next: u64,
    priorities: Option<Priorities>,
    single: Option<Succession>,
    /// Who has the messages, if one consumer at a time has them.
    active: Option<usize>,
    /// In the order in which they are handed out.
    ready: Vec<(u64, bool)>,
    /// Those of them that are in the log only.
    absent: BTreeSet<u64>,
    held: Vec<Held>,
    started: Vec<Started>,
    releasing: BTreeSet<u64>,
    /// How often clients have failed with a message, if they have.
    failures: BTreeMap<u64, u16>,
    limit: u16,
    clock: u64,
    counters: QueueCounters,
}

impl Reference {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// What is handed out earlier is less.
    fn rank(&self, seq: u64) -> (Reverse<u8>, u64) {
        (Reverse(self.priorities.map_or(0, |priorities| priorities.of(said(seq)))), seq)
    }

    fn put(&mut self, seq: u64, redelivered: bool) {
        let place = self.ready.partition_point(|(other, _)| self.rank(*other) < self.rank(seq));
        self.ready.insert(place, (seq, redelivered));
    }

    /// What is in the log only, in the order in which it is handed out.
    fn absent_in_order(&self) -> Vec<u64> {
        let ready = self.ready.iter().map(|(seq, _)| *seq);
        ready.filter(|seq| self.absent.contains(seq)).collect()
    }

    fn living(&self) -> impl Iterator<Item = &Started> {
        self.started.iter().filter(|started| started.alive)
    }

    fn find(&self, channel: u64, key: u32) -> Option<usize> {
        self.started.iter().position(|started| {
            started.alive
                && started.options.channel == ChannelKey(channel)
                && started.options.consumer == ConsumerKey(key)
        })
    }

    fn has_credit(&self, instance: usize) -> bool {
        let options = self.started[instance].options;
        let held = self.held.iter().filter(|held| held.instance == Some(instance)).count();
        options.no_ack || options.prefetch == 0 || held < usize::from(options.prefetch)
    }

    fn front(&self) -> Option<usize> {
        if self.ready.is_empty() || !self.releasing.is_empty() {
            return None;
        }
        if self.single == Some(Succession::ByPriority) && self.active != self.first_in_line() {
            return None;
        }
        (0..self.started.len())
            .filter(|instance| self.single.is_none() || self.active == Some(*instance))
            .filter(|instance| {
                let started = &self.started[*instance];
                started.alive && !started.parked && self.has_credit(*instance)
            })
            .min_by_key(|instance| {
                let started = &self.started[*instance];
                (-started.options.priority, started.turn)
            })
    }

    fn first_in_line(&self) -> Option<usize> {
        let living = (0..self.started.len()).filter(|instance| self.started[*instance].alive);
        living.min_by_key(|instance| (-self.started[*instance].options.priority, *instance))
    }

    /// To be called whenever a consumer has come or gone, or a delivery has ended.
    fn choose(&mut self) {
        let living = self.active.filter(|instance| self.started[*instance].alive);
        let stays = living.is_some_and(|instance| {
            self.single == Some(Succession::AtItsEnd)
                || self.held.iter().any(|held| held.instance == Some(instance))
        });
        if !stays {
            self.active = self.first_in_line();
        }
    }

    fn add(&mut self, options: ConsumerOptions) -> Result<(), ExclusiveUse> {
        if self.living().any(|other| other.options.exclusive || options.exclusive) {
            return Err(ExclusiveUse);
        }
        let turn = self.now();
        self.started.push(Started { options, alive: true, parked: false, turn });
        self.choose();
        Ok(())
    }

    fn front_is_absent(&self) -> bool {
        self.ready.first().is_some_and(|(seq, _)| self.absent.contains(seq))
    }

    fn take(&mut self) -> (u64, bool) {
        let taken = self.ready.remove(0);
        self.counters.redelivered += u64::from(taken.1);
        taken
    }

    fn deliver(&mut self, instance: usize, forget_before: u32) -> (u64, bool) {
        let (seq, redelivered) = self.take();
        let options = self.started[instance].options;
        if options.no_ack {
            self.counters.delivered_no_ack += 1;
        } else {
            self.counters.delivered += 1;
            let (channel, instance) = (options.channel.0, Some(instance));
            let in_memory = segment(seq) >= forget_before;
            self.held.push(Held { seq, redelivered, in_memory, channel, instance });
        }
        self.started[instance].turn = self.now();
        (seq, redelivered)
    }

    /// Which consumer held the message, and what becomes of it.
    fn settle(&mut self, channel: u64, seq: u64, outcome: Outcome) -> Option<(Option<ConsumerKey>, End)> {
        let index = self.held.iter().position(|held| held.seq == seq && held.channel == channel)?;
        let instance = self.held[index].instance;
        let spent = instance.is_some_and(|instance| !self.has_credit(instance));
        let held = self.held.remove(index);
        self.choose();
        if let Some(instance) = instance
            && spent
        {
            self.started[instance].turn = self.now();
        }
        let consumer = instance.map(|instance| self.started[instance].options.consumer);
        let kept = held.in_memory.then(|| message(seq));
        let mark = match outcome {
            Outcome::Ack => {
                self.counters.acked += 1;
                return Some((consumer, End::Done(kept)));
            }
            Outcome::Discard => {
                self.counters.discarded += 1;
                return Some((consumer, End::Left(Reason::Rejected, kept)));
            }
            Outcome::Requeue | Outcome::Return => {
                let failures = self.failures.entry(seq).or_default();
                *failures += u16::from(outcome == Outcome::Requeue);
                if *failures > self.limit {
                    self.counters.exhausted += 1;
                    return Some((consumer, End::Left(Reason::DeliveryLimit, kept)));
                }
                self.counters.requeued += 1;
                true
            }
            Outcome::Undelivered => {
                self.counters.undelivered += 1;
                held.redelivered
            }
        };
        self.put(seq, mark);
        if !held.in_memory {
            self.absent.insert(seq);
        }
        Some((consumer, End::Back))
    }

    fn unpark(&mut self, instance: usize) {
        if self.started[instance].parked {
            self.started[instance].parked = false;
            self.started[instance].turn = self.now();
        }
    }
}

/// Both, side by side.
struct Pair {
    queue: Queue,
    reference: Reference,
    listed: BTreeSet<ChunkNumber>,
    forget_before: u32,
    /// The read that is under way.
    asked: Option<Vec<(Seq, Home)>>,
}

/// Where a message is stored.
fn segment(seq: u64) -> u32 {
    home(seq).stored().expect("every message is stored").0
}

/// What priority a message asks for.
fn said(seq: u64) -> Option<u8> {
    let mixed = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
    u8::try_from(mixed).ok().filter(|priority| *priority < 12)
}

fn terms(seq: u64) -> Terms {
    Terms { priority: said(seq), deadline: Moment::NEVER }
}

fn before(segment: u32) -> Location {
    Location { segment, offset: 0 }
}

impl Pair {
    fn apply(&mut self, step: &Step) {
        let Self { queue, reference, .. } = self;
        match *step {
            Step::Push(count) => {
                for _ in 0..count {
                    let seq = reference.next;
                    assert_eq!(queue.push(message(seq), home(seq), terms(seq)), Seq(seq));
                    reference.put(seq, false);
                    reference.next += 1;
                    reference.counters.published += 1;
                }
            }
            Step::Add { channel, consumer: key, no_ack, exclusive, priority, prefetch } => {
                if reference.find(channel, key).is_none() {
                    let basis = consumer(ChannelKey(channel), key);
                    let options = ConsumerOptions { no_ack, exclusive, priority, prefetch, ..basis };
                    assert_eq!(queue.add_consumer(options), reference.add(options));
                }
            }
            Step::Cancel { channel, consumer } => {
                let instance = reference.find(channel, consumer);
                let expected = instance.map(|instance| {
                    reference.started[instance].alive = false;
                    reference.choose();
                    reference.started[instance].options
                });
                assert_eq!(queue.remove_consumer(ChannelKey(channel), ConsumerKey(consumer)), expected);
            }
            Step::Deliver(count) => (0..count).for_each(|_| self.deliver()),
            Step::ParkFront => {
                queue.park_front();
                if let Some(instance) = reference.front() {
                    reference.started[instance].parked = true;
                }
            }
            Step::Unpark { channel, consumer } => {
                queue.unpark(ChannelKey(channel), ConsumerKey(consumer));
                if let Some(instance) = reference.find(channel, consumer) {
                    reference.unpark(instance);
                }
            }
            Step::UnparkChannel { channel } => {
                queue.unpark_channel(ChannelKey(channel));
                for key in 0..KEYS {
                    if let Some(instance) = reference.find(channel, key) {
                        reference.unpark(instance);
                    }
                }
            }
            Step::Get { channel, no_ack } => self.get(channel, no_ack),
            Step::Settle { pick, outcome } => {
                if !reference.held.is_empty() {
                    let held = &reference.held[pick % reference.held.len()];
                    let (channel, seq) = (held.channel, held.seq);
                    self.settle(channel, seq, outcome);
                }
            }
            Step::SettleAny { channel, seq, outcome } => self.settle(channel, seq, outcome),
            Step::Release { channel, budget } => self.release(channel, budget),
            Step::Purge => self.purge(),
            Step::DropFront => self.drop_front(),
            Step::LimitFailures(limit) => {
                queue.set_delivery_limit(Some(u64::from(limit)));
                reference.limit = limit;
            }
            Step::Evict(segment) => self.evict(segment),
            Step::Forget(segment) => self.forget_before = segment,
            Step::Ask => self.ask(),
            Step::Answer(lost) => self.answer(lost),
        }
    }

    fn purge(&mut self) {
        let Self { queue, reference, .. } = self;
        reference.absent.clear();
        let mut expected = std::mem::take(&mut reference.ready);
        expected.sort_unstable();
        reference.counters.purged += expected.len() as u64;
        let purged = queue.purge();
        assert_eq!(purged.remaining(), expected.len() as u64);
        assert!(purged.eq(expected.into_iter().map(|(seq, _)| home(seq))));
    }

    fn evict(&mut self, written: u32) {
        let Self { queue, reference, listed, .. } = self;
        listed.extend(queue.take_listed());
        let mut evicted = Vec::new();
        listed.retain(|chunk| queue.evict(*chunk, before(written), &mut evicted));
        let mut evicted: Vec<_> = evicted.iter().map(number).collect();
        evicted.sort_unstable();
        let ready = reference.ready.iter().map(|(seq, _)| *seq);
        let leave = ready.filter(|seq| segment(*seq) < written && !reference.absent.contains(seq));
        let mut expected: Vec<_> = leave.collect();
        expected.sort_unstable();
        assert_eq!(evicted, expected);
        reference.absent.extend(expected);
    }

    fn ask(&mut self) {
        let Self { queue, reference, asked, .. } = self;
        let wanted = queue.next_read();
        if asked.is_some() || reference.absent.is_empty() {
            assert_eq!(wanted, None);
            return;
        }
        if reference.front_is_absent() {
            let first = reference.ready.first().map(|(seq, _)| *seq);
            assert_eq!(wanted.as_ref().map(|wanted| wanted[0].0.0), first);
        }
        let seqs = wanted.iter().flatten().map(|(seq, home_now)| {
            assert_eq!(*home_now, home(seq.0));
            seq.0
        });
        let absent = reference.absent_in_order().into_iter();
        assert!(
            seqs.eq(absent.take(wanted.as_ref().map_or(0, Vec::len))),
            "the first that are absent, in order"
        );
        *asked = wanted;
    }

    fn answer(&mut self, lost: u64) {
        let Self { queue, reference, asked, .. } = self;
        let Some(asked) = asked.take() else { return };
        queue.read();
        for (seq, home) in asked {
            let awaited = reference.absent.remove(&seq.0);
            if lost > 0 && seq.0 % lost == 0 {
                assert_eq!(queue.lose(seq, home), awaited);
                reference.ready.retain(|(ready, _)| !awaited || *ready != seq.0);
                reference.counters.lost += u64::from(awaited);
            } else {
                queue.fill(seq, home, message(seq.0));
            }
        }
    }

    fn deliver(&mut self) {
        let Self { queue, reference, forget_before, .. } = self;
        let dispatched = queue.deliver_front(before(*forget_before));
        let shown = dispatched.as_ref().map(|dispatched| {
            assert_eq!(number(&dispatched.message), dispatched.seq.0);
            assert_eq!(dispatched.home, home(dispatched.seq.0));
            (dispatched.consumer, dispatched.seq.0, dispatched.history.redelivered)
        });
        let front = reference.front().filter(|_| !reference.front_is_absent());
        let expected = front.map(|instance| {
            let (seq, redelivered) = reference.deliver(instance, *forget_before);
            (reference.started[instance].options, seq, redelivered)
        });
        assert_eq!(shown, expected);
    }

    fn get(&mut self, channel: u64, no_ack: bool) {
        let Self { queue, reference, .. } = self;
        if reference.front_is_absent() {
            assert!(matches!(queue.get(ChannelKey(channel), no_ack), Asked::Absent));
            return;
        }
        let got = get(queue, ChannelKey(channel), no_ack);
        if reference.ready.is_empty() {
            assert!(got.is_none());
            reference.counters.got_empty += 1;
            return;
        }
        let (seq, redelivered) = reference.take();
        let got = got.expect("the reference has a message");
        assert_eq!((got.seq, got.history.redelivered, number(&got.message)), (Seq(seq), redelivered, seq));
        assert_eq!(got.home, home(seq));
        assert_eq!(got.remaining, reference.ready.len() as u64);
        if no_ack {
            reference.counters.got_no_ack += 1;
        } else {
            reference.counters.got += 1;
            reference.held.push(Held { seq, redelivered, in_memory: true, channel, instance: None });
        }
    }

    fn settle(&mut self, channel: u64, seq: u64, outcome: Outcome) {
        let settled = self.queue.settle(ChannelKey(channel), Seq(seq), outcome);
        let expected = self.reference.settle(channel, seq, outcome);
        let shown = settled.map(|settled| {
            assert_eq!(settled.home, home(seq));
            (settled.consumer, settled.end)
        });
        assert_eq!(shown, expected);
    }

    fn drop_front(&mut self) {
        let Self { queue, reference, .. } = self;
        let dropped = queue.drop_front().map(|dropped| match dropped {
            Dropped::Gone(dead) => {
                assert_eq!((dead.reason, dead.home), (Reason::MaxLen, home(dead.seq.0)));
                (dead.seq.0, dead.message.map(|message| number(&message)))
            }
            Dropped::Dying => panic!("nobody wants to have it read"),
        });
        let expected = (!reference.ready.is_empty()).then(|| {
            reference.counters.dropped += 1;
            let (seq, _) = reference.ready.remove(0);
            (seq, (!reference.absent.remove(&seq)).then_some(seq))
        });
        assert_eq!(dropped, expected);
    }

    /// A release takes the channel's getter first, then its consumers by key, then its cancelled ones,
    /// from each the oldest delivery first; the turns of those that wake show it. Cancelled consumers
    /// have no order among them: a budget that would end there is cut to end before them.
    fn release(&mut self, channel: u64, budget: usize) {
        let Self { queue, reference, .. } = self;
        let mut order = Vec::new();
        for (index, held) in reference.held.iter().enumerate().filter(|(_, held)| held.channel == channel) {
            let rank = match held.instance.map(|instance| &reference.started[instance]) {
                None => (0, 0),
                Some(started) if started.alive => (1, started.options.consumer.0),
                Some(_) => (2, 0),
            };
            order.push((rank, index, held.seq));
        }
        order.sort_unstable();
        let ordered = order.iter().filter(|((rank, _), ..)| *rank < 2).count();
        let budget = if budget < order.len() { budget.min(ordered) } else { budget };
        let expected = order.len().min(budget);
        let finished = expected == order.len();
        assert_eq!(
            queue.release_channel(ChannelKey(channel), budget, |_, _| {}),
            Released { messages: expected, finished }
        );
        for (.., seq) in &order[..expected] {
            reference.settle(channel, *seq, Outcome::Requeue);
        }
        if finished {
            reference.releasing.remove(&channel);
        } else {
            reference.releasing.insert(channel);
        }
    }

    fn compare(&self) {
        let Self { queue, reference, .. } = self;
        assert_eq!(queue.has_absent(), !reference.absent.is_empty());
        assert_eq!(queue.ready(), reference.ready.len() as u64);
        assert_eq!(queue.unacked(), reference.held.len() as u64);
        assert_eq!(queue.consumers(), reference.living().count() as u64);
        assert_eq!(queue.had_consumer(), !reference.started.is_empty());
        assert_eq!(queue.counters(), &reference.counters);
        let front = reference.front().map(|instance| &reference.started[instance].options);
        assert_eq!(queue.front_consumer(), front);

        let mut consumers: Vec<_> = queue.iter_consumers().map(name).collect();
        consumers.sort_unstable();
        let mut expected: Vec<_> = reference.living().map(|started| name(&started.options)).collect();
        expected.sort_unstable();
        assert_eq!(consumers, expected);

        let mut holdings: Vec<_> = queue
            .holdings()
            .map(|holding| (holding.channel.0, holding.consumer.map(|key| key.0), holding.messages))
            .collect();
        holdings.sort_unstable();
        let mut expected = BTreeMap::new();
        for held in &reference.held {
            *expected.entry((held.channel, held.instance)).or_insert(0) += 1;
        }
        let mut expected: Vec<(u64, Option<u32>, u64)> = expected
            .into_iter()
            .map(|((channel, instance), messages)| {
                let key = instance.map(|instance| reference.started[instance].options.consumer.0);
                (channel, key, messages)
            })
            .collect();
        expected.sort_unstable();
        assert_eq!(holdings, expected);

        let counters = queue.counters();
        let left = counters.delivered_no_ack
            + counters.got_no_ack
            + counters.acked
            + counters.discarded
            + counters.dropped
            + counters.exhausted
            + counters.purged
            + counters.lost;
        assert_eq!(counters.published, queue.ready() + queue.unacked() + left);
    }
}

fn name(options: &ConsumerOptions) -> (u64, u32) {
    (options.channel.0, options.consumer.0)
}

const CHANNELS: u64 = 3;
const KEYS: u32 = 3;

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Ack),
        2 => Just(Outcome::Requeue),
        1 => Just(Outcome::Return),
        1 => Just(Outcome::Discard),
        2 => Just(Outcome::Undelivered),
    ]
}

fn add() -> impl Strategy<Value = Step> {
    (0..CHANNELS, 0..KEYS, prop::bool::weighted(0.2), prop::bool::weighted(0.1), -1..=1_i64, 0..4_u16)
        .prop_map(|(channel, consumer, no_ack, exclusive, priority, prefetch)| Step::Add {
            channel,
            consumer,
            no_ack,
            exclusive,
            priority,
            prefetch,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let channel = || 0..CHANNELS;
    let consumer = || 0..KEYS;
    prop_oneof![
        8 => (1..8_u16).prop_map(Step::Push),
        1 => (1000..2100_u16).prop_map(Step::Push),
        6 => add(),
        3 => (channel(), consumer()).prop_map(|(channel, consumer)| Step::Cancel { channel, consumer }),
        10 => (1..8_u16).prop_map(Step::Deliver),
        2 => (50..200_u16).prop_map(Step::Deliver),
        3 => Just(Step::ParkFront),
        3 => (channel(), consumer()).prop_map(|(channel, consumer)| Step::Unpark { channel, consumer }),
        1 => channel().prop_map(|channel| Step::UnparkChannel { channel }),
        3 => (channel(), any::<bool>()).prop_map(|(channel, no_ack)| Step::Get { channel, no_ack }),
        20 => (any::<usize>(), outcome()).prop_map(|(pick, outcome)| Step::Settle { pick, outcome }),
        2 => (channel(), 0..100_u64, outcome())
            .prop_map(|(channel, seq, outcome)| Step::SettleAny { channel, seq, outcome }),
        3 => (channel(), prop_oneof![1 => 0..4_usize, 2 => Just(1000)])
            .prop_map(|(channel, budget)| Step::Release { channel, budget }),
        1 => Just(Step::Purge),
        4 => Just(Step::DropFront),
        2 => prop_oneof![3 => 0..3_u16, 1 => Just(u16::MAX)].prop_map(Step::LimitFailures),
        4 => (0..200_u32).prop_map(Step::Evict),
        1 => (0..200_u32).prop_map(Step::Forget),
        8 => Just(Step::Ask),
        8 => prop_oneof![3 => Just(0), 1 => 2..20_u64].prop_map(Step::Answer),
    ]
}

fn single() -> impl Strategy<Value = Option<Succession>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(Succession::AtItsEnd)), 1 => Just(Some(Succession::ByPriority))]
}

fn priorities() -> impl Strategy<Value = Option<Priorities>> {
    let some = (1..16_u8, 0..3_u8).prop_map(|(highest, unsaid)| Some(Priorities { highest, unsaid }));
    prop_oneof![Just(None), some]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn shows_what_the_reference_shows(
        priorities in priorities(),
        single in single(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut queue = Queue::new(QueueId(1));
        if let Some(priorities) = priorities {
            queue.prioritise(priorities);
        }
        if let Some(succession) = single {
            queue.set_single_active(succession);
        }
        let mut pair = Pair {
            queue,
            reference: Reference { priorities, single, limit: u16::MAX, ..Reference::default() },
            listed: BTreeSet::new(),
            forget_before: 0,
            asked: None,
        };
        for step in &steps {
            pair.apply(step);
            pair.compare();
        }
    }
}
