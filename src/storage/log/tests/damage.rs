//! Bytes that rot: what is read back is what was written, and what is missing is counted.

use std::collections::BTreeMap;

use super::client::{Client, Replayed, replay};
use super::disk::Image;
use super::*;

/// A log of several segments that was closed in order, and what is in it.
pub(super) fn closed_log() -> (Image, Replayed) {
    let logs = (1..100).map(|seed| {
        let mut client = Client::new(seed);
        client.act(45).unwrap();
        client.driven.close().unwrap();
        let image = client.disk.image();
        let (_, report, replayed) = replay(&SimDisk::new(image.clone()));
        assert!(report.clean_stop && report.damage.is_empty() && report.torn_tail.is_none(), "{report:?}");
        (image, replayed)
    });
    let varied = |image: &Image, replayed: &Replayed| {
        let size: usize = image.values().map(Vec::len).sum();
        segments(image).len() >= 3 && replayed.batches.len() > 20 && size < 16_000
    };
    logs.into_iter()
        .find(|(image, replayed)| varied(image, replayed))
        .expect("one of the seeds gives such a log")
}

pub(super) fn segments(image: &Image) -> Vec<String> {
    image.keys().filter(|name| name.ends_with(".log")).cloned().collect()
}

/// Opens a changed log: nothing may be altered, and everything missing is counted unless it is the end, which no
/// later mark vouches for. Returns how many batches are missing.
#[track_caller]
fn check(image: Image, whole: &Replayed, what: &str) -> u64 {
    let (_, report, replayed) = replay(&SimDisk::new(image));
    for (position, bytes) in &replayed.batches {
        assert_eq!(Some(bytes), whole.batches.get(position), "{what}: batch {position} was altered");
    }
    let last = replayed.batches.last_key_value().map_or(0, |(last, _)| *last);
    let missing = |from: u64| {
        whole.batches.keys().filter(|at| **at <= from && !replayed.batches.contains_key(at)).count()
    };
    let counted: u64 = report.damage.iter().filter_map(|damage| damage.batches).sum();
    // Nothing before the oldest segment tells how many batches it had.
    let uncounted = report.damage.first().filter(|damage| damage.batches.is_none());
    let expected = missing(last) as u64;
    let fits = counted == expected || (uncounted.is_some() && counted < expected);
    assert!(fits, "{what}: {expected} are missing, {report:?}");
    let all = missing(u64::MAX) as u64;
    assert_eq!(report.clean_stop, all == 0 && report.damage.is_empty(), "{what}");
    all
}

#[test]
fn any_byte_may_change() {
    let (image, whole) = closed_log();
    let mut hit = 0;
    for name in segments(&image) {
        for at in 0..image[&name].len() {
            let mut changed = image.clone();
            changed.get_mut(&name).unwrap()[at] ^= 1 << (at % 8);
            let missing = check(changed, &whole, &format!("{name} at {at}"));
            assert!(missing <= 1, "{name} at {at}: {missing} batches are missing");
            hit += missing;
        }
    }
    assert!(hit > 1000, "{hit} changed bytes mattered");
}

#[test]
fn a_file_may_end_anywhere() {
    let (image, whole) = closed_log();
    for name in segments(&image) {
        for length in 0..image[&name].len() {
            let mut changed = image.clone();
            changed.get_mut(&name).unwrap().truncate(length);
            check(changed, &whole, &format!("{name} cut to {length}"));
        }
    }
}

#[test]
fn any_sector_may_be_lost() {
    let (image, whole) = closed_log();
    for name in segments(&image) {
        for at in (0..image[&name].len()).step_by(512) {
            for sectors in [1, 2, 8] {
                let mut changed = image.clone();
                let bytes = changed.get_mut(&name).unwrap();
                let end = bytes.len().min(at + sectors * 512);
                bytes[at..end].fill(0);
                check(changed, &whole, &format!("{name}: {sectors} sectors at {at}"));
            }
        }
    }
}

#[test]
fn segments_may_be_missing_swapped_or_doubled() {
    let (image, whole) = closed_log();
    let names = segments(&image);
    for (at, name) in names.iter().enumerate() {
        let mut changed = image.clone();
        changed.remove(name);
        // What is before the first segment, or behind the last, nothing vouches for.
        if at > 0 {
            assert!(check(changed, &whole, &format!("without {name}")) > 0);
        }
        for other in names.iter().filter(|other| *other != name) {
            let mut changed = image.clone();
            let (one, two) = (image[name].clone(), image[other].clone());
            changed.extend([(name.clone(), two), (other.clone(), one)]);
            let (_, report, replayed) = replay(&SimDisk::new(changed));
            assert!(!report.damage.is_empty());
            assert!(replayed.batches.iter().all(|(at, bytes)| whole.batches[at] == *bytes));
        }
        let mut changed = image.clone();
        changed.insert("0000009999.log".to_owned(), image[name].clone());
        let (_, report, replayed) = replay(&SimDisk::new(changed));
        assert_eq!(report.damage, [Damage { segment: SegmentNumber(9999), batches: None }]);
        assert_eq!(replayed.batches, whole.batches);
    }
}

#[test]
fn a_damaged_log_goes_on_and_stays_as_damaged() {
    let (mut image, whole) = closed_log();
    let name = segments(&image)[1].clone();
    image.get_mut(&name).unwrap()[1100] ^= 1;
    let disk = SimDisk::new(image);
    let (driven, report, replayed) = replay(&disk);
    assert_eq!(report.damage.iter().filter_map(|damage| damage.batches).sum::<u64>(), 1);
    let count = replayed.batches.len();
    // The lost batch is made up for, so that positions of the client's history fit.
    let history: Vec<_> = whole.batches.into_values().collect();
    let mut client = Client::resume(disk.clone(), driven, replayed.model, history, 13);
    client.act(20).unwrap();
    client.pump().unwrap();
    let (_, again, replayed) = replay(&SimDisk::new(disk.image()));
    assert!(replayed.batches.len() > count);
    let newer: BTreeMap<_, _> = again.damage.iter().map(|damage| (damage.segment, damage.batches)).collect();
    assert!(
        report.damage.iter().all(|damage| newer.get(&damage.segment) == Some(&damage.batches)),
        "{again:?}"
    );
}
