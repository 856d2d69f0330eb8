//! What clients have done with a message so far.
//!
//! Invariant: it only grows: whoever may have received a message once may have for ever.

/// The marks that a message carries in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// A client may have received it before.
    pub redelivered: bool,
    /// How often a client has failed with it: rejected it, or lost its channel while it held it. Stops at its maximum.
    pub delivery_count: u16,
}

impl History {
    /// It came back from a client.
    #[must_use]
    pub fn returned(self, failed: bool) -> Self {
        let delivery_count = self.delivery_count.saturating_add(u16::from(failed));
        Self { redelivered: true, delivery_count }
    }

    /// What two sources know of it together.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            redelivered: self.redelivered || other.redelivered,
            delivery_count: self.delivery_count.max(other.delivery_count),
        }
    }
}
