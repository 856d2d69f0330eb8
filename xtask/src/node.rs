//! The npm packages of the Node tests, installed under `target/node` from the committed lock file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::deadline::Deadline;
use crate::{process, stamp, workspace};

/// True when both Node and npm answer.
pub(crate) fn present() -> bool {
    ["node", "npm"].into_iter().all(|tool| process::output(Command::new(tool).arg("--version")).is_some())
}

/// Installs the packages of `tests/node`, or uses what was installed earlier; returns the folder that holds
/// `node_modules`.
pub(crate) fn packages(deadline: Deadline) -> Result<PathBuf, String> {
    let source = workspace::root().join("tests/node");
    let folder = workspace::target().join("node");
    let version = process::output(Command::new("node").arg("--version")).unwrap_or_default();
    let mut inputs = version;
    for name in ["package.json", "package-lock.json"] {
        inputs.push_str(&stamp::read(&source.join(name))?);
    }
    if stamp::matches(&folder, &inputs) && folder.join("node_modules").exists() {
        println!("  {} is up to date", folder.display());
        return Ok(folder);
    }
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        copy(&source.join(name), &folder.join(name))?;
    }
    let options = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    process::run(Command::new("npm").args(options).current_dir(&folder), deadline)?;
    stamp::write(&folder, &inputs)?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(|_| ()).map_err(|error| format!("cannot copy {}: {error}", from.display()))
}
