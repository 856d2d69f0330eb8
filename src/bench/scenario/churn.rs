//! `churn`: how fast connections, channels, queues and bindings come and go, one kind after the other.

use std::thread;

use ferrymq_protocol::method::queue;

use super::Part;
use crate::bench::client::{CHANNEL, Connection, Target};
use crate::bench::clock;
use crate::bench::error::Result;
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench, Meter};
use crate::bench::machine::Process;
use crate::bench::report::{About, Durability};
use crate::bench::rig::{Lifetime, Rig};
use crate::bench::tally::{Allowance, Limit, Tally};

/// How fast connections, channels, queues and bindings come and go.
#[derive(Clone, Debug)]
pub struct Churn {
    /// For each of the four: time, or how often.
    pub limit: Limit,
    /// Whether queues and bindings are durable.
    pub durable: bool,
    /// How many do it at the same time, each over a connection of its own; at least 1.
    pub parallel: u16,
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
            settings: vec![
                limit,
                ("durable", self.durable.to_string()),
                ("parallel", self.parallel.to_string()),
            ],
            durability: Durability::NoMessages,
            confirms: "none".into(),
            acks: "none".into(),
        }
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        let mut figures = vec![Figure::count("published", 0), Figure::count("consumed", 0)];
        let mut rig = Rig::new(bench.target)?;
        let lifetime = if self.durable { Lifetime::Durable } else { Lifetime::Consumers };
        let bound = rig.queue(".bound", lifetime)?;
        let exchange = rig.exchange("direct", self.durable)?;
        for kind in Kind::ALL {
            let meter = Meter::start(bench.process);
            let cpu = bench.process.and_then(Process::cpu);
            let places: Vec<Place> = (0..self.parallel)
                .map(|number| Place {
                    queue: rig.name(&format!(".churn{number}")),
                    exchange: exchange.clone(),
                    bound: bound.clone(),
                    routing_key: format!("churn{number}"),
                    allowance: self.limit.part(number, self.parallel, meter.start),
                })
                .collect();
            let times = self.repeat(kind, &places, bench)?;
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

/// What one of those has to itself that do the same at the same time, but for the exchange and the bound queue.
struct Place {
    queue: String,
    exchange: String,
    bound: String,
    routing_key: String,
    allowance: Allowance,
}

impl Churn {
    /// Opens and closes, in all places at once, until that is enough; returns how often.
    fn repeat(&self, kind: Kind, places: &[Place], bench: Bench<'_>) -> Result<u64> {
        let Bench { target, tally, .. } = bench;
        let times = thread::scope(|scope| {
            let repeat =
                |place| move || self.repeat_in(kind, place, target, tally).inspect_err(|_| tally.fail());
            flow::join(places.iter().map(|place| scope.spawn(repeat(place))).collect())
        });
        Ok(times?.into_iter().sum())
    }

    fn repeat_in(&self, kind: Kind, place: &Place, target: &Target, tally: &Tally) -> Result<u64> {
        let mut own = Connection::open(target)?;
        let mut times = 0;
        while place.allowance.next(times, 1) > 0 {
            tally.go_on()?;
            self.once(kind, place, &mut own, target)?;
            times += 1;
        }
        own.close()?;
        Ok(times)
    }

    fn once(&self, kind: Kind, place: &Place, own: &mut Connection, target: &Target) -> Result<()> {
        let Place { queue, exchange, bound, routing_key, .. } = place;
        match kind {
            Kind::Connection => Connection::open(target)?.close(),
            Kind::Channel => {
                own.close_channel()?;
                own.open_channel()
            }
            Kind::Queue => {
                let declare = queue::Declare {
                    queue,
                    durable: self.durable,
                    exclusive: !self.durable,
                    ..queue::Declare::default()
                };
                own.call(CHANNEL, declare)?;
                own.call(CHANNEL, queue::Delete { queue, ..queue::Delete::default() })
            }
            Kind::Binding => {
                let bind = queue::Bind { queue: bound, exchange, routing_key, ..queue::Bind::default() };
                own.call(CHANNEL, bind)?;
                own.call(CHANNEL, queue::Unbind { queue: bound, exchange, routing_key, ..Default::default() })
            }
        }
    }
}
