//! What `fill` and `drain` have in common: a durable queue that nobody consumes from, and messages in it.

use super::Load;
use crate::bench::client::Window;
use crate::bench::error::{BenchError, Result};
use crate::bench::flow::{self, Bench, Flowed};
use crate::bench::rig::{Lifetime, Rig};

/// A queue with messages in it.
pub(super) struct Backlog {
    pub(super) rig: Rig,
    pub(super) queue: String,
    pub(super) filled: Flowed,
}

impl Backlog {
    /// Publishes persistent messages, and makes sure that the queue says how many they are.
    pub(super) fn fill(bench: Bench<'_>, load: &Load, window: Window) -> Result<Self> {
        let mut rig = Rig::new(bench.target)?;
        let queue = rig.queue("", Lifetime::Durable)?;
        let publishing = load.publishing("", vec![queue.clone()], window);
        let filled = flow::run(bench, &publishing, &[])?;
        let waiting = u64::from(rig.waiting(&queue)?);
        let published: u64 = filled.sent.iter().sum();
        let expected = bench.tally.expected();
        if waiting < expected || waiting > published {
            return Err(BenchError::Wrong(format!(
                "{waiting} messages wait of {published} that were published"
            )));
        }
        Ok(Self { rig, queue, filled })
    }
}
