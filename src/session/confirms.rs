//! Publisher confirms that wait: for their turn, then for the disk.
//!
//! Invariant: confirms leave in the order of their publishes, each exactly once, the resolved prefix folded into
//! one acknowledgement.

use std::collections::VecDeque;

use crate::model::LogPosition;

/// The confirms of a channel in confirm mode.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// Publishes accepted so far; the last one's delivery tag.
    published: u64,
    /// The last tag that has been confirmed.
    confirmed: u64,
    /// What waits for a position, ascending by tag.
    ring: VecDeque<Run>,
    /// The last publish of this turn before the first that waits for the disk; 0 if there is none.
    turn_free: u64,
    /// The last publish of this turn, if one of them waits for the disk; 0 otherwise.
    turn_bound: u64,
}

/// Publishes up to a tag that wait for the same position.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: u64,
    position: LogPosition,
}

/// An acknowledgement that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The last publish it covers.
    pub(super) tag: u64,
    /// Whether it covers others, too.
    pub(super) multiple: bool,
}

impl Confirms {
    /// A publish joins the turn. Returns whether it is the turn's first.
    pub(super) fn publish(&mut self, waits_for_disk: bool) -> bool {
        let first = self.turn_free == 0 && self.turn_bound == 0;
        self.published += 1;
        if waits_for_disk || self.turn_bound > 0 {
            self.turn_bound = self.published;
        } else {
            self.turn_free = self.published;
        }
        first
    }

    /// The turn has been applied; what it logged ends at `position`.
    pub(super) fn turn_applied(&mut self, position: LogPosition) {
        let free = Run { last: std::mem::take(&mut self.turn_free), position: LogPosition::START };
        let bound = Run { last: std::mem::take(&mut self.turn_bound), position };
        for run in [free, bound] {
            if run.last == 0 {
                continue;
            }
            match self.ring.back_mut() {
                // Whoever waits behind a later position gains nothing by a run of its own.
                Some(newest) if newest.position >= run.position => newest.last = run.last,
                _ => self.ring.push_back(run),
            }
        }
    }

    /// Everything up to `durable` is on disk: the acknowledgement that is due, if one is.
    pub(super) fn resolve(&mut self, durable: LogPosition) -> Option<Resolved> {
        let mut last = None;
        while let Some(run) = self.ring.front().filter(|run| run.position <= durable) {
            last = Some(run.last);
            self.ring.pop_front();
        }
        if self.ring.is_empty() {
            self.ring.shrink_to(0);
        }
        let tag = last?;
        let multiple = tag - self.confirmed > 1;
        self.confirmed = tag;
        Some(Resolved { tag, multiple })
    }

    /// Whether some wait for the disk.
    pub(super) fn waits(&self) -> bool {
        !self.ring.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> u64 {
        self.published - self.confirmed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: LogPosition = LogPosition::START;

    #[test]
    fn a_turn_folds_into_one_acknowledgement() {
        let mut confirms = Confirms::default();
        assert!(confirms.publish(false));
        assert!(!confirms.publish(false));
        assert_eq!(confirms.resolve(START), None);
        confirms.turn_applied(START);
        assert_eq!(confirms.resolve(START), Some(Resolved { tag: 2, multiple: true }));
        assert!(confirms.publish(false));
        confirms.turn_applied(START);
        assert_eq!(confirms.resolve(START), Some(Resolved { tag: 3, multiple: false }));
        assert_eq!(confirms.len(), 0);
    }

    #[test]
    fn what_waits_for_nothing_passes_only_what_it_precedes() {
        let mut confirms = Confirms::default();
        for waits in [false, true, false] {
            confirms.publish(waits);
        }
        confirms.turn_applied(LogPosition(9));
        assert_eq!(confirms.resolve(START), Some(Resolved { tag: 1, multiple: false }));
        assert!(confirms.waits());
        confirms.publish(false);
        confirms.turn_applied(LogPosition(12));
        assert_eq!(confirms.resolve(LogPosition(8)), None);
        assert_eq!(confirms.resolve(LogPosition(9)), Some(Resolved { tag: 4, multiple: true }));
        assert!(!confirms.waits());
    }

    proptest! {
        #[test]
        fn each_publish_is_confirmed_once_in_order_and_never_early(
            turns in prop::collection::vec((prop::collection::vec(any::<bool>(), 0..6), 0_u64..3, 0_u64..4), 1..40),
        ) {
            let mut confirms = Confirms::default();
            let mut positions = Vec::new();
            let (mut logged, mut durable, mut confirmed) = (0, 0, 0_usize);
            for (publishes, records, synced) in turns {
                for &waits in &publishes {
                    confirms.publish(waits);
                }
                logged += records;
                positions.extend(publishes.iter().map(|&waits| if waits { logged } else { 0 }));
                confirms.turn_applied(LogPosition(logged));
                durable = logged.min(durable + synced);
                if let Some(resolved) = confirms.resolve(LogPosition(durable)) {
                    let tag = usize::try_from(resolved.tag).expect("few");
                    prop_assert!(tag > confirmed);
                    prop_assert_eq!(resolved.multiple, tag - confirmed > 1);
                    prop_assert!(positions[confirmed..tag].iter().all(|&position| position <= durable));
                    confirmed = tag;
                }
                prop_assert_eq!(confirms.len(), (positions.len() - confirmed) as u64);
            }
            confirms.resolve(LogPosition(logged));
            prop_assert_eq!(confirms.len(), 0);
        }
    }
}
