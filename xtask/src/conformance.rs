//! `cargo xtask conformance`: the published test suites of client libraries, run against the broker.

use std::process::Command;

use crate::deadline::Deadline;
use crate::{broker, process, python, workspace};

/// Hands the run to `tests/conformance/run.py`, which fetches, runs and judges the suites.
pub(crate) fn run(arguments: &[&str], deadline: Deadline) -> Result<(), String> {
    let python = python::system().ok_or("the conformance run needs Python 3.9 or later")?;
    let mut command = Command::new(python);
    command.arg(workspace::root().join("tests/conformance/run.py")).args(arguments);
    command.arg("--target").arg(workspace::target());
    if !arguments.contains(&"--rabbitmq") {
        command.env("FERRYMQ_BIN", broker::build(deadline)?);
    }
    process::run(&mut command, deadline)
}
