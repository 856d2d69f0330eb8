//! What is written reads back, and what was not written is an error.

use bytes::BytesMut;
use ferrymq_protocol::table::{Table, Value};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{
    ApplyTo, BindingDefinition, Destination, ExchangeDefinition, ExchangeKind, ExchangeName,
    PolicyDefinition, PolicyKind, PolicyName, QueueDefinition, QueueName, RoutingKey,
};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-c.]{0,3}", 1 => "\\PC{0,20}", 1 => Just("n".repeat(255))]
}

fn field() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::Timestamp),
        Just(Value::Void),
        vec(any::<u8>(), 0..40).prop_map(Value::LongString),
        vec(any::<u8>(), 600..1500).prop_map(Value::Binary),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| vec(inner, 0..3).prop_map(Value::Array))
}

fn table() -> impl Strategy<Value = Table> {
    vec(("x-[a-e]{1,8}", field()), 0..4).prop_map(|pairs| Table::from_pairs(pairs).expect("a shallow table"))
}

fn any_origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::System), Just(Origin::Client), Just(Origin::Config)]
}

fn any_exchange() -> impl Strategy<Value = Definition> {
    let kinds = prop_oneof![
        Just(ExchangeKind::Direct),
        Just(ExchangeKind::Fanout),
        Just(ExchangeKind::Topic),
        Just(ExchangeKind::Headers),
        Just(ExchangeKind::ConsistentHash),
        Just(ExchangeKind::Random),
        Just(ExchangeKind::ModulusHash),
        Just(ExchangeKind::RecentHistory),
        Just(ExchangeKind::Delayed),
    ];
    (name(), kinds, any::<[bool; 3]>(), table(), any_origin()).prop_map(
        |(name, kind, flags, arguments, origin)| {
            let [durable, auto_delete, internal] = flags;
            let name = ExchangeName::from(&*name);
            Definition::Exchange(ExchangeDefinition {
                name,
                kind,
                durable,
                auto_delete,
                internal,
                arguments,
                origin,
            })
        },
    )
}

fn any_queue() -> impl Strategy<Value = Definition> {
    (name(), any::<[bool; 3]>(), table(), any_origin()).prop_map(|(name, flags, arguments, origin)| {
        let [durable, exclusive, auto_delete] = flags;
        let name = QueueName::from(&*name);
        Definition::Queue(QueueDefinition { name, durable, exclusive, auto_delete, arguments, origin })
    })
}

fn any_binding() -> impl Strategy<Value = Definition> {
    (name(), any::<bool>(), name(), name(), table(), any_origin()).prop_map(
        |(source, to_queue, to, routing_key, arguments, origin)| {
            let destination = if to_queue {
                Destination::Queue(QueueName::from(&*to))
            } else {
                Destination::Exchange(ExchangeName::from(&*to))
            };
            let (source, routing_key) = (ExchangeName::from(&*source), RoutingKey::from(&*routing_key));
            Definition::Binding(BindingDefinition { source, destination, routing_key, arguments, origin })
        },
    )
}

fn any_policy() -> impl Strategy<Value = Definition> {
    let kinds = prop_oneof![Just(PolicyKind::User), Just(PolicyKind::Operator)];
    let objects = prop_oneof![
        Just(ApplyTo::All),
        Just(ApplyTo::Queues),
        Just(ApplyTo::ClassicQueues),
        Just(ApplyTo::QuorumQueues),
        Just(ApplyTo::Streams),
        Just(ApplyTo::Exchanges),
    ];
    (name(), kinds, "\\PC{0,400}", objects, any::<i64>(), table(), any_origin()).prop_map(
        |(name, kind, pattern, apply_to, priority, definition, origin)| {
            let name = PolicyName::from(&*name);
            Definition::Policy(PolicyDefinition {
                name,
                kind,
                pattern,
                apply_to,
                priority,
                definition,
                origin,
            })
        },
    )
}

/// Any definition that can be stored.
pub(in crate::storage) fn any_definition() -> impl Strategy<Value = Definition> {
    prop_oneof![any_exchange(), any_queue(), any_binding(), any_policy()]
}

fn encoded(vhost: &VhostName, definition: &Definition) -> (Vec<u8>, Vec<u8>) {
    let change = RecordChange::new(vhost, &DefinitionChange::Put(definition.clone()));
    (change.key, change.value.expect("a put has a value"))
}

proptest! {
    #[test]
    fn records_read_back(vhost in name(), definition in any_definition()) {
        let vhost = VhostName::from(&*vhost);
        let (key, value) = encoded(&vhost, &definition);
        prop_assert_eq!(decode(&key, &value), Ok((vhost.clone(), definition.clone())));
        let delete = RecordChange::new(&vhost, &DefinitionChange::Delete(definition));
        prop_assert_eq!(delete, RecordChange { key, value: None });
    }

    #[test]
    fn a_cut_or_longer_record_is_refused(definition in any_definition(), at in any::<prop::sample::Index>()) {
        let (key, value) = encoded(&VhostName::from("/"), &definition);
        prop_assert!(decode(&key, &value[..at.index(value.len())]).is_err());
        prop_assert!(decode(&key[..at.index(key.len())], &value).is_err());
        prop_assert!(decode(&key, &[&value[..], &[0]].concat()).is_err());
        prop_assert!(decode(&[&key[..], &[0]].concat(), &value).is_err());
    }

    #[test]
    fn an_altered_record_is_refused_or_another_whole_one(
        definition in any_definition(),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let (key, mut value) = encoded(&VhostName::from("/"), &definition);
        let at = at.index(value.len());
        value[at] ^= flip;
        if let Ok((vhost, other)) = decode(&key, &value) {
            let (again, _) = encoded(&vhost, &other);
            prop_assert_eq!(again, key);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(key in vec(any::<u8>(), 0..60), value in vec(any::<u8>(), 0..60)) {
        let _ = decode(&key, &value);
    }

    #[test]
    fn different_objects_have_keys_that_do_not_begin_alike(a in any_definition(), b in any_definition()) {
        let vhost = VhostName::from("v");
        let (key_a, _) = encoded(&vhost, &a);
        let (key_b, _) = encoded(&vhost, &b);
        prop_assert!(key_a == key_b || !key_a.starts_with(&key_b) && !key_b.starts_with(&key_a));
        prop_assert!(key_a.len() < 2400);
    }
}

fn plain_queue(arguments: Table) -> Definition {
    Definition::Queue(QueueDefinition {
        name: QueueName::from("q"),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments,
        origin: Origin::Client,
    })
}

#[test]
fn the_stored_bytes_of_version_1_never_change() {
    let (key, value) = encoded(&VhostName::from("/"), &plain_queue(Table::new().with("a", true)));
    assert_eq!(key, b"\x02\x01/\x01q");
    assert_eq!(value, b"\x01\x01\x02\0\0\0\x04\x01at\x01");

    let exchange = Definition::Exchange(ExchangeDefinition {
        name: ExchangeName::from("x"),
        kind: ExchangeKind::Topic,
        durable: true,
        auto_delete: false,
        internal: true,
        arguments: Table::new(),
        origin: Origin::System,
    });
    let (key, value) = encoded(&VhostName::from("/"), &exchange);
    assert_eq!(key, b"\x01\x01/\x01x");
    assert_eq!(value, b"\x01\x03\x05\x01\0\0\0\0");

    let binding = Definition::Binding(BindingDefinition {
        source: ExchangeName::from("x"),
        destination: Destination::Queue(QueueName::from("q")),
        routing_key: RoutingKey::from("k.#"),
        arguments: Table::new(),
        origin: Origin::Config,
    });
    let (key, value) = encoded(&VhostName::from("/"), &binding);
    assert_eq!(key, b"\x03\x01/\x01x\x01\x01q\x03k.#\x01\0\0\0\0");
    assert_eq!(value, b"\x01\x03\0\0\0\0");

    let policy = Definition::Policy(PolicyDefinition {
        name: PolicyName::from("p"),
        kind: PolicyKind::Operator,
        pattern: "^q".to_owned(),
        apply_to: ApplyTo::QuorumQueues,
        priority: -2,
        definition: Table::new().with("a", true),
        origin: Origin::Client,
    });
    let (key, value) = encoded(&VhostName::from("/"), &policy);
    assert_eq!(key, b"\x04\x01/\x02\x01p");
    assert_eq!(value, b"\x01\x04\xff\xff\xff\xff\xff\xff\xff\xfe\x02\0\0\0\x02^q\0\0\0\x04\x01at\x01");
}

#[test]
fn each_fault_has_its_error() {
    let (key, value) = encoded(&VhostName::from("/"), &plain_queue(Table::new()));
    let with = |at: usize, byte: u8| {
        let mut value = value.clone();
        value[at] = byte;
        decode(&key, &value).expect_err("must be refused")
    };
    assert_eq!(with(0, 9), RecordError::UnknownVersion(9));
    assert_eq!(with(1, 8), RecordError::UnknownTag { what: "flags", tag: 8 });
    assert_eq!(with(2, 0), RecordError::UnknownTag { what: "origin", tag: 0 });
    assert_eq!(with(3, 255), RecordError::Truncated);
    assert_eq!(decode(b"", b""), Err(RecordError::Truncated));
    assert_eq!(decode(b"\x02\x01\xff\x01q", &value), Err(RecordError::NotUtf8));
    let unknown = RecordError::UnknownTag { what: "kind of definition", tag: 77 };
    assert_eq!(decode(b"\x4d\x01/\x01q", &value), Err(unknown));
}

#[test]
fn a_binding_under_the_key_of_other_arguments_is_refused() {
    let binding = |arguments| {
        Definition::Binding(BindingDefinition {
            source: ExchangeName::from("x"),
            destination: Destination::Exchange(ExchangeName::from("y")),
            routing_key: RoutingKey::from(""),
            arguments,
            origin: Origin::Client,
        })
    };
    let vhost = VhostName::from("/");
    for length in [3, 5000] {
        let with = |byte| binding(Table::new().with("k", Value::Binary(vec![byte; length])));
        let (key, value) = encoded(&vhost, &with(1));
        let (other_key, _) = encoded(&vhost, &with(2));
        assert_ne!(key, other_key);
        assert_eq!(decode(&other_key, &value), Err(RecordError::KeyMismatch));
        assert!(key.len() < 1100, "{}", key.len());
    }
}

#[test]
fn tables_are_stored_as_on_the_wire() {
    let table = Table::new().with("a", 5_i32).with("b", "text");
    let mut wire = BytesMut::new();
    table.encode_with_length(&mut wire).unwrap();
    let (_, value) = encoded(&VhostName::from("/"), &plain_queue(table));
    assert_eq!(value[3..], wire);
}
