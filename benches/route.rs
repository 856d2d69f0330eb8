//! What a route costs when no session has kept it: by exchange type and number of bindings, and what a
//! binding costs to make and unmake.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use ferrymq::model::{
    BindingDefinition, ConnectionKey, Destination, ExchangeDefinition, ExchangeKind, Origin, QueueDefinition,
    QueueId, VhostName,
};
use ferrymq::topology::{Features, Topology};
use ferrymq_protocol::table::{Table, TableRef, Value};

const ME: ConnectionKey = ConnectionKey(1);

fn queue_name(i: usize) -> String {
    format!("queue-{i}")
}

fn with_queues(count: usize) -> Topology {
    let mut topology = Topology::new(VhostName::from("/"));
    for i in 0..count {
        let definition = QueueDefinition {
            name: queue_name(i).as_str().into(),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Table::default(),
            origin: Origin::Client,
        };
        topology.declare_queue(definition, QueueId(i as u64), Some(ME)).expect("a new queue");
    }
    topology
}

fn binding(exchange: &str, queue: usize, key: &str, arguments: Table) -> BindingDefinition {
    BindingDefinition {
        source: exchange.into(),
        destination: Destination::Queue(queue_name(queue).as_str().into()),
        routing_key: key.into(),
        arguments,
        origin: Origin::Client,
    }
}

/// One binding per queue, from an exchange that every vhost has.
fn bound(exchange: &str, count: usize, each: impl Fn(usize) -> (String, Table)) -> Topology {
    bind_all(with_queues(count), exchange, count, each)
}

/// One binding of weight 10 per queue, from an exchange of the type.
fn chosen_from(kind: ExchangeKind, count: usize) -> Topology {
    let mut topology = with_queues(count);
    let definition = ExchangeDefinition {
        name: "x".into(),
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::default(),
        origin: Origin::Client,
    };
    topology.declare_exchange(definition).expect("a new exchange");
    bind_all(topology, "x", count, |_| ("10".to_owned(), Table::default()))
}

fn bind_all(
    mut topology: Topology,
    exchange: &str,
    count: usize,
    each: impl Fn(usize) -> (String, Table),
) -> Topology {
    for i in 0..count {
        let (key, arguments) = each(i);
        topology.bind(binding(exchange, i, &key, arguments), Some(ME)).expect("both ends exist");
    }
    topology
}

fn bench_choosing(c: &mut Criterion) {
    for (name, kind) in [
        ("consistent-hash", ExchangeKind::ConsistentHash),
        ("modulus-hash", ExchangeKind::ModulusHash),
        ("random", ExchangeKind::Random),
    ] {
        for count in [10, 1_000] {
            let topology = chosen_from(kind, count);
            let keys: Vec<String> = (0..1_024).map(|i| format!("order-{i}")).collect();
            let mut lot = 0;
            c.bench_function(&format!("route/{name}/{count}"), |b| {
                b.iter(|| {
                    lot += 1;
                    let key = &keys[usize::try_from(lot).unwrap_or(0) % keys.len()];
                    topology.route("x", black_box(key), &Features { lot, ..Features::default() }, &[])
                });
            });
        }
    }
}

fn bench(c: &mut Criterion) {
    let topology = with_queues(100_000);
    c.bench_function("route/default/100000", |b| {
        b.iter(|| topology.route("", black_box("queue-4711"), &Features::default(), &[]));
    });

    let topology = bound("amq.direct", 10_000, |i| (format!("key-{i}"), Table::default()));
    c.bench_function("route/direct/10000", |b| {
        b.iter(|| topology.route("amq.direct", black_box("key-4711"), &Features::default(), &[]));
    });

    let topology = bound("amq.fanout", 100, |_| (String::new(), Table::default()));
    c.bench_function("route/fanout/100", |b| {
        b.iter(|| topology.route("amq.fanout", black_box("key"), &Features::default(), &[]));
    });

    for count in [1_000, 10_000] {
        let topology = bound("amq.topic", count, |i| {
            let key = match i % 4 {
                0 => format!("site{}.line{i}.*", i % 50),
                1 => format!("site{}.#.alarm{i}", i % 50),
                2 => format!("*.line{i}.#"),
                _ => format!("site{}.line{}.sensor{i}", i % 50, i % 7),
            };
            (key, Table::default())
        });
        c.bench_function(&format!("route/topic/{count}"), |b| {
            b.iter(|| {
                topology.route("amq.topic", black_box("site20.line420.sensor7"), &Features::default(), &[])
            });
        });
    }

    for count in [10, 1_000] {
        let topology = bound("amq.headers", count, |i| {
            let arguments =
                Table::default().with("kind", "report").with("customer", i64::try_from(i).unwrap_or(0));
            (String::new(), arguments)
        });
        let mut octets = BytesMut::new();
        let headers = Table::default().with("customer", 7).with("kind", "report").with("trace", Value::Void);
        headers.encode(&mut octets).expect("a small table");
        let headers = TableRef::parse(&octets).expect("just written");
        c.bench_function(&format!("route/headers/{count}"), |b| {
            b.iter(|| topology.route("amq.headers", "", &black_box(headers).into(), &[]));
        });
    }

    let mut topology = bound("amq.topic", 100_000, |i| (format!("a.key-{i}.#"), Table::default()));
    c.bench_function("bind-unbind/topic/100000, snapshot held", |b| {
        b.iter(|| {
            let snapshot = topology.clone();
            let extra = binding("amq.topic", 5, "a.another.*", Table::default());
            topology.bind(extra.clone(), Some(ME)).expect("both ends exist");
            topology.unbind(extra, Some(ME)).expect("it is there");
            snapshot
        });
    });

    let mut topology = with_queues(1);
    for i in 0..10_000 {
        let many = binding("amq.direct", 0, &format!("key-{i}"), Table::default());
        topology.bind(many, Some(ME)).expect("both ends exist");
    }
    c.bench_function("remove a queue with 10000 bindings, snapshot held", |b| {
        b.iter(|| topology.clone().remove_queue("queue-0"));
    });
}

criterion_group!(benches, bench, bench_choosing);
criterion_main!(benches);
