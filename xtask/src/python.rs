//! The virtual environments of the Python tests: pinned packages under `target/`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::deadline::Deadline;
use crate::{process, stamp, workspace};

/// The system's Python 3, if there is one of at least 3.9.
pub(crate) fn system() -> Option<&'static str> {
    let check = "import sys; print(sys.version_info >= (3, 9))";
    ["python3", "python"].into_iter().find(|program| {
        process::output(Command::new(program).args(["-c", check])).is_some_and(|text| text.trim() == "True")
    })
}

/// Makes `target/<name>` from a requirements file, or uses the one made earlier; returns its Python.
fn environment(name: &str, requirements: &Path, deadline: Deadline) -> Result<PathBuf, String> {
    let system = system().ok_or("no Python 3.9 or later on this machine")?;
    let folder = workspace::target().join(name);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let version = process::output(Command::new(system).arg("--version")).unwrap_or_default();
    let inputs = format!("{version}{}", stamp::read(requirements)?);
    if stamp::matches(&folder, &inputs) && python.exists() {
        println!("  {} is up to date", folder.display());
        return Ok(python);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
    }
    process::run(Command::new(system).args(["-m", "venv"]).arg(&folder), deadline)?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"];
    process::run(Command::new(&python).args(install).arg(requirements), deadline)?;
    stamp::write(&folder, &inputs)?;
    Ok(python)
}

/// The environment of `tests/python`.
pub(crate) fn test_environment(deadline: Deadline) -> Result<PathBuf, String> {
    environment("venv", &workspace::root().join("tests/python/requirements.txt"), deadline)
}

/// A pytest command in the environment of `tests/python`.
pub(crate) fn pytest<I: AsRef<OsStr>>(python: &Path, arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(python);
    command.current_dir(workspace::root()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["-m", "pytest"]).args(arguments);
    command
}
