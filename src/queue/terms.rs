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
    /// The higher, the sooner it is handed out; none if nothing is said about it. Without meaning in a queue without
    /// priorities.
    pub priority: Option<u8>,
    /// From when on it is not handed out any more.
    pub deadline: Moment,
}

impl Default for Terms {
    fn default() -> Self {
        Self { priority: None, deadline: Moment::NEVER }
    }
}

/// What priorities mean to a queue that has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priorities {
    /// What is above counts like this.
    pub highest: u8,
    /// What a message has that says nothing.
    pub unsaid: u8,
}

impl Priorities {
    /// What a priority counts for.
    #[must_use]
    pub fn of(self, said: Option<u8>) -> u8 {
        said.unwrap_or(self.unsaid).min(self.highest)
    }
}
