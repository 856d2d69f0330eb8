//! Routes: from exchange to exchange, alternates, several keys, refusals.

use bytes::BytesMut;
use ferrymq_protocol::table::TableRef;

use super::fixture::{World, exchange, table, text, to_queue};
use crate::model::{BindingDefinition, ExchangeKind, QueueId};
use crate::topology::{Features, Targets, reply_to_address};

fn with_alternate(world: &mut World, name: &str, kind: ExchangeKind, alternate: &str) {
    let mut definition = exchange(name, kind);
    definition.arguments = table([("alternate-exchange", alternate.into())]);
    world.exchange_of(definition);
}

#[test]
fn the_default_exchange_leads_to_queues_by_name() {
    let mut world = World::new();
    let q = world.queue("q");
    let r = world.queue("r");
    assert_eq!(world.route("", "q"), [q]);
    assert!(world.route("", "nobody").is_empty());
    assert_eq!(world.route_with("", "r", &["q", "r", "nobody"]), [q, r]);
}

#[test]
fn replies_go_to_their_requester() {
    let world = World::new();
    let address = reply_to_address(*b"0123456789abcdef");
    let route = world.topology.route("", &address, &Features::default(), &[]).expect("open");
    assert_eq!(route.targets, Targets::ReplyTo(*b"0123456789abcdef"));
    assert!(!route.targets.is_empty());
    let route = world.topology.route("amq.direct", &address, &Features::default(), &[]).expect("open");
    assert_eq!(route.targets, Targets::None);
    let route =
        world.topology.route("", "amq.rabbitmq.reply-to.nonsense", &Features::default(), &[]).expect("open");
    assert_eq!(route.targets, Targets::None);
}

#[test]
fn missing_and_internal_exchanges_are_refused() {
    let world = World::new();
    let refusal = world.topology.route("x", "k", &Features::default(), &[]).expect_err("missing");
    assert_eq!(text(&refusal), "no exchange 'x' in vhost '/'");
    let refusal =
        world.topology.route("amq.rabbitmq.trace", "k", &Features::default(), &[]).expect_err("internal");
    assert_eq!(text(&refusal), "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'");
}

#[test]
fn a_queue_gets_one_copy_and_targets_ascend() {
    let mut world = World::new();
    let queues: Vec<u64> = (0..5).map(|i| world.queue(&format!("q{i}"))).collect();
    for i in [4, 2, 0, 3, 1, 2] {
        world.bind("amq.topic", &format!("q{i}"), "#");
        world.bind("amq.topic", &format!("q{i}"), "a.*");
    }
    assert_eq!(world.route_with("amq.topic", "a.b", &["a.c"]), queues);
    let route = world.topology.route("amq.topic", "a.b", &Features::default(), &[]).expect("open");
    let ids: Vec<QueueId> = queues.iter().copied().map(QueueId).collect();
    assert_eq!(route.targets, Targets::Many(ids.into()));
}

#[test]
fn an_exchange_that_leads_to_a_queue_found_before_needs_no_alternate() {
    let mut world = World::new();
    with_alternate(&mut world, "x", ExchangeKind::Fanout, "amq.direct");
    let (q, r) = (world.queue("q"), world.queue("r"));
    world.bind("amq.direct", "r", "k");
    world.bind("amq.fanout", "q", "");
    world.bind_exchange("amq.fanout", "x", "");
    assert_eq!(world.route("amq.fanout", "k"), [q, r]);
    world.bind("x", "q", "");
    assert_eq!(world.route("amq.fanout", "k"), [q]);
    let route = world.topology.route("amq.fanout", "k", &Features::default(), &[]).expect("open");
    assert_eq!(route.targets, Targets::One(QueueId(q)));
}

#[test]
fn exchanges_lead_on_by_their_own_rules() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Topic);
    world.exchange("y", ExchangeKind::Direct);
    let mut internal = exchange("z", ExchangeKind::Fanout);
    internal.internal = true;
    world.exchange_of(internal);
    let q = world.queue("q");
    let r = world.queue("r");
    world.bind_exchange("x", "y", "a.#");
    world.bind_exchange("x", "z", "#.z");
    world.bind("y", "q", "a.b");
    world.bind("z", "r", "ignored");
    assert_eq!(world.route("x", "a.b"), [q]);
    assert_eq!(world.route("x", "a.z"), [r]);
    assert!(world.route("x", "a.c").is_empty());
    assert!(world.route("x", "b").is_empty());
}

#[test]
fn cycles_of_exchanges_end() {
    let mut world = World::new();
    let names: Vec<String> = (0..50).map(|i| format!("x{i}")).collect();
    let mut queues = Vec::new();
    for name in &names {
        world.exchange(name, ExchangeKind::Fanout);
        queues.push(world.queue(name));
        world.bind(name, name, "");
    }
    for source in &names {
        for destination in &names {
            world.bind_exchange(source, destination, "");
        }
    }
    assert_eq!(world.route("x7", ""), queues);
}

#[test]
fn the_alternate_takes_what_leads_nowhere() {
    let mut world = World::new();
    with_alternate(&mut world, "x", ExchangeKind::Direct, "y");
    with_alternate(&mut world, "y", ExchangeKind::Direct, "z");
    world.exchange("z", ExchangeKind::Fanout);
    let (q, r, s) = (world.queue("q"), world.queue("r"), world.queue("s"));
    world.bind("x", "q", "q");
    world.bind("y", "r", "r");
    world.bind("z", "s", "");
    assert_eq!(world.route("x", "q"), [q]);
    assert_eq!(world.route("x", "r"), [r]);
    assert_eq!(world.route("x", "other"), [s]);
    // With several keys, one that leads somewhere is enough.
    assert_eq!(world.route_with("x", "q", &["other"]), [q]);
}

#[test]
fn an_alternate_may_be_missing_a_cycle_or_the_default_exchange() {
    let mut world = World::new();
    with_alternate(&mut world, "x", ExchangeKind::Direct, "missing");
    with_alternate(&mut world, "a", ExchangeKind::Direct, "b");
    with_alternate(&mut world, "b", ExchangeKind::Direct, "a");
    with_alternate(&mut world, "self", ExchangeKind::Direct, "self");
    with_alternate(&mut world, "d", ExchangeKind::Direct, "");
    let q = world.queue("q");
    for name in ["x", "a", "b", "self"] {
        assert!(world.route(name, "q").is_empty(), "{name}");
    }
    assert_eq!(world.route("d", "q"), [q]);
    world.exchange("missing", ExchangeKind::Fanout);
    world.bind("missing", "q", "");
    assert_eq!(world.route("x", "k"), [q]);
}

#[test]
fn a_bound_exchange_counts_as_somewhere_even_if_it_leads_nowhere() {
    let mut world = World::new();
    with_alternate(&mut world, "x", ExchangeKind::Fanout, "y");
    world.exchange("y", ExchangeKind::Fanout);
    world.exchange("dead-end", ExchangeKind::Fanout);
    world.queue("q");
    world.bind("y", "q", "");
    world.bind_exchange("x", "dead-end", "");
    assert!(world.route("x", "").is_empty());
}

#[test]
fn an_alternate_is_used_behind_a_binding_too() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Fanout);
    with_alternate(&mut world, "y", ExchangeKind::Direct, "z");
    world.exchange("z", ExchangeKind::Fanout);
    let q = world.queue("q");
    world.bind_exchange("x", "y", "");
    world.bind("z", "q", "");
    assert_eq!(world.route("x", "k"), [q]);
}

#[test]
fn routes_that_depend_on_the_key_alone_may_be_kept() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Topic);
    world.queue("q");
    world.bind("x", "q", "#");
    let cacheable = |world: &World, extra: &[&str]| {
        world.topology.route("x", "k", &Features::default(), extra).expect("open").cacheable
    };
    assert!(cacheable(&world, &[]));
    assert!(!cacheable(&world, &["k2"]));
    world.bind_exchange("x", "amq.headers", "k");
    assert!(!cacheable(&world, &[]));
    assert!(
        world
            .topology
            .route("x", "other", &Features::default(), &[])
            .is_ok_and(|route| !route.targets.is_empty())
    );
}

#[test]
fn headers_are_looked_at_wherever_the_exchange_stands() {
    let mut world = World::new();
    let q = world.queue("q");
    world.bind_exchange("amq.fanout", "amq.headers", "");
    let binding = BindingDefinition {
        arguments: table([("kind", "a".into())]),
        ..to_queue("amq.headers", "q", "ignored")
    };
    assert!(world.topology.bind(binding, None).is_ok());
    let mut octets = BytesMut::new();
    table([("kind", "a".into()), ("x", 1.into())]).encode(&mut octets).expect("small");
    let headers = TableRef::parse(&octets).expect("just written");
    let route = world.topology.route("amq.fanout", "k", &headers.into(), &[]).expect("open");
    assert_eq!((route.targets, route.cacheable), (Targets::One(QueueId(q)), false));
    assert!(world.route("amq.fanout", "k").is_empty());
}

#[test]
fn a_redeclared_exchange_is_another_one() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Fanout);
    let before = world.topology.exchange_id("x");
    assert!(world.topology.delete_exchange("x", false).is_ok());
    assert_eq!(world.topology.exchange_id("x"), None);
    world.exchange("x", ExchangeKind::Fanout);
    assert_ne!(world.topology.exchange_id("x"), before);
    let route = world.topology.route("x", "", &Features::default(), &[]).expect("open");
    assert_eq!(Some(route.exchange), world.topology.exchange_id("x"));
}
