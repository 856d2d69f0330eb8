//! What a passing step did not test here. A test that finds that it cannot run on this machine appends a line to the
//! file that [`VARIABLE`] names: `what: why`. Its output is no place for it: test runners show that of failures only.
//!
//! Invariant: a line is told once, with the step in which it was written.

use std::fs;
use std::path::PathBuf;

/// The environment variable that names the file.
pub(crate) const VARIABLE: &str = "FERRYMQ_SKIPPED";

/// The file, which exists once there is something in it.
pub(crate) fn file() -> PathBuf {
    std::env::temp_dir().join(format!("ferrymq-skipped-{}", std::process::id()))
}

/// The lines since the last call.
pub(crate) fn take() -> Vec<String> {
    let text = fs::read_to_string(file()).unwrap_or_default();
    // Fails if there is none, which is the usual case.
    let _ = fs::remove_file(file());
    text.lines().map(str::to_owned).collect()
}
