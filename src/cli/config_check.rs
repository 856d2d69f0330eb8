//! `ferrymq config check FILE`: says all that is wrong with a file, or what it declares.
//!
//! Invariant: a file that passes is one that `ferrymq serve` starts with; nothing is served or written.

use std::io::Write;
use std::path::Path;

use super::{Exit, operator, refused, say};
use crate::config::{Config, Overrides};

pub(super) fn run(file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let loaded = Config::load(file, &Overrides::default());
    match loaded.and_then(|config| operator::check(&config).map(|()| config).map_err(Into::into)) {
        Ok(config) => {
            say(out, &format_args!("{}: ok: {}\n", file.display(), config.topology_counts()));
            Exit::Success
        }
        Err(error) => refused(&error, err),
    }
}
