//! What can be measured: one file for each scenario, and what they have in common.
//!
//! A scenario is its options; it checks that they fit together, says what a reader of its figures has to know, and
//! runs once against one broker.

mod backlog;
mod churn;
mod confirm;
mod connections;
mod drain;
mod fanout;
mod fill;
mod floor;
mod latency;
mod queues;
mod throughput;
mod topic;

pub use churn::Churn;
pub use confirm::Confirm;
pub use connections::Connections;
pub use drain::Drain;
pub use fanout::Fanout;
pub use fill::Fill;
pub use floor::Floor;
pub use latency::Latency;
pub use queues::Queues;
pub use throughput::Throughput;
pub use topic::Topic;

use super::check::{Expectation, Share};
use super::client::{Acks, Content, Subscription, Window};
use super::error::Result;
use super::figures::Figure;
use super::flow::{Bench, Publishing};
use super::report::{About, Durability};
use super::tally::Limit;

/// What is measured.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// As fast as it goes, without confirms.
    Throughput(Throughput),
    /// Persistent messages with publisher confirms.
    Confirm(Confirm),
    /// Messages at a fixed rate.
    Latency(Latency),
    /// Every message to several queues.
    Fanout(Fanout),
    /// One pattern of many fits.
    Topic(Topic),
    /// A durable queue without a consumer.
    Fill(Fill),
    /// Consuming what was published before.
    Drain(Drain),
    /// Many idle connections.
    Connections(Connections),
    /// Connections, channels, queues and bindings that come and go.
    Churn(Churn),
    /// Many queues.
    Queues(Queues),
    /// This machine without a broker.
    Floor(Floor),
}

impl Scenario {
    fn parts(&self) -> &dyn Part {
        match self {
            Self::Throughput(scenario) => scenario,
            Self::Confirm(scenario) => scenario,
            Self::Latency(scenario) => scenario,
            Self::Fanout(scenario) => scenario,
            Self::Topic(scenario) => scenario,
            Self::Fill(scenario) => scenario,
            Self::Drain(scenario) => scenario,
            Self::Connections(scenario) => scenario,
            Self::Churn(scenario) => scenario,
            Self::Queues(scenario) => scenario,
            Self::Floor(scenario) => scenario,
        }
    }

    /// What does not fit together, in words.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        self.parts().check()
    }

    pub(super) fn about(&self) -> About {
        self.parts().about()
    }

    pub(super) fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        self.parts().run(bench)
    }
}

/// What every scenario can do.
trait Part {
    /// What does not fit together, in words.
    fn check(&self) -> std::result::Result<(), String>;

    /// What a reader of its figures has to know.
    fn about(&self) -> About;

    /// Runs once.
    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>>;
}

/// What most scenarios can be asked for.
#[derive(Clone, Debug)]
pub struct Load {
    /// Octets of a body.
    pub size: u32,
    /// Publishers, each with a connection and a thread of its own; at least 1.
    pub publishers: u16,
    /// Consumers of each queue, likewise; at least 1.
    pub consumers: u16,
    /// How long is published.
    pub limit: Limit,
    /// How consumers acknowledge.
    pub acks: Acks,
    /// Persistent messages in durable queues.
    pub persistent: bool,
}

impl Load {
    fn check(&self) -> std::result::Result<(), String> {
        match self.acks {
            Acks::Manual { every, prefetch } if prefetch > 0 && prefetch < every => Err(format!(
                "with --prefetch {prefetch} there are never --ack-every {every} deliveries to ack"
            )),
            Acks::Manual { every: 0, .. } => Err("manual acks are at least for one delivery".into()),
            _ => Ok(()),
        }
    }

    fn durability(&self, window: Window) -> Durability {
        match (self.persistent, window) {
            (false, _) => Durability::Transient,
            (true, None) => Durability::Unconfirmed,
            (true, Some(_)) => Durability::Confirmed,
        }
    }

    fn about(&self, scenario: &'static str, window: Window) -> About {
        let mut settings = vec![
            ("size", format!("{} B", self.size)),
            ("publishers", self.publishers.to_string()),
            ("consumers", self.consumers.to_string()),
        ];
        settings.push(match self.limit {
            Limit::Time(time) => ("seconds", time.as_secs().to_string()),
            Limit::Messages(messages) => ("messages", messages.to_string()),
        });
        About {
            scenario,
            settings,
            durability: self.durability(window),
            confirms: window.map_or_else(|| "none".into(), |window| format!("window {window}")),
            acks: match self.acks {
                Acks::Automatic => "automatic".into(),
                Acks::Manual { every: 1, prefetch } => format!("one by one, prefetch {prefetch}"),
                Acks::Manual { every, prefetch } => format!("every {every}, prefetch {prefetch}"),
            },
        }
    }

    /// Messages to an exchange, with these keys in turn.
    fn publishing(&self, exchange: &str, keys: Vec<String>, window: Window) -> Publishing {
        let content = Content {
            exchange: exchange.to_owned(),
            keys,
            size: self.size as usize,
            persistent: self.persistent,
        };
        Publishing { content, publishers: self.publishers, window, limit: self.limit }
    }

    /// One consumer that is to get everything of these queues, to which messages are dealt in turn.
    fn subscription(&self, queues: Vec<String>) -> Subscription {
        let expectation =
            Expectation { publishers: self.publishers, lanes: queues.len() as u64, share: Share::All };
        Subscription { queues, acks: self.acks, size: self.size as usize, expectation }
    }

    /// All consumers of one queue.
    fn subscriptions(&self, queue: &str) -> Vec<Subscription> {
        let mut one = self.subscription(vec![queue.to_owned()]);
        if self.consumers > 1 {
            one.expectation.share = Share::Some;
        }
        vec![one; usize::from(self.consumers)]
    }
}
