//! Power cuts at every point of many histories.

use super::client::{Client, Replayed, outcome, replay};
use super::disk::{Cut, SimDisk};
use super::*;

/// A number from the environment, for longer runs: `LOG_CRASH_SEEDS`, `LOG_CRASH_STATES`.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What is there has to be what was appended: everything durable, in order, nothing altered, nothing missing that
/// lives. Returns how many batches survived.
fn check(cut: &Cut, batches: &[Vec<u8>], replayed: &Replayed, report: &RecoveryReport) -> usize {
    assert_eq!(report.damage, [], "nothing was damaged");
    let survivors = usize::try_from(replayed.batches.last_key_value().map_or(0, |(last, _)| *last)).unwrap();
    assert!(survivors as u64 >= cut.durable, "durable to {}, recovered to {survivors}", cut.durable);
    assert!(survivors <= cut.appended, "appended {}, recovered {survivors}", cut.appended);
    let first = replayed.batches.first_key_value().map_or(1, |(first, _)| *first);
    assert_eq!(replayed.batches.len() as u64, survivors as u64 + 1 - first, "a gap");
    for (position, bytes) in &replayed.batches {
        assert_eq!(*bytes, batches[usize::try_from(*position).unwrap() - 1], "batch {position} was altered");
    }
    assert_eq!(replayed.model.state(), outcome(&batches[..survivors]).state());
    survivors
}

/// Cuts the power at the end of a client's history, in several ways.
pub(super) fn check_now(client: &Client, random: &mut Random) {
    let (mut cut, events) = client.disk.history();
    for event in &events {
        cut.step(event);
    }
    for variant in 0..4 {
        let (_, report, replayed) = replay(&SimDisk::new(cut.image(variant, random)));
        check(&cut, &client.batches, &replayed, &report);
    }
}

/// Cuts the power everywhere in a client's history; goes on after some of the cuts. Returns how many states.
fn explore(client: &Client, variants: usize, depth: usize, already: u64, random: &mut Random) -> usize {
    let (mut cut, events) = client.disk.history();
    cut.durable = already;
    cut.appended = usize::try_from(already).unwrap();
    let mut states = 0;
    for event in &events {
        if !cut.step(event) {
            continue;
        }
        for variant in 0..variants {
            let disk = SimDisk::new(cut.image(variant, random));
            let (driven, report, replayed) = replay(&disk);
            let survivors = check(&cut, &client.batches, &replayed, &report);
            states += 1;
            if depth > 0 && random.one_in(24) {
                let history = client.batches[..survivors].to_vec();
                let mut next = Client::resume(disk, driven, replayed.model, history, random.next() >> 40);
                next.act(12).unwrap();
                states += explore(&next, 3, depth - 1, survivors as u64, random);
            }
        }
    }
    states
}

#[test]
fn a_power_cut_costs_nothing_that_was_durable() {
    let seeds = setting("LOG_CRASH_SEEDS", 12);
    let variants = setting("LOG_CRASH_STATES", 5);
    let mut states = 0;
    for seed in 1..=seeds as u64 {
        let run = std::panic::catch_unwind(|| {
            let mut client = Client::new(seed);
            client.act(120).unwrap();
            explore(&client, variants, 2, 0, &mut Random(seed))
        });
        states += run.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    eprintln!("{states} states after power cuts");
    assert!(states > 1000, "{states} states are not worth a test");
}
