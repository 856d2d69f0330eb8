//! Where in the message log a message of a queue is stored.
//!
//! Invariant: a place of a queue leaves it with the home it has at that moment, so that whoever counts what is alive
//! in each segment counts every place exactly once.

/// Where a message is stored for one place of one queue. The log may move it while the place stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    segment: u32,
    bytes: u32,
}

impl Home {
    /// Nowhere: the message goes with the process.
    pub const NONE: Self = Self { segment: 0, bytes: 0 };

    /// It is to be stored with the turn that is running, unless it has left its queue by the end of it.
    pub const AWAITED: Self = Self { segment: u32::MAX, bytes: 0 };

    /// In this segment, of whose bytes so many are there for this place.
    #[must_use]
    pub fn new(segment: u32, bytes: u32) -> Self {
        Self { segment, bytes }
    }

    /// The segment and the bytes, if it is stored.
    #[must_use]
    pub fn stored(self) -> Option<(u32, u32)> {
        (self != Self::NONE && self != Self::AWAITED).then_some((self.segment, self.bytes))
    }
}
