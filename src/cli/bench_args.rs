//! What `ferrymq bench` may be asked for, and what that means to the room that does it.
//!
//! Every number has bounds here; what does not fit together is refused by the scenario itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, value_parser};

use crate::bench::{self, Acks, Limit, Plan, Scenario, Uri};

const EXAMPLES: &str = "\
Examples:
  ferrymq bench throughput                       16 B messages, automatic acks, 5 seconds
  ferrymq bench throughput --size 1024 --ack-every 100 --prefetch 1000
  ferrymq bench confirm --size 1024 --window 1000
  ferrymq bench latency --rate 5000 --confirms --persistent --seconds 30
  ferrymq bench drain --messages 1000000 --size 1024
  ferrymq bench floor --size 1024 --dir /var/lib/ferrymq
  ferrymq bench throughput --uri amqp://127.0.0.1:5672 --compare amqp://127.0.0.1:5673 --runs 3
  ferrymq bench throughput --json | jq .consumed_per_s

Every delivery is checked: that it comes once, in order, complete and unchanged. A broker that fails this ends the
benchmark with exit code 1. CPU and memory of the broker are told if it runs on this machine (Linux) and its process
may be looked at; CPU is per message in and out. A latency counts from when a message was due, so that a broker that
holds up the publisher does not look better for it; `generator late` is the part of it that the generator adds. Queues and exchanges have names that begin with fb-, and are removed
at the end. Exit codes: 0 success, 1 the broker was wrong, refused something or cannot be reached, 64 usage,
130 interrupted";

/// `ferrymq bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    scenario: ScenarioArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// What goes for all scenarios.
#[derive(Debug, Args)]
struct CommonArgs {
    /// The broker, as amqp://USER:PASSWORD@HOST:PORT/VHOST
    #[arg(long, global = true, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f", value_parser = Uri::parse)]
    uri: Uri,
    /// Another broker: both run in turn, A B A B
    #[arg(long, global = true, value_name = "URI", value_parser = Uri::parse)]
    compare: Option<Uri>,
    /// How often each broker runs; the figures are medians then
    #[arg(long, global = true, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=1_000))]
    runs: u16,
    /// The broker's process id; without it, whoever listens at a local address is looked for
    #[arg(long, global = true)]
    pid: Option<u32>,
    /// Seconds in which nothing moves that count as a failure
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u64).range(1..=3_600))]
    timeout: u64,
    /// Print one JSON object instead of a table
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Also write every run to this file, which is replaced
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
}

/// The scenarios.
#[derive(Debug, Subcommand)]
enum ScenarioArgs {
    /// One queue, as fast as it goes, without confirms
    Throughput {
        #[command(flatten)]
        load: LoadArgs,
        #[command(flatten)]
        acks: AckArgs,
        /// Persistent messages in a durable queue; still without confirms
        #[arg(long)]
        persistent: bool,
    },
    /// Persistent messages to a durable queue, every one confirmed, consumed with manual acks
    Confirm {
        #[command(flatten)]
        load: LoadArgs,
        /// How many messages of each publisher may be unconfirmed
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
        window: u32,
        /// Nobody consumes: the publishing alone is measured
        #[arg(long)]
        publish_only: bool,
        /// Deliveries for each ack
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u16).range(1..))]
        ack_every: u16,
        /// Most deliveries without an ack; 0 is without a limit
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        prefetch: u16,
    },
    /// Messages at a fixed rate: how long after they were due they are delivered and confirmed
    Latency {
        #[command(flatten)]
        load: LoadArgs,
        #[command(flatten)]
        acks: AckArgs,
        /// Persistent messages in a durable queue
        #[arg(long)]
        persistent: bool,
        /// Messages per second of all publishers together
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
        rate: u32,
        /// Publisher confirms, whose latency is measured, too
        #[arg(long)]
        confirms: bool,
    },
    /// Every message goes to several queues, each with a consumer
    Fanout {
        #[command(flatten)]
        load: SourceArgs,
        #[command(flatten)]
        acks: AckArgs,
        /// Persistent messages in durable queues
        #[arg(long)]
        persistent: bool,
        /// Queues
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u16).range(1..=1_000))]
        queues: u16,
    },
    /// A topic exchange with many patterns, of which one fits
    Topic {
        #[command(flatten)]
        load: LoadArgs,
        #[command(flatten)]
        acks: AckArgs,
        /// Persistent messages in a durable queue
        #[arg(long)]
        persistent: bool,
        /// Patterns bound
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
        bindings: u32,
        /// Routing keys used in turn; with one, a broker may remember where it leads
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000_000))]
        keys: u32,
    },
    /// Persistent messages to a durable queue that nobody consumes from
    Fill {
        #[command(flatten)]
        load: SourceArgs,
        /// Publisher confirms, with at most so many messages of each publisher unconfirmed
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
        window: Option<u32>,
    },
    /// A durable queue is filled, and then consumed from; the consuming is measured
    Drain {
        #[command(flatten)]
        load: LoadArgs,
        #[command(flatten)]
        acks: AckArgs,
        /// Publisher confirms while it is filled, with at most so many messages of each publisher unconfirmed
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
        window: Option<u32>,
    },
    /// Many idle connections, each with a channel, and the memory they take
    Connections {
        /// Connections
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
        count: u32,
        /// How long they are held before memory is read
        #[arg(long, value_name = "S", default_value_t = 1, value_parser = value_parser!(u64).range(0..=86_400))]
        seconds: u64,
    },
    /// How fast connections, channels, queues and bindings come and go, one kind after the other
    Churn {
        #[command(flatten)]
        span: SpanArgs,
        /// Durable queues and bindings
        #[arg(long)]
        durable: bool,
        /// How many do it at the same time, each over a connection of its own
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=1_000))]
        parallel: u16,
    },
    /// Many queues, messages dealt to all of them, and one connection that consumes from all
    Queues {
        #[command(flatten)]
        load: SourceArgs,
        #[command(flatten)]
        acks: AckArgs,
        /// Persistent messages in durable queues
        #[arg(long)]
        persistent: bool,
        /// Queues
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
        count: u32,
        /// Publisher confirms, with at most so many messages of each publisher unconfirmed
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
        window: Option<u32>,
    },
    /// This machine without a broker: a relay from socket to socket, and a file that is appended to and synced
    Floor {
        #[command(flatten)]
        span: SpanArgs,
        /// Octets of a record
        #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = value_parser!(u32).range(1..=128 << 20))]
        size: u32,
        /// Records that are written, and synced, at a time
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
        batch_records: u32,
        /// Where the file is made, and deleted
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
}

/// What is published, for how long, and by how many.
#[derive(Debug, Args)]
struct SourceArgs {
    #[command(flatten)]
    span: SpanArgs,
    /// Octets of a body; below 16 the order of messages is not checked
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = value_parser!(u32).range(0..=128 << 20))]
    size: u32,
    /// Publishers, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=1_000))]
    publishers: u16,
}

/// The same with consumers.
#[derive(Debug, Args)]
struct LoadArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Consumers of the queue, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=1_000))]
    consumers: u16,
}

/// How long.
#[derive(Debug, Args)]
struct SpanArgs {
    /// How long to publish; in churn and floor, how long each part runs
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many messages to publish instead; in churn how often each part runs, in floor how many records
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = value_parser!(u64).range(1..=1_000_000_000_000))]
    messages: Option<u64>,
}

/// How consumers acknowledge.
#[derive(Debug, Args)]
struct AckArgs {
    /// Ack by hand, so many deliveries at a time; without it acks are automatic
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..))]
    ack_every: Option<u16>,
    /// Most deliveries without an ack, with --ack-every; 0 is without a limit
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    prefetch: u16,
}

impl SpanArgs {
    fn limit(&self) -> Limit {
        self.messages.map_or(Limit::Time(Duration::from_secs(self.seconds)), Limit::Messages)
    }
}

impl AckArgs {
    fn acks(&self) -> Acks {
        let manual = |every| Acks::Manual { every, prefetch: self.prefetch };
        self.ack_every.map_or(Acks::Automatic, manual)
    }
}

impl SourceArgs {
    fn load(&self, acks: Acks, persistent: bool) -> bench::Load {
        let Self { span, size, publishers } = self;
        bench::Load {
            size: *size,
            publishers: *publishers,
            consumers: 1,
            limit: span.limit(),
            acks,
            persistent,
        }
    }
}

impl LoadArgs {
    fn load(&self, acks: Acks, persistent: bool) -> bench::Load {
        bench::Load { consumers: self.consumers, ..self.source.load(acks, persistent) }
    }
}

impl ScenarioArgs {
    fn scenario(&self) -> Scenario {
        match self {
            Self::Throughput { load, acks, persistent } => {
                Scenario::Throughput(bench::Throughput { load: load.load(acks.acks(), *persistent) })
            }
            &Self::Confirm { ref load, window, publish_only, ack_every, prefetch } => {
                let load = load.load(Acks::Manual { every: ack_every, prefetch }, true);
                Scenario::Confirm(bench::Confirm { load, window, publish_only })
            }
            &Self::Latency { ref load, ref acks, persistent, rate, confirms } => {
                let load = load.load(acks.acks(), persistent);
                Scenario::Latency(bench::Latency { load, rate, confirms })
            }
            &Self::Fanout { ref load, ref acks, persistent, queues } => {
                Scenario::Fanout(bench::Fanout { load: load.load(acks.acks(), persistent), queues })
            }
            &Self::Topic { ref load, ref acks, persistent, bindings, keys } => {
                let load = load.load(acks.acks(), persistent);
                Scenario::Topic(bench::Topic { load, bindings, keys })
            }
            &Self::Fill { ref load, window } => {
                Scenario::Fill(bench::Fill { load: load.load(Acks::Automatic, true), window })
            }
            &Self::Drain { ref load, ref acks, window } => {
                Scenario::Drain(bench::Drain { load: load.load(acks.acks(), true), window })
            }
            &Self::Connections { count, seconds } => {
                Scenario::Connections(bench::Connections { count, hold: Duration::from_secs(seconds) })
            }
            &Self::Churn { ref span, durable, parallel } => {
                Scenario::Churn(bench::Churn { limit: span.limit(), durable, parallel })
            }
            &Self::Queues { ref load, ref acks, persistent, count, window } => {
                let load = load.load(acks.acks(), persistent);
                Scenario::Queues(bench::Queues { load, count, window })
            }
            &Self::Floor { ref span, size, batch_records, ref dir } => {
                let (limit, dir) = (span.limit(), dir.clone());
                Scenario::Floor(bench::Floor { size, batch_records, limit, dir })
            }
        }
    }
}

impl BenchArgs {
    /// Whether to print JSON.
    pub(super) fn json(&self) -> bool {
        self.common.json
    }

    /// Where CSV goes.
    pub(super) fn csv(&self) -> Option<&PathBuf> {
        self.common.csv.as_ref()
    }

    /// What is to be measured; `progress` says whether somebody watches.
    pub(super) fn plan(&self, progress: bool) -> Plan {
        let CommonArgs { uri, compare, runs, pid, timeout, .. } = &self.common;
        Plan {
            uri: uri.clone(),
            compare: compare.clone(),
            runs: *runs,
            pid: *pid,
            patience: Duration::from_secs(*timeout),
            progress,
            scenario: self.scenario.scenario(),
        }
    }
}
