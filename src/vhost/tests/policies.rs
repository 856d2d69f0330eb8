//! Policies act on what exists and on what comes later, whoever changes them.

use ferrymq_protocol::table::{Table, Value};

use super::storing::{durable, settle};
use super::*;
use crate::queue::Moment;

fn policy(name: &str, definition: Table) -> PolicyDefinition {
    PolicyDefinition {
        name: name.into(),
        kind: PolicyKind::User,
        pattern: "^q".to_owned(),
        apply_to: ApplyTo::All,
        priority: 0,
        definition,
        origin: Origin::Client,
    }
}

fn limit(number: i64) -> Table {
    Table::new().with("max-length", number)
}

impl Kit {
    fn set_policy(&mut self, policy: PolicyDefinition) {
        self.vhost.set_policy(policy, &mut self.effects).expect("it is valid");
    }

    fn delete_policy(&mut self, name: &str) {
        self.vhost.delete_policy(PolicyKind::User, &name.into(), &mut self.effects).expect("it is there");
    }

    fn max_length(&self, queue: &str) -> Option<u64> {
        self.vhost.queues[&self.id(queue)].settings.max_length
    }

    /// The definitions that were to be stored since the last call.
    fn stored(&mut self) -> Vec<DefinitionChange> {
        std::mem::take(&mut self.effects.definitions)
    }
}

#[test]
fn queues_follow_a_policy_from_its_first_day_to_its_last() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    kit.declare(connection, queue("q-early"));
    kit.declare(connection, QueueDefinition { exclusive: true, ..queue("q-mine") });
    kit.declare(connection, queue("other"));
    kit.set_policy(policy("p", limit(5)));
    kit.declare(connection, queue("q-late"));
    for name in ["q-early", "q-mine", "q-late"] {
        assert_eq!(kit.max_length(name), Some(5), "{name}");
    }
    assert_eq!(kit.max_length("other"), None);
    kit.set_policy(policy("p", limit(7)));
    assert_eq!((kit.max_length("q-early"), kit.max_length("q-late")), (Some(7), Some(7)));
    let high = PolicyDefinition { priority: 1, ..policy("high", Table::new().with("expires", 1_i64)) };
    kit.set_policy(high);
    assert_eq!(kit.max_length("q-early"), None, "one policy at a time");
    kit.delete_policy("high");
    assert_eq!(kit.max_length("q-early"), Some(7));
    kit.delete_policy("p");
    assert_eq!((kit.max_length("q-early"), kit.max_length("q-late")), (None, None));
    let gone = kit.vhost.delete_policy(PolicyKind::User, &"p".into(), &mut kit.effects);
    assert_eq!(gone, Err(Refusal::NoPolicy));
}

#[test]
fn what_changes_is_stored_and_what_does_not_is_relied_on() {
    let mut kit = Kit::new();
    let set = policy("p", limit(5));
    kit.set_policy(set.clone());
    assert_eq!(kit.stored(), [DefinitionChange::Put(Definition::Policy(set.clone()))]);
    assert!(kit.effects.topology_changed);
    kit.set_policy(set.clone());
    assert_eq!((kit.stored().len(), kit.effects.relies_on_definitions), (0, true));
    kit.delete_policy("p");
    assert_eq!(kit.stored(), [DefinitionChange::Delete(Definition::Policy(set.clone()))]);
    let invalid = policy("p", Table::new().with("foo", "bar"));
    assert!(kit.vhost.set_policy(invalid, &mut kit.effects).is_err());
    assert_eq!(kit.stored(), []);
}

#[test]
fn refused_messages_go_where_a_policy_says() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    kit.declare(connection, durable("q"));
    kit.declare(connection, durable("dead"));
    let to = Table::new().with("dead-letter-exchange", "").with("dead-letter-routing-key", "dead");
    kit.set_policy(policy("p", to));
    let refuse = |kit: &mut Kit, seq| {
        let command = kit.persistent("", "q", "m");
        kit.turn(connection, [command]);
        let get = Get { channel, queue: "q".into(), no_ack: false };
        assert!(matches!(kit.ask(connection, Request::Get(get)), Ok(Reply::Got(Some(_)))));
        let id = kit.id("q");
        kit.turn(connection, [settle(channel, id, seq, Outcome::Discard)]);
        kit.vhost.queue(kit.id("dead")).expect("it exists").ready()
    };
    assert_eq!(refuse(&mut kit, 0), 1);
    kit.delete_policy("p");
    assert_eq!(refuse(&mut kit, 1), 1, "no policy, no dead letter");
}

#[test]
fn deadlines_follow() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    kit.vhost.set_time(Moment(1_000));
    kit.declare(connection, queue("q"));
    assert_eq!(kit.vhost.next_deadline(), Moment::NEVER);
    kit.set_policy(policy("p", Table::new().with("expires", 50_i64)));
    assert_eq!(kit.vhost.next_deadline(), Moment(1_050), "the queue's");
    kit.vhost.set_time(Moment(1_010));
    kit.set_policy(policy("p", Table::new().with("message-ttl", 70_i64)));
    assert_eq!(kit.vhost.next_deadline(), Moment::NEVER);
    kit.turn(connection, [kit.publish("q", "m")]);
    assert_eq!(kit.vhost.next_deadline(), Moment(1_080), "the message's");
    kit.delete_policy("p");
    kit.turn(connection, [kit.publish("q", "n")]);
    assert_eq!(kit.vhost.next_deadline(), Moment(1_080), "it keeps it");
    kit.vhost.set_time(Moment(2_000));
    kit.vhost.work(&mut kit.effects);
    assert_eq!(kit.vhost.queue(kit.id("q")).expect("it stays").ready(), 1);
}

#[test]
fn exchanges_follow_too() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    kit.declare(connection, queue("a"));
    kit.turn(connection, [storing::bind_to_fanout("a")]);
    let declare = |name: &str| {
        Request::DeclareExchange(ExchangeDefinition {
            name: name.into(),
            kind: ExchangeKind::Direct,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
            origin: Origin::Client,
        })
    };
    let leads = |kit: &Kit, exchange: &str| {
        let route = kit.vhost.topology().route(exchange, "k", &Features::default(), &[]).expect("it exists");
        route.targets.queues().len()
    };
    kit.ask(connection, declare("q-early")).expect("it is new");
    let generation = kit.vhost.topology().generation();
    kit.set_policy(policy("p", Table::new().with("alternate-exchange", "amq.fanout")));
    assert!(kit.vhost.topology().generation() > generation, "sessions forget their routes");
    kit.ask(connection, declare("q-late")).expect("it is new");
    assert_eq!((leads(&kit, "q-early"), leads(&kit, "q-late"), leads(&kit, "amq.direct")), (1, 1, 0));
    kit.delete_policy("p");
    assert_eq!((leads(&kit, "q-early"), leads(&kit, "q-late")), (0, 0));
}

#[test]
fn many_queues_follow_in_slices() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    let names: Vec<_> = (0..3_000).map(|number| format!("q{number}")).collect();
    for name in &names {
        kit.declare(connection, queue(name));
    }
    let followed =
        |kit: &Kit, expected| names.iter().filter(|name| kit.max_length(name) == Some(expected)).count();
    kit.set_policy(policy("p", limit(5)));
    assert!(std::mem::take(&mut kit.effects.more_work));
    assert!((1..=1_000).contains(&followed(&kit, 5)), "one slice at once");
    // Whatever happens between the slices: policies change again, queues come and go.
    kit.vhost.work(&mut kit.effects);
    kit.set_policy(policy("p", limit(6)));
    kit.declare(connection, queue("q-late"));
    let gone = Request::DeleteQueue { name: "q7".into(), if_unused: false, if_empty: false };
    kit.ask(connection, gone).expect("it exists");
    let mut slices = 0;
    while std::mem::take(&mut kit.effects.more_work) {
        kit.vhost.work(&mut kit.effects);
        slices += 1;
    }
    assert!(slices >= 3, "{slices} slices");
    let left = names.iter().filter(|name| *name != "q7").filter(|name| kit.max_length(name) != Some(6));
    assert_eq!((left.count(), kit.max_length("q-late")), (0, Some(6)));
}

#[test]
fn a_restored_vhost_has_the_settings_it_had() {
    let dead = Table::new().with("dead-letter-exchange", "dlx").with("alternate-exchange", "amq.fanout");
    // In the order in which they are stored.
    let restored = Restored {
        definitions: vec![
            Definition::Exchange(ExchangeDefinition {
                name: "q-exchange".into(),
                kind: ExchangeKind::Direct,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: Table::new(),
                origin: Origin::Client,
            }),
            Definition::Queue(durable("a")),
            Definition::Queue(durable("q")),
            Definition::Binding(BindingDefinition {
                source: "amq.fanout".into(),
                destination: Destination::Queue("a".into()),
                routing_key: "".into(),
                arguments: Table::new(),
                origin: Origin::Client,
            }),
            Definition::Policy(policy("p", dead)),
            Definition::Policy(policy("unknown", Table::new().with("of-a-later-release", 1_i64))),
        ],
        ..Restored::default()
    };
    let options = VhostOptions { outbox_bytes: 1 << 20, cache_bytes: 0, default_delivery_limit: None };
    let (vhost, report) = Vhost::restore("/".into(), options, restored);
    assert_eq!(report.refused.len(), 1, "said, and the others are in force: {:?}", report.refused);
    let id = vhost.topology().queue("q").expect("it is back").id;
    assert!(vhost.queues[&id].settings.dead_letters.is_some());
    let route = vhost.topology().route("q-exchange", "k", &Features::default(), &[]).expect("it is back");
    assert_eq!(route.targets.queues().len(), 1);
}

#[test]
fn an_edit_of_the_file_sets_changes_and_removes_its_policies_only() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    kit.declare(connection, queue("q"));
    kit.set_policy(policy("clients", Table::new().with("expires", 9_i64)));
    let file = |policies: &[(&str, PolicyKind, i64)]| OperatorTopology {
        queues: vec![QueueDefinition { origin: Origin::Config, ..durable("q-file") }],
        policies: policies
            .iter()
            .map(|(name, kind, number)| {
                let definition = Table::new().with("max-length", Value::I64(*number));
                let origin = Origin::Config;
                PolicyDefinition { kind: *kind, origin, priority: 1, ..policy(name, definition) }
            })
            .collect(),
        ..OperatorTopology::default()
    };
    let apply = |kit: &mut Kit, policies: &[(&str, PolicyKind, i64)]| {
        let report = kit.vhost.apply_operator(&file(policies), &mut kit.effects).expect("no conflict");
        (report.created, report.removed)
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (user, operator) = (PolicyKind::User, PolicyKind::Operator);
    let created = apply(&mut kit, &[("p", user, 5), ("p", operator, 9)]).0;
    assert_eq!(created, words(&["policy 'p'", "operator policy 'p'", "queue 'q-file'"]));
    assert_eq!((kit.max_length("q"), kit.max_length("q-file")), (Some(5), Some(5)));
    assert_eq!(apply(&mut kit, &[("p", user, 5), ("p", operator, 9)]), (vec![], vec![]));
    assert_eq!(apply(&mut kit, &[("p", user, 6), ("p", operator, 9)]), (words(&["policy 'p'"]), vec![]));
    assert_eq!(kit.max_length("q"), Some(6));
    assert_eq!(apply(&mut kit, &[("p", operator, 9)]), (vec![], words(&["policy 'p'"])));
    assert_eq!(kit.max_length("q"), Some(9));
    assert_eq!(apply(&mut kit, &[]), (vec![], words(&["operator policy 'p'"])));
    assert_eq!(kit.max_length("q"), None);
    assert!(kit.vhost.topology().policy(user, "clients").is_some());

    let conflicts = kit.vhost.apply_operator(&file(&[("clients", user, 1)]), &mut kit.effects).unwrap_err();
    assert_eq!(conflicts[0].declaration, Declaration::Policy(0));
    assert_eq!(conflicts[0].refusal, Refusal::PolicyDiffers { policy: "clients".into() });
}
