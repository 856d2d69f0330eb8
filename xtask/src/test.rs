//! `cargo xtask test`: everything a change must pass, in numbered steps.
//!
//! The cheap checks come first, so that a typing error costs seconds.

use std::process::Command;

use crate::deadline::Deadline;
use crate::steps::{AfterFailure, Outcome, Step};
use crate::{
    audit, broker, conformance, differential, instructions, node, process, python, steps, torture, workspace,
};

/// Runs the steps that the options choose.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let mut after_failure = AfterFailure::Stop;
    let (mut list, mut only) = (false, None);
    let mut options = options.iter();
    while let Some(&option) = options.next() {
        match option {
            "--keep-going" => after_failure = AfterFailure::KeepGoing,
            "--list" => list = true,
            "--only" => only = Some(*options.next().ok_or("--only needs a piece of a step's title")?),
            _ => return Err(format!("unknown option of `test`: {option}")),
        }
    }
    let mut steps = all();
    if let Some(text) = only {
        steps.retain(|step| step.title().contains(text));
    }
    if list {
        for step in &steps {
            println!("{} ({} s)", step.title(), step.budget().as_secs());
        }
        return Ok(());
    }
    steps::run(steps, after_failure)
}

/// Runs a step that needs a component which a minimal toolchain lacks.
fn with_component(component: &str, subcommand: &str, step: impl FnOnce() -> Outcome) -> Outcome {
    match process::output(&mut cargo(&[subcommand, "--version"])) {
        Some(_) => step(),
        None => Outcome::Skipped(format!("{component} is not installed (rustup component add {component})")),
    }
}

fn format(deadline: Deadline) -> Outcome {
    let examples = ["fmt", "--check", "--manifest-path", "examples/rust/Cargo.toml"];
    let formatted = process::run(&mut cargo(&["fmt", "--all", "--check"]), deadline);
    formatted.and_then(|()| process::run(&mut cargo(&examples), deadline)).into()
}

/// All of them, each with its budget in seconds: what it takes on two idle cores in a fresh clone, with some room.
/// All but the examples and what is counted is built in one profile, and `build` builds it.
fn all() -> Vec<Step> {
    vec![
        Step::new("format", 5, |deadline| with_component("rustfmt", "fmt", || format(deadline))),
        Step::new("clippy", 70, |deadline| with_component("clippy", "clippy", || clippy(deadline))),
        Step::new("build", 200, |deadline| process::step(&mut workspace_tests(&["--no-run"]), deadline)),
        Step::new("workspace tests", 60, |deadline| process::step(&mut workspace_tests(&[]), deadline)),
        Step::new("rustdoc", 20, rustdoc),
        Step::new("licences and bans", 5, audit::run),
        Step::new("instructions per message", 60, instructions::step),
        Step::new("rust examples build", 80, rust_examples),
        Step::new("python clients, examples and README", 130, python_tests),
        Step::new("node clients", 10, node_tests),
        Step::new("torture, short form", 140, torture::step),
        Step::new("conformance, fast part", 80, conformance_fast),
        Step::new(differential::TITLE, differential::BUDGET, |deadline| differential::step("", deadline)),
    ]
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = process::cargo();
    command.args(arguments).current_dir(workspace::root());
    command
}

fn clippy(deadline: Deadline) -> Outcome {
    let mut command = cargo(&["clippy", "--profile", broker::PROFILE]);
    command.args(["--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    process::step(&mut command, deadline)
}

fn workspace_tests(options: &[&str]) -> Command {
    let mut command = cargo(&["test", "--profile", broker::PROFILE, "--workspace", "--locked"]);
    command.args(options);
    command
}

fn rustdoc(deadline: Deadline) -> Outcome {
    let mut command = cargo(&["doc", "--profile", broker::PROFILE, "--workspace", "--no-deps", "--locked"]);
    command.arg("--document-private-items").env("RUSTDOCFLAGS", "-D warnings");
    process::step(&mut command, deadline)
}

fn rust_examples(deadline: Deadline) -> Outcome {
    let manifest = workspace::root().join("examples/rust/Cargo.toml");
    let target = workspace::target().join("examples");
    let mut command = process::cargo();
    command.args(["build", "--locked", "--bins", "--manifest-path"]).arg(manifest);
    process::step(command.arg("--target-dir").arg(target), deadline)
}

fn python_tests(deadline: Deadline) -> Outcome {
    if python::system().is_none() {
        return Outcome::Skipped("no Python 3.9 or later on this machine".to_owned());
    }
    let prepared =
        python::test_environment(deadline).and_then(|python| Ok((python, broker::build(deadline)?)));
    match prepared {
        Ok((python, binary)) => process::step(
            python::pytest(&python, ["-q", "tests/python"])
                .env("FERRYMQ_BIN", binary)
                .env("FERRYMQ_TARGET", workspace::target()),
            deadline,
        ),
        Err(message) => Outcome::Failed(message),
    }
}

fn node_tests(deadline: Deadline) -> Outcome {
    if !node::present() {
        return Outcome::Skipped("no Node on this machine: amqplib was NOT tested".to_owned());
    }
    let prepared = node::packages(deadline).and_then(|folder| {
        let binary = broker::build(deadline)?;
        Ok((folder, broker::Broker::start(&binary)?))
    });
    match prepared {
        Ok((folder, broker)) => process::step(
            Command::new("node")
                .args(["--test", "--test-timeout=60000", "tests/node/"])
                .current_dir(workspace::root())
                .env("AMQP_URL", format!("amqp://guest:guest@127.0.0.1:{}", broker.port()))
                .env("NODE_PACKAGES", folder.join("node_modules")),
            deadline,
        ),
        Err(message) => Outcome::Failed(message),
    }
}

fn conformance_fast(deadline: Deadline) -> Outcome {
    if python::system().is_none() {
        return Outcome::Skipped("no Python 3.9 or later on this machine".to_owned());
    }
    conformance::run(&["--fast"], deadline).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_whole_run_takes_a_quarter_of_an_hour_at_most() {
        let budget: Duration = all().iter().map(Step::budget).sum();
        assert!(budget <= Duration::from_secs(15 * 60), "{budget:?}");
    }
}
