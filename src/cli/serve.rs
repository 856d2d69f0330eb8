//! The composition root: turns a [`Config`] into the rooms' options, starts them in order, stops them in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::level_filters::LevelFilter;
use tracing::{error, info, warn};

use super::machine;
use super::operator::Operator;
use super::progress::Progress;
use crate::auth::Authenticator;
use crate::config::{Config, Durability, LogFormat, LogLevel, MemoryWatermark};
use crate::model::VhostName;
use crate::net::{Door, Listener, NetOptions};
use crate::runtime::{Broker, BrokerOptions, Clock, DiskOptions, Found, Replay};
use crate::session::SessionOptions;
use crate::storage::log::{self, Damage, LogOptions};
use crate::storage::{self, OpenReport, Source};
use crate::telemetry::{self, printable};
use crate::vhost::{RestoreReport, VhostOptions};

/// The only vhost until users and permissions exist.
const DEFAULT_VHOST: &str = "/";
/// How long clients may take to say goodbye when the broker stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves until a signal ends it.
///
/// # Errors
/// What keeps the broker from starting, or from making its last changes durable.
pub(super) fn run(config: Config) -> Result<()> {
    telemetry::init(telemetry_options(&config))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

#[expect(clippy::disallowed_methods, reason = "the start is timed once, for the log")]
async fn serve(config: Config) -> Result<()> {
    let started = Instant::now();
    info!("FerryMQ {} starting", env!("CARGO_PKG_VERSION"));
    // A port that is taken must be found out before anything is stored.
    let listeners = bind(&config)?;
    let options = broker_options(&config)?;
    info!("memory watermark {} MiB", options.memory_watermark_bytes >> 20);
    let found = open(&config)?;
    let default = VhostName::from(DEFAULT_VHOST);
    let (broker, reports) = Broker::start(options, Authenticator::new(), found, &[default]);
    reports.iter().for_each(say_how_restored);
    broker.settled().await;
    let operator = Operator::start(&config, broker.vhost(DEFAULT_VHOST).context("the default vhost")?)?;
    let door = Door {
        broker: broker.clone(),
        options: Arc::new(net_options(&config)),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    // Whoever reads that the broker is up may signal it at once.
    let (stop_signal, hangups) = (StopSignal::listen()?, signal(SignalKind::hangup())?);
    for listener in listeners {
        info!("listening on {}", listener.address());
        tokio::spawn(listener.accept(door.clone()));
    }
    info!("Server startup complete; ready in {} ms", started.elapsed().as_millis());

    tokio::select! {
        signal = stop_signal.received() => info!("{signal} received, stopping"),
        failure = storage_failure(broker.storage().log()) => {
            error!("nothing can be made durable any more: {failure}; stopping, because only a restart can tell what is on disk");
        }
        () = operator.follow(hangups) => {}
    }
    stop(&door).await;
    drop(operator);
    let clean = broker.is_quiet();
    broker.finish_work();
    broker.shutdown(clean).context("what happened last is not durable")?;
    info!("stopped");
    Ok(())
}

fn bind(config: &Config) -> Result<Vec<Listener>> {
    let bind = |address: &SocketAddr| {
        Listener::bind(*address).map_err(|error| anyhow::anyhow!(machine::cannot_listen(*address, &error)))
    };
    config.listen.iter().map(bind).collect()
}

/// Reads what the data directory holds, and says how far that is if it takes long.
#[expect(clippy::disallowed_methods, reason = "whoever waits for the start is told how far it is")]
fn open(config: &Config) -> Result<Found> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).context("the operating system has no random bytes")?;
    let log = LogOptions {
        durability: match config.storage.durability {
            Durability::Fsync => log::Durability::Fsync,
            Durability::Write => log::Durability::Write,
            Durability::Memory => log::Durability::Memory,
        },
        max_unwritten_bytes: config.storage.max_unwritten_bytes,
        ..LogOptions::new(u64::from_le_bytes(salt))
    };
    let mut replay = Replay::default();
    let begun = Instant::now();
    let directory = config.data_dir.join(storage::LOG);
    let clock = Clock::start(log::last_written(&directory));
    let mut progress = Progress::new(log::segment_sizes(&directory));
    let opened = storage::open(&storage::Options::new(config.data_dir.clone(), log), &mut |placed| {
        replay.record(&placed);
        if let Some(line) = progress.record(placed.location.segment, || begun.elapsed()) {
            info!("{line}");
        }
    })?;
    say_how_opened(&opened);
    let storage::Opened { storage, definitions, recovery, defined_in, .. } = opened;
    let replayed = replay.finish(recovery.clean_stop, &defined_in);
    info!(
        "data directory '{}': {} definitions and {} messages recovered",
        config.data_dir.display(),
        definitions.values().map(Vec::len).sum::<usize>(),
        replayed.messages
    );
    Ok(Found { storage, replayed, definitions, clock })
}

fn broker_options(config: &Config) -> Result<BrokerOptions> {
    Ok(BrokerOptions {
        session: session_options(config),
        memory_watermark_bytes: watermark(config)?,
        log_budget_bytes: config.storage.log_budget_bytes,
        disk: DiskOptions {
            look: {
                let path = config.data_dir.clone();
                Box::new(move || machine::disk_bytes(&path))
            },
            free_limit_bytes: config.storage.disk_free_limit_bytes,
        },
        vhost: VhostOptions {
            outbox_bytes: config.limits.outbox_bytes,
            cache_bytes: config.storage.message_cache_bytes,
            default_delivery_limit: config.queues_default.delivery_limit,
        },
    })
}

/// Lets nobody in any more and says goodbye to those who are.
async fn stop(door: &Door) {
    door.stop.cancel();
    door.broker.stop();
    door.tasks.close();
    if tokio::time::timeout(FAREWELL, door.tasks.wait()).await.is_err() {
        warn!("{} connections did not close in time", door.broker.connections());
    }
}

fn net_options(config: &Config) -> NetOptions {
    let limits = &config.limits;
    NetOptions {
        connections_max: limits.max_connections.map_or(usize::MAX, |max| max as usize),
        strangers_max: limits.max_unauthenticated_connections as usize,
        write_timeout: limits.write_timeout,
    }
}

/// The signals that end the broker, heard from the moment they are listened for.
struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn listen() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn received(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn storage_failure(log: &storage::log::Log) -> storage::FailureText {
    let mut failed = log.failed();
    loop {
        if let Some(failure) = failed.borrow_and_update().clone() {
            return failure;
        }
        if failed.changed().await.is_err() {
            // The log ends only after this.
            std::future::pending::<()>().await;
        }
    }
}

fn say_how_opened(opened: &storage::Opened) {
    if let OpenReport::Damaged(damage) = &opened.report {
        error!("the metadata store is damaged: {}", damage.cause);
        if let Some(path) = &damage.moved_to {
            error!("the damaged store is kept in '{}'", path.display());
        }
    }
    if opened.report == OpenReport::NoSpace {
        warn!("the disk is full, and the metadata store could not be opened; consumers can make room");
    }
    let count = opened.definitions.values().map(Vec::len).sum::<usize>();
    match opened.source {
        Source::Log if opened.report != OpenReport::Created || count > 0 => {
            warn!("the message log, which is intact, has told all {count} definitions");
        }
        Source::Store if matches!(opened.report, OpenReport::Damaged(_)) => {
            error!("{count} definitions could be read and are in use; others may be missing or outdated");
        }
        Source::Log | Source::Store => {}
    }
    for Damage { segment, batches } in &opened.recovery.damage {
        match batches {
            Some(batches) => {
                error!("segment {segment} of the message log is damaged: {batches} batches are lost");
            }
            None => error!("segment {segment} of the message log is damaged: what it held is lost"),
        }
    }
    if let Some(tail) = &opened.recovery.torn_tail {
        info!(
            "segment {} of the message log was cut at byte {}: what followed was never confirmed",
            tail.segment, tail.offset
        );
    }
}

fn say_how_restored(report: &RestoreReport) {
    for (definition, refusal) in &report.refused {
        error!("a stored definition is not in force: {refusal}: {definition:?}");
    }
    for (queue, messages) in &report.undefined {
        error!(
            "queue {} is not defined any more; its {messages} messages are gone",
            printable(queue.as_str())
        );
    }
}

fn telemetry_options(config: &Config) -> telemetry::Options {
    telemetry::Options {
        level: match config.log.level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        },
        format: match config.log.format {
            LogFormat::Text => telemetry::LogFormat::Text,
            LogFormat::Json => telemetry::LogFormat::Json,
        },
    }
}

fn session_options(config: &Config) -> SessionOptions {
    let limits = &config.limits;
    SessionOptions {
        product: config.identity.product.clone(),
        version: config.identity.version.clone(),
        platform: config.identity.platform.clone(),
        information: config.identity.information.clone(),
        copyright: "The FerryMQ developers".into(),
        cluster_name: config.identity.cluster_name.clone(),
        channel_max: limits.channel_max,
        frame_max: limits.frame_max,
        heartbeat_seconds: limits.heartbeat_seconds,
        max_message_size: limits.max_message_size_bytes,
        consumers_per_channel_max: limits.max_consumers_per_channel.unwrap_or(0),
        handshake_timeout: limits.handshake_timeout,
        nack_counts_as_failure: config.queues_default.nack_counts_as_failure,
        ..SessionOptions::default()
    }
}

/// What a fraction of the memory leaves for everything that the watermark does not count, in bytes, or half of the
/// memory if that is less: the program, what the allocator keeps, sockets, and large messages on their way.
const UNCOUNTED_BYTES: u64 = 256 << 20;

fn watermark(config: &Config) -> Result<u64> {
    match config.limits.memory_watermark {
        MemoryWatermark::Bytes(bytes) => Ok(bytes),
        MemoryWatermark::Fraction(fraction) => Ok(part_of(machine::memory_bytes()?, fraction)),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction of the memory need not be exact to the byte"
)]
fn part_of(memory: u64, fraction: f64) -> u64 {
    ((memory as f64 * fraction) as u64).min(memory - UNCOUNTED_BYTES.min(memory / 2))
}

#[cfg(test)]
mod tests {
    use super::part_of;

    #[test]
    fn a_fraction_leaves_room_for_what_is_not_counted() {
        for (memory, fraction, expected) in
            [(8192, 0.5, 4096), (1024, 0.6, 614), (512, 0.6, 256), (512, 0.25, 128), (128, 0.9, 64)]
        {
            assert_eq!(part_of(memory << 20, fraction) >> 20, expected, "{fraction} of {memory} MiB");
        }
    }
}
