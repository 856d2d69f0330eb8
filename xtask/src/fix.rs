//! `cargo xtask fix`: formats the code in place.

use crate::deadline::Deadline;
use crate::{process, workspace};

/// Formats the workspace and the Rust examples.
pub(crate) fn run() -> Result<(), String> {
    let mut format = process::cargo();
    process::run(format.args(["fmt", "--all"]).current_dir(workspace::root()), Deadline::NONE)?;
    let examples = workspace::root().join("examples/rust/Cargo.toml");
    process::run(process::cargo().args(["fmt", "--manifest-path"]).arg(examples), Deadline::NONE)
}
