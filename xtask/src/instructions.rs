//! `cargo xtask instructions`: instructions that a message takes on its straight way through the broker, counted by
//! callgrind, against the budget in `benches/instructions.toml`.
//!
//! Invariant: only counts of the same compiler, C library and valgrind are compared; anything else is told, and is
//! neither a success nor a failure.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::deadline::Deadline;
use crate::steps::Outcome;
use crate::{process, stamp, tools, workspace};

/// Close to what is released, and quicker to build.
const PROFILE: &str = "count";
/// Messages that are published at a time.
const BURSTS: [u32; 3] = [1, 16, 1_000];
/// Messages that are counted, whole bursts of each size.
const MESSAGES: u32 = 16_000;
/// What a count may be away from its budget, in percent: many times what runs differ by.
const TOLERANCE_PERCENT: f64 = 2.0;
/// The function of `benches/straight.rs` in which instructions count.
const COUNTED: &str = "straight::pass";

const HEADER: &str = "\
# Instructions per message on the straight way through the broker, by messages published at a time.
# `cargo xtask instructions` compares with it; `cargo xtask instructions --bless` writes it.
";

/// What a finished comparison says.
#[derive(Debug, PartialEq)]
enum Verdict {
    Within,
    Beyond(String),
    /// The budget was counted with something else.
    NotComparable(String),
}

/// Instructions per message, and what they were counted with.
#[derive(Clone, Debug, PartialEq)]
struct Counts {
    counted_with: String,
    /// By burst.
    per_message: Vec<(u32, f64)>,
}

/// The command.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let bless = match options {
        [] => false,
        ["--bless"] => true,
        _ => return Err(format!("unknown options of `instructions`: {options:?}")),
    };
    if tools::find("valgrind").is_none() {
        return Err("valgrind is not installed".to_owned());
    }
    let counts = count(Deadline::NONE)?;
    if bless {
        let (path, text) = (budget_path(), counts.text());
        fs::write(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("\n{text}");
        return Ok(());
    }
    match compare(&counts, &read_budget()?)? {
        Verdict::Within => Ok(()),
        Verdict::Beyond(why) | Verdict::NotComparable(why) => Err(why),
    }
}

/// The comparison as a step.
pub(crate) fn step(deadline: Deadline) -> Outcome {
    if tools::find("valgrind").is_none() {
        return Outcome::Skipped(
            "valgrind is not installed: a slower broker would NOT be noticed".to_owned(),
        );
    }
    let verdict =
        count(deadline).and_then(|counts| read_budget().and_then(|budget| compare(&counts, &budget)));
    match verdict {
        Ok(Verdict::Within) => Outcome::Passed,
        Ok(Verdict::NotComparable(why)) => Outcome::Skipped(why),
        Ok(Verdict::Beyond(why)) | Err(why) => Outcome::Failed(why),
    }
}

fn budget_path() -> PathBuf {
    workspace::root().join("benches/instructions.toml")
}

fn read_budget() -> Result<Counts, String> {
    Counts::parse(&stamp::read(&budget_path())?)
}

impl Counts {
    fn parse(text: &str) -> Result<Self, String> {
        let mut counts = Self { counted_with: String::new(), per_message: Vec::new() };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let wrong = || format!("benches/instructions.toml: not understood: {line}");
            let (key, value) = line.split_once(" = ").ok_or_else(wrong)?;
            if key == "counted-with" {
                value.trim_matches('"').clone_into(&mut counts.counted_with);
            } else {
                let burst = key.strip_prefix("bursts-of-").and_then(|burst| burst.parse().ok());
                let count = value.parse().ok().filter(|count: &f64| count.is_normal());
                counts.per_message.push((burst.ok_or_else(wrong)?, count.ok_or_else(wrong)?));
            }
        }
        Ok(counts)
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADER}\ncounted-with = \"{}\"\n", self.counted_with);
        for (burst, count) in &self.per_message {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "bursts-of-{burst} = {count:.0}");
        }
        text
    }
}

/// Prints the table and judges.
fn compare(counts: &Counts, budget: &Counts) -> Result<Verdict, String> {
    println!("\n  at a time   instructions per message     budget   deviation");
    let mut beyond = false;
    for (burst, count) in &counts.per_message {
        let allowed = budget.per_message.iter().find(|(of, _)| of == burst);
        let (_, allowed) = allowed.ok_or_else(|| {
            format!("benches/instructions.toml has nothing for bursts of {burst}: write it with --bless")
        })?;
        let deviation = (count - allowed) / allowed * 100.0;
        let mark = if deviation.abs() > TOLERANCE_PERCENT { "  BEYOND" } else { "" };
        beyond |= !mark.is_empty();
        println!("  {burst:>9}   {count:24.1} {allowed:>10.0}   {deviation:+8.2} %{mark}");
    }
    if counts.counted_with != budget.counted_with {
        return Ok(Verdict::NotComparable(format!(
            "the budget was counted with {}, and here is {}: compare with a count of the parent commit, then write the \
             budget with `cargo xtask instructions --bless`",
            budget.counted_with, counts.counted_with
        )));
    }
    if beyond {
        return Ok(Verdict::Beyond(format!(
            "the straight way takes more than {TOLERANCE_PERCENT} % more or fewer instructions than its budget. More: \
             look for the cause with `callgrind_annotate {}` here and on the parent commit, and remove it. If it is \
             worth its price, or if they are fewer, write the budget with `cargo xtask instructions --bless` and say \
             why in the commit",
            out_file(BURSTS[0]).display()
        )));
    }
    Ok(Verdict::Within)
}

/// What has a say in the counts besides the code.
fn counted_with() -> String {
    let ask = |program: &str, argument: &str| {
        let said = process::output(Command::new(program).arg(argument));
        said.map_or_else(|| format!("no {program}"), |text| text.trim().to_owned())
    };
    let rustc = ask("rustc", "--version");
    let parts = [
        rustc.split(" (").next().unwrap_or(&rustc).to_owned(),
        ask("getconf", "GNU_LIBC_VERSION"),
        ask("valgrind", "--version"),
        std::env::consts::ARCH.to_owned(),
    ];
    parts.join(", ")
}

fn out_file(burst: u32) -> PathBuf {
    workspace::target().join(PROFILE).join(format!("straight-{burst}.callgrind"))
}

/// `cargo build` or `cargo run` of the program.
fn straight(subcommand: &str) -> Command {
    let mut command = process::cargo();
    command.args([
        subcommand,
        "--profile",
        PROFILE,
        "--package",
        "ferrymq",
        "--example",
        "straight",
        "--locked",
    ]);
    command.current_dir(workspace::root());
    command
}

fn count(deadline: Deadline) -> Result<Counts, String> {
    process::run(&mut straight("build"), deadline)?;
    let mut counts = Counts { counted_with: counted_with(), per_message: Vec::new() };
    for burst in BURSTS {
        counts.per_message.push((burst, count_burst(burst, deadline)?));
    }
    Ok(counts)
}

fn count_burst(burst: u32, deadline: Deadline) -> Result<f64, String> {
    let out = out_file(burst);
    // Cargo knows where the program is, and starts it with this in front of it.
    let runner = format!(
        "target.'cfg(all())'.runner = ['valgrind', '--quiet', '--tool=callgrind', '--toggle-collect={COUNTED}', \
         '--callgrind-out-file={}']",
        out.display()
    );
    let mut command = straight("run");
    command.args(["--quiet", "--config", &runner, "--", &burst.to_string(), &MESSAGES.to_string()]);
    process::run(&mut command, deadline)?;
    let instructions = total(&stamp::read(&out)?);
    let instructions = instructions.ok_or_else(|| format!("callgrind has not seen {COUNTED}"))?;
    Ok(instructions / f64::from(MESSAGES))
}

/// What callgrind counted in all, if it counted anything.
fn total(profile: &str) -> Option<f64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals:"))?;
    line.trim().parse().ok().filter(|total| *total > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counted_with: &str, count: f64) -> Counts {
        Counts { counted_with: counted_with.to_owned(), per_message: vec![(1, 2.0 * count), (16, count)] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let counts = counts("rustc 1.0, libc 2", 700.0);
        assert_eq!(Counts::parse(&counts.text()), Ok(counts.clone()));
        assert!(Counts::parse("bursts-of-1 = 0").is_err());
        assert!(Counts::parse("bursts-of-many = 7").is_err());
        assert!(Counts::parse("counted-with").is_err());
    }

    #[test]
    fn two_percent_are_tolerated_in_both_directions() {
        let budget = counts("a", 1_000.0);
        let verdict = |count| compare(&counts("a", count), &budget).unwrap();
        for count in [981.0, 1_000.0, 1_019.0] {
            assert_eq!(verdict(count), Verdict::Within);
        }
        for count in [979.0, 1_021.0] {
            assert!(matches!(verdict(count), Verdict::Beyond(_)), "{count}");
        }
    }

    #[test]
    fn one_burst_beyond_is_enough_and_none_may_lack_a_budget() {
        let mut slow = counts("a", 1_000.0);
        slow.per_message[0].1 *= 1.03;
        assert!(matches!(compare(&slow, &counts("a", 1_000.0)), Ok(Verdict::Beyond(_))));
        slow.per_message[0].0 = 7;
        assert!(compare(&slow, &counts("a", 1_000.0)).is_err());
    }

    #[test]
    fn counts_of_another_compiler_prove_nothing() {
        let verdict = compare(&counts("a", 1_000.0), &counts("b", 1_000.0)).unwrap();
        assert!(matches!(verdict, Verdict::NotComparable(_)));
    }

    #[test]
    fn a_function_that_callgrind_did_not_see_is_no_count() {
        assert_eq!(total("events: Ir\ntotals: 4711\n"), Some(4711.0));
        assert_eq!(total("events: Ir\ntotals: 0\n"), None);
        assert_eq!(total(""), None);
    }
}
