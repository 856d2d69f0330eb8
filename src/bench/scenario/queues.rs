//! `queues`: many queues, what they cost, and messages dealt to all of them.

use super::{Load, Part};
use crate::bench::clock;
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench};
use crate::bench::machine::Process;
use crate::bench::report::About;
use crate::bench::rig::{Lifetime, Rig};

/// Many queues, and messages dealt to all of them.
#[derive(Clone, Debug)]
pub struct Queues {
    /// What is published; one connection consumes from all queues.
    pub load: Load,
    /// Queues, at least 1.
    pub count: u32,
    /// How many messages of each publisher may be unconfirmed; `None` is without confirms.
    pub window: Option<u32>,
}

impl Part for Queues {
    fn check(&self) -> std::result::Result<(), String> {
        self.load.check()
    }

    fn about(&self) -> About {
        let mut about = self.load.about("queues", self.window);
        about.settings.retain(|(name, _)| *name != "consumers");
        about.settings.push(("queues", self.count.to_string()));
        about
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let mut rig = Rig::new(bench.target)?;
        let lifetime = if self.load.persistent { Lifetime::Durable } else { Lifetime::Consumers };
        let resident = || bench.process.and_then(Process::resident);
        let (before, start) = (resident(), clock::now());
        let mut queues = Vec::new();
        for index in 0..self.count {
            bench.tally.go_on()?;
            // Keys of one length, as the generator's templates want them.
            queues.push(rig.queue(&format!(".{index:06}"), lifetime)?);
        }
        let declared = clock::now().duration_since(start);
        let grown = resident().zip(before);
        let publishing = self.load.publishing("", queues.clone(), self.window);
        let flowed = flow::run(bench, &publishing, &[self.load.subscription(queues)])?;
        let start = clock::now();
        rig.take_down()?;
        let count = u64::from(self.count);
        let mut figures = flowed.figures(bench.tally);
        figures.push(Figure::rate("queues_declared_per_s", count, declared));
        if self.load.persistent {
            // The others went with their consumer.
            figures.push(Figure::rate("queues_deleted_per_s", count, clock::now().duration_since(start)));
        }
        let growth = |(now, before)| Figure::growth("rss_per_queue_bytes", before, now, count);
        figures.extend(grown.map(growth));
        Ok(figures)
    }
}
