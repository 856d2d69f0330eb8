//! Disks that fail at the n-th call, once and from then on.

use std::io;

use super::client::{Client, replay};
use super::crash::check_now;
use super::disk::Fault;
use super::*;

const ACTIONS: usize = 30;

/// How many calls the history of a seed makes.
fn calls(seed: u64) -> usize {
    let mut client = Client::new(seed);
    let before = client.disk.calls();
    client.act(ACTIONS).unwrap();
    client.disk.calls() - before
}

/// The history of a seed on a disk that fails at a call. `Err` if the log failed.
fn run(seed: u64, at: usize, sticky: bool, kind: io::ErrorKind) -> (Client, Result<(), WriteError>) {
    let mut client = Client::new(seed);
    client.disk.fail(Some(Fault { at: client.disk.calls() + at, sticky, kind }));
    let done = client.act(ACTIONS);
    (client, done)
}

#[test]
fn an_io_error_is_final_and_costs_nothing_that_was_durable() {
    for seed in 1..=3 {
        for at in 0..calls(seed) {
            for sticky in [false, true] {
                let (client, done) = run(seed, at, sticky, io::ErrorKind::Other);
                assert!(done.is_err(), "seed {seed}: call {at} failed and nobody noticed");
                assert!(client.driven.log.failed().borrow().is_some());
                let durable = *client.driven.log.durable().borrow();
                client.disk.fail(None);
                let mut batch = Batch::new();
                batch.push(&Record::CleanStop);
                let appended = client.driven.log.append(&mut batch, true);
                assert!(appended.position > durable);
                assert_eq!(*client.driven.log.durable().borrow(), durable);
                assert!(client.driven.log.shutdown().is_err());
                check_now(&client, &mut Random(at as u64));
            }
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_space() {
    let mut waited = 0;
    for seed in 1..=3 {
        for at in 0..calls(seed) {
            for sticky in [false, true] {
                let (mut client, done) = run(seed, at, sticky, io::ErrorKind::StorageFull);
                if done.is_err() {
                    // A sync that fails is final, whatever it says.
                    check_now(&client, &mut Random(at as u64));
                    continue;
                }
                waited += usize::from(*client.driven.log.space().borrow() == Space::Full);
                check_now(&client, &mut Random(at as u64));
                client.disk.fail(None);
                client.pump().unwrap();
                assert_eq!(*client.driven.log.space().borrow(), Space::Ample);
                assert_eq!(client.driven.log.durable().borrow().0, client.batches.len() as u64);
                client.act(10).unwrap();
                client.pump().unwrap();
                check_now(&client, &mut Random(at as u64));
            }
        }
    }
    assert!(waited > 10, "{waited} histories ended on a full disk");
}

#[test]
fn a_recovery_that_fails_anywhere_changes_nothing() {
    let mut torn = 0;
    for seed in 1..=6 {
        let mut client = Client::new(seed);
        client.act(60).unwrap();
        client.pump().unwrap();
        let mut image = client.disk.image();
        // The newest segment loses its end.
        let mut last = image.last_entry().unwrap();
        let length = last.get().iter().rposition(|byte| *byte != 0).unwrap();
        last.get_mut().truncate(length - 8);
        let (_, report, expected) = replay(&SimDisk::new(image.clone()));
        torn += usize::from(report.torn_tail.is_some());
        for at in 0..200 {
            for sticky in [false, true] {
                let disk = SimDisk::new(image.clone());
                disk.fail(Some(Fault { at, sticky, kind: io::ErrorKind::Other }));
                let failed = Driven::open(&disk, small_options(), &mut |_| {}).is_err();
                assert!(failed || disk.calls() <= at, "seed {seed}: call {at} failed and nobody noticed");
                disk.fail(None);
                let (_, again, replayed) = replay(&disk);
                assert_eq!(replayed.batches, expected.batches, "seed {seed}, call {at}");
                assert_eq!(again.damage, []);
            }
        }
    }
    assert!(torn > 0, "no log had a torn tail");
}

#[test]
fn a_full_disk_leaves_room_for_acks_until_segments_are_retired() {
    let mut client = Client::new(8);
    client.act(40).unwrap();
    client.pump().unwrap();
    let capacity = client.disk.bytes();
    client.disk.limit(Some(capacity));
    let mut turns = 0;
    while *client.driven.log.space().borrow() == Space::Ample {
        client.act(1).unwrap();
        client.pump().unwrap();
        turns += 1;
        assert!(turns < 1000, "the disk never filled up");
    }
    let durable = client.driven.log.durable().borrow().0;
    assert_eq!(durable, client.batches.len() as u64, "the reserve took what came");
    // Everything is acked, which fits the reserve, and so everything but the newest segment can go.
    client.delete_all();
    client.pump().unwrap();
    client.pump().unwrap();
    assert_eq!(client.driven.log.durable().borrow().0, durable + 1);
    assert_eq!(client.driven.log.usage().segments, 1);
    assert_eq!(*client.driven.log.space().borrow(), Space::Ample, "there is a reserve again");
    check_now(&client, &mut Random(1));
}
