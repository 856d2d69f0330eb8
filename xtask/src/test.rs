//! `cargo xtask test`: everything a change must pass, in numbered steps.
//!
//! The cheap checks come first, so that a typing error costs seconds.

use std::process::Command;

use crate::steps::{AfterFailure, Outcome, Step};
use crate::{audit, broker, conformance, differential, node, process, python, steps, torture, workspace};

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
            println!("{}", step.title());
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

fn format() -> Outcome {
    let examples = ["fmt", "--check", "--manifest-path", "examples/rust/Cargo.toml"];
    match process::run(&mut cargo(&["fmt", "--all", "--check"])) {
        Ok(()) => process::step(&mut cargo(&examples)),
        Err(message) => Outcome::Failed(message),
    }
}

/// All of them. All but the examples is built in one profile, and `build` builds it.
fn all() -> Vec<Step> {
    vec![
        Step::new("format", || with_component("rustfmt", "fmt", format)),
        Step::new("clippy", || {
            with_component("clippy", "clippy", || {
                process::step(&mut cargo(&[
                    "clippy",
                    "--profile",
                    broker::PROFILE,
                    "--workspace",
                    "--all-targets",
                    "--locked",
                    "--",
                    "-D",
                    "warnings",
                ]))
            })
        }),
        Step::new("build", || process::step(&mut workspace_tests(&["--no-run"]))),
        Step::new("workspace tests", || process::step(&mut workspace_tests(&[]))),
        Step::new("rustdoc", || {
            process::step(
                cargo(&[
                    "doc",
                    "--profile",
                    broker::PROFILE,
                    "--workspace",
                    "--no-deps",
                    "--document-private-items",
                    "--locked",
                ])
                .env("RUSTDOCFLAGS", "-D warnings"),
            )
        }),
        Step::new("licences and bans", audit::run),
        Step::new("rust examples build", rust_examples),
        Step::new("python clients, examples and README", python_tests),
        Step::new("node clients", node_tests),
        Step::new("torture, short form", torture::step),
        Step::new("conformance, fast part", conformance_fast),
        Step::new("differential sessions", || differential::step("")),
    ]
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = process::cargo();
    command.args(arguments).current_dir(workspace::root());
    command
}

fn workspace_tests(options: &[&str]) -> Command {
    let mut command = cargo(&["test", "--profile", broker::PROFILE, "--workspace", "--locked"]);
    command.args(options);
    command
}

fn rust_examples() -> Outcome {
    let manifest = workspace::root().join("examples/rust/Cargo.toml");
    let target = workspace::target().join("examples");
    let mut command = process::cargo();
    command.args(["build", "--locked", "--bins", "--manifest-path"]).arg(manifest);
    process::step(command.arg("--target-dir").arg(target))
}

fn python_tests() -> Outcome {
    if python::system().is_none() {
        return Outcome::Skipped("no Python 3.9 or later on this machine".to_owned());
    }
    let prepared = python::test_environment().and_then(|python| Ok((python, broker::build()?)));
    match prepared {
        Ok((python, binary)) => process::step(
            python::pytest(&python, ["-q", "tests/python"])
                .env("FERRYMQ_BIN", binary)
                .env("FERRYMQ_TARGET", workspace::target()),
        ),
        Err(message) => Outcome::Failed(message),
    }
}

fn node_tests() -> Outcome {
    if !node::present() {
        return Outcome::Skipped("no Node on this machine: amqplib was NOT tested".to_owned());
    }
    let prepared = node::packages().and_then(|folder| {
        let binary = broker::build()?;
        Ok((folder, broker::Broker::start(&binary)?))
    });
    match prepared {
        Ok((folder, broker)) => process::step(
            Command::new("node")
                .args(["--test", "tests/node/"])
                .current_dir(workspace::root())
                .env("AMQP_URL", format!("amqp://guest:guest@127.0.0.1:{}", broker.port()))
                .env("NODE_PACKAGES", folder.join("node_modules")),
        ),
        Err(message) => Outcome::Failed(message),
    }
}

fn conformance_fast() -> Outcome {
    if python::system().is_none() {
        return Outcome::Skipped("no Python 3.9 or later on this machine".to_owned());
    }
    match conformance::run(&["--fast"]) {
        Ok(()) => Outcome::Passed,
        Err(message) => Outcome::Failed(message),
    }
}
