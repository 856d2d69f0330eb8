//! Numbered steps with their times, and the summary that ends a run.
//!
//! Invariant: whatever did not run is named with its reason in the summary, and the last line is
//! `N passed, N failed, N skipped`.

use std::time::{Duration, Instant};

/// How one step ended.
pub(crate) enum Outcome {
    /// It did what it is for.
    Passed,
    /// It could not run here; the text says why.
    Skipped(String),
    /// It ran and something is wrong; the text says what.
    Failed(String),
}

/// One named piece of work.
pub(crate) struct Step {
    title: &'static str,
    work: Box<dyn FnOnce() -> Outcome>,
}

impl Step {
    /// A step that runs `work` when its turn comes.
    pub(crate) fn new(title: &'static str, work: impl FnOnce() -> Outcome + 'static) -> Self {
        Self { title, work: Box::new(work) }
    }

    /// What the step is called in the output.
    pub(crate) fn title(&self) -> &'static str {
        self.title
    }
}

/// What happens to the steps after a failed one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// They are skipped.
    Stop,
    /// They run all the same.
    KeepGoing,
}

/// Runs the steps in order and prints the summary. An error when any step failed, or when none passed.
pub(crate) fn run(steps: Vec<Step>, after_failure: AfterFailure) -> Result<(), String> {
    let total = steps.len();
    let mut finished: Vec<(&'static str, Outcome, Duration)> = Vec::new();
    for (index, step) in steps.into_iter().enumerate() {
        let failed = finished.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)));
        if failed && after_failure == AfterFailure::Stop {
            let reason = "an earlier step failed (--keep-going runs it all the same)".to_owned();
            finished.push((step.title, Outcome::Skipped(reason), Duration::ZERO));
            continue;
        }
        println!("\n[{}/{total}] {}", index + 1, step.title);
        let start = Instant::now();
        let outcome = (step.work)();
        let time = start.elapsed();
        let word = match &outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Skipped(reason) => format!("SKIPPED: {reason}"),
            Outcome::Failed(reason) => format!("FAILED: {reason}"),
        };
        println!("[{}/{total}] {}: {word} ({:.1} s)", index + 1, step.title, time.as_secs_f64());
        finished.push((step.title, outcome, time));
    }
    summarise(&finished)
}

fn summarise(finished: &[(&'static str, Outcome, Duration)]) -> Result<(), String> {
    println!("\nSummary");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (title, outcome, time) in finished {
        let seconds = time.as_secs_f64();
        match outcome {
            Outcome::Passed => {
                passed += 1;
                println!("  passed   {seconds:7.1} s  {title}");
            }
            Outcome::Skipped(reason) => {
                skipped += 1;
                println!("  SKIPPED             {title}: {reason}");
            }
            Outcome::Failed(reason) => {
                failed += 1;
                println!("  FAILED   {seconds:7.1} s  {title}: {reason}");
            }
        }
    }
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    match (passed, failed) {
        (_, 1..) => Err(format!("{failed} of {} steps failed", finished.len())),
        (0, 0) => Err("no step ran".to_owned()),
        _ => Ok(()),
    }
}
