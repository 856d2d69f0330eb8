//! Who waits for which log position, and the task that rings them when it is durable.
//!
//! Invariant: a bell registered for a position is rung once the position is durable, however the two race.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Mailbox;
use crate::model::LogPosition;

/// The durable position and those who wait for a later one.
#[derive(Debug)]
pub struct Durability {
    durable: watch::Receiver<LogPosition>,
    waiting: Mutex<Vec<(LogPosition, Arc<Mailbox>)>>,
}

impl Durability {
    pub(super) fn new(durable: watch::Receiver<LogPosition>) -> Self {
        Self { durable, waiting: Mutex::default() }
    }

    /// Everything up to here survives a power cut.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        *self.durable.borrow()
    }

    /// Rings `mailbox` when `position` is durable, at once if it is already.
    pub(super) fn ring_at(&self, position: LogPosition, mailbox: &Arc<Mailbox>) {
        self.waiting.lock().push((position, Arc::clone(mailbox)));
        if self.position() >= position {
            mailbox.ring();
        }
    }

    /// Rings until the writer of the log is gone.
    pub(super) async fn ring_forever(&self) {
        let mut durable = self.durable.clone();
        loop {
            let position = *durable.borrow_and_update();
            self.waiting.lock().retain(|(waits_for, mailbox)| {
                let due = *waits_for <= position;
                if due {
                    mailbox.ring();
                }
                !due
            });
            if durable.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bells_ring_when_their_position_is_durable_and_not_before() {
        let (publish, durable) = watch::channel(LogPosition(4));
        let durability = Arc::new(Durability::new(durable));
        let ringing = Arc::clone(&durability);
        let ringer = tokio::spawn(async move { ringing.ring_forever().await });
        let [early, due, late]: [Arc<Mailbox>; 3] = Default::default();
        durability.ring_at(LogPosition(4), &early);
        early.rung().await;
        durability.ring_at(LogPosition(6), &due);
        durability.ring_at(LogPosition(7), &late);
        publish.send_replace(LogPosition(6));
        due.rung().await;
        assert!(!late.take());
        assert_eq!(durability.waiting.lock().len(), 1, "who was rung is forgotten");
        drop(publish);
        ringer.await.expect("it ends with the log's writer");
    }
}
