//! Bindings: identity, refusals, durability, lists.

use ferrymq_protocol::table::Value;

use super::fixture::{ME, OTHER, World, exchange, queue, summary, table, text, to_exchange, to_queue};
use crate::model::{BindingDefinition, Destination, ExchangeKind};
use crate::topology::{REPLY_TO_QUEUE, Refusal};

#[test]
fn binding_twice_is_one_binding() {
    let mut world = World::new();
    world.queue("q");
    assert_eq!(summary(&world.bind("amq.direct", "q", "k")), ["+amq.direct>q"]);
    let generation = world.topology.generation();
    assert!(world.bind("amq.direct", "q", "k").is_empty());
    assert_eq!(world.topology.generation(), generation);
    assert_eq!(world.topology.binding_count(), 1);
    let unbound = world.topology.unbind(to_queue("amq.direct", "q", "k"), Some(ME)).expect("it is there");
    assert_eq!(summary(&unbound), ["-amq.direct>q"]);
    assert!(world.route("amq.direct", "k").is_empty());
}

#[test]
fn the_order_of_arguments_is_not_part_of_the_identity_but_their_width_is() {
    let mut world = World::new();
    world.queue("q");
    let with = |entries| BindingDefinition { arguments: table(entries), ..to_queue("amq.direct", "q", "k") };
    let mut bind = |definition| world.topology.bind(definition, None).expect("both ends exist").is_empty();
    assert!(!bind(with([("a", 1.into()), ("b", 2.into())])));
    assert!(bind(with([("b", 2.into()), ("a", 1.into())])));
    assert!(!bind(with([("b", 2_i64.into()), ("a", 1_i64.into())])));
    assert_eq!(world.topology.binding_count(), 2);
    // Either alone keeps the queue on the route.
    let unbound = world.topology.unbind(with([("b", 2.into()), ("a", 1.into())]), None).expect("it is there");
    assert_eq!(unbound.iter().count(), 1);
    assert_eq!(world.route("amq.direct", "k").len(), 1);
}

#[test]
fn both_ends_must_exist_and_the_source_is_missed_first() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Direct);
    let refusal = world.topology.bind(to_queue("nox", "noq", ""), None).expect_err("both missing");
    assert_eq!(text(&refusal), "no exchange 'nox' in vhost '/'");
    let refusal = world.topology.bind(to_queue("x", "noq", ""), None).expect_err("queue missing");
    assert_eq!(text(&refusal), "no queue 'noq' in vhost '/'");
    let refusal = world.topology.bind(to_exchange("x", "noy", ""), None).expect_err("exchange missing");
    assert_eq!(text(&refusal), "no exchange 'noy' in vhost '/'");
}

#[test]
fn unbinding_what_is_not_there_is_fine() {
    let mut world = World::new();
    world.queue("q");
    for missing in
        [to_queue("nox", "q", ""), to_queue("amq.direct", "noq", ""), to_exchange("amq.direct", "y", "")]
    {
        assert_eq!(world.topology.unbind(missing, Some(ME)).map(|changes| changes.is_empty()), Ok(true));
    }
}

#[test]
fn the_default_exchange_and_the_reply_queue_are_not_bound() {
    let mut world = World::new();
    world.queue("q");
    for ends in [to_queue("", "q", ""), to_exchange("", "amq.direct", ""), to_exchange("amq.direct", "", "")]
    {
        assert_eq!(world.topology.bind(ends.clone(), None), Err(Refusal::DefaultExchange));
        assert_eq!(world.topology.unbind(ends, None), Err(Refusal::DefaultExchange));
    }
    let refused = world.topology.bind(to_queue("amq.direct", REPLY_TO_QUEUE, ""), None);
    assert!(matches!(refused, Err(Refusal::ReplyToQueue { .. })));
}

#[test]
fn only_the_owner_binds_an_exclusive_queue() {
    let mut world = World::new();
    let mut mine = queue("q");
    mine.exclusive = true;
    world.queue_of(mine);
    let binding = to_queue("amq.direct", "q", "k");
    assert!(matches!(world.topology.bind(binding.clone(), Some(OTHER)), Err(Refusal::Locked { .. })));
    assert_eq!(summary(&world.bind("amq.direct", "q", "k")), ["(+amq.direct>q)"]);
    assert!(matches!(world.topology.unbind(binding.clone(), Some(OTHER)), Err(Refusal::Locked { .. })));
    let unbound = world.topology.unbind(to_queue("amq.direct", "q", "other"), Some(OTHER));
    assert_eq!(unbound.map(|changes| changes.is_empty()), Ok(true));
    assert_eq!(world.topology.unbind(binding, Some(ME)).map(|changes| changes.is_empty()), Ok(false));
}

#[test]
fn a_binding_is_durable_if_both_ends_are() {
    let mut world = World::new();
    let mut transient = exchange("t", ExchangeKind::Fanout);
    transient.durable = false;
    world.exchange_of(transient);
    world.exchange("d", ExchangeKind::Fanout);
    world.queue("q");
    assert_eq!(summary(&world.bind("t", "q", "")), ["(+t>q)"]);
    assert_eq!(summary(&world.bind("d", "q", "")), ["+d>q"]);
    assert_eq!(summary(&world.bind_exchange("d", "t", "")), ["(+d>t)"]);
    let gone = world.topology.remove_queue("q");
    assert_eq!(summary(&gone), ["-d>q", "(-t>q)", "-q"]);
}

#[test]
fn a_headers_exchange_refuses_an_unknown_x_match() {
    let mut world = World::new();
    world.queue("q");
    let with = |source, value: Value| BindingDefinition {
        arguments: table([("x-match", value)]),
        ..to_queue(source, "q", "")
    };
    let refusal = world.topology.bind(with("amq.headers", 23.into()), None).expect_err("no text");
    assert_eq!(text(&refusal), "Invalid x-match field type signedint (value 23); expected longstr");
    let wrong = "all or any I don't mind";
    let refusal = world.topology.bind(with("amq.headers", wrong.into()), None).expect_err("no mode");
    assert_eq!(
        text(&refusal),
        "Invalid x-match field value <<\"all or any I don't mind\">>; expected all, any, all-with-x, or any-with-x"
    );
    assert!(world.topology.bind(with("amq.direct", wrong.into()), None).is_ok());
}

#[test]
fn bindings_are_listed_by_either_end() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Direct);
    world.exchange("y", ExchangeKind::Direct);
    world.queue("q");
    world.queue("q2");
    world.bind("x", "q", "1");
    world.bind("x", "q2", "2");
    world.bind("y", "q", "3");
    world.bind_exchange("x", "y", "4");
    let keys = |bindings: &mut dyn Iterator<Item = &BindingDefinition>| -> Vec<String> {
        bindings.map(|binding| binding.routing_key.to_string()).collect()
    };
    let topology = &world.topology;
    assert_eq!(keys(&mut topology.bindings_of_source("x")), ["1", "2", "4"]);
    assert_eq!(keys(&mut topology.bindings_of_source("y")), ["3"]);
    assert!(keys(&mut topology.bindings_of_source("z")).is_empty());
    assert_eq!(keys(&mut topology.bindings_of_destination(&Destination::Queue("q".into()))), ["1", "3"]);
    assert_eq!(keys(&mut topology.bindings_of_destination(&Destination::Exchange("y".into()))), ["4"]);
    assert_eq!(keys(&mut topology.bindings()), ["1", "2", "4", "3"]);
}
