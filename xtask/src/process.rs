//! Runs programs in the foreground with what they print passed through, each until a deadline at most.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::deadline::Deadline;
use crate::steps::Outcome;
use crate::{group, skips};

/// The cargo that started this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command with its output passed through; how it ended. An error if it did not start, or was ended at the
/// deadline together with whatever it had started.
pub(crate) fn status(command: &mut Command, deadline: Deadline) -> Result<ExitStatus, String> {
    println!("  $ {}", describe(command));
    match group::run(command.env(skips::VARIABLE, skips::file()), deadline) {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(format!("OUT OF TIME and ended: {}", describe(command))),
        Err(error) => Err(format!("{} did not start: {error}", command.get_program().to_string_lossy())),
    }
}

/// Runs a command with its output passed through; an error says how it ended.
pub(crate) fn run(command: &mut Command, deadline: Deadline) -> Result<(), String> {
    let status = status(command, deadline)?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", describe(command))) }
}

/// Runs a command as a whole step.
pub(crate) fn step(command: &mut Command, deadline: Deadline) -> Outcome {
    run(command, deadline).into()
}

/// What a command prints on standard output, or nothing when it cannot be run or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn describe(command: &Command) -> String {
    let mut text = short(Path::new(command.get_program()));
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// A program's file name, without the directories in front of it.
fn short(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}
