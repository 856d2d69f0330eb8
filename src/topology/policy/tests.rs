//! Which policy is in force for what, and who may change it.

use super::*;
use crate::model::{ExchangeKind, Origin};
use crate::topology::tests::fixture::{World, exchange, queue, summary, text};

fn policy(name: &str, pattern: &str, apply_to: ApplyTo) -> PolicyDefinition {
    PolicyDefinition {
        name: name.into(),
        kind: PolicyKind::User,
        pattern: pattern.to_owned(),
        apply_to,
        priority: 0,
        definition: Table::new().with("max-length", 1_i64),
        origin: Origin::Client,
    }
}

fn with(policies: impl IntoIterator<Item = PolicyDefinition>) -> Topology {
    let mut topology = World::new().topology;
    for policy in policies {
        topology.set_policy(policy).expect("it is valid");
    }
    topology
}

fn quorum(name: &str) -> QueueDefinition {
    QueueDefinition { arguments: Table::new().with("x-queue-type", "quorum"), ..queue(name) }
}

fn names(applied: AppliedPolicies<'_>) -> (Option<&str>, Option<&str>) {
    let name = |policy: &PolicyDefinition| policy.name.as_str().to_owned().leak() as &str;
    (applied.user.map(name), applied.operator.map(name))
}

#[test]
fn each_kind_of_object_has_its_policies() {
    for (apply_to, classic, is_quorum, exchange) in [
        (ApplyTo::All, true, true, true),
        (ApplyTo::Queues, true, true, false),
        (ApplyTo::ClassicQueues, true, false, false),
        (ApplyTo::QuorumQueues, false, true, false),
        (ApplyTo::Streams, false, false, false),
        (ApplyTo::Exchanges, false, false, true),
    ] {
        let topology = with([policy("p", "^a", apply_to)]);
        let applies = |applied: AppliedPolicies<'_>| applied.user.is_some();
        assert_eq!(applies(topology.policies_of_queue(&queue("a1"))), classic, "{apply_to:?}");
        assert_eq!(applies(topology.policies_of_queue(&quorum("a1"))), is_quorum, "{apply_to:?}");
        assert_eq!(applies(topology.policies_of_exchange("a1")), exchange, "{apply_to:?}");
        assert!(!applies(topology.policies_of_queue(&queue("ba"))));
        assert!(!applies(topology.policies_of_exchange("ba")));
        assert_eq!(parse_apply_to(apply_to_name(apply_to)), Ok(apply_to));
    }
    let refused = parse_apply_to("bindings").unwrap_err();
    let said = "Validation failed\n\napply-to 'bindings' unrecognised; should be one of: 'queues', 'classic_queues',  \
                'quorum_queues', 'streams', 'exchanges', or 'all'\n";
    assert_eq!(text(&refused), said);
}

#[test]
fn the_highest_priority_is_in_force_and_the_first_name_among_equals() {
    let of = |name: &str, priority| PolicyDefinition { priority, ..policy(name, ".*", ApplyTo::All) };
    let orders = [vec![("b", 1), ("a", 1), ("c", 0)], vec![("c", 0), ("a", 1), ("b", 1)]];
    for order in orders {
        let topology = with(order.into_iter().map(|(name, priority)| of(name, priority)));
        assert_eq!(names(topology.policies_of_queue(&queue("q"))), (Some("a"), None));
        let listed: Vec<_> = topology.policies().map(|policy| policy.name.as_str()).collect();
        assert_eq!(listed, ["a", "b", "c"]);
    }
    let topology = with([of("low", -5), of("high", i64::MAX)]);
    assert_eq!(names(topology.policies_of_queue(&queue("q"))), (Some("high"), None));
}

#[test]
fn a_policy_for_other_queue_types_makes_room_for_the_next() {
    let limit = Table::new().with("delivery-limit", 3_i64);
    let first =
        PolicyDefinition { priority: 9, definition: limit, ..policy("quorum", ".*", ApplyTo::Queues) };
    let topology = with([first, policy("any", ".*", ApplyTo::Queues)]);
    assert_eq!(names(topology.policies_of_queue(&queue("q"))), (Some("any"), None));
    assert_eq!(names(topology.policies_of_queue(&quorum("q"))), (Some("quorum"), None));
}

#[test]
fn a_policy_of_either_kind_is_in_force_and_the_stricter_setting_counts() {
    let operator = PolicyDefinition {
        kind: PolicyKind::Operator,
        definition: Table::new()
            .with("max-length", 5_i64)
            .with("overflow", "drop-head")
            .with("expires", 7_i64),
        ..policy("limits", ".*", ApplyTo::Queues)
    };
    let user = PolicyDefinition {
        definition: Table::new()
            .with("max-length", 9_i64)
            .with("overflow", "reject-publish")
            .with("dead-letter-exchange", "dlx"),
        ..policy("mine", ".*", ApplyTo::Queues)
    };
    let topology = with([operator, user]);
    let applied = topology.policies_of_queue(&queue("q"));
    assert_eq!(names(applied), (Some("mine"), Some("limits")));
    let expected = Table::new()
        .with("max-length", 5_i64)
        .with("overflow", "drop-head")
        .with("dead-letter-exchange", "dlx")
        .with("expires", 7_i64);
    assert_eq!(applied.definition(), expected);
    assert_eq!(topology.policies_of_exchange("x").definition(), Table::new());
}

#[test]
fn what_is_wrong_with_a_policy_is_said_in_rabbitmqs_words() {
    let mut topology = with([]);
    let bad =
        PolicyDefinition { definition: Table::new().with("foo", "bar"), ..policy("p", "", ApplyTo::All) };
    let said = "Validation failed\n\n[{<<\"foo\">>,<<\"bar\">>}] are not recognised policy settings\n";
    assert_eq!(text(&topology.set_policy(bad).unwrap_err()), said);
    let said = "Validation failed\n\npattern should be regular expression but is invalid: unclosed group\n";
    assert_eq!(text(&topology.set_policy(policy("p", "(", ApplyTo::All)).unwrap_err()), said);
    let long = policy("p", &"x".repeat(PATTERN_MAX + 1), ApplyTo::All);
    assert!(text(&topology.set_policy(long).unwrap_err()).contains("it has more than 4096 bytes"));
    assert_eq!(topology.policies().count(), 0);
    let gone = topology.delete_policy(PolicyKind::User, "p", Origin::Client).unwrap_err();
    assert_eq!(text(&gone), "Parameter does not exist");
}

#[test]
fn a_policy_is_replaced_by_one_of_its_kind_and_name() {
    let mut topology = with([policy("p", "^a", ApplyTo::All)]);
    let operators = PolicyDefinition { kind: PolicyKind::Operator, ..policy("p", "^b", ApplyTo::All) };
    assert_eq!(summary(&topology.set_policy(operators.clone()).unwrap()), ["+p"]);
    assert_eq!(summary(&topology.set_policy(operators).unwrap()), [""; 0], "nothing has changed");
    assert_eq!(summary(&topology.set_policy(policy("p", "^c", ApplyTo::All)).unwrap()), ["+p"]);
    let patterns: Vec<_> = topology.policies().map(|policy| &*policy.pattern).collect();
    assert_eq!(patterns, ["^c", "^b"]);
    for policy in topology.policies() {
        assert!(topology.holds(&Definition::Policy(policy.clone())));
        assert!(
            topology.durable_definitions().any(|definition| definition == Definition::Policy(policy.clone()))
        );
    }
    assert_eq!(summary(&topology.delete_policy(PolicyKind::User, "p", Origin::Client).unwrap()), ["-p"]);
    assert!(!topology.holds(&Definition::Policy(policy("p", "^c", ApplyTo::All))));
    assert_eq!(topology.policies().count(), 1);
}

#[test]
fn the_file_and_clients_keep_their_hands_off_each_others_policies() {
    let of = |origin, pattern| PolicyDefinition { origin, ..policy("p", pattern, ApplyTo::All) };
    let mut topology = with([of(Origin::Config, "a")]);
    let of_file = Refusal::PolicyOfFile { policy: "p".into() };
    assert_eq!(topology.set_policy(of(Origin::Client, "b")), Err(of_file.clone()));
    assert_eq!(topology.delete_policy(PolicyKind::User, "p", Origin::Client), Err(of_file));
    assert!(topology.set_policy(of(Origin::Client, "a")).unwrap().is_empty(), "it is as asked for");
    assert!(!topology.set_policy(of(Origin::Config, "b")).unwrap().is_empty(), "an edit of the file");
    assert!(!topology.delete_policy(PolicyKind::User, "p", Origin::Config).unwrap().is_empty());

    let mut topology = with([of(Origin::Client, "a")]);
    let differs = Refusal::PolicyDiffers { policy: "p".into() };
    assert_eq!(topology.set_policy(of(Origin::Config, "b")), Err(differs));
    assert!(topology.set_policy(of(Origin::Config, "a")).unwrap().is_empty());
    assert_eq!(topology.policy(PolicyKind::User, "p").unwrap().origin, Origin::Client, "it stays a client's");
}

#[test]
fn exchanges_lead_on_by_policy_unless_an_argument_says_where() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.queue(name);
        world.exchange(&format!("to-{name}"), ExchangeKind::Fanout);
        world.bind(&format!("to-{name}"), name, "");
    }
    let by_argument = Table::new().with("alternate-exchange", "to-b");
    world.exchange_of(ExchangeDefinition {
        arguments: by_argument,
        ..exchange("argued", ExchangeKind::Direct)
    });
    world.exchange("early", ExchangeKind::Direct);
    let leads_to = |to: &str| PolicyDefinition {
        definition: Table::from_pairs([("alternate-exchange", to)]).unwrap(),
        ..policy("p", "^(argued|early|late|)$", ApplyTo::All)
    };
    world.topology.set_policy(leads_to("to-a")).unwrap();
    world.exchange("late", ExchangeKind::Direct);
    assert_eq!(world.route("early", "k"), [0; 0], "it has not been looked at again");
    assert_eq!((world.route("late", "k"), world.route("argued", "k")), (vec![1], vec![2]));

    let before = world.topology.generation();
    assert!(world.topology.reroute_by_policy(&"early".into()));
    assert!(world.topology.generation() > before);
    assert_eq!(world.route("early", "k"), [1]);
    let before = world.topology.generation();
    for name in ["early", "argued", "", "missing"] {
        assert!(!world.topology.reroute_by_policy(&name.into()), "{name}");
    }
    assert_eq!(
        (world.topology.generation(), world.route("", "k")),
        (before, vec![]),
        "not the default exchange"
    );

    world.topology.set_policy(leads_to("to-c")).unwrap();
    world.topology.reroute_by_policy(&"late".into());
    assert_eq!(world.route("late", "k"), [3]);
    world.topology.delete_policy(PolicyKind::User, "p", Origin::Client).unwrap();
    world.topology.reroute_by_policy(&"late".into());
    assert_eq!(world.route("late", "k"), [0; 0]);
}
