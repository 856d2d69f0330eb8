//! Declaring, binding, purging and deleting.

use ferrymq_protocol::method::{exchange, queue};

use super::*;
use crate::model::{Destination, QueueName};
use crate::topology::Refusal;

fn declare_queue(queue: &str) -> queue::Declare<'_> {
    queue::Declare {
        queue,
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableRef::default(),
    }
}

fn declare_exchange<'a>(exchange: &'a str, kind: &'a str) -> exchange::Declare<'a> {
    exchange::Declare {
        exchange,
        kind,
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: TableRef::default(),
    }
}

fn declared(name: &str) -> Reply {
    Reply::QueueDeclared { name: QueueName::from(name), messages: 3, consumers: u64::MAX }
}

fn with_channel() -> Kit {
    let mut kit = Kit::open();
    kit.channel(1);
    kit
}

#[test]
fn a_queue_is_declared_as_asked() {
    let mut kit = with_channel();
    let arguments = Table::new().with("x-max-length", 10_i32);
    let mut octets = BytesMut::new();
    arguments.encode(&mut octets).unwrap();
    let method = queue::Declare {
        exclusive: true,
        auto_delete: true,
        arguments: TableRef::parse(&octets).unwrap(),
        ..declare_queue("q\r\n1")
    };
    kit.send(1, method);
    let Request::DeclareQueue(definition) = kit.request() else { panic!() };
    let expected = QueueDefinition {
        name: "q1".into(),
        durable: false,
        exclusive: true,
        auto_delete: true,
        arguments,
        origin: Origin::Client,
    };
    assert_eq!(definition, expected, "an exclusive queue is never durable");
    kit.reply(1, declared("q1"));
    kit.expect(1, queue::DeclareOk { queue: "q1", message_count: 3, consumer_count: u32::MAX });
}

#[test]
fn the_broker_makes_up_names_and_remembers_the_last() {
    let mut kit = with_channel();
    kit.send(1, declare_queue(""));
    let Request::DeclareQueue(definition) = kit.request() else { panic!() };
    let name = definition.name.as_str().to_owned();
    assert_eq!(name.strip_prefix("amq.gen-").unwrap().len(), 22);
    kit.reply(1, declared(&name));
    kit.skip(1);

    kit.send(1, queue::Purge { queue: "", no_wait: true });
    assert!(matches!(kit.request(), Request::PurgeQueue(queue) if queue.as_str() == name));
    kit.reply(1, Reply::QueuePurged { messages: 0 });
    kit.send(1, basic::Get { queue: "", no_ack: true });
    assert!(matches!(kit.request(), Request::Get(get) if get.queue.as_str() == name));
    kit.reply(1, Reply::Got(None));
    kit.skip(1);
    let bind = queue::Bind {
        queue: "",
        exchange: "amq.direct",
        routing_key: "",
        no_wait: true,
        arguments: TableRef::default(),
    };
    for (queue, routing_key, expected) in [("", "", &*name), ("", "k", "k"), ("other", "", "")] {
        kit.send(1, queue::Bind { queue, routing_key, ..bind });
        let Request::Bind(definition) = kit.request() else { panic!() };
        assert_eq!(definition.routing_key.as_str(), expected);
        let meant = if queue.is_empty() { &*name } else { queue };
        assert_eq!(definition.destination, Destination::Queue(meant.into()));
        kit.reply(1, Reply::Bound);
    }
    kit.expect_nothing();
}

#[test]
fn a_silent_declare_counts_as_the_last() {
    let mut kit = with_channel();
    kit.send(1, queue::Declare { no_wait: true, ..declare_queue("q") });
    kit.request();
    kit.reply(1, declared("q"));
    kit.expect_nothing();
    kit.send(1, queue::Delete { queue: "", if_unused: true, if_empty: false, no_wait: false });
    let Request::DeleteQueue { name, if_unused: true, if_empty: false } = kit.request() else { panic!() };
    assert_eq!(name.as_str(), "q");
    kit.reply(1, Reply::QueueDeleted { messages: 4 });
    kit.expect(1, queue::DeleteOk { message_count: 4 });
}

#[test]
fn every_method_gets_its_own_answer() {
    let arguments = TableRef::default();
    let bind = exchange::Bind { destination: "d", source: "s", routing_key: "k", no_wait: false, arguments };
    let unbind =
        exchange::Unbind { destination: "d", source: "s", routing_key: "k", no_wait: false, arguments };
    let queue_unbind = queue::Unbind { queue: "q", exchange: "x", routing_key: "k", arguments };
    let queue_bind = queue::Bind { queue: "q", exchange: "x", routing_key: "k", no_wait: false, arguments };
    let cases: Vec<(Method<'_>, Reply, Method<'_>)> = vec![
        (declare_exchange("x", "topic").into(), Reply::ExchangeDeclared, exchange::DeclareOk {}.into()),
        (
            exchange::Delete { exchange: "x", if_unused: true, no_wait: false }.into(),
            Reply::ExchangeDeleted,
            exchange::DeleteOk {}.into(),
        ),
        (bind.into(), Reply::Bound, exchange::BindOk {}.into()),
        (unbind.into(), Reply::Unbound, exchange::UnbindOk {}.into()),
        (queue_bind.into(), Reply::Bound, queue::BindOk {}.into()),
        (queue_unbind.into(), Reply::Unbound, queue::UnbindOk {}.into()),
        (
            queue::Purge { queue: "q", no_wait: false }.into(),
            Reply::QueuePurged { messages: 5 },
            queue::PurgeOk { message_count: 5 }.into(),
        ),
        (
            queue::Declare { passive: true, ..declare_queue("q") }.into(),
            declared("q"),
            queue::DeclareOk { queue: "q", message_count: 3, consumer_count: u32::MAX }.into(),
        ),
    ];
    let mut kit = with_channel();
    for (method, reply, answer) in cases {
        kit.send(1, method);
        kit.request();
        kit.reply(1, reply);
        kit.expect(1, answer);
        kit.expect_nothing();
    }
}

#[test]
fn passive_declares_only_look() {
    let mut kit = with_channel();
    kit.send(1, queue::Declare { passive: true, ..declare_queue("amq.q") });
    assert!(matches!(kit.request(), Request::CheckQueue(name) if name.as_str() == "amq.q"));
    kit.reply(1, declared("amq.q"));
    kit.skip(1);
    kit.send(1, exchange::Declare { passive: true, ..declare_exchange("x", "nonsense") });
    assert!(matches!(kit.request(), Request::CheckExchange(name) if name.as_str() == "x"));
}

#[test]
fn exchange_types_are_known_or_refused() {
    let mut kit = with_channel();
    kit.send(1, declare_exchange("x", "fanout"));
    let Request::DeclareExchange(definition) = kit.request() else { panic!() };
    assert_eq!((definition.kind, definition.durable), (ExchangeKind::Fanout, true));
    kit.reply(1, Reply::ExchangeDeclared);
    kit.skip(1);
    kit.send(1, declare_exchange("x", "foo"));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown exchange type 'foo'", (40, 10));
}

/// Refusals with the reply code and the text that they become.
fn refusals() -> Vec<(Refusal, u16, &'static str)> {
    let vhost = || VhostName::from("/");
    let queue = || QueueName::from("q");
    vec![
        (Refusal::NoQueue { queue: queue(), vhost: vhost() }, 404, "NOT_FOUND - no queue 'q' in vhost '/'"),
        (
            Refusal::NoExchange { exchange: "x".into(), vhost: vhost() },
            404,
            "NOT_FOUND - no exchange 'x' in vhost '/'",
        ),
        (
            Refusal::ReservedName { kind: "queue", name: "amq.x".into() },
            403,
            "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'",
        ),
        (Refusal::DefaultExchange, 403, "ACCESS_REFUSED - operation not permitted on the default exchange"),
        (
            Refusal::SystemExchange { exchange: "amq.direct".into(), vhost: vhost() },
            403,
            "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
        ),
        (
            Refusal::ExclusiveUse { queue: queue(), vhost: vhost() },
            403,
            "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
        ),
        (
            Refusal::Locked { queue: queue(), vhost: vhost() },
            405,
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
        ),
        (
            Refusal::Inequivalent {
                argument: "durable".into(),
                subject: "queue 'q'".into(),
                vhost: vhost(),
                received: "'false'".into(),
                current: "'true'".into(),
            },
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
        ),
        (
            Refusal::InvalidArgument {
                argument: "x-max-length".into(),
                subject: "queue 'q'".into(),
                vhost: vhost(),
                reason: "{value_negative,-5}".into(),
            },
            406,
            "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'q' in vhost '/': {value_negative,-5}",
        ),
        (
            Refusal::InUse { subject: "queue 'q'".into(), vhost: vhost() },
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
        ),
        (
            Refusal::NotEmpty { queue: queue(), vhost: vhost() },
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
        ),
        (Refusal::NoReplyConsumer, 406, "PRECONDITION_FAILED - fast reply consumer does not exist"),
    ]
}

#[test]
fn refusals_become_reply_codes() {
    for (refusal, code, text) in refusals() {
        let mut kit = with_channel();
        kit.send(1, declare_queue("q"));
        kit.request();
        kit.refuse(1, refusal);
        kit.expect_channel_error(1, code, text, (50, 10));
    }
    let mut kit = with_channel();
    kit.send(1, declare_queue("q"));
    kit.request();
    kit.refuse(1, Refusal::NotYet { feature: "x".into() });
    kit.expect_connection_error(540, "NOT_IMPLEMENTED - x is not supported yet", (50, 10));
}

#[test]
fn a_refused_silent_declare_still_costs_the_channel() {
    let mut kit = with_channel();
    kit.send(1, queue::Declare { no_wait: true, ..declare_queue("amq.x") });
    kit.request();
    kit.refuse(1, Refusal::ReservedName { kind: "queue", name: "amq.x".into() });
    let text = "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'";
    kit.expect_channel_error(1, 403, text, (50, 10));
}

#[test]
fn declaring_a_reply_address_asks_for_the_requester() {
    let mut kit = with_channel();
    kit.send(1, declare_queue("amq.rabbitmq.reply-to"));
    kit.expect(1, queue::DeclareOk { queue: "amq.rabbitmq.reply-to", message_count: 0, consumer_count: 1 });
    assert!(kit.commands.is_empty());
    let address = crate::topology::reply_to_address([7; 16]);
    kit.send(1, declare_queue(&address));
    let Request::CheckReplyTo { token, name } = kit.request() else { panic!() };
    assert_eq!((token.0, name.as_str()), ([7; 16], &*address));
    kit.refuse(1, Refusal::NoQueue { queue: name, vhost: "/".into() });
    let text = format!("NOT_FOUND - no queue '{address}' in vhost '/'");
    kit.expect_channel_error(1, 404, &text, (50, 10));
}

#[test]
fn a_malformed_reply_address_is_no_queue() {
    let mut kit = with_channel();
    kit.send(1, declare_queue("amq.rabbitmq.reply-to.short"));
    let text = "NOT_FOUND - no queue 'amq.rabbitmq.reply-to.short' in vhost '/'";
    kit.expect_channel_error(1, 404, text, (50, 10));
}

fn delete_queue(queue: &str, if_unused: bool, if_empty: bool) -> queue::Delete<'_> {
    queue::Delete { queue, if_unused, if_empty, no_wait: false }
}

#[test]
fn a_quorum_queue_is_not_deleted_on_a_condition() {
    for (if_unused, if_empty, flag) in
        [(true, false, "if-unused"), (false, true, "if-empty"), (true, true, "if-unused")]
    {
        let mut kit = with_channel();
        kit.queue_with("q", 1, Table::new().with("x-queue-type", "quorum"));
        kit.queue("classic", 2);
        kit.send(1, delete_queue("classic", if_unused, if_empty));
        let Request::DeleteQueue { name, .. } = kit.request() else { panic!() };
        assert_eq!(name.as_str(), "classic");
        kit.reply(1, Reply::QueueDeleted { messages: 0 });
        kit.expect(1, queue::DeleteOk { message_count: 0 });
        kit.send(1, delete_queue("q", if_unused, if_empty));
        let text = format!(
            "NOT_IMPLEMENTED - cannot delete queue 'q' in vhost '/'. queue.delete operations with {flag} flag set are not supported by quorum queues"
        );
        kit.expect_connection_error(540, &text, (50, 40));
    }
    let mut kit = with_channel();
    kit.queue_with("q", 1, Table::new().with("x-queue-type", "quorum"));
    kit.send(1, delete_queue("q", false, false));
    assert!(matches!(kit.request(), Request::DeleteQueue { if_unused: false, if_empty: false, .. }));
}
