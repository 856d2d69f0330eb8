//! Single records read again while the log is open: the right one, or none.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::frame::FRAME_BYTES;
use super::super::segments::segment_name;
use super::disk::SimDisk;
use super::*;
use crate::model::{Message, MessageParts, QueueId, Seq};

/// A log, and where the records in it are.
struct Kit {
    disk: SimDisk,
    driven: Driven,
    /// By seq: the segment, where in it, and how long the body is.
    places: Vec<(SegmentNumber, Wanted, usize)>,
}

impl Kit {
    fn new(segment_bytes: u64) -> Self {
        let disk = SimDisk::new([].into());
        let options = LogOptions {
            segment_bytes_min: segment_bytes,
            segment_bytes_max: segment_bytes,
            ..small_options()
        };
        let (driven, _) = Driven::open(&disk, options, &mut |_| {}).unwrap();
        Self { disk, driven, places: Vec::new() }
    }

    /// Appends one batch with messages of these lengths. It is not written.
    fn append(&mut self, lengths: &[usize]) {
        let mut batch = Batch::new();
        let mut extents = Vec::new();
        for length in lengths {
            let seq = (self.places.len() + extents.len()) as u64;
            let before = batch.size();
            let message = message(seq, *length);
            let queues = &[(QueueId(1), Seq(seq))];
            let begin = batch.push(&Record::Publish {
                vhost: VhostId(1),
                queues,
                deadlines: &[],
                message: (&message).into(),
            });
            extents.push((begin, batch.size() - before, *length));
        }
        let Location { segment, offset } = self.driven.log.append(&mut batch, true).location;
        self.places.extend(extents.into_iter().map(|(begin, bytes, length)| {
            (segment, Wanted { offset: offset + begin as u64, bytes }, length)
        }));
    }

    fn write(&mut self) {
        self.driven.pump().unwrap();
    }

    /// Reads these records of a segment; seq and body length of each one that is there.
    fn read(&self, segment: SegmentNumber, wanted: &[Wanted]) -> Vec<Option<(u64, usize)>> {
        let mut found = Vec::new();
        let read = self.driven.log.read_records(segment, wanted, &mut |number, record| {
            assert_eq!(number, found.len(), "each once, and in order");
            found.push(record.map(|record| seq_and_length(&record)));
            ControlFlow::Continue(())
        });
        read.unwrap();
        assert_eq!(found.len(), wanted.len());
        found
    }

    /// Changes a byte on the disk.
    fn flip(&self, segment: SegmentNumber, offset: u64, bits: u8) {
        let file = self.disk.open(&segment_name(segment)).unwrap();
        let mut byte = [0];
        assert_eq!(file.read_at(&mut byte, offset).unwrap(), 1);
        file.write_all_at(&[byte[0] ^ bits], offset).unwrap();
    }
}

fn message(seq: u64, length: usize) -> Message {
    let parts = MessageParts { exchange: "x", routing_key: "q", properties: &[0, 0], persistent: true };
    let byte = u8::try_from(seq % 251).unwrap();
    Message::new(parts, Bytes::from(vec![byte; length]))
}

/// What the record says it is, which has to be true.
fn seq_and_length(record: &Record<'_>) -> (u64, usize) {
    let Record::Publish { vhost: VhostId(1), queues: [(QueueId(1), Seq(seq))], message: stored, .. } = record
    else {
        panic!("something else: {record:?}");
    };
    let length = stored.body.len();
    assert_eq!(stored.to_message(), message(*seq, length), "altered");
    (*seq, length)
}

#[test]
fn records_are_found_across_runs_and_gaps() {
    let mut random = Random(11);
    let mut kit = Kit::new(16 << 20);
    for _ in 0..60 {
        let lengths: Vec<_> = (0..1 + random.below(8)).map(|_| random.below(40_000)).collect();
        kit.append(&lengths);
    }
    kit.append(&[3 << 20, 0]);
    kit.write();
    assert_eq!(kit.places.last().unwrap().0, SegmentNumber(1));
    for every in [1, 2, 3, 17] {
        // Records next to each other, more of them than are read at once, and records far from each other.
        let some: Vec<_> = (0_u64..).zip(&kit.places).filter(|(seq, _)| seq % every == 0).collect();
        let wanted: Vec<_> = some.iter().map(|(_, (_, wanted, _))| *wanted).collect();
        let expected: Vec<_> = some.iter().map(|(seq, (.., length))| Some((*seq, *length))).collect();
        assert_eq!(kit.read(SegmentNumber(1), &wanted), expected, "every {every}");
    }
}

#[test]
fn a_record_may_be_longer_or_shorter_than_it_was_said_to_be() {
    let mut kit = Kit::new(16 << 20);
    kit.append(&[10, 100_000, 0, 2 << 20, 5_000]);
    kit.write();
    let expected: Vec<_> = (0..).zip(&kit.places).map(|(seq, (.., length))| Some((seq, *length))).collect();
    for said in [0, 1, 1_000, 50_000, 8 << 20] {
        let wanted: Vec<_> =
            kit.places.iter().map(|(_, wanted, _)| Wanted { bytes: said, ..*wanted }).collect();
        assert_eq!(kit.read(SegmentNumber(1), &wanted), expected, "{said} bytes");
    }
}

#[test]
fn reading_ends_when_enough_was_read() {
    let mut kit = Kit::new(16 << 20);
    kit.append(&[10; 8]);
    kit.write();
    let wanted: Vec<_> = kit.places.iter().map(|(_, wanted, _)| *wanted).collect();
    for (segment, there) in [(SegmentNumber(1), true), (SegmentNumber(9), false)] {
        let mut seen = Vec::new();
        let read = kit.driven.log.read_records(segment, &wanted, &mut |number, record| {
            seen.push((number, record.is_some()));
            if number == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        read.unwrap();
        assert_eq!(seen, [(0, there), (1, there), (2, there)]);
    }
}

#[test]
fn a_flipped_byte_costs_the_record_it_is_in_and_no_other() {
    let mut kit = Kit::new(16 << 20);
    kit.append(&[20, 0, 33]);
    kit.append(&[7]);
    kit.write();
    let wanted: Vec<_> = kit.places.iter().map(|(_, wanted, _)| *wanted).collect();
    let intact = kit.read(SegmentNumber(1), &wanted);
    assert!(intact.iter().all(Option::is_some));
    let end = wanted.last().map(|wanted| wanted.offset + wanted.bytes as u64).unwrap();
    for offset in 0..end {
        for bits in [1, 0x80, 0xff] {
            kit.flip(SegmentNumber(1), offset, bits);
            let found = kit.read(SegmentNumber(1), &wanted);
            for ((found, intact), wanted) in found.iter().zip(&intact).zip(&wanted) {
                let its = wanted.offset..wanted.offset + wanted.bytes as u64;
                if !its.contains(&offset) {
                    assert_eq!(found, intact, "byte {offset}");
                } else if found.is_some() {
                    // What pads a record is not a part of it.
                    assert_eq!(found, intact, "byte {offset}");
                    assert!(its.end - offset < 8 && offset >= wanted.offset + FRAME_BYTES as u64);
                }
            }
            kit.flip(SegmentNumber(1), offset, bits);
        }
    }
}

#[test]
fn what_is_not_written_is_not_there() {
    let mut kit = Kit::new(16 << 20);
    kit.append(&[50]);
    kit.write();
    kit.append(&[60, 70]);
    let wanted: Vec<_> = kit.places.iter().map(|(_, wanted, _)| *wanted).collect();
    assert_eq!(kit.read(SegmentNumber(1), &wanted), [Some((0, 50)), None, None]);
    let written = kit.driven.log.written_until();
    assert!(written.offset > wanted[0].offset && written.offset <= wanted[1].offset);
    kit.write();
    assert_eq!(kit.read(SegmentNumber(1), &wanted), [Some((0, 50)), Some((1, 60)), Some((2, 70))]);
    assert!(kit.driven.log.written_until().offset > wanted[2].offset);
}

#[test]
fn nothing_is_found_in_a_segment_that_is_retired() {
    let mut kit = Kit::new(4_096);
    (0..20).for_each(|_| kit.append(&[400]));
    kit.write();
    let (second, ..) = kit.places[19];
    assert!(second > SegmentNumber(2));
    let of_first = kit.places.iter().filter(|(segment, ..)| *segment == SegmentNumber(1));
    let wanted: Vec<_> = of_first.map(|(_, wanted, _)| *wanted).collect();
    assert!(kit.read(SegmentNumber(1), &wanted).iter().all(Option::is_some));
    kit.driven.log.retire(SegmentNumber(2));
    kit.write();
    assert!(kit.read(SegmentNumber(1), &wanted).iter().all(Option::is_none));
}

/// Whoever reads has the file open when it becomes another segment. What is found in it then says what it is.
#[test]
fn a_segment_recycled_under_a_reader_shows_whose_its_records_are() {
    let mut kit = Kit::new(80 << 10);
    (0..40).for_each(|_| kit.append(&[4_000]));
    kit.write();
    let of_first = kit.places.iter().filter(|(segment, ..)| *segment == SegmentNumber(1));
    let wanted: Vec<_> = of_first.map(|(_, wanted, _)| *wanted).collect();
    // Too far from each other to be read with one call.
    let far = [wanted[0], wanted[wanted.len() - 1]];
    let disk = kit.disk.clone();
    let mut found = Vec::new();
    let read = super::super::reread::read_records(&disk, SegmentNumber(1), &far, &mut |_, record| {
        found.push(record.map(|record| seq_and_length(&record).0));
        if found.len() == 1 {
            kit.driven.log.retire(SegmentNumber(2));
            kit.write();
            // Other records of the same size take their places in whichever segment the file has become.
            (0..80).for_each(|_| kit.append(&[4_000]));
            kit.write();
        }
        ControlFlow::Continue(())
    });
    read.unwrap();
    assert_eq!(found[0], Some(0));
    assert!(found[1].is_none_or(|seq| seq >= 40), "{found:?}: the file was used again");
}
