//! The command line: in go the arguments of the process, out comes its exit code.
//!
//! Invariant: errors go to standard error, results to standard output, and the exit code says which kind
//! of error it was.

mod args;
mod bench;
mod bench_args;
mod config_check;
mod dump;
mod fsck;
mod machine;
mod offline;
mod operator;
mod progress;
mod serve;
mod tally;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::config::{Config, ConfigError, Overrides};
use args::{Cli, Command, ConfigCommand, LogCommand, ServeArgs};

/// The file that is used if none is named, should it exist.
const DEFAULT_FILE: &str = "config.toml";

/// How a run ended; the numbers are those of `sysexits.h`, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// As asked.
    Success = 0,
    /// Failed while running, or found damage.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 64,
    /// The configuration has errors, or what is stored was written by a later release.
    BadData = 65,
    /// The configuration or the data directory cannot be read.
    NoInput = 66,
    /// The data directory is in use.
    InUse = 75,
    /// Ended by SIGINT, as shells put it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os(), &mut io::stdout(), &mut io::stderr()).into()
}

fn run(arguments: impl Iterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // Help and version are asked for and no error to clap's callers.
        Err(answer) if !answer.use_stderr() => {
            say(out, &answer.render());
            return Exit::Success;
        }
        Err(error) => {
            say(err, &error.render());
            return Exit::Usage;
        }
    };
    match cli.command {
        None => serve(&cli.serve, err),
        Some(Command::Serve(args)) => serve(&args, err),
        Some(Command::Config(ConfigCommand::Check { file })) => config_check::run(&file, out, err),
        Some(Command::Fsck(args)) => offline::finish(fsck::run(&args, out), err),
        Some(Command::Bench(args)) => bench::run(&args, out, err),
        Some(Command::Log(LogCommand::Dump(args))) => offline::finish(dump::run(&args, out), err),
    }
}

fn serve(args: &ServeArgs, err: &mut dyn Write) -> Exit {
    let config = configuration(args, Path::new(DEFAULT_FILE));
    let config = config.and_then(|config| operator::check(&config).map(|()| config).map_err(Into::into));
    let config = match config {
        Ok(config) => config,
        Err(error) => return refused(&error, err),
    };
    match serve::run(config) {
        Ok(()) => Exit::Success,
        Err(error) => {
            say(err, &format_args!("error: {error:#}\n"));
            Exit::Failure
        }
    }
}

/// The named file, or else the default one if it exists, or else the defaults.
fn configuration(args: &ServeArgs, default_file: &Path) -> Result<Config, ConfigError> {
    let overrides = Overrides { listen: args.listen.clone(), data_dir: args.data_dir.clone() };
    match &args.config {
        Some(path) => Config::load(path, &overrides),
        None if default_file.exists() => Config::load(default_file, &overrides),
        None => Ok(Config::without_file(&overrides)),
    }
}

/// Says what is wrong with a configuration.
fn refused(error: &ConfigError, err: &mut dyn Write) -> Exit {
    match error {
        ConfigError::Unreadable { .. } => {
            say(err, &format_args!("error: {error}\n"));
            Exit::NoInput
        }
        ConfigError::Invalid(diagnostics) => {
            say(err, &format_args!("{diagnostics}\n"));
            Exit::BadData
        }
    }
}

/// Writes to a standard stream. Nobody is left to tell if that fails, as it does in `ferrymq --help | head`.
fn say(stream: &mut dyn Write, text: &dyn std::fmt::Display) {
    write!(stream, "{text}").and_then(|()| stream.flush()).ok();
}
