//! `cargo xtask differential`: the same scripted sessions against the broker and an installed RabbitMQ.

use std::path::Path;
use std::process::Command;

use crate::deadline::Deadline;
use crate::steps::{AfterFailure, Outcome, Step};
use crate::{broker, process, python, steps, workspace};

/// Where Debian's package keeps the start script that runs in the foreground.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// What the step is called, and what it may take in seconds.
pub(crate) const TITLE: &str = "differential sessions";
/// See [`TITLE`].
pub(crate) const BUDGET: u64 = 40;

/// Runs all sessions, or those whose names contain the one piece of text that may be given.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let piece = match options {
        [] => String::new(),
        [piece] => (*piece).to_owned(),
        _ => return Err("`differential` takes one piece of a session's name".into()),
    };
    let step = Step::new(TITLE, BUDGET, move |deadline| step(&piece, deadline));
    steps::run(vec![step], AfterFailure::Stop)
}

/// The sessions as one step; skipped where RabbitMQ or Python is missing.
pub(crate) fn step(piece: &str, deadline: Deadline) -> Outcome {
    if !Path::new(RABBITMQ).exists() && std::env::var_os("RABBITMQ_SERVER").is_none() {
        return Outcome::Skipped(
            "no RabbitMQ on this machine (Debian: apt-get install rabbitmq-server)".into(),
        );
    }
    let Some(python) = python::system() else {
        return Outcome::Skipped("no Python 3.9 or later on this machine".into());
    };
    let binary = match broker::build(deadline) {
        Ok(binary) => binary,
        Err(message) => return Outcome::Failed(message),
    };
    let script = workspace::root().join("tests/differential/run.py");
    let mut command = Command::new(python);
    process::step(command.arg(script).args(["--only", piece]).env("FERRYMQ_BIN", binary), deadline)
}
