//! `fanout`: every message goes to several queues.

use super::{Load, Part};
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench};
use crate::bench::report::About;
use crate::bench::rig::{Lifetime, Rig};

/// Every message goes to several queues.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// What is published and consumed; every queue has one consumer.
    pub load: Load,
    /// Queues, at least 1.
    pub queues: u16,
}

impl Part for Fanout {
    fn check(&self) -> std::result::Result<(), String> {
        self.load.check()
    }

    fn about(&self) -> About {
        let mut about = self.load.about("fanout", None);
        about.settings.retain(|(name, _)| *name != "consumers");
        about.settings.push(("queues", self.queues.to_string()));
        about
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let mut rig = Rig::new(bench.target)?;
        let lifetime = if self.load.persistent { Lifetime::Durable } else { Lifetime::Consumers };
        let exchange = rig.exchange("fanout", self.load.persistent)?;
        let mut subscriptions = Vec::new();
        for index in 0..self.queues {
            let queue = rig.queue(&format!(".{index}"), lifetime)?;
            rig.bind(&exchange, &queue, "")?;
            subscriptions.push(self.load.subscription(vec![queue]));
        }
        let publishing = self.load.publishing(&exchange, vec![String::new()], None);
        let flowed = flow::run(bench, &publishing, &subscriptions)?;
        rig.take_down()?;
        Ok(flowed.figures(bench.tally))
    }
}
