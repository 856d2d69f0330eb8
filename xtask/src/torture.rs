//! `cargo xtask torture`: kills the broker again and again under recording clients and checks what it promised.
//!
//! Invariant: a run that was too weak to prove anything ends with a code of its own, never as a success.

use std::ffi::OsStr;
use std::process::{Command, ExitCode};

use crate::deadline::Deadline;
use crate::steps::Outcome;
use crate::{broker, process, python, workspace};

/// How `tests/torture/run.py` ends when nothing was broken and too little was tried.
const INVALID: u8 = 3;

/// Cycles of the short form: enough for some forty kills, in less than three minutes.
const SHORT: [&str; 4] = ["--cycles", "50", "--seconds-per-cycle", "2.5"];

/// Hands the run to `tests/torture/run.py`; its exit code is this command's.
pub(crate) fn main(arguments: &[&str]) -> ExitCode {
    match prepare(arguments, Deadline::NONE).and_then(|mut command| start(&mut command, Deadline::NONE)) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The checker's own tests and the short form, as one step.
pub(crate) fn step(deadline: Deadline) -> Outcome {
    if python::system().is_none() {
        return Outcome::Skipped("no Python 3.9 or later on this machine".to_owned());
    }
    let tested = python::test_environment(deadline).and_then(|python| {
        let arguments = ["-q", "-p", "no:cacheprovider", "--timeout=60", "tests/torture"];
        process::run(&mut python::pytest(&python, arguments), deadline)
    });
    let run = tested.and_then(|()| prepare(&SHORT, deadline));
    match run.and_then(|mut command| start(&mut command, deadline)) {
        Ok(0) => Outcome::Passed,
        Ok(INVALID) => Outcome::Failed("the run was too weak to prove anything".to_owned()),
        Ok(_) => Outcome::Failed("a promise was broken".to_owned()),
        Err(message) => Outcome::Failed(message),
    }
}

fn prepare<S: AsRef<OsStr>>(arguments: &[S], deadline: Deadline) -> Result<Command, String> {
    let mut command = Command::new(python::test_environment(deadline)?);
    command.arg(workspace::root().join("tests/torture/run.py")).args(arguments);
    command.env("FERRYMQ_BIN", broker::build(deadline)?).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

fn start(command: &mut Command, deadline: Deadline) -> Result<u8, String> {
    let status = process::status(command, deadline)?;
    // Ended by a signal: there is no code, and nothing was proven.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
