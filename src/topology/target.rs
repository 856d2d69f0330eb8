//! What the bindings that match a message lead to.
//!
//! Invariant: a set counts the bindings behind each target, so that one of two bindings that differ in what
//! the exchange's rule ignores can go without taking the other's copy with it.

use rpds::RedBlackTreeMapSync;

use crate::model::{ExchangeName, QueueId};

/// The far end of a binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Queue(QueueId),
    Exchange(ExchangeName),
}

/// Targets, each with the number of bindings that lead to it. Most sets have one member.
#[derive(Clone, Debug, Default)]
pub(super) enum TargetSet {
    #[default]
    Empty,
    One {
        target: Target,
        bindings: u32,
    },
    Many(RedBlackTreeMapSync<Target, u32>),
}

impl TargetSet {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::One { .. } => false,
            Self::Many(targets) => targets.is_empty(),
        }
    }

    pub(super) fn add(&mut self, added: Target) {
        match self {
            Self::Empty => *self = Self::One { target: added, bindings: 1 },
            Self::One { target, bindings } if *target == added => *bindings += 1,
            Self::One { target, bindings } => {
                let mut targets = RedBlackTreeMapSync::new_sync();
                targets.insert_mut(target.clone(), *bindings);
                targets.insert_mut(added, 1);
                *self = Self::Many(targets);
            }
            Self::Many(targets) => {
                let bindings = targets.get(&added).map_or(1, |bindings| bindings + 1);
                targets.insert_mut(added, bindings);
            }
        }
    }

    /// Takes one binding to the target away. Nothing happens if there is none.
    pub(super) fn remove(&mut self, removed: &Target) {
        match self {
            Self::One { target, bindings } if target == removed => {
                *bindings -= 1;
                if *bindings == 0 {
                    *self = Self::Empty;
                }
            }
            Self::Empty | Self::One { .. } => {}
            Self::Many(targets) => match targets.get(removed).copied() {
                None => {}
                Some(1) => {
                    targets.remove_mut(removed);
                }
                Some(bindings) => targets.insert_mut(removed.clone(), bindings - 1),
            },
        }
    }

    pub(super) fn for_each<'a>(&'a self, found: &mut impl FnMut(&'a Target)) {
        match self {
            Self::Empty => {}
            Self::One { target, .. } => found(target),
            Self::Many(targets) => targets.keys().for_each(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(set: &TargetSet) -> Vec<u64> {
        let mut members = Vec::new();
        set.for_each(&mut |target| {
            if let Target::Queue(queue) = target {
                members.push(queue.0);
            }
        });
        members
    }

    #[test]
    fn a_target_stays_until_its_last_binding_goes() {
        let mut set = TargetSet::default();
        let queue = |id| Target::Queue(QueueId(id));
        set.add(queue(1));
        set.add(queue(1));
        set.remove(&queue(1));
        assert_eq!(members(&set), [1]);
        set.add(queue(2));
        set.add(queue(2));
        set.remove(&queue(2));
        set.remove(&queue(3));
        assert_eq!(members(&set), [1, 2]);
        set.remove(&queue(1));
        set.remove(&queue(2));
        assert!(set.is_empty());
        set.add(queue(4));
        assert_eq!(members(&set), [4]);
    }
}
