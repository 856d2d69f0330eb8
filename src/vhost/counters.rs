//! Counters of one exchange: plain integers, changed in the turn they count.

use crate::topology::Targets;

/// What has happened to messages published to one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeCounters {
    /// Messages published to it.
    pub published: u64,
    /// Copies that queues got of them.
    pub routed: u64,
    /// Messages that went to no queue and back to their publisher (`mandatory`).
    pub returned: u64,
    /// Messages that went to no queue and were dropped.
    pub dropped: u64,
    /// Messages whose publisher asked for a confirm.
    pub confirmed: u64,
}

impl ExchangeCounters {
    pub(super) fn count(&mut self, targets: &Targets, returned: bool, confirmed: bool) {
        self.published += 1;
        self.confirmed += u64::from(confirmed);
        self.routed += targets.queues().len() as u64;
        if targets.is_empty() {
            self.returned += u64::from(returned);
            self.dropped += u64::from(!returned);
        }
    }
}
