//! Declarations: what is created, what exists already, what is refused.

use super::fixture::{ME, OTHER, World, exchange, queue, summary, table, text};
use crate::model::{ExchangeKind, Origin, QueueId};
use crate::topology::{Declared, Features, Refusal, generated_queue_name};

#[test]
fn every_vhost_starts_with_the_predeclared_exchanges() {
    let world = World::new();
    let mut names: Vec<_> = world.topology.exchanges().map(|exchange| exchange.name.as_str()).collect();
    names.sort_unstable();
    let expected =
        ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic"];
    assert_eq!(names, expected);
    assert!(world.topology.exchanges().all(|exchange| exchange.durable && exchange.origin == Origin::System));
    let trace = world.topology.exchange("amq.rabbitmq.trace").expect("predeclared");
    assert!(trace.internal && trace.kind == ExchangeKind::Topic);
}

#[test]
fn declaring_twice_changes_nothing() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Topic);
    world.queue("q");
    let generation = world.topology.generation();
    let declared = world.topology.declare_exchange(exchange("x", ExchangeKind::Topic));
    assert_eq!(declared, Ok(Declared::Existing));
    let declared = world.topology.declare_queue(queue("q"), QueueId(99), Some(OTHER));
    assert_eq!(declared, Ok(Declared::Existing));
    assert_eq!(world.topology.queue("q").map(|entry| entry.id), Some(QueueId(1)));
    assert_eq!(world.topology.generation(), generation);
}

#[test]
fn reserved_names_are_refused_on_creation_only() {
    let mut world = World::new();
    let refusal =
        world.topology.declare_exchange(exchange("amq.test", ExchangeKind::Direct)).expect_err("reserved");
    assert_eq!(text(&refusal), "exchange name 'amq.test' contains reserved prefix 'amq.*'");
    let refusal =
        world.topology.declare_queue(queue("amq.test"), QueueId(1), Some(ME)).expect_err("reserved");
    assert_eq!(text(&refusal), "queue name 'amq.test' contains reserved prefix 'amq.*'");
    let system = exchange("amq.direct", ExchangeKind::Direct);
    assert_eq!(world.topology.declare_exchange(system), Ok(Declared::Existing));
    let refusal = world
        .topology
        .declare_exchange(exchange("amq.direct", ExchangeKind::Fanout))
        .expect_err("another type");
    assert_eq!(
        text(&refusal),
        "inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'fanout' but current is 'direct'"
    );
    world.queue(&generated_queue_name([3; 16]));
}

#[test]
fn the_default_exchange_is_not_declared() {
    let mut world = World::new();
    let refusal = world.topology.declare_exchange(exchange("", ExchangeKind::Direct));
    assert_eq!(refusal, Err(Refusal::DefaultExchange));
    assert_eq!(world.topology.check_exchange(""), Err(Refusal::DefaultExchange));
}

#[test]
fn passive_declarations_ask_for_existence_and_ownership() {
    let mut world = World::new();
    let refusal = world.topology.check_exchange("x").expect_err("missing");
    assert_eq!(text(&refusal), "no exchange 'x' in vhost '/'");
    let refusal = world.topology.check_queue("q", ME).expect_err("missing");
    assert_eq!(text(&refusal), "no queue 'q' in vhost '/'");
    let mut mine = queue("q");
    mine.exclusive = true;
    let id = world.queue_of(mine);
    assert_eq!(world.topology.check_queue("q", ME).map(|entry| entry.id.0), Ok(id));
    let refusal = world.topology.check_queue("q", OTHER).expect_err("another connection's");
    assert_eq!(
        text(&refusal),
        "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on \
         another connection or the exclusive property value does not match that of the original declaration."
    );
}

#[test]
fn an_exclusive_queue_is_not_durable_and_belongs_to_its_connection() {
    let mut world = World::new();
    let mut mine = queue("q");
    mine.exclusive = true;
    let declared = world.topology.declare_queue(mine.clone(), QueueId(1), Some(ME)).expect("new");
    let Declared::Created(changes) = declared else { panic!("it did not exist") };
    assert_eq!(summary(&changes), ["(+q)"]);
    let entry = world.topology.queue("q").expect("declared");
    assert!(!entry.definition.durable);
    assert_eq!(entry.owner, Some(ME));
    assert_eq!(world.topology.declare_queue(mine.clone(), QueueId(2), Some(ME)), Ok(Declared::Existing));
    let locked = |refused: Result<Declared, Refusal>| matches!(refused, Err(Refusal::Locked { .. }));
    assert!(locked(world.topology.declare_queue(mine, QueueId(2), Some(OTHER))));
    assert!(locked(world.topology.declare_queue(queue("q"), QueueId(2), Some(ME))));
}

#[test]
fn a_shared_queue_cannot_be_redeclared_as_exclusive() {
    let mut world = World::new();
    world.queue("q");
    let mut mine = queue("q");
    mine.exclusive = true;
    let refusal = world.topology.declare_queue(mine, QueueId(2), Some(ME));
    assert!(matches!(refusal, Err(Refusal::Locked { .. })));
}

#[test]
fn the_alternate_exchange_must_be_text() {
    let mut world = World::new();
    let mut wrong = exchange("x", ExchangeKind::Direct);
    wrong.arguments = table([("alternate-exchange", 5.into())]);
    let refusal = world.topology.declare_exchange(wrong).expect_err("not text");
    assert_eq!(
        text(&refusal),
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
    );
    assert!(world.topology.exchange("x").is_none());
}

#[test]
fn only_durable_declarations_are_to_be_kept() {
    let mut world = World::new();
    let mut transient = exchange("x", ExchangeKind::Direct);
    transient.durable = false;
    let Ok(Declared::Created(changes)) = world.topology.declare_exchange(transient) else { panic!("new") };
    assert_eq!(summary(&changes), ["(+x)"]);
    assert_eq!(changes.into_durable().count(), 0);
    let Ok(Declared::Created(changes)) = world.topology.declare_queue(queue("q"), QueueId(1), Some(ME))
    else {
        panic!("new")
    };
    assert_eq!(changes.into_durable().count(), 1);
}

#[test]
fn snapshots_do_not_see_later_writes() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Topic);
    let q = world.queue("q");
    world.bind("x", "q", "a.*");
    let snapshot = world.topology.clone();
    world.topology.remove_queue("q");
    let other = world.queue("other");
    world.bind("x", "other", "a.*");
    let before = snapshot.route("x", "a.b", &Features::default(), &[]).expect("it was open");
    assert_eq!(before.targets.queues(), [QueueId(q)]);
    assert_eq!(snapshot.binding_count(), 1);
    assert_eq!(world.route("x", "a.b"), [other]);
    assert_ne!(snapshot.generation(), world.topology.generation());
}
