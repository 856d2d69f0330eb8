//! The summary of a clean stop: believed only if nothing has changed since, and never needed.

use super::client::{Client, replay};
use super::disk::{Fault, Image};
use super::*;
use crate::model::{QueueId, QueueName, Seq};

/// What the summary says, which need not be what the log says.
fn records() -> Batch {
    let mut batch = Batch::new();
    let name = QueueName::from("summed up");
    batch.push(&Record::CreateQueue { vhost: VhostId(3), queue: QueueId(1), name: &name });
    let location = Location { segment: SegmentNumber(1), offset: 4096 };
    let places = [StoredPlace {
        seq: Seq(7),
        location,
        bytes: 99,
        redelivered: true,
        delivery_count: 5,
        priority: 3,
        body_bytes: 70,
        deadline: 9,
    }];
    batch.push(&Record::QueueState { vhost: VhostId(3), queue: QueueId(1), next: Seq(9), places: &places });
    batch
}

/// A log of several segments that was closed in order and summed up.
fn summed_up() -> Image {
    let mut client = Client::new(5);
    client.act(45).unwrap();
    client.driven.close().unwrap();
    client.driven.log.summarise(&records(), &[SegmentNumber(2)]).unwrap();
    client.disk.image()
}

/// What a start finds: its report, and the name that only the summary tells.
fn start(disk: &SimDisk) -> (Driven, RecoveryReport, bool) {
    let mut told = false;
    let (driven, report) = Driven::open(disk, small_options(), &mut |placed| {
        told |= matches!(placed.record, Record::QueueState { .. });
    })
    .unwrap();
    (driven, report, told)
}

#[test]
fn a_start_reads_the_summary_once_and_goes_on_behind_the_log() {
    let image = summed_up();
    let (_, walked, _) = start(&SimDisk::new(without_summary(&image)));
    let disk = SimDisk::new(image);
    let (mut driven, report, told) = start(&disk);
    assert!(told && report.clean_stop);
    assert_eq!(report.summary, Some(SummaryReport { defined_in: vec![SegmentNumber(2)] }));
    assert_eq!((report.segments, report.bytes, report.records), (walked.segments, walked.bytes, 2));
    let mut batch = Batch::new();
    batch.push(&Record::DeleteQueue { vhost: VhostId(3), queue: QueueId(1) });
    let appended = driven.log.append(&mut batch, true);
    assert_eq!(appended.position.0, walked.batches + 1, "positions go on");
    driven.pump().unwrap();
    let (_, report, told) = start(&SimDisk::new(disk.image()));
    assert!(!told && !report.clean_stop, "whoever opens the log removes the summary");
    assert_eq!(report.batches, walked.batches + 1);
}

fn without_summary(image: &Image) -> Image {
    let segments = image.iter().filter(|(name, _)| name.ends_with(".log"));
    segments.map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
}

#[test]
fn a_summary_that_is_not_whole_is_not_believed() {
    let image = summed_up();
    let (_, _, walked) = replay(&SimDisk::new(without_summary(&image)));
    let whole = image["summary"].clone();
    let look = |bytes: Vec<u8>, what: &str| {
        let mut image = image.clone();
        image.insert("summary".into(), bytes);
        let (_, report, told) = start(&SimDisk::new(image.clone()));
        assert!(!told && report.summary.is_none() && report.clean_stop, "{what}");
        assert_eq!(report.batches, walked.batches.len() as u64, "{what}: the log is read instead");
    };
    for length in 0..whole.len() {
        look(whole[..length].to_vec(), &format!("cut to {length}"));
    }
    let mut padding = 0;
    for at in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let mut changed = image.clone();
        changed.insert("summary".into(), flipped.clone());
        // Bytes that fill up the head and the records say nothing.
        if start(&SimDisk::new(changed)).2 {
            padding += 1;
        } else {
            look(flipped, &format!("bit {at} flipped"));
        }
    }
    assert!(padding <= 8 * (4 + 2 * 7), "{padding} bits mean nothing");
}

#[test]
fn a_summary_of_another_log_is_not_believed() {
    let image = summed_up();
    let names: Vec<_> = without_summary(&image).into_keys().collect();
    assert!(names.len() > 1);
    for name in &names {
        let mut without = image.clone();
        without.remove(name);
        assert!(!start(&SimDisk::new(without)).2, "{name} is missing");
        let mut longer = image.clone();
        longer.entry(name.clone()).or_default().push(0);
        assert!(!start(&SimDisk::new(longer)).2, "{name} is longer");
    }
    // The log went on, and the summary was not removed.
    let disk = SimDisk::new(image.clone());
    let (mut driven, ..) = start(&disk);
    let mut batch = Batch::new();
    batch.push(&Record::DeleteQueue { vhost: VhostId(3), queue: QueueId(1) });
    driven.log.append(&mut batch, true);
    driven.pump().unwrap();
    let mut later = disk.image();
    later.insert("summary".into(), image["summary"].clone());
    assert!(!start(&SimDisk::new(later)).2);
    // The mark is not where it was.
    let mut torn = image.clone();
    let last = torn.get_mut(names.last().unwrap()).unwrap();
    let end = last.iter().rposition(|byte| *byte != 0).unwrap();
    last[end] ^= 1;
    assert!(!start(&SimDisk::new(torn)).2);
}

#[test]
fn a_summary_may_fail_to_be_written_anywhere() {
    let mut written = 0;
    for at in 0..40 {
        let mut client = Client::new(5);
        client.act(45).unwrap();
        client.driven.close().unwrap();
        let calls = client.disk.calls();
        client.disk.fail(Some(Fault { at: calls + at, sticky: true, kind: std::io::ErrorKind::Other }));
        let result = client.driven.log.summarise(&records(), &[]);
        client.disk.fail(None);
        let (_, report, told) = start(&SimDisk::new(client.disk.image()));
        assert!(report.clean_stop);
        assert!(told || result.is_err(), "call {at}");
        written += usize::from(result.is_ok());
    }
    assert!(written > 0 && written < 40, "{written}");
}

#[test]
fn a_log_that_was_not_closed_in_order_has_no_summary() {
    let mut client = Client::new(5);
    client.act(45).unwrap();
    client.driven.log.shared.close(false);
    client.driven.pump().unwrap();
    assert!(client.driven.log.summarise(&records(), &[]).is_err());
}
