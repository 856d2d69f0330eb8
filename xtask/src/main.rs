//! The project's automation: `cargo xtask <command>`.
//!
//! One file per command; `steps` runs numbered steps and closes with the summary; `process` runs programs, and `group`
//! sees to it that none outlives its deadline or this program; `python` and `node` prepare what the client tests need
//! under `target/`. Standard library only, so that it builds in seconds on a fresh machine.

mod audit;
mod broker;
mod conformance;
mod deadline;
mod differential;
mod fix;
mod group;
mod instructions;
mod node;
mod process;
mod python;
mod skips;
mod stamp;
mod steps;
mod test;
mod tools;
mod torture;
mod workspace;

use std::process::ExitCode;

use deadline::Deadline;

const USAGE: &str = "\
Usage: cargo xtask <command>

Commands:
  test [--keep-going] [--list] [--only TEXT]
                     everything a change must pass; prepares what the tests need
                     --keep-going  run the remaining steps after a failure
                     --list        print the steps with their budgets and stop
                     --only TEXT   run only the steps whose title contains TEXT
  conformance [--fast] [--suite NAME] [--rabbitmq]
                     the published test suites of client libraries against the broker
                     --fast        only the suites that need minutes in all
                     --suite NAME  only this suite (may be given more than once)
                     --rabbitmq    run them against an installed RabbitMQ
  differential [NAME]
                     the same sessions against the broker and an installed RabbitMQ, replies compared
  torture [--cycles N] [--seed S] [--seconds-per-cycle S] [--round N] [--bad-disk | --full-disk]
                     kills the broker under load again and again and checks what it promised;
                     ends with 1 when a promise was broken, with 3 when the run proves nothing
                     --bad-disk    writes and syncs of the message log fail instead
                     --full-disk   64 MiB for the data instead; needs the right to mount
  instructions [--bless]
                     instructions per message, counted by valgrind, against benches/instructions.toml
                     --bless       write what was counted as the budget
  fix                format the code in place
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.split_first() {
        Some((&"test", rest)) => test::run(rest),
        Some((&"conformance", rest)) => conformance::run(rest, Deadline::NONE),
        Some((&"differential", rest)) => differential::run(rest),
        Some((&"instructions", rest)) => instructions::run(rest),
        Some((&"torture", rest)) => return torture::main(rest),
        Some((&"fix", [])) => fix::run(),
        Some((&("help" | "--help" | "-h"), _)) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Err(format!("unknown command or options: {arguments:?}\n\n{USAGE}")),
    };
    // Outside of the steps they were told as they came.
    drop(skips::take());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
