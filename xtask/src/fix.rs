//! `cargo xtask fix`: formats the code in place.

use crate::{process, workspace};

/// Formats the workspace and the Rust examples.
pub(crate) fn run() -> Result<(), String> {
    process::run(process::cargo().args(["fmt", "--all"]).current_dir(workspace::root()))?;
    let examples = workspace::root().join("examples/rust/Cargo.toml");
    process::run(process::cargo().args(["fmt", "--manifest-path"]).arg(examples))
}
