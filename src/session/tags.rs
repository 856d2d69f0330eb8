//! Delivery tags that wait for their acknowledgement.
//!
//! Invariant: entries are sorted by tag, the first and the last are alive, and less than half of a long list is dead.

use std::collections::VecDeque;

use crate::model::{QueueId, Seq};

/// Dead entries from which on a list may be compacted.
const COMPACT_FROM: usize = 64;

/// A delivery that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unacked {
    pub(super) tag: u64,
    pub(super) queue: QueueId,
    pub(super) seq: Seq,
}

/// A tag, and where its message is; `None` once it is dead, when only the search needs the tag.
type Entry = (u64, Option<(QueueId, Seq)>);

/// The unacknowledged deliveries of a channel.
#[derive(Debug, Default)]
pub(super) struct Tags {
    entries: VecDeque<Entry>,
    dead: usize,
}

impl Tags {
    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.dead
    }

    /// A delivery has been sent. Tags ascend.
    pub(super) fn push(&mut self, delivery: Unacked) {
        debug_assert!(self.entries.back().is_none_or(|(last, _)| *last < delivery.tag), "tags ascend");
        self.entries.push_back((delivery.tag, Some((delivery.queue, delivery.seq))));
    }

    /// Takes one delivery; `None` if the tag waits for nothing.
    pub(super) fn take(&mut self, tag: u64) -> Option<Unacked> {
        let index = self.find(tag)?;
        let (queue, seq) = self.entries[index].1.take()?;
        self.dead += 1;
        self.tidy();
        Some(Unacked { tag, queue, seq })
    }

    /// Takes all deliveries up to this tag, in order; `None` if the tag itself waits for nothing.
    pub(super) fn take_up_to(&mut self, tag: u64) -> Option<Vec<Unacked>> {
        let index = self.find(tag)?;
        self.entries[index].1?;
        Some(self.take_first(index + 1))
    }

    /// Takes all deliveries, in order.
    pub(super) fn take_all(&mut self) -> Vec<Unacked> {
        self.take_first(self.entries.len())
    }

    /// Puts deliveries back that had been taken; they are sorted.
    pub(super) fn restore(&mut self, deliveries: Vec<Unacked>) {
        if deliveries.is_empty() {
            return;
        }
        let mut merged = self.take_all();
        merged.extend(deliveries);
        merged.sort_unstable_by_key(|delivery| delivery.tag);
        for delivery in merged {
            self.push(delivery);
        }
    }

    fn take_first(&mut self, count: usize) -> Vec<Unacked> {
        let mut taken = Vec::with_capacity(count);
        for (tag, place) in self.entries.drain(..count) {
            match place {
                Some((queue, seq)) => taken.push(Unacked { tag, queue, seq }),
                None => self.dead -= 1,
            }
        }
        self.tidy();
        taken
    }

    /// The tag's place in the list. Without gaps it is as far from the front as its tag is from the front's.
    fn find(&self, tag: u64) -> Option<usize> {
        let (first, _) = self.entries.front()?;
        let guess = usize::try_from(tag.checked_sub(*first)?).ok()?;
        if self.entries.get(guess).is_some_and(|(found, _)| *found == tag) {
            return Some(guess);
        }
        self.entries.binary_search_by_key(&tag, |(tag, _)| *tag).ok()
    }

    fn tidy(&mut self) {
        while self.entries.front().is_some_and(|(_, place)| place.is_none()) {
            self.entries.pop_front();
            self.dead -= 1;
        }
        while self.entries.back().is_some_and(|(_, place)| place.is_none()) {
            self.entries.pop_back();
            self.dead -= 1;
        }
        if self.dead >= COMPACT_FROM && self.dead * 2 > self.entries.len() {
            self.entries.retain(|(_, place)| place.is_some());
            self.dead = 0;
        }
        if self.entries.is_empty() {
            self.entries.shrink_to(COMPACT_FROM);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn delivery(tag: u64) -> Unacked {
        Unacked { tag, queue: QueueId(1), seq: Seq(tag) }
    }

    #[test]
    fn a_tag_is_good_for_one_acknowledgement() {
        let mut tags = Tags::default();
        tags.push(delivery(3));
        assert_eq!(tags.take(2), None);
        assert_eq!(tags.take(3), Some(delivery(3)));
        assert_eq!(tags.take(3), None);
        assert_eq!(tags.len(), 0);
    }

    #[test]
    fn multiple_needs_a_tag_that_waits() {
        let mut tags = Tags::default();
        for tag in [1, 2, 5, 6] {
            tags.push(delivery(tag));
        }
        assert_eq!(tags.take(2), Some(delivery(2)));
        assert_eq!(tags.take_up_to(2), None);
        assert_eq!(tags.take_up_to(3), None);
        assert_eq!(tags.take_up_to(5), Some(vec![delivery(1), delivery(5)]));
        assert_eq!(tags.take_all(), vec![delivery(6)]);
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(steps in prop::collection::vec((0_u8..6, 0_u64..200), 1..300)) {
            let mut tags = Tags::default();
            let mut model = BTreeSet::new();
            let mut next = 0;
            for (kind, number) in steps {
                match kind {
                    0..3 => {
                        next += 1 + number % 3;
                        tags.push(delivery(next));
                        model.insert(next);
                    }
                    3 => prop_assert_eq!(tags.take(number).is_some(), model.remove(&number)),
                    4 => {
                        let expected = model.contains(&number).then(|| {
                            let rest = model.split_off(&(number + 1));
                            std::mem::replace(&mut model, rest).into_iter().map(delivery).collect::<Vec<_>>()
                        });
                        prop_assert_eq!(tags.take_up_to(number), expected);
                    }
                    _ => {
                        if let Some(taken) = tags.take(number) {
                            tags.restore(vec![taken]);
                        }
                    }
                }
                prop_assert_eq!(tags.len(), model.len());
            }
            let rest: Vec<_> = tags.take_all().into_iter().map(|delivery| delivery.tag).collect();
            prop_assert_eq!(rest, model.into_iter().collect::<Vec<_>>());
        }
    }
}
