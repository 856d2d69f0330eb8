//! `fill`: persistent messages to a durable queue that nobody consumes from.

use super::backlog::Backlog;
use super::{Load, Part};
use crate::bench::client::Window;
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::Bench;
use crate::bench::report::About;

/// Persistent messages to a durable queue that nobody consumes from.
#[derive(Clone, Debug)]
pub struct Fill {
    /// What is published; nobody consumes.
    pub load: Load,
    /// How many messages of each publisher may be unconfirmed; `None` is without confirms.
    pub window: Option<u32>,
}

impl Fill {
    fn load(&self) -> Load {
        Load { persistent: true, ..self.load.clone() }
    }

    fn window(&self) -> Window {
        self.window
    }
}

impl Part for Fill {
    fn check(&self) -> std::result::Result<(), String> {
        self.load.check()
    }

    fn about(&self) -> About {
        let mut about = self.load().about("fill", self.window());
        about.acks = "nobody consumes".into();
        about.settings.retain(|(name, _)| *name != "consumers");
        about
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let backlog = Backlog::fill(bench, &self.load(), self.window())?;
        backlog.rig.take_down()?;
        Ok(backlog.filled.figures(bench.tally))
    }
}
