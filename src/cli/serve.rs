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
use crate::auth::Authenticator;
use crate::config::{Config, LogFormat, LogLevel, MemoryWatermark};
use crate::model::VhostName;
use crate::net::{Door, Listener, NetOptions};
use crate::runtime::{Broker, BrokerOptions};
use crate::session::SessionOptions;
use crate::storage::{self, OpenReport};
use crate::telemetry;
use crate::vhost::{Vhost, VhostOptions};

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
    let (vhost, writer) = open(&config)?;
    let writer = Arc::new(writer);
    let options =
        BrokerOptions { session: session_options(&config), memory_watermark_bytes: watermark(&config)? };
    info!("memory watermark {} MiB", options.memory_watermark_bytes >> 20);
    let broker = Broker::start(options, Authenticator::new(), vec![vhost], Arc::clone(&writer));
    let operator = Operator::start(&config, broker.vhost(DEFAULT_VHOST).context("the default vhost")?)?;
    let door = Door {
        broker,
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
        failure = storage_failure(&writer) => error!("definitions can no longer be made durable: {failure}"),
        () = operator.follow(hangups) => {}
    }
    stop(&door).await;
    drop(operator);
    writer
        .shutdown()
        .map_err(|failure| anyhow::anyhow!("the last definitions are not durable: {failure}"))?;
    info!("stopped");
    Ok(())
}

fn bind(config: &Config) -> Result<Vec<Listener>> {
    let bind = |address: &SocketAddr| {
        Listener::bind(*address).map_err(|error| anyhow::anyhow!(machine::cannot_listen(*address, &error)))
    };
    config.listen.iter().map(bind).collect()
}

/// Brings back the vhost that the data directory holds.
fn open(config: &Config) -> Result<(Vhost, storage::DefinitionWriter)> {
    let storage::Opened { writer, contents, report } =
        storage::open(&storage::Options::new(config.data_dir.clone()))?;
    say_how_opened(&report);
    let mut contents = contents.definitions;
    let definitions = contents.remove(DEFAULT_VHOST).unwrap_or_default();
    info!("data directory '{}': {} definitions recovered", config.data_dir.display(), definitions.len());
    let options = VhostOptions { outbox_bytes: config.limits.outbox_bytes };
    let (vhost, refused) = Vhost::new(VhostName::from(DEFAULT_VHOST), options, definitions);
    for (definition, refusal) in refused {
        error!("a stored definition is not in force: {refusal}: {definition:?}");
    }
    Ok((vhost, writer))
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

async fn storage_failure(writer: &storage::DefinitionWriter) -> storage::FailureText {
    let mut failed = writer.failed();
    loop {
        if let Some(failure) = failed.borrow_and_update().clone() {
            return failure;
        }
        if failed.changed().await.is_err() {
            // The writer ends only after this.
            std::future::pending::<()>().await;
        }
    }
}

fn say_how_opened(report: &OpenReport) {
    let OpenReport::Damaged(damage) = report else { return };
    error!("the stored definitions are damaged: {}", damage.cause);
    error!("{} definitions could be read and are in use; others may be missing or outdated", damage.kept);
    if let Some(path) = &damage.moved_to {
        error!("the damaged store is kept in '{}'", path.display());
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
        platform: format!("FerryMQ {} (Rust)", env!("CARGO_PKG_VERSION")),
        information: "Licensed under MIT or Apache-2.0. FerryMQ, speaking AMQP 0-9-1 as RabbitMQ does."
            .into(),
        copyright: "The FerryMQ developers".into(),
        cluster_name: config.identity.cluster_name.clone(),
        channel_max: limits.channel_max,
        frame_max: limits.frame_max,
        heartbeat_seconds: limits.heartbeat_seconds,
        max_message_size: limits.max_message_size_bytes,
        consumers_per_channel_max: limits.max_consumers_per_channel.unwrap_or(0),
        handshake_timeout: limits.handshake_timeout,
        ..SessionOptions::default()
    }
}

fn watermark(config: &Config) -> Result<u64> {
    match config.limits.memory_watermark {
        MemoryWatermark::Bytes(bytes) => Ok(bytes),
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fraction of the memory need not be exact to the byte"
        )]
        MemoryWatermark::Fraction(fraction) => Ok((machine::memory_bytes()? as f64 * fraction) as u64),
    }
}
