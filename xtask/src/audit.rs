//! Licences and advisories of the dependencies, where cargo-deny is installed.

use crate::deadline::Deadline;
use crate::steps::Outcome;
use crate::{process, tools, workspace};

/// Runs cargo-deny as far as the machine allows: its advisory database needs a network that may be missing.
pub(crate) fn run(deadline: Deadline) -> Outcome {
    if tools::find("cargo-deny").is_none() {
        return Outcome::Skipped(
            "cargo-deny is not installed (cargo install --locked cargo-deny)".to_owned(),
        );
    }
    process::step(
        process::cargo()
            .args(["deny", "check", "licenses", "bans", "sources"])
            .current_dir(workspace::root()),
        deadline,
    )
}
