//! Spare files: written ahead of need, recycled, and given up for messages.

use super::basics::append;
use super::disk::{Event, Image};
use super::*;

fn spares(disk: &SimDisk) -> Vec<usize> {
    let image = disk.image();
    image.iter().filter(|(name, _)| name.ends_with(".spare")).map(|(_, bytes)| bytes.len()).collect()
}

/// A log with one batch, whose next segment is ordered.
fn begun() -> (SimDisk, Driven) {
    let disk = SimDisk::new(Image::new());
    let (mut driven, _) = Driven::open(&disk, small_options(), &mut |_| {}).unwrap();
    assert_eq!(spares(&disk), [2048, 2048]);
    append(&driven.log, 1, 10, true);
    driven.pump().unwrap();
    assert_eq!(spares(&disk), [2048], "one became a segment, the other one is the reserve");
    (disk, driven)
}

/// Appends until a segment is begun.
fn fill(driven: &mut Driven, segment: u64) {
    while append(&driven.log, 2, 300, true).location.segment.0 < segment {
        driven.pump().unwrap();
    }
    driven.pump().unwrap();
}

#[test]
fn the_next_segment_is_written_before_it_is_needed() {
    let (disk, mut driven) = begun();
    while driven.zeroer.step() {}
    driven.pump().unwrap();
    let mut found = spares(&disk);
    found.sort_unstable();
    assert_eq!(found, [2048, 4096], "the next segment is twice as large");
    let before = disk.changes();
    fill(&mut driven, 2);
    let (_, events) = disk.history();
    let created = events[before..].iter().any(|event| matches!(event, Event::Create { .. }));
    assert!(!created, "it became the segment, and the reserve stayed: {:?}", spares(&disk));
    assert_eq!(spares(&disk), [2048]);
    assert_eq!(disk.image()["0000000002.log"].len(), 4096, "its bytes are written over");
}

#[test]
fn a_segment_does_not_wait_for_its_zeros() {
    let (disk, mut driven) = begun();
    assert!(driven.zeroer.step(), "a piece of several");
    fill(&mut driven, 2);
    assert!(disk.image()["0000000002.log"].len() < 4096, "a new file, which grows");
    while driven.zeroer.step() {}
    driven.pump().unwrap();
    assert_eq!(spares(&disk).len(), 2, "in time for the third");
}

#[test]
fn what_is_recycled_need_not_be_written() {
    let (disk, mut driven) = begun();
    fill(&mut driven, 2);
    assert!(driven.zeroer.step(), "a piece of several");
    driven.log.retire(SegmentNumber(2));
    driven.pump().unwrap();
    assert_eq!(spares(&disk).len(), 3, "the reserve, the recycled one, and what is under way");
    assert!(!driven.zeroer.step());
    driven.pump().unwrap();
    assert_eq!(spares(&disk).len(), 2);
}

#[test]
fn a_spare_file_that_comes_too_late_is_removed() {
    let (disk, mut driven) = begun();
    fill(&mut driven, 2);
    while driven.zeroer.step() {}
    driven.log.retire(SegmentNumber(2));
    // It is taken over first, so that the retired segment is one too many.
    driven.pump().unwrap();
    assert_eq!(spares(&disk).len(), 2);
    let (_, usage) = (driven.pump().unwrap(), driven.log.usage());
    let bytes: usize = disk.image().values().map(Vec::len).sum();
    assert_eq!(usage.bytes, bytes as u64);
}

#[test]
fn nothing_is_written_twice_while_much_is_written_per_sync() {
    let (disk, mut driven) = begun();
    while driven.zeroer.step() {}
    // It gets a segment of its own, and takes the spare file for it.
    append(&driven.log, 2, 1_000_000, true);
    driven.pump().unwrap();
    assert_eq!(spares(&disk), [2048]);
    assert!(!driven.zeroer.step());
    append(&driven.log, 3, 10, true);
    driven.pump().unwrap();
    assert!(driven.zeroer.step(), "little is written in the segment behind it");
}

#[test]
fn zeros_yield_to_a_full_disk() {
    let (disk, mut driven) = begun();
    disk.limit(Some(disk.bytes() + 2500));
    assert!(driven.zeroer.step() && driven.zeroer.step(), "two pieces of five");
    assert!(!driven.zeroer.step(), "there is no space for more");
    assert_eq!(spares(&disk), [2048], "and what there was is free again");
    fill(&mut driven, 2);
    assert_eq!(*driven.log.space().borrow(), Space::Ample, "which the log uses");
}

#[test]
fn a_file_that_is_too_short_for_a_reserve_is_none() {
    let (disk, _) = begun();
    let mut image = disk.image();
    image.insert("0000000007.spare".to_owned(), vec![0; 100]);
    image.insert("0000000008.spare".to_owned(), vec![0; 3000]);
    let disk = SimDisk::new(image);
    Driven::open(&disk, small_options(), &mut |_| {}).unwrap();
    let mut found = spares(&disk);
    found.sort_unstable();
    assert_eq!(found, [2048, 3000]);
}
