//! Policies through the handle: set, told, refused, stored.

use super::*;
use crate::model::{ApplyTo, Definition, ExchangeDefinition, ExchangeKind, PolicyDefinition, PolicyKind};
use crate::topology::Refusal;
use crate::vhost::OperatorTopology;

fn policy(name: &str, kind: PolicyKind, definition: Table) -> PolicyDefinition {
    PolicyDefinition {
        name: name.into(),
        kind,
        pattern: "^[ab]$".to_owned(),
        apply_to: ApplyTo::All,
        priority: 3,
        definition,
        origin: Origin::Client,
    }
}

fn of_file() -> OperatorTopology {
    let origin = Origin::Config;
    let definition = Table::new().with("expires", 900_000_i64);
    let limits = PolicyDefinition { origin, ..policy("limits", PolicyKind::Operator, definition) };
    let exchange = ExchangeDefinition {
        name: "a".into(),
        kind: ExchangeKind::Fanout,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
        origin,
    };
    OperatorTopology { exchanges: vec![exchange], policies: vec![limits], ..OperatorTopology::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_set_told_and_kept() {
    let mut world = World::new(7);
    let vhost = world.broker.vhost("/").expect("it exists");
    vhost.apply_operator(&of_file()).expect("no conflict");
    let mine = policy("mine", PolicyKind::User, Table::new().with("queue-mode", "lazy"));
    let position = vhost.set_policy(mine.clone()).expect("it is valid");
    let mut durable = world.broker.storage().log().durable();
    durable.wait_for(|durable| *durable >= position).await.expect("the log goes on");

    let expected = EffectivePolicy {
        policy: Some("mine".into()),
        operator_policy: Some("limits".into()),
        definition: Table::new().with("queue-mode", "lazy").with("expires", 900_000_i64),
    };
    let told = |broker: &Broker| {
        let vhost = broker.vhost("/").expect("it exists");
        assert_eq!(vhost.effective_policy("c"), Some(EffectivePolicy::default()));
        assert_eq!(vhost.effective_policy("missing"), None);
        assert_eq!(vhost.effective_policy_of_exchange("missing"), None);
        for told in [vhost.effective_policy("a"), vhost.effective_policy_of_exchange("a")] {
            assert_eq!(told.as_ref(), Some(&expected));
        }
        vhost.policies()
    };
    let before = told(&world.broker);
    assert_eq!((before.len(), &before[0]), (2, &mine));

    let invalid = policy("bad", PolicyKind::User, Table::new().with("foo", 1_i64));
    assert!(matches!(vhost.set_policy(invalid), Err(Refusal::InvalidPolicy { .. })));
    let limits = &"limits".into();
    let refused = vhost.delete_policy(PolicyKind::Operator, limits);
    assert_eq!(refused, Err(Refusal::PolicyOfFile { policy: "limits".into() }));
    assert_eq!(vhost.delete_policy(PolicyKind::User, limits), Err(Refusal::NoPolicy));
    let short = policy("short-lived", PolicyKind::User, Table::new().with("expires", 900_000_i64));
    vhost.set_policy(short).expect("it is valid");
    vhost.delete_policy(PolicyKind::User, &"short-lived".into()).expect("it is there");

    // Whether the next start reads the log or the summary of a clean stop.
    for clean in [false, true] {
        // Segments are given up on the way, and the definitions in them appended again.
        for _ in 0..400 {
            world.act();
        }
        world.restart(clean);
        assert_eq!(told(&world.broker), before, "clean: {clean}");
    }
    let vhost = world.broker.vhost("/").expect("it exists");
    let definitions: Vec<_> = vhost.topology().durable_definitions().collect();
    assert!(definitions.contains(&Definition::Policy(mine)));
    vhost.apply_operator(&OperatorTopology::default()).expect("no conflict");
    assert_eq!(vhost.policies().len(), 1, "the file's are gone with their lines");
}
