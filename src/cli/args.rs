//! What the command line may say.
//!
//! Invariant: parsing reads nothing but the arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::bench_args::BenchArgs;
use crate::config::parse_address;

/// A message broker that speaks AMQP 0-9-1 with RabbitMQ's extensions.
///
/// Without a command it serves, as `ferrymq serve` does.
#[derive(Debug, Parser)]
#[command(name = "ferrymq", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// How to serve, without a command.
    #[command(flatten)]
    pub(super) serve: ServeArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ferrymq                                     serve on 127.0.0.1:5672, data in ./ferrymq-data
  ferrymq serve --config /etc/ferrymq/config.toml
  ferrymq serve --listen 0.0.0.0:5672 --data-dir /var/lib/ferrymq
  ferrymq config check config.toml            find all errors in a file without serving
  ferrymq fsck /var/lib/ferrymq               find damage in what a stopped broker has stored
  ferrymq bench throughput --size 1024        measure the broker on 127.0.0.1:5672

Exit codes: 0 success, 1 failure or damage found, 64 usage, 65 errors in the configuration or stored by a later
release, 66 unreadable configuration or data directory, 75 the data directory is in use by a broker, 130 interrupted";

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve until told to stop (SIGINT, SIGTERM); SIGHUP and edits of the file reload the topology
    Serve(ServeArgs),
    /// Look at configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check what a stopped broker has stored; changes nothing unless told to repair
    Fsck(FsckArgs),
    /// Look into the message log of a stopped broker
    #[command(subcommand)]
    Log(LogCommand),
    /// Measure a broker, this one or any other that speaks AMQP 0-9-1
    Bench(Box<BenchArgs>),
}

/// `ferrymq serve`.
#[derive(Debug, Default, Args)]
pub(super) struct ServeArgs {
    /// The configuration file; without it ./config.toml is used if it exists
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where definitions are kept, instead of what the file says
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Where clients connect, instead of what the file says; may be given several times
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    pub(super) listen: Vec<SocketAddr>,
}

/// `ferrymq config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Find all errors in a configuration file without serving
    Check {
        /// The file
        file: PathBuf,
    },
}

/// `ferrymq fsck`.
#[derive(Debug, Args)]
pub(super) struct FsckArgs {
    /// The data directory
    pub(super) dir: PathBuf,
    /// Copy damaged segments to DIR/damaged-N, and keep in the log what is intact of them
    #[arg(long)]
    pub(super) repair: bool,
}

/// `ferrymq log`.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Print one line per record, oldest first
    Dump(DumpArgs),
}

/// `ferrymq log dump`.
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// The data directory
    pub(super) dir: PathBuf,
    /// Only what concerns queues of this name, in any vhost
    #[arg(long, value_name = "NAME")]
    pub(super) queue: Option<String>,
    /// Also the first 200 characters of each body, escaped for a terminal
    #[arg(long)]
    pub(super) bodies: bool,
}
