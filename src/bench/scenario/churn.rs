//! `churn`: how fast connections, channels, queues and bindings come and go, one after the other.

use ferrymq_protocol::method::queue;

use super::Part;
use crate::bench::client::{CHANNEL, Connection};
use crate::bench::clock;
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::{Bench, Meter};
use crate::bench::machine::Process;
use crate::bench::report::{About, Durability};
use crate::bench::rig::{Lifetime, Rig};
use crate::bench::tally::{Allowance, Limit};

/// How fast connections, channels, queues and bindings come and go.
#[derive(Clone, Debug)]
pub struct Churn {
    /// For each of the four: time, or how often.
    pub limit: Limit,
    /// Whether queues and bindings are durable.
    pub durable: bool,
}

/// What comes and goes.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// With a channel.
    Connection,
    Channel,
    Queue,
    Binding,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Connection, Self::Channel, Self::Queue, Self::Binding];

    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Connection => ["connections_per_s", "broker_cpu_us_per_connection"],
            Self::Channel => ["channels_per_s", "broker_cpu_us_per_channel"],
            Self::Queue => ["queues_per_s", "broker_cpu_us_per_queue"],
            Self::Binding => ["bindings_per_s", "broker_cpu_us_per_binding"],
        }
    }
}

impl Part for Churn {
    fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    fn about(&self) -> About {
        let limit = match self.limit {
            Limit::Time(time) => ("seconds", format!("{} each", time.as_secs())),
            Limit::Messages(times) => ("times", times.to_string()),
        };
        About {
            scenario: "churn",
            settings: vec![limit, ("durable", self.durable.to_string())],
            durability: Durability::NoMessages,
            confirms: "none".into(),
            acks: "none".into(),
        }
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let mut figures = vec![Figure::count("published", 0), Figure::count("consumed", 0)];
        let mut rig = Rig::new(bench.target)?;
        let lifetime = if self.durable { Lifetime::Durable } else { Lifetime::Connection };
        let bound = rig.queue(".bound", lifetime)?;
        let exchange = rig.exchange("direct", self.durable)?;
        for kind in Kind::ALL {
            let meter = Meter::start(bench.process);
            let cpu = bench.process.and_then(Process::cpu);
            let allowance = self.limit.part(0, 1, meter.start);
            let times = self.repeat(kind, &mut rig, (&exchange, &bound), allowance, bench)?;
            let [rate, cost] = kind.names();
            figures.push(Figure::rate(rate, times, clock::now().duration_since(meter.start)));
            let used =
                bench.process.and_then(Process::cpu).zip(cpu).map(|(now, before)| now.saturating_sub(before));
            figures.extend(used.map(|used| Figure::share(cost, used, times)));
        }
        rig.take_down()?;
        figures
            .extend(bench.process.and_then(Process::resident).map(|b| Figure::bytes("broker_rss_bytes", b)));
        Ok(figures)
    }
}

impl Churn {
    /// Opens and closes until that is enough; returns how often.
    fn repeat(
        &self,
        kind: Kind,
        rig: &mut Rig,
        (exchange, bound): (&str, &str),
        allowance: Allowance,
        bench: Bench<'_>,
    ) -> Result<u64> {
        let mut own = Connection::open(bench.target)?;
        let name = rig.name(".churn");
        let mut times = 0;
        while allowance.next(times, 1) > 0 {
            bench.tally.go_on()?;
            match kind {
                Kind::Connection => Connection::open(bench.target)?.close()?,
                Kind::Channel => {
                    own.close_channel()?;
                    own.open_channel()?;
                }
                Kind::Queue => {
                    let declare = queue::Declare {
                        queue: &name,
                        durable: self.durable,
                        exclusive: !self.durable,
                        ..queue::Declare::default()
                    };
                    own.call(CHANNEL, declare)?;
                    own.call(CHANNEL, queue::Delete { queue: &name, ..queue::Delete::default() })?;
                }
                Kind::Binding => {
                    let control = rig.control()?;
                    let (queue, routing_key) = (bound, "churn");
                    control.call(
                        CHANNEL,
                        queue::Bind { queue, exchange, routing_key, ..queue::Bind::default() },
                    )?;
                    control.call(
                        CHANNEL,
                        queue::Unbind { queue, exchange, routing_key, ..Default::default() },
                    )?;
                }
            }
            times += 1;
        }
        own.close()?;
        Ok(times)
    }
}
