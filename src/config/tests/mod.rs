//! Tests of the configuration: the shipped file, values, and what is said about bad files.

mod diagnostics;
mod shipped;
mod values;
mod watching;

use std::path::Path;

use super::*;

fn load(text: &str) -> Result<Config, Diagnostics> {
    Config::from_bytes(Path::new("config.toml"), text.as_bytes(), &Overrides::default())
}
