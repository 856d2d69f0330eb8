//! Publisher confirms that wait: for their turn, then for the disk.
//!
//! Invariant: confirms leave in the order of their publishes, each exactly once, the resolved prefix folded into
//! one answer for each run of publishes with the same outcome.

use std::collections::VecDeque;

use crate::model::LogPosition;

/// The confirms of a channel in confirm mode.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// Publishes so far; the last one's delivery tag.
    published: u64,
    /// The last tag that has been answered.
    answered: u64,
    /// What waits for a position, ascending by tag.
    ring: VecDeque<Run>,
    /// The last publish of this turn before the first that waits for the disk; 0 if there is none.
    turn_free: u64,
    /// The last publish of this turn, if one of them waits for the disk; 0 otherwise.
    turn_bound: u64,
    /// The publishes of this turn that a queue has refused, ascending.
    turn_refused: Vec<u64>,
}

/// Publishes up to a tag that wait for the same position and have the same outcome.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: u64,
    position: LogPosition,
    refused: bool,
}

/// An answer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The last publish it covers.
    pub(super) tag: u64,
    /// How many it covers; those before it have been answered.
    pub(super) count: u64,
    /// A queue has refused them.
    pub(super) refused: bool,
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

    /// The tag of the last publish.
    pub(super) fn last_tag(&self) -> u64 {
        self.published
    }

    /// A queue has refused this publish of the turn. Tags ascend.
    pub(super) fn refuse(&mut self, tag: u64) {
        debug_assert!(self.turn_refused.last().is_none_or(|last| *last < tag), "tags ascend");
        self.turn_refused.push(tag);
    }

    /// The turn has been applied; what it logged ends at `position`.
    pub(super) fn turn_applied(&mut self, position: LogPosition) {
        let mut refused = std::mem::take(&mut self.turn_refused).into_iter().peekable();
        let free = (std::mem::take(&mut self.turn_free), LogPosition::START);
        let bound = (std::mem::take(&mut self.turn_bound), position);
        for (last, position) in [free, bound] {
            while let Some(tag) = refused.next_if(|tag| *tag <= last) {
                self.wait(Run { last: tag - 1, position, refused: false });
                // What was refused promises nothing.
                self.wait(Run { last: tag, position: LogPosition::START, refused: true });
            }
            self.wait(Run { last, position, refused: false });
        }
    }

    /// The publishes behind the last run, up to the end of this one, are this run; if there are any.
    fn wait(&mut self, run: Run) {
        let before = self.ring.back().map_or(self.answered, |newest| newest.last);
        if run.last <= before {
            return;
        }
        match self.ring.back_mut() {
            // Whoever waits behind a later position gains nothing by a run of its own.
            Some(newest) if newest.position >= run.position && newest.refused == run.refused => {
                newest.last = run.last;
            }
            _ => self.ring.push_back(run),
        }
    }

    /// Everything up to `durable` is on disk: the next answer that is due, if one is.
    pub(super) fn resolve(&mut self, durable: LogPosition) -> Option<Resolved> {
        let refused = self.ring.front()?.refused;
        let mut last = None;
        while let Some(run) =
            self.ring.front().filter(|run| run.position <= durable && run.refused == refused)
        {
            last = Some(run.last);
            self.ring.pop_front();
        }
        if self.ring.is_empty() {
            self.ring.shrink_to(0);
        }
        let tag = last?;
        let count = tag - self.answered;
        self.answered = tag;
        Some(Resolved { tag, count, refused })
    }

    /// Whether some wait for the disk.
    pub(super) fn waits(&self) -> bool {
        !self.ring.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: LogPosition = LogPosition::START;

    fn acked(tag: u64, count: u64) -> Option<Resolved> {
        Some(Resolved { tag, count, refused: false })
    }

    fn refused(tag: u64, count: u64) -> Option<Resolved> {
        Some(Resolved { tag, count, refused: true })
    }

    #[test]
    fn a_turn_folds_into_one_acknowledgement() {
        let mut confirms = Confirms::default();
        assert!(confirms.publish(false));
        assert!(!confirms.publish(false));
        assert_eq!(confirms.resolve(START), None);
        confirms.turn_applied(START);
        assert_eq!(confirms.resolve(START), acked(2, 2));
        assert!(confirms.publish(false));
        confirms.turn_applied(START);
        assert_eq!(confirms.resolve(START), acked(3, 1));
        assert_eq!(confirms.resolve(START), None);
    }

    #[test]
    fn what_waits_for_nothing_passes_only_what_it_precedes() {
        let mut confirms = Confirms::default();
        for waits in [false, true, false] {
            confirms.publish(waits);
        }
        confirms.turn_applied(LogPosition(9));
        assert_eq!(confirms.resolve(START), acked(1, 1));
        assert!(confirms.waits());
        confirms.publish(false);
        confirms.turn_applied(LogPosition(12));
        assert_eq!(confirms.resolve(LogPosition(8)), None);
        assert_eq!(confirms.resolve(LogPosition(9)), acked(4, 3));
        assert!(!confirms.waits());
    }

    #[test]
    fn an_answer_covers_a_run_of_equal_outcomes() {
        let mut confirms = Confirms::default();
        for _ in 0..7 {
            confirms.publish(true);
        }
        for tag in [1, 2, 5, 7] {
            confirms.refuse(tag);
        }
        confirms.turn_applied(LogPosition(9));
        assert_eq!(confirms.resolve(START), refused(2, 2), "a refusal promises nothing");
        assert_eq!(confirms.resolve(START), None, "what follows does, and is not overtaken");
        let durable = LogPosition(9);
        let answers = [acked(4, 2), refused(5, 1), acked(6, 1), refused(7, 1), None];
        assert_eq!(answers.map(|_| confirms.resolve(durable)), answers);
        confirms.publish(true);
        confirms.refuse(8);
        confirms.turn_applied(LogPosition(9));
        assert_eq!(confirms.resolve(START), refused(8, 1));
        assert!(!confirms.waits());
    }

    /// One publish: whether it waits for the disk, and whether it is refused.
    type Publish = (bool, bool);

    fn turns() -> impl Strategy<Value = Vec<(Vec<Publish>, u64, u64)>> {
        let publish = (any::<bool>(), prop::bool::weighted(0.3));
        prop::collection::vec((prop::collection::vec(publish, 0..6), 0_u64..3, 0_u64..4), 1..40)
    }

    proptest! {
        #[test]
        fn each_publish_is_answered_once_in_order_as_it_went_and_never_early(turns in turns()) {
            let mut confirms = Confirms::default();
            // By tag: which position the answer waits for, and whether it is a refusal.
            let mut expected = Vec::new();
            let (mut logged, mut durable, mut answered) = (0, 0, 0_usize);
            for (publishes, records, synced) in turns {
                logged += records;
                for &(waits, is_refused) in &publishes {
                    confirms.publish(waits);
                    if is_refused {
                        confirms.refuse(confirms.last_tag());
                    }
                    expected.push((if waits && !is_refused { logged } else { 0 }, is_refused));
                }
                confirms.turn_applied(LogPosition(logged));
                durable = logged.min(durable + synced);
                let mut before = None;
                while let Some(Resolved { tag, count, refused }) = confirms.resolve(LogPosition(durable)) {
                    let tag = usize::try_from(tag).expect("few");
                    prop_assert_eq!(count, (tag - answered) as u64);
                    prop_assert!(count > 0);
                    let run = &expected[answered..tag];
                    prop_assert!(run.iter().all(|&(position, outcome)| position <= durable && outcome == refused));
                    prop_assert_ne!(before.replace(refused), Some(refused), "equal outcomes are folded");
                    answered = tag;
                }
                prop_assert_eq!(confirms.waits(), answered < expected.len());
            }
            while confirms.resolve(LogPosition(logged)).is_some() {}
            prop_assert!(!confirms.waits());
        }
    }
}
