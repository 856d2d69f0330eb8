//! Messages encoded once, and stamped with what differs before each is written.
//!
//! A template is a cycle of messages that take the same number of octets, so that any run of them is one slice.

use bytes::BytesMut;
use ferrymq_protocol::frame;
use ferrymq_protocol::method::basic;
use ferrymq_protocol::properties::Properties;

use super::CHANNEL;
use crate::bench::body::{Bodies, HEAD};
use crate::bench::error::{BenchError, Result};

/// How much is written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// How many messages are written at once.
const BATCH_MESSAGES: usize = 1_000;
/// What a template may take.
const MAX_BYTES: usize = 1 << 30;

/// What is published, and where to.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Content {
    pub(in crate::bench) exchange: String,
    /// Used in turn; all of one length, and at least one.
    pub(in crate::bench) keys: Vec<String>,
    pub(in crate::bench) size: usize,
    pub(in crate::bench) persistent: bool,
}

/// A cycle of encoded messages.
#[derive(Debug)]
pub(in crate::bench) struct Template {
    bodies: Bodies,
    publisher: u16,
    octets: BytesMut,
    slots: usize,
    /// Octets of one message with its frames.
    stride: usize,
    /// Where in them its body begins.
    body_at: usize,
    batch: usize,
}

impl Template {
    pub(in crate::bench) fn new(content: &Content, publisher: u16, frame_max: usize) -> Result<Self> {
        let bodies = Bodies::of_size(content.size);
        let mut octets = BytesMut::new();
        let body_at = encode(content, &bodies, 0, frame_max, &mut octets)?;
        let stride = octets.len();
        let batch = (BATCH_BYTES / stride).clamp(1, BATCH_MESSAGES);
        let keys = content.keys.len();
        // Whole cycles of the keys: the key depends on the sequence number alone.
        let slots = batch.div_ceil(keys) * keys;
        if slots.saturating_mul(stride) > MAX_BYTES {
            return Err(BenchError::Unsuitable(format!(
                "{keys} routing keys times {} octets is more than the generator prepares",
                content.size
            )));
        }
        for slot in 1..slots {
            encode(content, &bodies, slot, frame_max, &mut octets)?;
            if octets.len() != (slot + 1) * stride {
                return Err(BenchError::Unsuitable("routing keys differ in length".into()));
            }
        }
        Ok(Self { bodies, publisher, octets, slots, stride, body_at, batch })
    }

    /// How many messages are best written at once.
    pub(in crate::bench) fn batch(&self) -> usize {
        self.batch
    }

    /// At most `count` messages from this sequence number on, ready to be written, and how many they are.
    #[inline]
    pub(in crate::bench) fn stamp(&mut self, first: u64, count: usize) -> (&[u8], usize) {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder by a usize is one")]
        let slot = (first % self.slots as u64) as usize;
        let count = count.min(self.slots - slot);
        if self.bodies.have_heads() {
            let mut at = slot * self.stride + self.body_at;
            for index in 0..count {
                if let Some(head) = self.octets[at..].first_chunk_mut::<HEAD>() {
                    self.bodies.stamp(self.publisher, slot + index, first + index as u64, head);
                }
                at += self.stride;
            }
        }
        (&self.octets[slot * self.stride..(slot + count) * self.stride], count)
    }
}

/// Appends a message; returns where its body begins, from where the message begins.
fn encode(
    content: &Content,
    bodies: &Bodies,
    slot: usize,
    frame_max: usize,
    out: &mut BytesMut,
) -> Result<usize> {
    const BASIC: u16 = 60;
    let start = out.len();
    let routing_key = &content.keys[slot % content.keys.len()];
    let publish = basic::Publish { exchange: &content.exchange, routing_key, ..basic::Publish::default() };
    frame::encode_method(CHANNEL, &publish.into(), out)?;
    let mut properties = BytesMut::new();
    let delivery_mode = Some(if content.persistent { 2 } else { 1 });
    Properties { delivery_mode, ..Properties::default() }.encode(&mut properties)?;
    frame::encode_header(CHANNEL, BASIC, content.size as u64, &properties, out);
    // Kind, channel and size of a frame come before its payload.
    let body_at = out.len() + 7 - start;
    for piece in bodies.body(slot).chunks(frame_max - frame::FRAME_OVERHEAD) {
        frame::encode_body(CHANNEL, piece, out);
    }
    Ok(body_at)
}

#[cfg(test)]
mod tests {
    use ferrymq_protocol::frame::{FrameKind, decode_frame};
    use ferrymq_protocol::method::Method;

    use super::*;
    use crate::bench::check::{Arrival, Checker, Expectation, Share};

    fn content(size: usize, keys: &[&str]) -> Content {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Content { exchange: "e".into(), keys, size, persistent: true }
    }

    /// Decodes, and returns key and message of each.
    fn read(mut octets: &[u8], size: usize) -> Vec<(String, Option<Arrival>)> {
        let expectation = Expectation { publishers: 9, lanes: 1, share: Share::Some };
        let mut checker = Checker::new(Bodies::of_size(size), expectation);
        let (mut key, mut messages) = (String::new(), Vec::new());
        while let Some((frame, taken)) = decode_frame(octets, 4096).unwrap() {
            octets = &octets[taken..];
            let before = checker.count();
            let mut arrival = None;
            match frame.kind {
                FrameKind::Method => match Method::decode(frame.payload).unwrap() {
                    Method::BasicPublish(publish) => key = publish.routing_key.to_owned(),
                    other => panic!("{other:?}"),
                },
                FrameKind::Header => checker.begin(size as u64).unwrap(),
                _ => arrival = checker.take(frame.payload).unwrap(),
            }
            if checker.count() > before {
                messages.push((key.clone(), arrival));
            }
        }
        assert!(octets.is_empty());
        messages
    }

    #[test]
    fn what_is_stamped_is_what_the_checker_reads() {
        for size in [0, 1, 16, 100, 4088, 10_000] {
            let mut template = Template::new(&content(size, &["a", "b", "c"]), 8, 4096).unwrap();
            let mut next = 0;
            for count in [1, 2, 700, 5, 5] {
                let (octets, stamped) = template.stamp(next, count);
                assert!(stamped > 0 && stamped <= count);
                for (index, (key, arrival)) in read(octets, size).into_iter().enumerate() {
                    let sequence = next + index as u64;
                    assert_eq!(key, ["a", "b", "c"][usize::try_from(sequence % 3).unwrap()]);
                    assert_eq!(arrival, (size >= 16).then_some(Arrival { publisher: 8, sequence }));
                }
                next += stamped as u64;
            }
        }
    }

    #[test]
    fn a_batch_is_some_64_kib() {
        let small = Template::new(&content(16, &["queue"]), 0, 131_072).unwrap();
        assert!((500..=1_000).contains(&small.batch()), "{}", small.batch());
        assert_eq!(Template::new(&content(100_000, &["queue"]), 0, 131_072).unwrap().batch(), 1);
    }

    #[test]
    fn keys_of_different_lengths_and_too_many_of_them_are_refused() {
        assert!(Template::new(&content(16, &["a", "bb"]), 0, 4096).is_err());
        let keys = vec!["a"; 2_000];
        assert!(Template::new(&content(1 << 20, &keys), 0, 131_072).is_err());
    }
}
