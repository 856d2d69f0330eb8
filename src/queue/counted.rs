//! The memory that queues take for what they know of messages, on the gauge that messages are counted on.
//!
//! Invariant: what is counted is uncounted when its owner goes, wherever and by whichever thread that is.

use crate::model::count_queue_bytes;

/// Counts bytes for as long as it lives: put it into what takes them.
#[derive(Debug, Default)]
pub(super) struct Counted(usize);

impl Counted {
    /// The owner takes so many bytes from here on.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes != self.0 {
            count_queue_bytes(signed(bytes) - signed(self.0));
            self.0 = bytes;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).expect("no allocation is larger than 2^63 bytes")
}
