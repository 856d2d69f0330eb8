//! What the operator wants: `config.toml` and flags become one validated [`Config`], or all that is wrong
//! with the file at once, each error with its line and what to write instead.
//!
//! In: a path and the flags ([`Overrides`]). Out: a [`Config`] of plain types that `cli/serve.rs` maps to
//! the options of the rooms, or a [`ConfigError`]; [`watch`] tells when the file's content changes.
//!
//! Invariant: a [`Config`] holds only values within their documented bounds, and the shipped `config.toml`
//! documents exactly the options that are read here.

mod diagnostic;
mod objects;
mod parse;
mod policy;
mod quantity;
mod read;
#[cfg(test)]
mod tests;
mod topology;
pub mod watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use diagnostic::{Diagnostic, Diagnostics, Place, Problem, Source};
pub use topology::{
    Argument, Arguments, Binding, Destination, Exchange, ExchangeType, Located, Policy, Queue, TopologyCounts,
};

/// Everything an operator can set.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect. Never empty; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Where definitions are kept; made if missing.
    pub data_dir: PathBuf,
    /// What is logged, and how.
    pub log: Log,
    /// The limits on what clients may use.
    pub limits: Limits,
    /// How messages and definitions are kept on disk.
    pub storage: Storage,
    /// What queues do unless they say otherwise.
    pub queues_default: QueueDefaults,
    /// What clients see of the broker.
    pub identity: Identity,
    /// Exchanges of vhost `/`; no name occurs twice.
    pub exchanges: Vec<Located<Exchange>>,
    /// Queues of vhost `/`; no name occurs twice.
    pub queues: Vec<Located<Queue>>,
    /// Bindings of vhost `/`; none occurs twice.
    pub bindings: Vec<Located<Binding>>,
    /// Policies of vhost `/`; no name occurs twice among those of users, nor among those of the operator.
    pub policies: Vec<Located<Policy>>,
    /// The file this came from.
    pub source: Source,
    /// The flags that won over it.
    pub overrides: Overrides,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// One line of text or one JSON object per event.
    pub format: LogFormat,
}

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What needs an operator.
    Error,
    /// What may need one.
    Warn,
    /// Starts, stops, connections refused.
    Info,
    /// Every connection and channel.
    Debug,
    /// Every method.
    Trace,
}

impl LogLevel {
    /// Its name in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// The limits on what clients may use; each has its reaction in `config.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Largest frame, in bytes, 4 KiB to 16 MiB.
    pub frame_max: u32,
    /// Channels per connection, at least 1.
    pub channel_max: u16,
    /// The heartbeat suggested to clients, in seconds; 0 is none.
    pub heartbeat_seconds: u16,
    /// Largest message body, in bytes, 1 to 512 MiB.
    pub max_message_size_bytes: u64,
    /// How long a connection may take until it has opened its vhost.
    pub handshake_timeout: Duration,
    /// Connections at a time; `None` is no limit.
    pub max_connections: Option<u32>,
    /// Connections at a time that have not logged in, at least 1.
    pub max_unauthenticated_connections: u32,
    /// Above this, publishers are blocked.
    pub memory_watermark: MemoryWatermark,
    /// Bytes waiting to be written to one connection before its consumers get no more.
    pub outbox_bytes: usize,
    /// How long a blocked write may last before the connection is closed.
    pub write_timeout: Duration,
    /// Consumers per channel; `None` is no limit.
    pub max_consumers_per_channel: Option<u32>,
}

/// A memory threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemoryWatermark {
    /// This part of the memory that the machine or the control group has, above 0 and at most 1.
    Fraction(f64),
    /// This many bytes.
    Bytes(u64),
}

/// How messages and definitions are kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// What a publisher confirm means.
    pub durability: Durability,
    /// Bytes that the message log may take up besides twice what is alive in it.
    pub log_budget_bytes: u64,
    /// Bytes not yet written above which publishers wait.
    pub max_unwritten_bytes: usize,
    /// Memory that waiting messages may take which the log has as well, for each vhost.
    pub message_cache_bytes: u64,
    /// Free bytes of the disk below which publishers are blocked; a tenth of the file system at most.
    pub disk_free_limit_bytes: u64,
}

/// What a publisher confirm, and the answer to a declare, mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Synced: it survives a power cut.
    Fsync,
    /// Written: it survives the end of the process.
    Write,
    /// Taken: it survives a clean stop.
    Memory,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            log_budget_bytes: 1 << 30,
            max_unwritten_bytes: 16 << 20,
            message_cache_bytes: 16 << 20,
            disk_free_limit_bytes: 50 << 20,
        }
    }
}

/// What queues do unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDefaults {
    /// How often clients may fail with a message of a quorum queue before it is dropped or dead-lettered; `None` is no
    /// limit.
    pub delivery_limit: Option<u64>,
    /// `basic.nack` with requeue, and `basic.recover`, say that the client has failed with the message.
    pub nack_counts_as_failure: bool,
}

/// What clients see of the broker in its server properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `product`; client libraries compare it with `RabbitMQ`.
    pub product: String,
    /// `version`; client libraries derive abilities from it.
    pub version: String,
    /// `platform`.
    pub platform: String,
    /// `information`.
    pub information: String,
    /// `cluster_name`.
    pub cluster_name: String,
}

/// Flags of the command line, which win over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Instead of `listen`, unless empty.
    pub listen: Vec<SocketAddr>,
    /// Instead of `data_dir`.
    pub data_dir: Option<PathBuf>,
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file has errors.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5672))],
            data_dir: PathBuf::from("ferrymq-data"),
            log: Log { level: LogLevel::Info, format: LogFormat::Text },
            limits: Limits::default(),
            storage: Storage::default(),
            queues_default: QueueDefaults::default(),
            identity: Identity::default(),
            exchanges: Vec::new(),
            queues: Vec::new(),
            bindings: Vec::new(),
            policies: Vec::new(),
            source: Source::default(),
            overrides: Overrides::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max: 128 << 10,
            channel_max: 2047,
            heartbeat_seconds: 60,
            max_message_size_bytes: 128 << 20,
            handshake_timeout: Duration::from_secs(10),
            max_connections: None,
            max_unauthenticated_connections: 1024,
            memory_watermark: MemoryWatermark::Fraction(0.6),
            outbox_bytes: 1 << 20,
            write_timeout: Duration::from_secs(30),
            max_consumers_per_channel: None,
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            product: "RabbitMQ".into(),
            version: "3.13.7".into(),
            platform: concat!("FerryMQ ", env!("CARGO_PKG_VERSION"), " (Rust)").into(),
            information: "Licensed under MIT or Apache-2.0. FerryMQ, speaking AMQP 0-9-1 as RabbitMQ does."
                .into(),
            cluster_name: "ferrymq".into(),
        }
    }
}

impl Config {
    /// Reads the file and lets the flags win over it.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] if there is no such file or it may not be read, [`ConfigError::Invalid`]
    /// with every error in it otherwise.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_path_buf(), error })?;
        Ok(Self::from_bytes(path, &bytes, overrides)?)
    }

    /// Like [`Config::load`], of a file that has been read already.
    ///
    /// # Errors
    /// Every error in the text.
    pub fn from_bytes(path: &Path, bytes: &[u8], overrides: &Overrides) -> Result<Self, Diagnostics> {
        let mut config = parse::document(path, bytes)?;
        config.apply(overrides);
        Ok(config)
    }

    /// The defaults, for a start without a file.
    #[must_use]
    pub fn without_file(overrides: &Overrides) -> Self {
        let mut config = Self::default();
        config.apply(overrides);
        config
    }

    /// Reads the same file again, under the same flags. Without a file it is what it was.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn reload(&self) -> Result<Self, ConfigError> {
        match &self.source.path {
            Some(path) => Self::load(path, &self.overrides),
            None => Ok(self.clone()),
        }
    }

    /// The sections, as they are called in the file, whose settings differ and that only a restart puts
    /// into force. The topology is not among them.
    #[must_use]
    pub fn restart_needed(&self, edited: &Self) -> Vec<&'static str> {
        let differences = [
            ("[server]", (&self.listen, &self.data_dir) != (&edited.listen, &edited.data_dir)),
            ("[log]", self.log != edited.log),
            ("[limits]", self.limits != edited.limits),
            ("[identity]", self.identity != edited.identity),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section).collect()
    }

    /// How much topology it declares.
    #[must_use]
    pub fn topology_counts(&self) -> TopologyCounts {
        let (exchanges, queues, bindings) = (self.exchanges.len(), self.queues.len(), self.bindings.len());
        TopologyCounts { exchanges, queues, bindings, policies: self.policies.len() }
    }

    fn apply(&mut self, overrides: &Overrides) {
        if !overrides.listen.is_empty() {
            self.listen.clone_from(&overrides.listen);
        }
        if let Some(data_dir) = &overrides.data_dir {
            self.data_dir.clone_from(data_dir);
        }
        self.overrides = overrides.clone();
    }
}

/// Reads `ADDR:PORT`, such as `127.0.0.1:5672` or `[::1]:5672`.
///
/// # Errors
/// What to write instead.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| parse::address_advice(text))
}
