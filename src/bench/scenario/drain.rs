//! `drain`: a durable queue is filled, and then consumed from; the consuming is measured.

use super::backlog::Backlog;
use super::{Load, Part};
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench};
use crate::bench::report::About;

/// A durable queue is filled, and then consumed from; the consuming is measured.
#[derive(Clone, Debug)]
pub struct Drain {
    /// What is published and consumed.
    pub load: Load,
    /// How many messages of each publisher may be unconfirmed while it fills; `None` is without confirms.
    pub window: Option<u32>,
}

impl Part for Drain {
    fn check(&self) -> std::result::Result<(), String> {
        self.load.check()
    }

    fn about(&self) -> About {
        Load { persistent: true, ..self.load.clone() }.about("drain", self.window)
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let load = Load { persistent: true, ..self.load.clone() };
        let Backlog { rig, queue, filled } = Backlog::fill(bench, &load, self.window)?;
        let mut drained = flow::consume(bench, filled.sent, &load.subscriptions(&queue))?;
        rig.take_down()?;
        // The rate of the filling is told beside; CPU is that of the draining alone.
        drained.publishing = filled.publishing;
        Ok(drained.figures(bench.tally))
    }
}
