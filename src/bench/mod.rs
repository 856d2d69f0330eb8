//! `ferrymq bench`: a load generator for any broker that speaks AMQP 0-9-1.
//!
//! In go a [`Plan`] and the wish to stop, out comes a [`Report`]. The scenarios have a file each; `client` is a client
//! of its own, cheap enough not to be what is measured; `check` compares every delivery with what was published.
//! Invariant: a figure is only reported if everything that was published came, once, in order and unchanged.

mod body;
mod check;
mod client;
mod clock;
mod confirms;
mod error;
mod figures;
mod flow;
mod machine;
mod progress;
mod report;
mod rig;
mod scenario;
mod tally;
mod uri;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use client::Acks;
pub use error::BenchError;
pub use report::{Durability, Report};
pub use scenario::*;
pub use tally::Limit;
pub use uri::Uri;

use client::{Connection, Target};
use error::Result;
use flow::Bench;
use machine::Process;
use progress::Progress;
use report::Side;
use tally::Tally;

/// The wish of a person that it ends. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Makes what runs end soon, and clean up.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub uri: Uri,
    /// Another one, which runs in turn with it.
    pub compare: Option<Uri>,
    /// How often each runs, at least once.
    pub runs: u16,
    /// The process of the first broker; otherwise it is looked for.
    pub pid: Option<u32>,
    /// How long nothing may move before it counts as a failure.
    pub patience: Duration,
    /// Whether standard error is a terminal that wants to know how far it is.
    pub progress: bool,
    /// What is done.
    pub scenario: Scenario,
}

/// Runs a plan to its end.
///
/// # Errors
/// [`BenchError`]: the broker cannot be reached, refuses something or delivers something wrong; the queues and
/// exchanges of the run are removed all the same, if the broker still answers.
pub fn run(plan: &Plan, interrupt: &Interrupt) -> Result<Report> {
    plan.scenario.check().map_err(BenchError::Unsuitable)?;
    let about = plan.scenario.about();
    if let Scenario::Floor(floor) = &plan.scenario {
        let mut side = Side {
            name: "this machine".into(),
            uri: String::new(),
            pid: None,
            program: None,
            runs: Vec::new(),
        };
        for _ in 0..plan.runs {
            let tally = Tally::new(interrupt, plan.patience);
            side.runs.push(watched(plan, "floor", &tally, || floor.measure(&tally))?);
        }
        return Ok(Report { about, sides: vec![side] });
    }
    let mut sides = vec![find(&plan.uri, plan.pid, plan.patience)?];
    if let Some(uri) = &plan.compare {
        sides.push(find(uri, None, plan.patience)?);
    }
    for run in 1..=plan.runs {
        for (number, (target, process, side)) in sides.iter_mut().enumerate() {
            let tally = Tally::new(interrupt, plan.patience);
            let bench = Bench { target, process: *process, tally: &tally };
            let letter = ["A", "B"][number];
            let what = format!("{} {letter}, run {run}/{}", about.scenario, plan.runs);
            side.runs.push(watched(plan, &what, &tally, || plan.scenario.run(bench))?);
        }
    }
    Ok(Report { about, sides: sides.into_iter().map(|(_, _, side)| side).collect() })
}

/// Runs something with a line on the terminal, if there is one.
fn watched<T>(plan: &Plan, what: &str, tally: &Tally, work: impl FnOnce() -> T) -> T {
    if !plan.progress {
        return work();
    }
    let progress = Progress::default();
    std::thread::scope(|scope| {
        scope.spawn(|| progress.show(what, tally));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        progress.end();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes sure that a broker is there, and finds out which it is.
fn find(uri: &Uri, pid: Option<u32>, patience: Duration) -> Result<(Target, Option<Process>, Side)> {
    let target = Target::find(uri, patience)?;
    let connection = Connection::open(&target)?;
    let process = match pid {
        Some(pid) => Some(
            Process::of(pid)
                .ok_or_else(|| BenchError::Unsuitable(format!("there is no process {pid} to be measured")))?,
        ),
        None => connection.ends().and_then(|(peer, local)| Process::behind(peer, local)),
    };
    let name = connection.product.clone();
    connection.close()?;
    let (pid, program) = (process.map(Process::pid), process.and_then(Process::name));
    let side = Side { name, uri: uri.to_string(), pid, program, runs: Vec::new() };
    Ok((target, process, side))
}
