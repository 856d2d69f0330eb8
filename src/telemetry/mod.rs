//! Tracing set-up and node-wide counters.
//!
//! In: events of the `tracing` macros, and amounts that rooms fold into [`Counters`] once per burst. Out: one
//! line per event on standard output, for people or as JSON.
//! Invariant: nothing that a client sent can start a line or move a terminal's cursor, and no direct reply-to token
//! is shown.

mod counters;
mod hiding;
mod line;
mod printable;

use std::env;
use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use counters::{Counter, Counters};
pub use printable::{Printable, printable};

/// Environment variable with filter directives (`debug`, `info,ferrymq::net=trace`) that replace the
/// configured level.
pub const FILTER_VARIABLE: &str = "FERRYMQ_LOG";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-20 12:30:01.123 INFO  listening on 127.0.0.1:5672`; coloured on a terminal only.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What the log shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The least severe level that is shown, unless [`FILTER_VARIABLE`] says otherwise.
    pub level: LevelFilter,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: LevelFilter::INFO, format: LogFormat::Text }
    }
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The environment variable does not parse.
    #[error("{FILTER_VARIABLE}='{}' is not a log filter: {source}", printable(value))]
    Filter {
        /// What the variable holds.
        value: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else set the process's subscriber first.
    #[error("logging is already set up")]
    AlreadySet(#[from] SetGlobalDefaultError),
}

/// Sends every event of this process to standard output from here on.
///
/// # Errors
/// If the environment's filter does not parse, or if the process already has a subscriber.
pub fn init(options: Options) -> Result<(), TelemetryError> {
    let filter = filter(options.level, env::var(FILTER_VARIABLE).ok())?;
    let colours = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = subscriber(options.format, filter, colours, io::stdout);
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(())
}

fn filter(level: LevelFilter, directives: Option<String>) -> Result<EnvFilter, TelemetryError> {
    match directives.filter(|value| !value.trim().is_empty()) {
        Some(value) => {
            EnvFilter::builder().parse(&value).map_err(|source| TelemetryError::Filter { value, source })
        }
        None => Ok(EnvFilter::default().add_directive(level.into())),
    }
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colours: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    let builder = builder.with_writer(hiding::Hiding(writer));
    match format {
        LogFormat::Text => Box::new(builder.event_format(line::TextLine).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_current_span(false).finish()),
    }
}

#[cfg(test)]
mod tests;
