//! On which terms a queue keeps a message.
//!
//! Invariant: they are agreed when the message enters, and stay as they are for as long as it does, however often it is
//! handed out and comes back.

/// A moment in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// So many milliseconds later.
    #[must_use]
    pub fn after(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// See the module's invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The higher, the sooner it is handed out; without meaning in a queue without priorities.
    pub priority: u8,
    /// From when on it is not handed out any more.
    pub deadline: Moment,
}

impl Default for Terms {
    fn default() -> Self {
        Self { priority: 0, deadline: Moment::NEVER }
    }
}
