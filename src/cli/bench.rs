//! `ferrymq bench`: runs a plan, and prints what it has found.
//!
//! Invariant: an interrupt ends the run and lets it clean up; a second one ends the process.

use std::io::{IsTerminal, Write};
use std::thread;

use anyhow::{Context, Result};

use super::bench_args::BenchArgs;
use super::{Exit, say};
use crate::bench::{self, BenchError, Interrupt};

/// Measures, and says how it went.
pub(super) fn run(args: &BenchArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let interrupt = Interrupt::default();
    let plan = args.plan(std::io::stderr().is_terminal());
    let report = follow_signals(&interrupt).and_then(|()| Ok(bench::run(&plan, &interrupt)?));
    let written = report.and_then(|report| {
        say(out, &if args.json() { report.json() } else { report.table() });
        match args.csv() {
            Some(path) => std::fs::write(path, report.csv())
                .with_context(|| format!("cannot write '{}'", path.display())),
            None => Ok(()),
        }
    });
    let Err(error) = written else { return Exit::Success };
    say(err, &format_args!("error: {error:#}\n"));
    match error.downcast_ref::<BenchError>() {
        Some(BenchError::Interrupted) => Exit::Interrupted,
        Some(BenchError::Unsuitable(_)) => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// Waits for SIGINT or SIGTERM on a thread of its own, for as long as the process lives.
fn follow_signals(interrupt: &Interrupt) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    let interrupt = interrupt.clone();
    let follow = move || {
        runtime.block_on(async {
            if told_to_end().await.is_ok() {
                interrupt.set();
            }
            if told_to_end().await.is_ok() {
                std::process::exit(Exit::Interrupted as i32);
            }
        });
    };
    thread::Builder::new().name("signals".into()).spawn(follow).context("cannot wait for signals")?;
    Ok(())
}

#[cfg(unix)]
async fn told_to_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        told = tokio::signal::ctrl_c() => told,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn told_to_end() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
