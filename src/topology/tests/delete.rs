//! Deletions and what goes with them.

use super::fixture::{ME, World, exchange, summary, text, to_queue};
use crate::model::ExchangeKind;
use crate::topology::Refusal;

fn auto_delete(world: &mut World, name: &str) {
    let mut definition = exchange(name, ExchangeKind::Fanout);
    definition.auto_delete = true;
    world.exchange_of(definition);
}

#[test]
fn deleting_what_is_not_there_is_fine() {
    let mut world = World::new();
    assert_eq!(world.topology.delete_exchange("x", true).map(|changes| changes.is_empty()), Ok(true));
    assert!(world.topology.remove_queue("q").is_empty());
}

#[test]
fn system_exchanges_stay() {
    let mut world = World::new();
    assert_eq!(world.topology.delete_exchange("", false), Err(Refusal::DefaultExchange));
    let refusal = world.topology.delete_exchange("amq.direct", false).expect_err("a system exchange");
    assert_eq!(text(&refusal), "deletion of system exchange 'amq.direct' in vhost '/' not allowed");
}

#[test]
fn an_exchange_is_used_if_it_is_a_source() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Direct);
    world.exchange("y", ExchangeKind::Direct);
    world.bind_exchange("x", "y", "");
    let refusal = world.topology.delete_exchange("x", true).expect_err("it has a binding");
    assert_eq!(text(&refusal), "exchange 'x' in vhost '/' in use");
    let changes = world.topology.delete_exchange("y", true).expect("a destination only");
    assert_eq!(summary(&changes), ["-x>y", "-y"]);
    let changes = world.topology.delete_exchange("x", true).expect("unused by then");
    assert_eq!(summary(&changes), ["-x"]);
}

#[test]
fn a_queue_takes_its_bindings_along() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Direct);
    world.queue("q");
    let kept = world.queue("kept");
    world.bind("x", "q", "a");
    world.bind("x", "q", "b");
    world.bind("x", "kept", "a");
    assert_eq!(summary(&world.topology.remove_queue("q")), ["-x>q", "-x>q", "-q"]);
    assert_eq!(world.route("x", "a"), [kept]);
    assert!(world.route("x", "b").is_empty());
    assert!(world.route("", "q").is_empty());
    let again = world.queue("q");
    assert_ne!(again, kept);
    assert_eq!(world.route("x", "a"), [kept]);
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut world = World::new();
    auto_delete(&mut world, "x");
    world.queue("q");
    world.bind("x", "q", "a");
    world.bind("x", "q", "b");
    let id = world.topology.exchange_id("x").expect("declared");
    let changes = world.topology.unbind(to_queue("x", "q", "a"), Some(ME)).expect("bound");
    assert_eq!(summary(&changes), ["-x>q"]);
    assert!(changes.gone_exchanges().is_empty());
    let changes = world.topology.unbind(to_queue("x", "q", "b"), Some(ME)).expect("bound");
    assert_eq!(summary(&changes), ["-x>q", "-x"]);
    assert_eq!(changes.gone_exchanges(), [id]);
    assert!(world.topology.exchange("x").is_none());
}

#[test]
fn a_chain_of_auto_delete_exchanges_goes_with_the_queue_at_its_end() {
    let mut world = World::new();
    let names: Vec<String> = (0..1_000).map(|i| format!("x{i:04}")).collect();
    for name in &names {
        auto_delete(&mut world, name);
    }
    for pair in names.windows(2) {
        world.bind_exchange(&pair[0], &pair[1], "");
    }
    world.queue("q");
    world.bind("x0999", "q", "");
    let changes = world.topology.remove_queue("q");
    assert_eq!(changes.iter().count(), 2_001);
    assert_eq!(world.topology.exchanges().len(), 7);
    assert_eq!(world.topology.binding_count(), 0);
}

#[test]
fn exchanges_bound_to_themselves_and_each_other_go_once() {
    let mut world = World::new();
    auto_delete(&mut world, "x");
    auto_delete(&mut world, "y");
    world.bind_exchange("x", "x", "");
    world.bind_exchange("x", "y", "");
    world.bind_exchange("y", "x", "");
    let changes = world.topology.delete_exchange("x", false).expect("no system exchange");
    let mut all = summary(&changes);
    all.sort_unstable();
    assert_eq!(all, ["-x", "-x>x", "-x>y", "-y", "-y>x"]);
    assert_eq!(world.topology.binding_count(), 0);
}

#[test]
fn an_exchange_without_bindings_ever_stays() {
    let mut world = World::new();
    auto_delete(&mut world, "x");
    auto_delete(&mut world, "y");
    world.queue("q");
    // It loses a binding of which it is the destination, which is none of its own.
    world.bind_exchange("amq.fanout", "x", "");
    let unbound =
        world.topology.unbind(super::fixture::to_exchange("amq.fanout", "x", ""), None).expect("bound");
    assert_eq!(summary(&unbound), ["-amq.fanout>x"]);
    world.topology.remove_queue("q");
    assert!(world.topology.exchange("x").is_some() && world.topology.exchange("y").is_some());
}

#[test]
fn a_hundred_thousand_bindings_come_and_go() {
    let mut world = World::new();
    world.exchange("x", ExchangeKind::Fanout);
    let names: Vec<String> = (0..100_000).map(|i| format!("queue-{i}")).collect();
    let mut snapshot = world.topology.clone();
    for (i, name) in names.iter().enumerate() {
        // A recent snapshot is held throughout, so that writes copy what they touch.
        if i % 32 == 0 {
            snapshot = world.topology.clone();
        }
        world.queue(name);
        world.bind("x", name, "");
    }
    assert!(snapshot.queues().len() < names.len());
    assert_eq!(world.topology.queues().len(), names.len());
    assert_eq!(world.route("x", "").len(), names.len());
    for (i, name) in names.iter().enumerate() {
        if i % 32 == 0 {
            snapshot = world.topology.clone();
        }
        assert_eq!(world.topology.remove_queue(name).iter().count(), 2);
    }
    assert!(snapshot.binding_count() > 0);
    assert_eq!(world.topology.binding_count(), 0);
    assert!(world.route("x", "").is_empty());
}
