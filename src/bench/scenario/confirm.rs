//! `confirm`: persistent messages to a durable queue, every one confirmed.

use super::{Load, Part};
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench};
use crate::bench::report::About;
use crate::bench::rig::{Lifetime, Rig};

/// Persistent messages to a durable queue, every one confirmed.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// What is published and consumed; it is persistent whatever it says.
    pub load: Load,
    /// How many messages of each publisher may be unconfirmed, at least 1.
    pub window: u32,
    /// Nobody consumes: what is measured is the publishing alone.
    pub publish_only: bool,
}

impl Confirm {
    fn load(&self) -> Load {
        Load { persistent: true, ..self.load.clone() }
    }
}

impl Part for Confirm {
    fn check(&self) -> std::result::Result<(), String> {
        if self.window == 0 { Err("a window is at least for one message".into()) } else { self.load.check() }
    }

    fn about(&self) -> About {
        let mut about = self.load().about("confirm", Some(self.window));
        if self.publish_only {
            about.acks = "nobody consumes".into();
            about.settings.retain(|(name, _)| *name != "consumers");
        }
        about
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let load = self.load();
        let mut rig = Rig::new(bench.target)?;
        let queue = rig.queue("", Lifetime::Durable)?;
        let publishing = load.publishing("", vec![queue.clone()], Some(self.window));
        let consumers = if self.publish_only { Vec::new() } else { load.subscriptions(&queue) };
        let flowed = flow::run(bench, &publishing, &consumers)?;
        rig.take_down()?;
        Ok(flowed.figures(bench.tally))
    }
}
