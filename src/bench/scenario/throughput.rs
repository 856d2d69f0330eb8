//! `throughput`: one queue, as fast as it goes, without confirms.

use super::{Load, Part};
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench};
use crate::bench::report::About;
use crate::bench::rig::{Lifetime, Rig};

/// One queue, as fast as it goes, without confirms.
#[derive(Clone, Debug)]
pub struct Throughput {
    /// What is published and consumed.
    pub load: Load,
}

impl Part for Throughput {
    fn check(&self) -> std::result::Result<(), String> {
        self.load.check()
    }

    fn about(&self) -> About {
        self.load.about("throughput", None)
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let mut rig = Rig::new(bench.target)?;
        let lifetime = if self.load.persistent { Lifetime::Durable } else { Lifetime::Consumers };
        let queue = rig.queue("", lifetime)?;
        let publishing = self.load.publishing("", vec![queue.clone()], None);
        let flowed = flow::run(bench, &publishing, &self.load.subscriptions(&queue))?;
        rig.take_down()?;
        Ok(flowed.figures(bench.tally))
    }
}
