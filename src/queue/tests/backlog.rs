//! A backlog against a map: what is in which place, what of it is in memory, when it expires, and that all memory is
//! counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{marked, message, number};
use crate::model::{Seq, settle_message_bytes};
use crate::queue::chunk::{PLACES, Slot, Taken};
use crate::queue::{Backlog, ChunkNumber, Home, Location, Moment, Priorities, Terms};

/// Where a place may be stored.
#[derive(Clone, Copy, Debug)]
enum At {
    Nowhere,
    Awaited,
    Segment(u32),
}

/// One step. Places are near the ones that are there.
#[derive(Clone, Debug)]
enum Step {
    /// So many places on, with a message.
    Push {
        gap: u64,
        at: At,
        deadline: Moment,
    },
    /// A message comes back into a vacant place, in memory or not.
    Return {
        seq: u64,
        at: u32,
        in_memory: bool,
        redelivered: bool,
        deadline: Moment,
    },
    Expire {
        now: Moment,
        budget: usize,
    },
    Pop(u8),
    Remove(u64),
    Restore {
        seq: u64,
        segment: u32,
        deadline: Moment,
    },
    Mark(u64),
    MarkAll,
    Store {
        first: u64,
        count: u64,
        segment: u32,
    },
    /// Of one chunk, whether listed or not.
    Evict {
        seq: u64,
        written: Location,
    },
    /// Of everything listed.
    EvictListed(Location),
    /// With the home that it has, or with another one.
    Fill {
        seq: u64,
        right: bool,
    },
    Detach,
    /// From here on priorities say what goes first.
    Prioritise(Priorities),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    home: Home,
    redelivered: bool,
    in_memory: bool,
    deadline: Moment,
    priority: Option<u8>,
}

#[derive(Default)]
struct Pair {
    backlog: Backlog,
    reference: BTreeMap<u64, Entry>,
    next: u64,
    prioritised: bool,
    listed: BTreeSet<ChunkNumber>,
    counted: i64,
}

fn home(seq: u64, at: At) -> Home {
    match at {
        At::Nowhere => Home::NONE,
        At::Awaited => Home::AWAITED,
        At::Segment(segment) => Home::new(Location { segment, offset: 8 * seq }, 3),
    }
}

impl Entry {
    fn may_leave(&self, written: Location) -> bool {
        self.in_memory && self.home.location().is_some_and(|location| location < written)
    }
}

impl Pair {
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Push { gap, at, deadline } => {
                self.next += gap;
                let (home, priority) = (home(self.next, at), said(self.next));
                let entry = Entry { home, redelivered: false, in_memory: true, deadline, priority };
                self.put(self.next, entry);
                self.next += 1;
            }
            Step::Return { seq, at, in_memory, redelivered, deadline } => {
                if seq < self.next && !self.reference.contains_key(&seq) {
                    let home = home(seq, At::Segment(at));
                    let priority = said(seq);
                    self.put(seq, Entry { home, redelivered, in_memory, deadline, priority });
                }
            }
            Step::Expire { now, budget } => self.expire(now, budget),
            Step::Pop(count) => (0..count).for_each(|_| self.pop()),
            Step::Remove(seq) => {
                let taken = self.backlog.remove(Seq(seq));
                let expected = self.reference.remove(&seq).map(|entry| shown(seq, entry));
                assert_eq!(taken.map(shown_taken), expected);
            }
            Step::Restore { seq, segment, deadline } => {
                let home = home(seq, At::Segment(segment));
                let priority = said(seq);
                self.backlog.restore(Seq(seq), home, body_bytes(seq), Terms { priority, deadline });
                let new = Entry { home, redelivered: false, in_memory: false, deadline, priority };
                self.reference.entry(seq).or_insert(new).home = home;
                self.next = self.next.max(seq + 1);
            }
            Step::Mark(seq) => {
                self.backlog.mark(Seq(seq), marked(true));
                self.reference.entry(seq).and_modify(|entry| entry.redelivered = true);
            }
            Step::MarkAll => {
                self.backlog.mark_all();
                self.reference.values_mut().for_each(|entry| entry.redelivered = true);
            }
            Step::Store { first, count, segment } => {
                for seq in first..first + count {
                    let home = home(seq, At::Segment(segment));
                    let entry = self.reference.get_mut(&seq);
                    assert_eq!(self.backlog.store(Seq(seq), home), entry.is_some());
                    if let Some(entry) = entry {
                        entry.home = home;
                    }
                }
            }
            Step::Evict { seq, written } => {
                if self.reference.range(seq..).next().is_some_and(|(first, _)| *first == seq) {
                    self.list();
                    let of_seq = self.listed.iter().find(|chunk| chunk.places().contains(&seq)).copied();
                    of_seq.into_iter().for_each(|chunk| self.evict(chunk, written));
                }
            }
            Step::EvictListed(written) => {
                self.list();
                self.listed.clone().into_iter().for_each(|chunk| self.evict(chunk, written));
            }
            Step::Fill { seq, right } => self.fill(seq, right),
            Step::Detach => {
                let detached = self.backlog.detach();
                let expected = std::mem::take(&mut self.reference);
                assert_eq!(detached.remaining(), expected.len() as u64);
                assert!(detached.eq(expected.into_values().map(|entry| entry.home)));
                self.listed.clear();
            }
            Step::Prioritise(priorities) => self.prioritise(priorities),
        }
    }

    fn prioritise(&mut self, priorities: Priorities) {
        self.prioritised = true;
        self.backlog.prioritise(priorities);
        for entry in self.reference.values_mut() {
            entry.priority = Some(priorities.of(entry.priority));
        }
    }

    /// Where what goes first is.
    fn first(&self) -> Option<u64> {
        if !self.prioritised {
            return self.reference.keys().next().copied();
        }
        let ranked = self.reference.iter().map(|(seq, entry)| (Reverse(entry.priority.unwrap_or(0)), *seq));
        ranked.min().map(|(_, seq)| seq)
    }

    fn put(&mut self, seq: u64, entry: Entry) {
        let message = entry.in_memory.then(|| message(seq));
        let (slot, deadline) = (slot(seq, entry), entry.deadline);
        self.backlog.put(Taken { seq: Seq(seq), slot, deadline, message });
        self.reference.insert(seq, entry);
    }

    fn pop(&mut self) {
        let first = self.first();
        let expected = first.map(|seq| shown(seq, self.reference.remove(&seq).unwrap()));
        assert_eq!(self.backlog.pop().map(shown_taken), expected);
    }

    /// Which of those that are due go first is not said.
    fn expire(&mut self, now: Moment, budget: usize) {
        let due = self.reference.values().filter(|entry| entry.deadline <= now).count();
        let mut expired = Vec::new();
        let more = self.backlog.expire(now, budget, |taken| expired.push(taken));
        assert_eq!(expired.len(), due.min(budget));
        assert!(more || due <= budget);
        for taken in expired {
            let seq = taken.seq.0;
            let expected = self.reference.remove(&seq).filter(|entry| entry.deadline <= now);
            assert_eq!(Some(shown_taken(taken)), expected.map(|entry| shown(seq, entry)));
        }
    }

    fn list(&mut self) {
        self.listed.extend(self.backlog.take_listed());
    }

    fn evict(&mut self, chunk: ChunkNumber, written: Location) {
        let mut evicted = Vec::new();
        let left = self.backlog.evict(chunk, written, &mut evicted);
        let of_chunk = || chunk.places();
        let leaves = |(_, entry): &(&u64, &Entry)| entry.may_leave(written);
        let expected: Vec<_> = self.reference.range(of_chunk()).filter(leaves).map(|(seq, _)| *seq).collect();
        assert_eq!(evicted.iter().map(number).collect::<Vec<_>>(), expected);
        for (_, entry) in self.reference.range_mut(of_chunk()).filter(|(_, entry)| entry.may_leave(written)) {
            entry.in_memory = false;
        }
        let forever = Location { segment: u32::MAX, offset: u64::MAX };
        let stay = self.reference.range(of_chunk()).any(|(_, entry)| entry.may_leave(forever));
        assert_eq!(left, stay);
        assert_eq!(self.backlog.is_listed(chunk), stay);
        if !left {
            self.listed.remove(&chunk);
        }
    }

    fn fill(&mut self, seq: u64, right: bool) {
        let Some(entry) = self.reference.get_mut(&seq) else {
            assert!(!self.backlog.fill(Seq(seq), home(seq, At::Segment(1)), message(seq)));
            return;
        };
        if right {
            assert!(self.backlog.fill(Seq(seq), entry.home, message(seq)));
            entry.in_memory = true;
        } else {
            assert!(!self.backlog.fill(Seq(seq), home(seq, At::Segment(77)), message(seq)));
        }
    }

    fn compare(&mut self) {
        self.list();
        let first_out = self.first();
        let Self { backlog, reference, listed, .. } = self;
        assert_eq!((backlog.len(), backlog.is_empty()), (reference.len() as u64, reference.is_empty()));
        let absent = reference.values().filter(|entry| !entry.in_memory).count();
        assert_eq!(backlog.absent(), absent as u64);
        let cost = message(0).cost() as u64;
        let cached = reference.values().filter(|entry| entry.in_memory && entry.home.location().is_some());
        assert_eq!(backlog.cached_bytes(), cost * cached.count() as u64);
        let body_bytes = reference.keys().map(|seq| u64::from(body_bytes(*seq))).sum::<u64>();
        assert_eq!(backlog.body_bytes(), body_bytes);
        let due = reference.values().map(|entry| entry.deadline).min().unwrap_or(Moment::NEVER);
        assert!(backlog.due() <= due, "it may be early, and never late");
        assert!(due < Moment::NEVER || !reference.is_empty() || backlog.due() == Moment::NEVER);

        let expected =
            reference.iter().map(|(seq, entry)| (Seq(*seq), entry.home, marked(entry.redelivered)));
        assert!(backlog.iter().eq(expected));
        let (first, last) = (self.next / 3, self.next / 3 * 2);
        let expected = reference.range(first..=last).map(|(seq, _)| Seq(*seq));
        assert!(backlog.places(Seq(first), Seq(last)).eq(expected));
        for seq in [first, last, self.next] {
            let entry = reference.get(&seq).copied();
            assert_eq!(backlog.find(Seq(seq)).copied(), entry.map(|entry| slot(seq, entry)));
            let deadline = backlog.kept(Seq(seq)).map(|kept| kept.terms.deadline);
            assert_eq!(deadline, entry.map(|entry| entry.deadline));
        }
        let front = backlog.front().map(|(seq, slot, message)| (seq.0, *slot, message.map(number)));
        let expected = first_out.map(|seq| {
            let (_, body, _) = shown(seq, reference[&seq]);
            (seq, slot(seq, reference[&seq]), body)
        });
        assert_eq!(front, expected);

        for (seq, entry) in reference.iter().filter(|(_, entry)| entry.in_memory) {
            let known = listed.iter().any(|chunk| chunk.places().contains(seq));
            assert!(known || entry.home.location().is_none(), "{seq} could never leave memory");
        }

        let in_memory = reference.values().filter(|entry| entry.in_memory).count() as u64;
        self.counted += settle_message_bytes();
        let expected = cost * in_memory + backlog.capacity_bytes() as u64;
        assert_eq!(u64::try_from(self.counted), Ok(expected), "all memory is counted");
    }
}

/// What is said about the priority of a message.
fn said(seq: u64) -> Option<u8> {
    u8::try_from(seq.wrapping_mul(37) % 290).ok()
}

fn body_bytes(seq: u64) -> u32 {
    u32::try_from(seq % 100).unwrap()
}

fn slot(seq: u64, entry: Entry) -> Slot {
    Slot::new(entry.home, body_bytes(seq), entry.priority).with(marked(entry.redelivered))
}

fn shown(seq: u64, entry: Entry) -> (Slot, Option<u64>, Moment) {
    (slot(seq, entry), entry.in_memory.then_some(seq), entry.deadline)
}

fn shown_taken(taken: Taken) -> (Slot, Option<u64>, Moment) {
    (taken.slot, taken.message.map(|message| number(&message)), taken.deadline)
}

/// Enough for some chunks.
const PLACES_USED: u64 = 5 * PLACES;

fn step() -> impl Strategy<Value = Step> {
    let seq = || 0..PLACES_USED;
    let written =
        || (1..5_u32, 0..PLACES_USED).prop_map(|(segment, seq)| Location { segment, offset: 8 * seq });
    let at = prop_oneof![Just(At::Nowhere), Just(At::Awaited), (1..4_u32).prop_map(At::Segment)];
    let gap = prop_oneof![20 => Just(0), 3 => 1..5_u64, 1 => 50..200_u64];
    let moment = || (0..40_u64).prop_map(Moment);
    let deadline = || prop_oneof![3 => Just(Moment::NEVER), 2 => moment()];
    let returned = (seq(), 1..4_u32, any::<bool>(), any::<bool>(), deadline());
    prop_oneof![
        40 => (gap, at, deadline()).prop_map(|(gap, at, deadline)| Step::Push { gap, at, deadline }),
        10 => returned.prop_map(|(seq, at, in_memory, redelivered, deadline)| {
            Step::Return { seq, at, in_memory, redelivered, deadline }
        }),
        6 => (moment(), 0..20_usize).prop_map(|(now, budget)| Step::Expire { now, budget }),
        6 => (1..6_u8).prop_map(Step::Pop),
        1 => (50..100_u8).prop_map(Step::Pop),
        10 => seq().prop_map(Step::Remove),
        3 => (seq(), 1..4_u32, deadline())
            .prop_map(|(seq, segment, deadline)| Step::Restore { seq, segment, deadline }),
        3 => seq().prop_map(Step::Mark),
        1 => Just(Step::MarkAll),
        10 => (seq(), 1..100_u64, 1..4_u32)
            .prop_map(|(first, count, segment)| Step::Store { first, count, segment }),
        5 => (seq(), written()).prop_map(|(seq, written)| Step::Evict { seq, written }),
        3 => written().prop_map(Step::EvictListed),
        10 => (seq(), prop::bool::weighted(0.8)).prop_map(|(seq, right)| Step::Fill { seq, right }),
        1 => Just(Step::Detach),
        1 => (any::<u8>(), 0..5_u8)
            .prop_map(|(highest, unsaid)| Step::Prioritise(Priorities { highest, unsaid })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn shows_what_a_map_shows(steps in prop::collection::vec(step(), 1..300)) {
        let _ = settle_message_bytes();
        let mut pair = Pair::default();
        for step in &steps {
            pair.apply(step);
            pair.compare();
        }
        let counted = pair.counted;
        drop(pair);
        assert_eq!(counted + settle_message_bytes(), 0, "nothing stays counted");
    }
}
