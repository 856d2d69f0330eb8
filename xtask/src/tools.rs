//! Looks for programs that a machine may or may not have.

use std::env;
use std::path::PathBuf;

/// The full path of a program on the search path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}
