//! Bindings that are counted: the n-th of them is found without looking at the others.
//!
//! Invariant: the order depends on the destinations' names only, not on the history. Every fork has bindings on both
//! sides, and its number of bindings is the sum of theirs. A path is at most as long as a hash has bits.

use std::sync::Arc;

use super::hash::Hash;
use super::target::Target;
use crate::model::Destination;

/// The bindings of one exchange, in the order of their destinations' hashes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranked(Option<Arc<Node>>);

#[derive(Debug)]
enum Node {
    /// Destinations with this hash, each with the number of bindings that lead to it: mostly one.
    Leaf {
        place: u64,
        targets: Vec<(Target, u64)>,
    },
    Fork(Fork),
}

#[derive(Debug)]
struct Fork {
    /// The hash of some leaf below; all agree with it above `bit`.
    place: u64,
    /// The bit that divides the sides, counted from the highest.
    bit: u32,
    bindings: u64,
    /// Those with the bit clear, and those with it set.
    sides: [Arc<Node>; 2],
}

/// Where a destination stands.
fn place(destination: &Destination) -> u64 {
    match destination {
        Destination::Queue(name) => Hash::new().text("queue").text(name.as_str()).finish(),
        Destination::Exchange(name) => Hash::new().text("exchange").text(name.as_str()).finish(),
    }
}

/// The side of a fork on which a hash is.
fn side(place: u64, bit: u32) -> usize {
    usize::from(place.rotate_left(bit + 1) & 1 == 1)
}

impl Ranked {
    pub(super) fn add(&mut self, destination: &Destination, target: Target) {
        let place = place(destination);
        self.0 = Some(match &self.0 {
            Some(root) => root.with(place, target),
            None => Arc::new(Node::Leaf { place, targets: vec![(target, 1)] }),
        });
    }

    /// Takes one binding to the target away. Nothing happens if there is none.
    pub(super) fn remove(&mut self, destination: &Destination, target: &Target) {
        if let Some(root) = &self.0 {
            self.0 = root.without(place(destination), target);
        }
    }

    /// How many bindings there are.
    pub(super) fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |root| root.bindings())
    }

    /// Where the n-th binding leads, counted from 0.
    pub(super) fn get(&self, mut nth: u64) -> Option<&Target> {
        let mut node = self.0.as_ref()?;
        while let Node::Fork(fork) = &**node {
            let before = fork.sides[0].bindings();
            let beyond = nth >= before;
            if beyond {
                nth -= before;
            }
            node = &fork.sides[usize::from(beyond)];
        }
        let Node::Leaf { targets, .. } = &**node else { return None };
        targets.iter().find_map(|(target, bindings)| {
            let found = nth < *bindings;
            nth = nth.saturating_sub(*bindings);
            found.then_some(target)
        })
    }

    /// Where the binding leads that a uniform draw falls on.
    pub(super) fn pick(&self, draw: u64) -> Option<&Target> {
        let scaled = (u128::from(draw) * u128::from(self.len())) >> 64;
        self.get(u64::try_from(scaled).unwrap_or(0))
    }
}

impl Node {
    fn bindings(&self) -> u64 {
        match self {
            Self::Leaf { targets, .. } => targets.iter().map(|(_, bindings)| bindings).sum(),
            Self::Fork(fork) => fork.bindings,
        }
    }

    fn place(&self) -> u64 {
        match self {
            Self::Leaf { place, .. } | Self::Fork(Fork { place, .. }) => *place,
        }
    }

    fn fork(bit: u32, sides: [Arc<Node>; 2]) -> Arc<Self> {
        let bindings = sides[0].bindings() + sides[1].bindings();
        Arc::new(Self::Fork(Fork { place: sides[0].place(), bit, bindings, sides }))
    }

    fn with(self: &Arc<Self>, place: u64, target: Target) -> Arc<Self> {
        let differs = (self.place() ^ place).leading_zeros();
        match &**self {
            Self::Fork(Fork { bit, sides, .. }) if differs >= *bit => {
                let mut sides = sides.clone();
                let changed = &mut sides[side(place, *bit)];
                *changed = changed.with(place, target);
                Self::fork(*bit, sides)
            }
            Self::Leaf { targets, .. } if differs == u64::BITS => {
                let mut targets = targets.clone();
                match targets.iter_mut().find(|(present, _)| *present == target) {
                    Some((_, bindings)) => *bindings += 1,
                    None => targets.push((target, 1)),
                }
                Arc::new(Self::Leaf { place, targets })
            }
            _ => {
                let added = Arc::new(Self::Leaf { place, targets: vec![(target, 1)] });
                let present = Arc::clone(self);
                let sides = if side(place, differs) == 0 { [added, present] } else { [present, added] };
                Self::fork(differs, sides)
            }
        }
    }

    /// Without one binding to the target; nothing if that was the last.
    fn without(self: &Arc<Self>, at: u64, target: &Target) -> Option<Arc<Self>> {
        match &**self {
            Self::Leaf { place, .. } if *place != at => Some(Arc::clone(self)),
            Self::Leaf { place, targets } => {
                let mut targets = targets.clone();
                if let Some((_, bindings)) = targets.iter_mut().find(|(present, _)| present == target) {
                    *bindings -= 1;
                }
                targets.retain(|(_, bindings)| *bindings > 0);
                (!targets.is_empty()).then(|| Arc::new(Self::Leaf { place: *place, targets }))
            }
            Self::Fork(Fork { bit, sides, .. }) => {
                let mut sides = sides.clone();
                let changed = side(at, *bit);
                match sides[changed].without(at, target) {
                    Some(rest) => {
                        sides[changed] = rest;
                        Some(Self::fork(*bit, sides))
                    }
                    None => Some(Arc::clone(&sides[1 - changed])),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::QueueId;

    fn destination(queue: u64) -> (Destination, Target) {
        (Destination::Queue(format!("q{queue}").as_str().into()), Target::Queue(QueueId(queue)))
    }

    fn members(ranked: &Ranked) -> Vec<Target> {
        (0..ranked.len()).map(|nth| ranked.get(nth).expect("there are so many").clone()).collect()
    }

    proptest! {
        #[test]
        fn it_counts_like_a_plain_map(steps in vec((any::<bool>(), 0..12_u64), 1..80)) {
            let (mut ranked, mut plain) = (Ranked::default(), BTreeMap::<u64, u64>::new());
            for (add, queue) in steps {
                let (destination, target) = destination(queue);
                if add {
                    ranked.add(&destination, target);
                    *plain.entry(queue).or_default() += 1;
                } else {
                    ranked.remove(&destination, &target);
                    if let Some(bindings) = plain.get_mut(&queue) {
                        *bindings -= 1;
                        if *bindings == 0 {
                            plain.remove(&queue);
                        }
                    }
                }
                let mut found = members(&ranked);
                prop_assert_eq!(ranked.get(ranked.len()), None);
                // The order is a function of what is there.
                let mut anew = Ranked::default();
                for (queue, bindings) in plain.iter().rev() {
                    for _ in 0..*bindings {
                        let (destination, target) = self::destination(*queue);
                        anew.add(&destination, target);
                    }
                }
                prop_assert_eq!(&members(&anew), &found);
                found.sort();
                let expected: Vec<Target> = plain
                    .iter()
                    .flat_map(|(queue, bindings)| vec![self::destination(*queue).1; usize::try_from(*bindings).expect("few")])
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn draws_cover_all_bindings() {
        let mut ranked = Ranked::default();
        assert_eq!(ranked.pick(u64::MAX), None);
        for queue in 0..3 {
            let (destination, target) = destination(queue);
            ranked.add(&destination, target);
        }
        let picked: Vec<_> = [0, u64::MAX / 2, u64::MAX].map(|draw| ranked.pick(draw).cloned()).into();
        let in_order: Vec<_> = members(&ranked).into_iter().map(Some).collect();
        assert_eq!(picked, in_order);
    }
}
