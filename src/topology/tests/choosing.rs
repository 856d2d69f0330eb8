//! Exchanges that choose one of their bindings: consistent hash, random, modulus hash.

use std::collections::BTreeMap;

use proptest::collection::{hash_set, vec};
use proptest::prelude::*;

use super::fixture::{World, exchange, table, text, to_queue};
use crate::model::{ExchangeKind, QueueId};
use crate::topology::{Features, Targets};

const CHOOSING: [ExchangeKind; 3] =
    [ExchangeKind::ConsistentHash, ExchangeKind::Random, ExchangeKind::ModulusHash];

fn with_lot(lot: u64) -> Features<'static> {
    Features { lot, ..Features::default() }
}

/// An exchange `x` with this many queues, bound in this order.
fn world_of(kind: ExchangeKind, queues: impl IntoIterator<Item = u64>) -> World {
    let mut world = World::new();
    world.exchange("x", kind);
    for i in 0..12 {
        world.queue(&format!("q{i}"));
    }
    for i in queues {
        world.bind("x", &format!("q{i}"), "1");
    }
    world
}

#[test]
fn a_message_goes_to_one_binding_and_every_binding_gets_some() {
    for kind in CHOOSING {
        let world = world_of(kind, 0..5);
        let mut counts = BTreeMap::<u64, u64>::new();
        for i in 0..5_000 {
            let route = world.topology.route("x", &format!("key{i}"), &with_lot(i), &[]).expect("open");
            let [queue] = route.targets.queues() else { panic!("{kind:?}: {route:?}") };
            *counts.entry(queue.0).or_default() += 1;
            assert_eq!(route.cacheable, kind != ExchangeKind::Random);
        }
        assert_eq!(counts.len(), 5, "{kind:?}");
        // Five standard deviations around a fifth of the messages.
        assert!(counts.values().all(|count| (860..=1_140).contains(count)), "{kind:?}: {counts:?}");
    }
}

#[test]
fn without_bindings_the_alternate_gets_the_message() {
    for kind in CHOOSING {
        let mut world = World::new();
        let mut definition = exchange("x", kind);
        definition.arguments = table([("alternate-exchange", "amq.fanout".into())]);
        world.exchange_of(definition);
        assert!(world.route("x", "k").is_empty());
        let (other, own) = (world.queue("other"), world.queue("own"));
        world.bind("amq.fanout", "other", "");
        assert_eq!(world.route("x", "k"), [other]);
        world.bind("x", "own", "1");
        assert_eq!(world.route("x", "k"), [own]);
        world.topology.remove_queue("own");
        assert_eq!(world.route("x", "k"), [other]);
    }
}

#[test]
fn exchanges_are_chosen_like_queues() {
    for kind in CHOOSING {
        let mut world = World::new();
        world.exchange("x", kind);
        let queues = ["a", "b", "c"].map(|name| world.queue(name));
        world.bind("amq.fanout", "a", "");
        world.bind("amq.fanout", "b", "");
        world.bind_exchange("x", "amq.fanout", "1");
        assert_eq!(world.route("x", "k"), queues[..2]);
        world.bind("x", "c", "1");
        let mut seen = BTreeMap::<usize, u64>::new();
        for i in 0..200 {
            let route = world.topology.route("x", &i.to_string(), &with_lot(i), &[]).expect("open");
            *seen.entry(route.targets.queues().len()).or_default() += 1;
        }
        assert!(seen.len() == 2 && seen[&1] > 50 && seen[&2] > 50, "{kind:?}: {seen:?}");
    }
}

#[test]
fn further_keys_count_for_the_modulus_only() {
    let consistent = world_of(ExchangeKind::ConsistentHash, 0..12);
    let modulus = world_of(ExchangeKind::ModulusHash, 0..12);
    let further: Vec<String> = (0..40).map(|i| format!("further{i}")).collect();
    let routes = |world: &World| {
        let mut routes: Vec<_> = further.iter().map(|key| world.route_with("x", "k", &[key])).collect();
        assert!(routes.iter().all(|queues| queues.len() == 1));
        routes.sort();
        routes.dedup();
        routes
    };
    assert_eq!(routes(&consistent), [consistent.route("x", "k")]);
    assert!(routes(&modulus).len() > 5);
}

#[test]
fn random_exchanges_in_a_row_choose_by_themselves() {
    let mut world = world_of(ExchangeKind::Random, []);
    for next in ["y", "z"] {
        world.exchange(next, ExchangeKind::Random);
        world.bind_exchange("x", next, "");
    }
    for (exchange, queue) in [("y", "q0"), ("y", "q1"), ("z", "q2"), ("z", "q3")] {
        world.bind(exchange, queue, "");
    }
    let mut counts = BTreeMap::<QueueId, u64>::new();
    for lot in 0..4_000 {
        let route = world.topology.route("x", "k", &with_lot(lot), &[]).expect("open");
        *counts.entry(route.targets.queues()[0]).or_default() += 1;
    }
    assert!(counts.len() == 4 && counts.values().all(|count| (860..=1_140).contains(count)), "{counts:?}");
}

#[test]
fn a_queue_bound_twice_gets_twice_the_share_of_chance() {
    let mut world = world_of(ExchangeKind::Random, [0, 1]);
    world.bind("x", "q0", "another");
    let first = world.topology.queue("q0").expect("declared").id;
    let hits = (0..3_000)
        .filter(|lot| {
            world.topology.route("x", "", &with_lot(*lot), &[]).expect("open").targets == Targets::One(first)
        })
        .count();
    assert!((1_870..=2_130).contains(&hits), "{hits} of 3000");
}

#[test]
fn weights_and_arguments_are_checked() {
    let mut world = world_of(ExchangeKind::ConsistentHash, 0..1);
    let refusal = world.topology.bind(to_queue("x", "q1", "heavy"), None).expect_err("no weight");
    assert_eq!(text(&refusal), "The binding key must be an integer: <<\"heavy\">>");
    let refusal = world.topology.bind(to_queue("x", "nobody", "heavy"), None).expect_err("no queue");
    assert_eq!(text(&refusal), "no queue 'nobody' in vhost '/'");
    assert_eq!(world.topology.binding_count(), 1);
    let refusal =
        world.topology.declare_exchange(exchange("x", ExchangeKind::Random)).expect_err("another type");
    assert_eq!(
        text(&refusal),
        "inequivalent arg 'type' for exchange 'x' in vhost '/': received ''x-random'' but current is ''x-consistent-hash''"
    );
    for (kind, arguments, expected) in [
        (
            ExchangeKind::ConsistentHash,
            table([("hash-property", "priority".into())]),
            "Unsupported property: priority",
        ),
        (
            ExchangeKind::RecentHistory,
            table([("x-recent-history-length", 0.into())]),
            "Invalid argument 0, 'x-recent-history-length' must be a positive integer",
        ),
        (
            ExchangeKind::RecentHistory,
            table([("x-recent-history-length", "5".into())]),
            "Invalid argument <<\"5\">>, 'x-recent-history-length' must be a positive integer",
        ),
    ] {
        let mut definition = exchange("y", kind);
        definition.arguments = arguments;
        let refusal = world.topology.declare_exchange(definition).expect_err("it cannot be");
        assert_eq!(text(&refusal), expected);
        assert!(world.topology.exchange("y").is_none());
    }
}

#[test]
fn what_is_remembered_is_told_with_the_route() {
    let mut world = World::new();
    let mut definition = exchange("x", ExchangeKind::RecentHistory);
    definition.arguments = table([("x-recent-history-length", 3.into())]);
    world.exchange_of(definition);
    world.exchange("y", ExchangeKind::RecentHistory);
    let route = world.topology.route("x", "", &Features::default(), &[]).expect("open");
    assert!(route.targets.is_empty() && route.cacheable, "a mandatory message returns, and is remembered");
    let q = world.queue("q");
    world.bind("amq.fanout", "q", "");
    world.bind_exchange("amq.fanout", "x", "");
    world.bind_exchange("x", "y", "");
    let route = world.topology.route("amq.fanout", "", &Features::default(), &[]).expect("open");
    let Targets::Recorded(recorded) = route.targets else { panic!("nobody remembers it") };
    assert_eq!(*recorded.queues, [QueueId(q)]);
    assert_eq!(recorded.recorders.iter().map(|recorder| recorder.length).collect::<Vec<_>>(), [3, 20]);
}

proptest! {
    #[test]
    fn the_modulus_depends_on_what_is_bound_alone(
        bound in hash_set(0..12_u64, 1..12),
        history in vec((any::<bool>(), 0..12_u64), 0..30),
    ) {
        let mut world = world_of(ExchangeKind::ModulusHash, []);
        for (bind, i) in &history {
            let binding = to_queue("x", &format!("q{i}"), "1");
            if *bind { world.topology.bind(binding, None) } else { world.topology.unbind(binding, None) }
                .expect("both ends exist");
        }
        for i in 0..12 {
            let binding = to_queue("x", &format!("q{i}"), "1");
            if bound.contains(&i) { world.topology.bind(binding, None) } else { world.topology.unbind(binding, None) }
                .expect("both ends exist");
        }
        let mut in_order: Vec<_> = bound.into_iter().collect();
        in_order.sort_unstable();
        let anew = world_of(ExchangeKind::ModulusHash, in_order);
        for key in 0..40 {
            let key = key.to_string();
            prop_assert_eq!(world.route("x", &key), anew.route("x", &key));
        }
    }
}
