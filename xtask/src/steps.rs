//! Numbered steps with their times, and the summary that ends a run.
//!
//! A step has a budget: what it takes on two idle cores. More than that is a warning, because a machine may be
//! busy; several times that ends the step, because then something hangs.
//!
//! Invariant: whatever did not run is named with its reason in the summary, and the last line is
//! `N passed, N failed, N skipped`.

use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::skips;

/// After so many times its budget a step is ended and has failed.
const PATIENCE: u32 = 5;

/// How one step ended.
pub(crate) enum Outcome {
    /// It did what it is for.
    Passed,
    /// It could not run here; the text says why.
    Skipped(String),
    /// It ran and something is wrong; the text says what.
    Failed(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(message) => Self::Failed(message),
        }
    }
}

/// One named piece of work.
pub(crate) struct Step {
    title: &'static str,
    budget: Duration,
    work: Box<dyn FnOnce(Deadline) -> Outcome>,
}

impl Step {
    /// A step that runs `work` when its turn comes. The budget is what that takes on two idle cores with nothing
    /// built or installed, in seconds.
    pub(crate) fn new(
        title: &'static str,
        budget: u64,
        work: impl FnOnce(Deadline) -> Outcome + 'static,
    ) -> Self {
        Self { title, budget: Duration::from_secs(budget), work: Box::new(work) }
    }

    /// What the step is called in the output.
    pub(crate) fn title(&self) -> &'static str {
        self.title
    }

    /// What it is to take at most on two idle cores.
    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    fn finish(self) -> Finished {
        let start = Instant::now();
        let outcome = (self.work)(Deadline::after(self.budget * PATIENCE));
        Finished {
            title: self.title,
            budget: self.budget,
            outcome,
            time: start.elapsed(),
            not_tested: skips::take(),
        }
    }
}

/// A step that had its turn.
struct Finished {
    title: &'static str,
    budget: Duration,
    outcome: Outcome,
    time: Duration,
    /// Parts of it that could not run here, each with the reason.
    not_tested: Vec<String>,
}

impl Finished {
    fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    /// Its time, and whether that is more than it should be.
    fn times(&self) -> String {
        let (time, budget) = (self.time.as_secs_f64(), self.budget.as_secs());
        let over = if self.time > self.budget { " OVER BUDGET" } else { "" };
        format!("{time:7.1} s of {budget:3} s{over}")
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
    let mut finished: Vec<Finished> = Vec::new();
    for (index, step) in steps.into_iter().enumerate() {
        let title = step.title;
        if after_failure == AfterFailure::Stop && finished.iter().any(Finished::failed) {
            let reason = "an earlier step failed (--keep-going runs it all the same)".to_owned();
            finished.push(Step { work: Box::new(|_| Outcome::Skipped(reason)), ..step }.finish());
            continue;
        }
        println!("\n[{}/{total}] {title}", index + 1);
        let done = step.finish();
        let word = match &done.outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Skipped(reason) => format!("SKIPPED: {reason}"),
            Outcome::Failed(reason) => format!("FAILED: {reason}"),
        };
        println!("[{}/{total}] {title}: {word} ({})", index + 1, done.times().trim_start());
        finished.push(done);
    }
    let (summary, result) = summarise(&finished);
    println!("\n{summary}");
    result
}

/// The summary, and what it amounts to.
fn summarise(finished: &[Finished]) -> (String, Result<(), String>) {
    let mut lines = vec!["Summary".to_owned()];
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for step in finished {
        let (title, times) = (step.title, step.times());
        match &step.outcome {
            Outcome::Passed => {
                passed += 1;
                lines.push(format!("  passed  {times}  {title}"));
            }
            Outcome::Skipped(reason) => {
                skipped += 1;
                lines.push(format!("  SKIPPED                    {title}: {reason}"));
            }
            Outcome::Failed(reason) => {
                failed += 1;
                lines.push(format!("  FAILED  {times}  {title}: {reason}"));
            }
        }
        skipped += step.not_tested.len();
        let parts = step.not_tested.iter();
        lines.extend(parts.map(|part| format!("  SKIPPED                    {title}: {part}")));
    }
    let time: Duration = finished.iter().map(|step| step.time).sum();
    let budget: Duration = finished.iter().map(|step| step.budget).sum();
    lines.push(format!("  in all  {:7.1} s of {:3} s", time.as_secs_f64(), budget.as_secs()));
    let slow = finished.iter().filter(|step| step.time > step.budget).count();
    if slow > 0 {
        lines.push(format!("\nWARNING: {slow} over budget: the machine is busy, or something became slow"));
    }
    lines.push(format!("\n{passed} passed, {failed} failed, {skipped} skipped"));
    let result = match (passed, failed) {
        (_, 1..) => Err(format!("{failed} of {} steps failed", finished.len())),
        (0, 0) => Err("no step ran".to_owned()),
        _ => Ok(()),
    };
    (lines.join("\n"), result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(outcome: Outcome, seconds: u64, not_tested: &[&str]) -> Finished {
        let not_tested = not_tested.iter().map(|&part| part.to_owned()).collect();
        let time = Duration::from_secs(seconds);
        Finished { title: "a step", budget: Duration::from_secs(10), outcome, time, not_tested }
    }

    #[test]
    fn what_a_passing_step_left_out_is_counted_and_named() {
        let (summary, result) = summarise(&[done(Outcome::Passed, 9, &["a test: no control group"])]);
        assert_eq!(result, Ok(()));
        assert!(summary.contains("SKIPPED                    a step: a test: no control group"), "{summary}");
        assert!(summary.ends_with("\n1 passed, 0 failed, 1 skipped"), "{summary}");
        assert!(!summary.contains("OVER BUDGET"), "{summary}");
    }

    #[test]
    fn a_step_over_its_budget_is_a_warning_and_no_failure() {
        let (summary, result) = summarise(&[done(Outcome::Passed, 11, &[]), done(Outcome::Passed, 10, &[])]);
        assert_eq!(result, Ok(()));
        assert!(summary.contains("11.0 s of  10 s OVER BUDGET  a step"), "{summary}");
        assert!(summary.contains("WARNING: 1 over budget"), "{summary}");
        assert!(summary.contains("in all     21.0 s of  20 s"), "{summary}");
    }

    #[test]
    fn failures_and_runs_of_nothing_are_errors() {
        let (summary, result) = summarise(&[
            done(Outcome::Failed("why".into()), 1, &[]),
            done(Outcome::Skipped("how".into()), 0, &[]),
        ]);
        assert_eq!(result, Err("1 of 2 steps failed".into()));
        assert!(summary.contains("a step: why") && summary.contains("a step: how"), "{summary}");
        assert!(summary.ends_with("\n0 passed, 1 failed, 1 skipped"), "{summary}");
        assert!(summarise(&[done(Outcome::Skipped("how".into()), 0, &[])]).1.is_err());
    }

    #[test]
    fn a_step_gets_several_times_its_budget() {
        let seconds = |deadline: Deadline| deadline.left().map(|left| left.as_secs() + 1);
        let step =
            Step::new("a step", 10, move |deadline| Outcome::Failed(format!("{:?}", seconds(deadline))));
        assert!(matches!(step.finish().outcome, Outcome::Failed(left) if left == "Some(50)"));
    }
}
