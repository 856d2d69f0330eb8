//! What a message costs the codec: decoding a publish with its header and body, acknowledging, and encoding a
//! delivery. Every step runs once per message.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ferrymq_protocol::EncodeError;
use ferrymq_protocol::frame::{FrameKind, decode_frame, encode_body, encode_header, encode_method};
use ferrymq_protocol::method::{Method, basic};
use ferrymq_protocol::properties::{ContentHeader, Properties};
use ferrymq_protocol::table::{Table, TableRef};

const FRAME_MAX: usize = 131_072;
const BODY: [u8; 64] = [b'x'; 64];

fn publish() -> Method<'static> {
    basic::Publish { exchange: "", routing_key: "perf-queue-0001", mandatory: false, immediate: false }.into()
}

fn deliver(delivery_tag: u64) -> Method<'static> {
    basic::Deliver {
        consumer_tag: "amq.ctag-8Jx2QmH0YyJvQ1m6s8cGxQ",
        delivery_tag,
        redelivered: false,
        exchange: "",
        routing_key: "perf-queue-0001",
    }
    .into()
}

/// Properties by how many there are, with the headers table among the last.
fn properties(headers: TableRef<'_>) -> [(&'static str, Properties<'_>); 4] {
    let none = Properties::default();
    let one = Properties { delivery_mode: Some(2), ..none };
    let three = Properties { content_type: Some("application/json"), message_id: Some("m-000001"), ..one };
    [("0", none), ("1", one), ("3", three), ("3 and headers", Properties { headers: Some(headers), ..three })]
}

fn raw(properties: &Properties<'_>) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::new();
    properties.encode(&mut out).map(|()| out)
}

/// A read burst of `messages` publishes of three frames each.
fn burst(messages: usize) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::new();
    let raw = raw(&Properties { delivery_mode: Some(2), ..Default::default() })?;
    for _ in 0..messages {
        encode_method(1, &publish(), &mut out)?;
        encode_header(1, 60, 64, &raw, &mut out);
        encode_body(1, &BODY, &mut out);
    }
    Ok(out)
}

fn read_burst(mut input: &[u8]) -> usize {
    let mut octets = 0;
    while let Ok(Some((frame, consumed))) = decode_frame(input, FRAME_MAX) {
        octets += match frame.kind {
            FrameKind::Method => match Method::decode(frame.payload) {
                Ok(Method::BasicPublish(publish)) => publish.routing_key.len(),
                _ => 0,
            },
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload);
                let properties = header.and_then(|header| Properties::decode(header.raw_properties));
                usize::from(properties.is_ok_and(|properties| properties.delivery_mode == Some(2)))
            }
            FrameKind::Body => frame.payload.len(),
            FrameKind::Heartbeat => 0,
        };
        input = &input[consumed..];
    }
    octets
}

fn decode(criterion: &mut Criterion) -> Result<(), EncodeError> {
    let mut group = criterion.benchmark_group("decode");
    for (name, method) in [
        ("basic.publish", publish()),
        ("basic.ack", basic::Ack { delivery_tag: 4711, multiple: true }.into()),
    ] {
        let mut frame = BytesMut::new();
        encode_method(1, &method, &mut frame)?;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let frame = decode_frame(black_box(&frame), FRAME_MAX);
                frame.map(|frame| frame.map(|(frame, _)| Method::decode(black_box(frame.payload)).is_ok()))
            });
        });
    }

    let mut headers = BytesMut::new();
    Table::new().with("x-retries", 3).with("tenant", "acme").encode(&mut headers)?;
    let headers = TableRef::parse(&headers).unwrap_or_default();
    for (name, properties) in properties(headers) {
        let raw = raw(&properties)?;
        group.bench_function(BenchmarkId::new("properties", name), |bencher| {
            bencher.iter(|| Properties::decode(black_box(&raw)).map(|read| black_box(&read).delivery_mode));
        });
    }

    const MESSAGES: usize = 1000;
    let burst = burst(MESSAGES)?;
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("burst of 1000 publishes", |bencher| {
        bencher.iter(|| read_burst(black_box(&burst)));
    });
    group.finish();
    Ok(())
}

fn encode(criterion: &mut Criterion) -> Result<(), EncodeError> {
    let mut group = criterion.benchmark_group("encode");
    let raw = raw(&Properties { delivery_mode: Some(2), ..Default::default() })?;
    let mut out = BytesMut::with_capacity(1 << 20);
    for (name, method) in [("basic.publish", publish()), ("basic.deliver", deliver(4711))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_method(1, black_box(&method), &mut out)
            });
        });
    }
    group.bench_function("content header", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_header(1, 60, 64, black_box(&raw), &mut out);
        });
    });
    const MESSAGES: u64 = 1000;
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("burst of 1000 deliveries", |bencher| {
        bencher.iter(|| {
            out.clear();
            for delivery_tag in 0..MESSAGES {
                encode_method(1, black_box(&deliver(delivery_tag)), &mut out)?;
                encode_header(1, 60, 64, black_box(&raw), &mut out);
                encode_body(1, black_box(&BODY), &mut out);
            }
            Ok::<_, EncodeError>(out.len())
        });
    });
    group.finish();
    Ok(())
}

fn codec(criterion: &mut Criterion) {
    for outcome in [decode(criterion), encode(criterion)] {
        assert!(outcome.is_ok(), "the benchmark's own values do not encode: {outcome:?}");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = codec
}
criterion_main!(benches);
