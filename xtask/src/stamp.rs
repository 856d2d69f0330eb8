//! Remembers from which inputs an installation was made, so that an unchanged one is used again.
//!
//! Invariant: the stamp is written only after the installation succeeded, and holds the inputs themselves, so
//! equality means equal inputs.

use std::fs;
use std::path::Path;

const NAME: &str = ".made-from";

/// True when `folder` was made from exactly `inputs`.
pub(crate) fn matches(folder: &Path, inputs: &str) -> bool {
    fs::read_to_string(folder.join(NAME)).is_ok_and(|found| found == inputs)
}

/// Records that `folder` was made from `inputs`.
pub(crate) fn write(folder: &Path, inputs: &str) -> Result<(), String> {
    let path = folder.join(NAME);
    fs::write(&path, inputs).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// A file as text, with an error that names it.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
