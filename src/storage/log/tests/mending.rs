//! Checks and repairs: what a check says of a log, and that a repair ends damage and loses nothing.

use std::collections::BTreeMap;

use super::client::{Client, Replayed, look, replay};
use super::damage::{closed_log, segments};
use super::disk::{Fault, Image};
use super::*;

fn empty() -> SimDisk {
    SimDisk::new(Image::new())
}

/// Logs with all kinds of damage, and what they are.
fn damaged_logs(image: &Image) -> Vec<(String, Image)> {
    let names = segments(image);
    let mut logs = Vec::new();
    let mut change = |what: String, act: &dyn Fn(&mut Image)| {
        let mut changed = image.clone();
        act(&mut changed);
        logs.push((what, changed));
    };
    for name in &names {
        let length = image[name].len();
        for at in (0..length).step_by(61) {
            change(format!("{name} changed at {at}"), &|image| image.get_mut(name).unwrap()[at] ^= 1);
            change(format!("{name} cut to {at}"), &|image| image.get_mut(name).unwrap().truncate(at));
        }
        for at in (0..length).step_by(512) {
            change(format!("{name} with a hole at {at}"), &|image| {
                let end = length.min(at + 1024);
                image.get_mut(name).unwrap()[at..end].fill(0);
            });
        }
        change(format!("{name} removed"), &|image| drop(image.remove(name)));
        change(format!("{name} doubled"), &|image| {
            let bytes = image[name].clone();
            image.insert("0000009999.log".to_owned(), bytes);
        });
    }
    change("two swapped".to_owned(), &|image| {
        let (one, two) = (image[&names[0]].clone(), image[&names[1]].clone());
        image.extend([(names[0].clone(), two), (names[1].clone(), one)]);
    });
    logs
}

/// A log that was mended: what was intact is there, and no damage. Says whether there was any.
fn check_mended(before: &Image, what: &str, mend: impl Fn(&SimDisk, &SimDisk)) -> bool {
    let (damaged, intact) = look(&SimDisk::new(before.clone()));
    let (log, aside) = (SimDisk::new(before.clone()), empty());
    mend(&log, &aside);
    let (mended, report, replayed) = replay(&log);
    drop(mended);
    assert_eq!(report.damage, [], "{what}");
    compare(&damaged, &intact, &replayed, what);
    if damaged.recovery.damage.is_empty() {
        assert_eq!(log.image().len(), aside.image().len() + log.image().len(), "{what}");
        return false;
    }
    assert!(!report.clean_stop, "{what}: a lost record may have said that something was delivered");
    for damage in &damaged.recovery.damage {
        let name = format!("{}.log", damage.segment);
        if let Some(bytes) = before.get(&name) {
            assert_eq!(aside.image().get(&name), Some(bytes), "{what}: the copy");
        }
    }
    true
}

fn compare(damaged: &CheckReport, intact: &Replayed, mended: &Replayed, what: &str) {
    let mut expected = intact.batches.clone();
    // The mark of a clean stop, behind its frame.
    let is_mark = |batch: &[u8]| batch.len() == 16 && batch[8..10] == [8, 1];
    if !damaged.recovery.damage.is_empty() && expected.last_entry().is_some_and(|last| is_mark(last.get())) {
        expected.pop_last();
    }
    let keys = |batches: &BTreeMap<u64, Vec<u8>>| batches.keys().copied().collect::<Vec<_>>();
    assert_eq!(keys(&mended.batches), keys(&expected), "{what}");
    assert!(mended.batches == expected, "{what}: a batch was altered");
    assert!(mended.model.state() == intact.model.state(), "{what}: another outcome");
}

fn mend(log: &SimDisk, aside: &SimDisk) -> Result<RepairReport, OpenError> {
    repair(Arc::new(log.clone()), aside)
}

#[test]
fn a_check_says_where_the_end_and_the_damage_are() {
    let mut client = Client::new(3);
    client.act(60).unwrap();
    client.pump().unwrap();
    // A start ends the newest segment behind its last batch.
    let disk = SimDisk::new(client.disk.image());
    drop(replay(&disk));
    let mut image = disk.image();
    let names = segments(&image);
    let (whole, _) = look(&SimDisk::new(image.clone()));
    assert_eq!(whole.segments.len(), names.len());
    assert!(whole.segments.iter().all(|segment| segment.damage.is_none() && segment.dropped_from.is_none()));
    assert!(!whole.spare_bytes.is_empty());

    image.get_mut(&names[0]).unwrap()[1030] ^= 1;
    let torn = (1..100).find_map(|missing| {
        let mut image = image.clone();
        let last = image.get_mut(names.last().unwrap()).unwrap();
        let length = last.len() - missing;
        last.truncate(length);
        let (report, _) = look(&SimDisk::new(image));
        report.recovery.torn_tail.map(|tail| (report, tail))
    });
    let (report, tail) = torn.expect("a batch ends with its records and their padding");
    assert_eq!(report.segments.last().unwrap().dropped_from, Some(tail.offset));
    assert_eq!(report.segments[0].damage, Some(report.recovery.damage[0]));
}

#[test]
fn a_repair_ends_damage_and_keeps_what_is_intact() {
    let (image, _) = closed_log();
    let mut mended = 0;
    for (what, before) in damaged_logs(&image) {
        mended += usize::from(check_mended(&before, &what, |log, aside| {
            let report = mend(log, aside).unwrap();
            let changes = log.changes();
            assert_eq!(mend(log, &empty()).unwrap(), RepairReport::default(), "{what}: {report:?}");
            assert_eq!(log.changes(), changes, "there was nothing left to do");
        }));
    }
    assert!(mended > 50, "{mended} logs were mended");
}

#[test]
fn a_repair_may_fail_anywhere_and_be_done_again() {
    let (image, _) = closed_log();
    let logs = damaged_logs(&image);
    let mut failures = 0;
    for (what, before) in logs.iter().step_by(7) {
        for at in 0..200 {
            let (log, first, second) = (SimDisk::new(before.clone()), empty(), empty());
            log.fail(Some(Fault { at, sticky: true, kind: io::ErrorKind::Other }));
            let done = mend(&log, &first);
            log.fail(None);
            let (partly, intact) = look(&log);
            let (damaged, all) = look(&SimDisk::new(before.clone()));
            assert!(partly.recovery.damage.len() <= damaged.recovery.damage.len(), "{what}");
            mend(&log, &second).unwrap();
            let (_, report, replayed) = replay(&log);
            assert_eq!(report.damage, [], "{what}, call {at}");
            compare(&damaged, &all, &replayed, what);
            assert!(intact.batches.len() >= replayed.batches.len(), "{what}, call {at}");
            let kept = |damage: &Damage| {
                let name = format!("{}.log", damage.segment);
                let copies = [&first, &second].map(|aside| aside.image().get(&name).cloned());
                !before.contains_key(&name) || copies.contains(&before.get(&name).cloned())
            };
            assert!(damaged.recovery.damage.iter().all(kept), "{what}, call {at}: a copy is missing");
            if done.is_ok() {
                break;
            }
            failures += 1;
        }
    }
    assert!(failures > 100, "{failures} repairs failed");
}

#[test]
fn a_power_cut_during_a_repair_costs_nothing_that_was_intact() {
    let (image, _) = closed_log();
    let mut random = Random(5);
    for (what, before) in damaged_logs(&image).iter().step_by(5) {
        let (damaged, intact) = look(&SimDisk::new(before.clone()));
        let log = SimDisk::new(before.clone());
        mend(&log, &empty()).unwrap();
        let (mut cut, events) = log.history();
        for event in &events {
            cut.step(event);
            for variant in 0..4 {
                let disk = SimDisk::new(cut.image(variant, &mut random));
                mend(&disk, &empty()).unwrap();
                let (_, report, replayed) = replay(&disk);
                assert_eq!(report.damage, [], "{what}");
                compare(&damaged, &intact, &replayed, what);
            }
        }
    }
}

#[test]
fn a_full_disk_stops_a_repair_before_it_changes_the_log() {
    let (mut image, _) = closed_log();
    let name = segments(&image)[1].clone();
    image.get_mut(&name).unwrap()[1100] ^= 1;
    let (log, aside) = (SimDisk::new(image), empty());
    aside.limit(Some(1000));
    assert!(matches!(mend(&log, &aside), Err(OpenError::Io { .. })));
    assert_eq!(log.changes(), 0);
}
