//! How the rest of the broker wakes a connection's task.
//!
//! Invariant: a mailbox carries no data, only the fact that something changed; the task looks itself.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// One connection's bell.
#[derive(Debug, Default)]
pub struct Mailbox {
    rung: AtomicBool,
    notify: Notify,
}

impl Mailbox {
    /// Wakes the task, once for any number of calls until it has looked.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Whether the bell has been rung since the last look.
    pub fn take(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel)
    }

    /// Returns when the bell has been rung since the last return.
    pub async fn rung(&self) {
        self.notify.notified().await;
        // A store could be delayed past the loads of whoever looks next, and a ring in between would be lost.
        self.rung.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn rings_before_a_look_are_one() {
        let mailbox = Mailbox::default();
        mailbox.ring();
        mailbox.ring();
        mailbox.rung().await;
        assert!(!mailbox.take(), "the look has answered both");
        mailbox.ring();
        assert!(mailbox.take());
    }

    #[tokio::test]
    async fn a_ring_after_a_look_wakes_again() {
        let mailbox = Arc::new(Mailbox::default());
        for _ in 0..1_000 {
            let ringing = Arc::clone(&mailbox);
            let ringer = tokio::spawn(async move { ringing.ring() });
            mailbox.rung().await;
            ringer.await.expect("the ringer does not panic");
        }
    }
}
