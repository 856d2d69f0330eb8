//! The `ferrymq` binary: hands the command line to [`ferrymq::cli`].

use std::process::ExitCode;

/// Messages are made on one thread and freed on another, millions of times a second: measured against the
/// system's allocator in `docs/performance.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ferrymq::cli::main()
}
