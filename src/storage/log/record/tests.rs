//! Records as bytes: what is pushed comes back, and nothing else is taken for a record.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::MessageParts;
use crate::storage::log::SegmentNumber;

/// Encodes what decoding hands out: equal bytes are equal records.
fn again(bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut out = Vec::new();
    read(bytes, &mut Scratch::default(), &mut |record| put(&record, &mut out))?;
    Ok(out)
}

fn ranges() -> impl Strategy<Value = Vec<SeqRange>> {
    let range = (any::<u64>(), any::<u32>()).prop_map(|(first, length)| SeqRange {
        first: Seq(first),
        last: Seq(first.saturating_add(u64::from(length))),
    });
    vec(range, 0..5)
}

/// A place made of any two numbers.
fn stored(SeqRange { first, last }: SeqRange) -> StoredPlace {
    let location = Location { segment: SegmentNumber(last.0), offset: first.0 & !7 };
    let bytes = u32::try_from(last.0 & 0x7fff_ffff).unwrap();
    StoredPlace {
        seq: first,
        location,
        bytes,
        redelivered: last.0 % 2 == 0,
        delivery_count: (last.0 % 3) as u16,
        priority: (last.0 % 5) as u8,
        body_bytes: (last.0 % 1_000) as u32,
        deadline: if last.0 % 2 == 0 { u64::MAX } else { first.0 },
    }
}

proptest! {
    #[test]
    fn every_record_comes_back(
        numbers in (any::<u32>(), any::<u64>()),
        places in vec((any::<u64>(), any::<u64>()), 0..5),
        seqs in ranges(),
        texts in ("\\PC{0,60}", "\\PC{0,60}"),
        bytes in (vec(any::<u8>(), 0..50), vec(any::<u8>(), 0..500), any::<bool>()),
    ) {
        let (vhost, queue) = (VhostId(numbers.0), QueueId(numbers.1));
        let queues: Vec<_> = places.into_iter().map(|(queue, seq)| (QueueId(queue), Seq(seq))).collect();
        let deadlines: Vec<_> = queues.iter().map(|(queue, _)| queue.0).collect();
        let parts = MessageParts { exchange: &texts.0, routing_key: &texts.1, properties: &bytes.0, persistent: bytes.2 };
        let message = Message::new(parts, Bytes::from(bytes.1.clone()));
        let stored: Vec<_> = seqs.iter().map(|range| stored(*range)).collect();
        let (queue_name, vhost_name) = (QueueName::from(&*texts.0), VhostName::from(&*texts.1));
        let records = [
            Record::Publish { vhost, queues: &queues, deadlines: &[], message: (&message).into() },
            Record::Publish { vhost, queues: &queues, deadlines: &deadlines, message: (&message).into() },
            Record::Publish {
                vhost,
                queues: &queues,
                deadlines: &deadlines,
                message: StoredMessage { survives: true, ..(&message).into() },
            },
            Record::Ack { vhost, queue, seqs: &seqs },
            Record::Return { vhost, queue, delivery_count: 300, seqs: &seqs },
            Record::Define { key: &bytes.0, value: None },
            Record::Define { key: &bytes.1, value: Some(&bytes.0) },
            Record::CreateQueue { vhost, queue, name: &queue_name },
            Record::CreateDelay { vhost, queue, exchange: &ExchangeName::from(&*texts.1) },
            Record::DeleteQueue { vhost, queue },
            Record::CreateVhost { vhost, name: &vhost_name },
            Record::QueueState { vhost, queue, next: Seq(numbers.1), places: &stored },
            Record::CleanStop,
        ];
        for record in records {
            let mut encoded = Vec::new();
            put(&record, &mut encoded);
            let mut found = 0;
            let result = read(&encoded, &mut Scratch::default(), &mut |read| {
                assert_eq!(read, record);
                found += 1;
            });
            prop_assert_eq!((result, found), (Ok(()), 1));
            for length in 0..encoded.len() {
                prop_assert!(again(&encoded[..length]).is_err(), "{:?} of {} bytes", record, length);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_understood(bytes in vec(any::<u8>(), 0..200), kind in 0_u8..11) {
        let _ = again(&bytes);
        let known = [&[kind, VERSION], &bytes[..]].concat();
        let _ = again(&known);
    }
}

#[test]
fn the_stored_form_never_changes() {
    let message = Message::new(
        MessageParts { exchange: "e", routing_key: "key", properties: &[0x10, 0, 2], persistent: true },
        Bytes::from_static(b"body"),
    );
    let queues = [(QueueId(300), Seq(7))];
    let mut out = Vec::new();
    put(
        &Record::Publish { vhost: VhostId(1), queues: &queues, deadlines: &[], message: (&message).into() },
        &mut out,
    );
    assert_eq!(out, b"\x01\x01\x01\x01\x01\xac\x02\x07\x01e\x03key\x03\x10\x00\x02\x04body");
    out.clear();
    let stored = StoredMessage::from(&message);
    let parts = MessageParts { persistent: false, ..stored.parts };
    let message = StoredMessage { parts, survives: true, ..stored };
    put(&Record::Publish { vhost: VhostId(1), queues: &queues, deadlines: &[], message }, &mut out);
    assert_eq!(out, b"\x01\x01\x04\x01\x01\xac\x02\x07\x01e\x03key\x03\x10\x00\x02\x04body");
    out.clear();
    let seqs = [SeqRange { first: Seq(5), last: Seq(9) }];
    put(&Record::Ack { vhost: VhostId(1), queue: QueueId(2), seqs: &seqs }, &mut out);
    assert_eq!(out, [2, 1, 1, 2, 1, 5, 4]);
}

#[test]
fn a_later_release_is_recognised() {
    assert_eq!(again(&[11, 1]), Err(RecordError::Unknown { kind: 11, version: 1 }));
    assert_eq!(again(&[PUBLISH, 2]), Err(RecordError::Unknown { kind: PUBLISH, version: 2 }));
    assert_eq!(again(&[DELETE_QUEUE, 1, 255, 255, 255, 255, 31, 0]), Err(RecordError::NumberTooLarge));
    assert_eq!(again(&[CREATE_VHOST, 1, 1, 1, 0xff]), Err(RecordError::NotUtf8));
}
