//! `topic`: an exchange with many patterns, of which one fits.

use super::{Load, Part};
use crate::bench::error::{BenchError, Result};
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench};
use crate::bench::report::About;
use crate::bench::rig::{Lifetime, Rig};

/// An exchange with many patterns, of which one fits.
#[derive(Clone, Debug)]
pub struct Topic {
    /// What is published and consumed.
    pub load: Load,
    /// Patterns bound, at least 1. One leads to the queue that is consumed from, all others to one that must stay empty.
    pub bindings: u32,
    /// Routing keys used in turn, at least 1; with one a broker may remember where it leads.
    pub keys: u32,
}

impl Part for Topic {
    fn check(&self) -> std::result::Result<(), String> {
        self.load.check()
    }

    fn about(&self) -> About {
        let mut about = self.load.about("topic", None);
        about.settings.push(("bindings", self.bindings.to_string()));
        about.settings.push(("keys", self.keys.to_string()));
        about
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let mut rig = Rig::new(bench.target)?;
        let lifetime = if self.load.persistent { Lifetime::Durable } else { Lifetime::Consumers };
        let exchange = rig.exchange("topic", self.load.persistent)?;
        let other =
            rig.queue(".other", if self.load.persistent { lifetime } else { Lifetime::Connection })?;
        let queue = rig.queue("", lifetime)?;
        for index in 1..self.bindings {
            bench.tally.go_on()?;
            rig.bind(&exchange, &other, &format!("shop.{index}.*.new"))?;
        }
        rig.bind(&exchange, &queue, "shop.0.*.new")?;
        let keys = (0..self.keys).map(|key| format!("shop.0.{key:06}.new")).collect();
        let publishing = self.load.publishing(&exchange, keys, None);
        let flowed = flow::run(bench, &publishing, &self.load.subscriptions(&queue))?;
        let strayed = rig.waiting(&other)?;
        rig.take_down()?;
        if strayed > 0 {
            return Err(BenchError::Wrong(format!(
                "{strayed} messages went to a queue whose patterns do not fit"
            )));
        }
        Ok(flowed.figures(bench.tally))
    }
}
