//! Whether a consumer gets what was published: each message once, whole, unchanged and in order.
//!
//! A *lane* is what has an order of its own: messages whose sequence numbers have the same remainder by the number
//! of lanes. With one routing key there is one lane; with messages dealt to N queues each queue is one.

use super::body::{Bodies, HEAD, mix};
use super::error::{BenchError, Result};

/// What a consumer is to get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectation {
    /// How many publishers there are; their ids are below it.
    pub(super) publishers: u16,
    /// How many lanes each has; at least 1.
    pub(super) lanes: u64,
    pub(super) share: Share,
}

/// How much of what is published one consumer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Everything: a message that is jumped over is missing.
    All,
    /// What other consumers of the queue leave: in order, with jumps.
    Some,
}

/// Which message has arrived. Bodies below [`HEAD`] octets do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) publisher: u16,
    pub(super) sequence: u64,
}

/// Everything one consumer got from one publisher, as a number that does not depend on the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    count: u64,
    sum: u64,
}

impl Digest {
    /// Of a publisher's messages from 0 up to, not including, `end`.
    pub(super) fn of_all(end: u64) -> Self {
        (0..end).fold(Self::default(), |digest, sequence| digest.with(Self { count: 1, sum: mix(sequence) }))
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum.wrapping_add(other.sum) }
    }
}

/// Follows the deliveries of one consumer.
#[derive(Debug)]
pub(super) struct Checker {
    bodies: Bodies,
    expectation: Expectation,
    /// The sequence number that comes next, by publisher and lane.
    next: Vec<u64>,
    digests: Vec<Digest>,
    count: u64,
    missing: u64,
    /// The first jump, in words.
    gap: Option<String>,
    /// How much of the current body is here, and its head.
    taken: usize,
    head: [u8; HEAD],
}

impl Checker {
    pub(super) fn new(bodies: Bodies, expectation: Expectation) -> Self {
        let lanes = 0..expectation.lanes;
        let next = (0..expectation.publishers).flat_map(|_| lanes.clone()).collect();
        let digests = vec![Digest::default(); usize::from(expectation.publishers)];
        Self {
            bodies,
            expectation,
            next,
            digests,
            count: 0,
            missing: 0,
            gap: None,
            taken: 0,
            head: [0; HEAD],
        }
    }

    /// Whole messages so far.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Messages that were jumped over, if this consumer is to get all.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// The first jump, in words.
    pub(super) fn gap(&self) -> Option<&str> {
        self.gap.as_deref()
    }

    /// By publisher. All zero for bodies that say nothing.
    pub(super) fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// A body of this size is announced. Nothing more comes of an empty one.
    #[inline]
    pub(super) fn begin(&mut self, size: u64) -> Result<()> {
        if self.taken > 0 {
            return Err(self.wrong(&format!("a body ended after {} octets", self.taken)));
        }
        if size != self.bodies.size() as u64 {
            let published = self.bodies.size();
            return Err(self.wrong(&format!("a delivery has {size} octets, and {published} were published")));
        }
        if size == 0 {
            self.count += 1;
        }
        Ok(())
    }

    /// A piece of the announced body; returns which message it was when it is whole.
    #[inline]
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<Option<Arrival>> {
        if self.taken == 0 && piece.len() == self.bodies.size() {
            self.count += 1;
            return match piece.split_first_chunk::<HEAD>() {
                Some((head, tail)) => self.whole(head, tail).map(Some),
                None if piece == self.bodies.headless() => Ok(None),
                None => Err(self.wrong("a body was changed")),
            };
        }
        self.take_part(piece)
    }

    /// A body in several pieces.
    fn take_part(&mut self, piece: &[u8]) -> Result<Option<Arrival>> {
        let start = self.taken;
        let end = start + piece.len();
        if end > self.bodies.size() {
            return Err(
                self.wrong(&format!("a body has more than the {} octets it announced", self.bodies.size()))
            );
        }
        self.taken = end;
        if !self.bodies.have_heads() {
            if *piece != self.bodies.headless()[start..end] {
                return Err(self.wrong("a body was changed"));
            }
        } else {
            let of_head = piece.len().min(HEAD.saturating_sub(start));
            self.head[start.min(HEAD)..][..of_head].copy_from_slice(&piece[..of_head]);
            if end > HEAD {
                self.compare_tail(&piece[of_head..], start.max(HEAD) - HEAD)?;
            }
        }
        if end < self.bodies.size() {
            return Ok(None);
        }
        self.taken = 0;
        self.count += 1;
        if self.bodies.have_heads() { self.arrive().map(Some) } else { Ok(None) }
    }

    fn compare_tail(&self, piece: &[u8], at: usize) -> Result<()> {
        let head =
            self.bodies.head(&self.head).ok_or_else(|| self.wrong("the head of a body was changed"))?;
        if *piece == self.bodies.after(head)[at..at + piece.len()] {
            return Ok(());
        }
        Err(self.changed(head.publisher, head.sequence))
    }

    #[inline]
    fn whole(&mut self, head: &[u8; HEAD], tail: &[u8]) -> Result<Arrival> {
        self.head = *head;
        let Some(read) = self.bodies.head(head) else {
            return Err(self.wrong("the head of a body was changed"));
        };
        if tail != self.bodies.after(read) {
            return Err(self.changed(read.publisher, read.sequence));
        }
        self.arrive()
    }

    /// The order, once the body is known to be right.
    #[inline]
    fn arrive(&mut self) -> Result<Arrival> {
        let Some(head) = self.bodies.head(&self.head) else {
            return Err(self.wrong("the head of a body was changed"));
        };
        let (publisher, sequence) = (head.publisher, head.sequence);
        let Some(digest) = self.digests.get_mut(usize::from(publisher)) else {
            return Err(self.wrong(&format!("a message of publisher {publisher}, who is none of this run's")));
        };
        *digest = digest.with(Digest { count: 1, sum: mix(sequence) });
        let lanes = self.expectation.lanes;
        // One lane is the usual case, and a division is not free.
        let lane = if lanes == 1 { 0 } else { sequence % lanes };
        #[expect(clippy::cast_possible_truncation, reason = "there is an entry for each, so it is a usize")]
        let index = usize::from(publisher) * (lanes as usize) + lane as usize;
        let next = self.next[index];
        if sequence < next {
            return Err(self.wrong(&format!(
                "message {sequence} of publisher {publisher} came twice or out of order: {next} was next"
            )));
        }
        if sequence > next && self.expectation.share == Share::All {
            self.missing += (sequence - next) / lanes;
            self.gap.get_or_insert_with(|| {
                format!("after {} deliveries message {sequence} of publisher {publisher} came when {next} was next", self.count)
            });
        }
        self.next[index] = sequence + lanes;
        Ok(Arrival { publisher, sequence })
    }

    #[cold]
    fn changed(&self, publisher: u16, sequence: u64) -> BenchError {
        self.wrong(&format!("the body of message {sequence} of publisher {publisher} was changed"))
    }

    #[cold]
    fn wrong(&self, what: &str) -> BenchError {
        BenchError::Wrong(format!("{what} (delivery {})", self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Expectation = Expectation { publishers: 1, lanes: 1, share: Share::All };

    fn body(bodies: &Bodies, publisher: u16, sequence: u64) -> Vec<u8> {
        let slot = usize::try_from(sequence).unwrap();
        let mut body = bodies.body(slot);
        bodies.stamp(publisher, slot, sequence, body.first_chunk_mut().unwrap());
        body
    }

    fn deliver(checker: &mut Checker, body: &[u8]) -> Result<Option<Arrival>> {
        checker.begin(body.len() as u64)?;
        checker.take(body)
    }

    /// Delivers these (publisher, sequence) and returns what the checker says in the end.
    fn run(expectation: Expectation, messages: &[(u16, u64)]) -> Result<(u64, u64)> {
        let bodies = Bodies::of_size(40);
        let mut checker = Checker::new(bodies.clone(), expectation);
        for &(publisher, sequence) in messages {
            let arrival = deliver(&mut checker, &body(&bodies, publisher, sequence))?;
            assert_eq!(arrival, Some(Arrival { publisher, sequence }));
        }
        Ok((checker.count(), checker.missing()))
    }

    #[track_caller]
    fn is_wrong<T: std::fmt::Debug>(result: Result<T>, part: &str) {
        match result {
            Err(BenchError::Wrong(what)) => assert!(what.contains(part), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_in_order_are_right() {
        assert_eq!(run(ONE, &[(0, 0), (0, 1), (0, 2)]).unwrap(), (3, 0));
        let two = Expectation { publishers: 2, ..ONE };
        assert_eq!(run(two, &[(1, 0), (0, 0), (1, 1)]).unwrap(), (3, 0));
        let lanes = Expectation { lanes: 3, ..ONE };
        assert_eq!(run(lanes, &[(0, 2), (0, 5), (0, 0), (0, 1), (0, 3)]).unwrap(), (5, 0));
    }

    #[test]
    fn a_duplicate_is_wrong() {
        is_wrong(run(ONE, &[(0, 0), (0, 1), (0, 1)]), "came twice or out of order");
        let some = Expectation { share: Share::Some, ..ONE };
        is_wrong(run(some, &[(0, 3), (0, 9), (0, 3)]), "came twice or out of order");
    }

    #[test]
    fn a_gap_is_counted_and_told_unless_others_may_have_it() {
        assert_eq!(run(ONE, &[(0, 0), (0, 4)]).unwrap(), (2, 3));
        let lanes = Expectation { lanes: 10, ..ONE };
        assert_eq!(run(lanes, &[(0, 3), (0, 23)]).unwrap(), (2, 1));
        let some = Expectation { share: Share::Some, ..ONE };
        assert_eq!(run(some, &[(0, 7), (0, 70)]).unwrap(), (2, 0));
        let bodies = Bodies::of_size(16);
        let mut checker = Checker::new(bodies.clone(), ONE);
        deliver(&mut checker, &body(&bodies, 0, 2)).unwrap();
        assert_eq!(checker.gap(), Some("after 1 deliveries message 2 of publisher 0 came when 0 was next"));
    }

    #[test]
    fn another_order_is_wrong() {
        is_wrong(run(ONE, &[(0, 0), (0, 2), (0, 1)]), "out of order");
    }

    #[test]
    fn a_changed_body_is_wrong_wherever_it_was_changed() {
        for size in [16, 17, 100] {
            let bodies = Bodies::of_size(size);
            for at in 0..size {
                let mut changed = body(&bodies, 0, 0);
                changed[at] ^= 0x10;
                is_wrong(deliver(&mut Checker::new(bodies.clone(), ONE), &changed), "changed");
                let mut checker = Checker::new(bodies.clone(), ONE);
                checker.begin(size as u64).unwrap();
                let pieces: Result<Vec<_>> = changed.chunks(7).map(|piece| checker.take(piece)).collect();
                is_wrong(pieces, "changed");
            }
        }
        let short = Bodies::of_size(5);
        let mut changed = short.body(0);
        changed[4] ^= 1;
        is_wrong(deliver(&mut Checker::new(short.clone(), ONE), &changed), "changed");
        assert_eq!(deliver(&mut Checker::new(short.clone(), ONE), &short.body(0)).unwrap(), None);
    }

    #[test]
    fn the_tail_of_another_message_is_wrong() {
        let bodies = Bodies::of_size(100);
        let (mut mixed, other) = (body(&bodies, 0, 0), body(&bodies, 0, 1));
        mixed[HEAD..].copy_from_slice(&other[HEAD..]);
        is_wrong(deliver(&mut Checker::new(bodies, ONE), &mixed), "changed");
    }

    #[test]
    fn a_body_may_come_in_pieces_of_any_size() {
        let bodies = Bodies::of_size(100);
        for piece in 1..100 {
            let mut checker = Checker::new(bodies.clone(), ONE);
            for sequence in 0..3 {
                checker.begin(100).unwrap();
                let whole = body(&bodies, 0, sequence);
                let last = whole.chunks(piece).map(|piece| checker.take(piece).unwrap()).last().unwrap();
                assert_eq!(last, Some(Arrival { publisher: 0, sequence }));
            }
            assert_eq!(checker.count(), 3);
        }
    }

    #[test]
    fn another_size_or_publisher_is_wrong() {
        let bodies = Bodies::of_size(20);
        let mut checker = Checker::new(bodies.clone(), ONE);
        is_wrong(checker.begin(21), "21 octets");
        is_wrong(run(ONE, &[(1, 0)]), "none of this run's");
        checker.begin(20).unwrap();
        checker.take(&body(&bodies, 0, 0)[..5]).unwrap();
        is_wrong(checker.begin(20), "ended after 5");
        is_wrong(checker.take(&[0; 16]), "more than the 20");
    }

    #[test]
    fn what_several_consumers_got_adds_up_to_everything() {
        let some = Expectation { share: Share::Some, ..ONE };
        let bodies = Bodies::of_size(16);
        let got = |sequences: &[u64]| {
            let mut checker = Checker::new(bodies.clone(), some);
            for &sequence in sequences {
                deliver(&mut checker, &body(&bodies, 0, sequence)).unwrap();
            }
            checker.digests()[0]
        };
        assert_eq!(got(&[0, 3, 4]).with(got(&[1, 2])), Digest::of_all(5));
        assert_ne!(got(&[0, 3, 4]).with(got(&[1, 3])), Digest::of_all(5));
        assert_ne!(got(&[0, 3]).with(got(&[1, 2])), Digest::of_all(5));
    }
}
