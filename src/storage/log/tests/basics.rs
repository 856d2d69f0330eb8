//! The log with its thread, on real files.

use std::fs;

use bytes::Bytes;
use crc32c::crc32c;
use tempfile::TempDir;

use super::disk::Fault;
use super::*;
use crate::model::{Message, MessageParts, QueueId, Seq};

fn file_system(root: &TempDir) -> Arc<OsFileSystem> {
    Arc::new(OsFileSystem::open(&root.path().join("messages")).unwrap())
}

/// Opens it, and says which messages are there: seq and length.
fn open(root: &TempDir, options: LogOptions) -> (Log, RecoveryReport, Vec<(u64, usize)>) {
    let mut found = Vec::new();
    let (log, report) = Log::open(file_system(root), options, &mut |placed| {
        if let Record::Publish { queues, message, .. } = placed.record {
            found.push((queues[0].1.0, message.body.len()));
        }
    })
    .unwrap();
    (log, report, found)
}

fn publish(batch: &mut Batch, seq: u64, length: usize) {
    let parts = MessageParts { exchange: "", routing_key: "q", properties: &[0, 0], persistent: true };
    let message = Message::new(parts, Bytes::from(vec![b'x'; length]));
    batch.push(&Record::Publish {
        vhost: VhostId(1),
        queues: &[(QueueId(1), Seq(seq))],
        deadlines: &[],
        message: (&message).into(),
    });
}

pub(super) fn append(log: &Log, seq: u64, length: usize, waits: bool) -> Appended {
    let mut batch = Batch::new();
    publish(&mut batch, seq, length);
    log.append(&mut batch, waits)
}

fn wait(log: &Log, position: LogPosition) {
    let mut durable = log.durable();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { durable.wait_for(|durable| *durable >= position).await.map(|_| ()) }).unwrap();
}

#[test]
fn what_was_confirmed_is_there_again() {
    let root = TempDir::new().unwrap();
    let (log, report, _) = open(&root, LogOptions::new(1));
    assert_eq!(report, RecoveryReport::default());
    wait(&log, append(&log, 1, 10, true).position);
    // Nobody waits for this one, and yet it does not stay away.
    wait(&log, append(&log, 2, 20, false).position);
    drop(log);
    let (log, report, found) = open(&root, LogOptions::new(2));
    assert_eq!(found, [(1, 10), (2, 20)]);
    assert!(!report.clean_stop, "nobody shut it down");
    let last = append(&log, 3, 30, false);
    assert_eq!(last.position, LogPosition(3));
    assert_eq!(log.shutdown(), Ok(()));
    assert_eq!(*log.durable().borrow(), LogPosition(4), "the mark of a clean stop has a position");
    append(&log, 4, 40, true);
    drop(log);
    let (_, report, found) = open(&root, LogOptions::new(3));
    assert_eq!(found, [(1, 10), (2, 20), (3, 30)]);
    assert!(report.clean_stop);
    assert_eq!((report.batches, report.records, report.damage, report.torn_tail), (4, 4, vec![], None));
}

#[test]
fn many_threads_append_and_segments_follow_each_other() {
    let root = TempDir::new().unwrap();
    let mut options = small_options();
    options.segment_bytes_min = 16 << 10;
    options.segment_bytes_max = 64 << 10;
    let (log, ..) = open(&root, options.clone());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let log = &log;
            scope.spawn(move || {
                let mut batch = Batch::new();
                for seq in 0..500 {
                    publish(&mut batch, thread * 1000 + seq, 200);
                    let appended = log.append(&mut batch, seq % 7 == 0);
                    assert!(batch.is_empty());
                    if seq % 100 == 0 {
                        wait(log, appended.position);
                    }
                }
            });
        }
    });
    let large = append(&log, 9999, 300_000, true);
    wait(&log, large.position);
    let after = append(&log, 10_000, 10, true);
    wait(&log, after.position);
    assert_eq!(
        after.location.segment.0,
        large.location.segment.0 + 1,
        "a batch larger than a segment has its own"
    );
    let usage = log.usage();
    assert!(
        usage.segments > 8 && usage.bytes > 800_000 && usage.newest == after.location.segment,
        "{usage:?}"
    );
    assert_eq!(log.shutdown(), Ok(()));
    drop(log);
    let (log, _, mut found) = open(&root, options);
    for thread in 0..4 {
        let of_thread = found.iter().filter(|(seq, length)| seq / 1000 == thread && *length == 200);
        assert!(of_thread.map(|(seq, _)| seq % 1000).eq(0..500), "thread {thread}: in order and complete");
    }
    found.drain(..2000);
    assert_eq!(found, [(9999, 300_000), (10_000, 10)]);

    // Everything but what comes next is done with.
    let next = append(&log, 1, 1, true);
    log.retire(next.location.segment);
    wait(&log, append(&log, 2, 1, true).position);
    assert_eq!(log.shutdown(), Ok(()));
    let usage = log.usage();
    assert_eq!((usage.segments, usage.oldest), (1, next.location.segment));
    assert!(usage.bytes < 200_000, "two spare files at most: {usage:?}");
}

#[test]
fn a_position_is_published_as_early_as_the_durability_allows() {
    for (durability, published) in [(Durability::Memory, 1), (Durability::Write, 0), (Durability::Fsync, 0)] {
        let disk = SimDisk::new([].into());
        let options = LogOptions { durability, ..small_options() };
        let (mut driven, _) = Driven::open(&disk, options, &mut |_| {}).unwrap();
        append(&driven.log, 1, 10, true);
        assert_eq!(driven.log.durable().borrow().0, published, "{durability:?}");
        let synced = |disk: &SimDisk| {
            let (_, events) = disk.history();
            let written =
                events.iter().rposition(|event| matches!(event, disk::Event::Write { .. })).unwrap();
            events[written..].iter().any(|event| matches!(event, disk::Event::Sync { .. }))
        };
        assert_eq!(driven.pump().unwrap(), LogPosition(1));
        assert_eq!(synced(&disk), durability == Durability::Fsync, "{durability:?}");
    }
}

#[test]
fn what_is_unwritten_is_bounded_by_whoever_asks() {
    let disk = SimDisk::new([].into());
    let options = LogOptions { max_unwritten_bytes: 1000, ..small_options() };
    let (mut driven, _) = Driven::open(&disk, options, &mut |_| {}).unwrap();
    let nothing = driven.log.append(&mut Batch::new(), true);
    assert_eq!(nothing.position, LogPosition::START);
    append(&driven.log, 1, 800, true);
    assert!(!driven.log.congested());
    let second = append(&driven.log, 2, 800, true);
    assert!(driven.log.congested());
    assert_eq!(
        driven.log.append(&mut Batch::new(), true).position,
        second.position,
        "what was appended before"
    );
    driven.pump().unwrap();
    assert!(!driven.log.congested());
}

#[test]
fn a_full_disk_at_shutdown_is_told() {
    let disk = SimDisk::new([].into());
    let (log, _) = Log::open(Arc::new(disk.clone()), small_options(), &mut |_| {}).unwrap();
    disk.fail(Some(Fault { at: 0, sticky: true, kind: io::ErrorKind::StorageFull }));
    append(&log, 1, 10, true);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut space = log.space();
    runtime.block_on(async { space.wait_for(|space| *space == Space::Full).await.map(|_| ()) }).unwrap();
    assert!(matches!(log.shutdown(), Err(ShutdownError::Full { unwritten_bytes: 60.. })));
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let root = TempDir::new().unwrap();
    let (log, ..) = open(&root, LogOptions::new(1));
    wait(&log, append(&log, 1, 10, true).position);
    assert_eq!(log.shutdown(), Ok(()));
    let path = root.path().join("messages/0000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    for at in [0, 512] {
        bytes[at + 8] = 3;
        let sum = crc32c(&bytes[at..at + 36]);
        bytes[at + 36..at + 40].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&path, &bytes).unwrap();
    let refusal = Log::open(file_system(&root), LogOptions::new(1), &mut |_| {}).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("0000000001.log' has format 3") && text.contains("reads format 2"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn records_of_a_later_release_are_refused_and_left_alone() {
    let root = TempDir::new().unwrap();
    let (log, ..) = open(&root, LogOptions::new(1));
    let mut batch = Batch::new();
    batch.push_bytes(&[200, 1]);
    wait(&log, log.append(&mut batch, true).position);
    drop(log);
    let refusal = Log::open(file_system(&root), LogOptions::new(1), &mut |_| {}).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("offset 1024") && text.contains("kind 200, version 1"), "{text}");
    assert!(root.path().join("messages/0000000001.log").exists());
}

#[test]
fn what_comes_while_the_log_closes_changes_nothing() {
    let disk = super::disk::SimDisk::new(std::collections::BTreeMap::new());
    let (mut driven, _) = Driven::open(&disk, small_options(), &mut |_| {}).unwrap();
    let mut batch = Batch::new();
    // More than one segment, so that one could be retired.
    let mut last = LogPosition::START;
    for seq in 0..60 {
        publish(&mut batch, seq, 100);
        last = driven.log.append(&mut batch, true).position;
    }
    driven.pump().unwrap();
    driven.log.shared.close(true);
    publish(&mut batch, 60, 100);
    assert_eq!(driven.log.append(&mut batch, true).position, LogPosition(u64::MAX));
    assert!(batch.is_empty());
    // Whoever has appended survivors in vain asks for this next.
    driven.log.retire(SegmentNumber(2));
    driven.pump().unwrap();
    let mut seqs = 0;
    let (_, report) = Driven::open(&disk, small_options(), &mut |placed| {
        seqs += u64::from(matches!(placed.record, Record::Publish { .. }));
    })
    .unwrap();
    assert!(report.clean_stop);
    assert_eq!((seqs, report.batches), (60, last.0 + 1), "the mark of the clean stop follows without a gap");
}
