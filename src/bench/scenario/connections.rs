//! `connections`: many idle connections, and the memory they take.

use std::time::Duration;

use super::Part;
use crate::bench::client::Connection;
use crate::bench::clock;
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::Bench;
use crate::bench::machine::Process;
use crate::bench::report::{About, Durability};

/// Many idle connections.
#[derive(Clone, Debug)]
pub struct Connections {
    /// How many, each with an open channel; at least 1.
    pub count: u32,
    /// How long they are held before memory is read.
    pub hold: Duration,
}

impl Part for Connections {
    fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    fn about(&self) -> About {
        About {
            scenario: "connections",
            settings: vec![
                ("connections", self.count.to_string()),
                ("seconds", self.hold.as_secs().to_string()),
            ],
            durability: Durability::NoMessages,
            confirms: "none".into(),
            acks: "none".into(),
        }
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let resident = || bench.process.and_then(Process::resident);
        let cpu = || bench.process.and_then(Process::cpu);
        let (before, start) = (resident(), clock::now());
        let mut held = Vec::new();
        for _ in 0..self.count {
            bench.tally.go_on()?;
            held.push(Connection::open(bench.target)?);
        }
        let opened = clock::now().duration_since(start);
        let (cpu_before, end) = (cpu(), clock::now() + self.hold);
        while clock::now() < end {
            bench.tally.go_on()?;
            clock::sleep_until(end.min(clock::now() + Duration::from_millis(100)));
        }
        let after = resident();
        let idle = cpu().zip(cpu_before).map(|(now, before)| now.saturating_sub(before));
        // A connection that the broker has given up is found here.
        held.into_iter().try_for_each(Connection::close)?;
        let count = u64::from(self.count);
        let mut figures = vec![
            Figure::count("published", 0),
            Figure::count("consumed", 0),
            Figure::count("connections", count),
            Figure::rate("connections_opened_per_s", count, opened),
        ];
        if let Some((after, before)) = after.zip(before) {
            figures.push(Figure::bytes("broker_rss_before_bytes", before));
            figures.push(Figure::bytes("broker_rss_bytes", after));
            figures.push(Figure::growth("rss_per_connection_bytes", before, after, count));
        }
        figures.extend(idle.map(|cpu| Figure::seconds("broker_cpu_while_idle_seconds", cpu)));
        Ok(figures)
    }
}
