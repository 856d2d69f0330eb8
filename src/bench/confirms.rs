//! Which published messages are not confirmed yet.
//!
//! Invariant: every message is settled once, in whatever order; a confirm of what was never published, or again of
//! what is settled, is an error.

use std::collections::VecDeque;

use super::error::{BenchError, Result};

/// What a broker says about messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirm {
    /// The number of the message on its channel, from 1; 0 with `multiple` is all so far.
    pub(super) tag: u64,
    /// Also everything before it that is not settled.
    pub(super) multiple: bool,
    /// `basic.ack`; otherwise `basic.nack`.
    pub(super) ack: bool,
}

/// The messages of one channel that wait for their confirm.
#[derive(Debug)]
pub(super) struct ConfirmWindow {
    /// The tag of the first one that is not settled.
    first: u64,
    /// Whether each from `first` on is settled; the first never is.
    settled: VecDeque<bool>,
    outstanding: u64,
    acked: u64,
    nacked: u64,
}

impl ConfirmWindow {
    pub(super) fn new() -> Self {
        Self { first: 1, settled: VecDeque::new(), outstanding: 0, acked: 0, nacked: 0 }
    }

    /// Published, and not settled.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) fn nacked(&self) -> u64 {
        self.nacked
    }

    /// So many more messages are published.
    pub(super) fn publish(&mut self, count: usize) {
        self.settled.resize(self.settled.len() + count, false);
        self.outstanding += count as u64;
    }

    /// All that were ever published.
    pub(super) fn published(&self) -> u64 {
        self.first - 1 + self.settled.len() as u64
    }

    /// Settles what a confirm speaks of, and calls `each` with every tag that it settles.
    pub(super) fn settle(&mut self, confirm: Confirm, mut each: impl FnMut(u64)) -> Result<()> {
        let last = self.published();
        let tag = if confirm.multiple && confirm.tag == 0 { last } else { confirm.tag };
        if tag == 0 || tag > last {
            return Err(BenchError::Wrong(format!("it confirmed message {tag} when {last} were published")));
        }
        // In front of `first` everything is settled.
        let end = usize::try_from((tag + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let start = if confirm.multiple { 0 } else { end.saturating_sub(1) };
        let mut count = 0;
        for at in start..end {
            if !std::mem::replace(&mut self.settled[at], true) {
                count += 1;
                each(self.first + at as u64);
            }
        }
        if count == 0 {
            return Err(BenchError::Wrong(format!("it confirmed message {tag} twice")));
        }
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.first += 1;
        }
        self.outstanding -= count;
        *(if confirm.ack { &mut self.acked } else { &mut self.nacked }) += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(published: usize) -> ConfirmWindow {
        let mut window = ConfirmWindow::new();
        window.publish(published);
        window
    }

    fn settle(window: &mut ConfirmWindow, tag: u64, multiple: bool, ack: bool) -> Result<Vec<u64>> {
        let mut seen = Vec::new();
        window.settle(Confirm { tag, multiple, ack }, |tag| seen.push(tag)).map(|()| seen)
    }

    #[test]
    fn confirms_come_in_any_order() {
        let mut window = window(5);
        assert_eq!(settle(&mut window, 3, false, true).unwrap(), [3]);
        assert_eq!(settle(&mut window, 1, false, true).unwrap(), [1]);
        assert_eq!(window.outstanding(), 3);
        assert_eq!(settle(&mut window, 4, true, true).unwrap(), [2, 4]);
        window.publish(2);
        assert_eq!(window.published(), 7);
        assert_eq!(settle(&mut window, 7, false, false).unwrap(), [7]);
        assert_eq!(settle(&mut window, 0, true, true).unwrap(), [5, 6]);
        assert_eq!((window.outstanding(), window.acked(), window.nacked()), (0, 6, 1));
    }

    #[test]
    fn zero_and_multiple_is_everything_so_far() {
        let mut window = window(3);
        assert_eq!(settle(&mut window, 0, true, false).unwrap(), [1, 2, 3]);
        assert_eq!((window.outstanding(), window.nacked()), (0, 3));
    }

    #[test]
    fn what_was_not_published_or_is_settled_is_not_confirmed() {
        let mut window = window(3);
        for (tag, multiple) in [(0, false), (4, false), (4, true)] {
            assert!(settle(&mut window, tag, multiple, true).is_err(), "{tag}");
        }
        settle(&mut window, 2, true, true).unwrap();
        for (tag, multiple) in [(1, false), (2, false), (2, true)] {
            let error = settle(&mut window, tag, multiple, true).unwrap_err().to_string();
            assert!(error.contains("twice"), "{error}");
        }
        settle(&mut window, 3, false, true).unwrap();
        assert!(settle(&mut window, 0, true, true).is_err(), "nothing is left");
    }
}
