//! What recent history exchanges remember, and who gets it.

use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::TableRef;

use super::*;
use crate::vhost::history::HISTORY_BYTES;

fn exchange(name: &str, kind: ExchangeKind, arguments: Table) -> ExchangeDefinition {
    ExchangeDefinition {
        name: name.into(),
        kind,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments,
        origin: Origin::Client,
    }
}

fn bound(source: &str, destination: Destination, key: &str) -> Request {
    Request::Bind(BindingDefinition {
        source: source.into(),
        destination,
        routing_key: key.into(),
        arguments: Table::default(),
        origin: Origin::Client,
    })
}

fn to_queue(name: &str) -> Destination {
    Destination::Queue(name.into())
}

impl Kit {
    /// A recent history exchange `x` with this length, and the queues `a` and `b`.
    fn remembering(length: i64) -> (Self, ConnectionKey, ChannelKey) {
        let mut kit = Self::new();
        let (connection, channel) = kit.open();
        let arguments = Table::new().with("x-recent-history-length", length);
        kit.ok(connection, Request::DeclareExchange(exchange("x", ExchangeKind::RecentHistory, arguments)));
        kit.declare(connection, queue("a"));
        kit.declare(connection, queue("b"));
        (kit, connection, channel)
    }

    fn ok(&mut self, connection: ConnectionKey, request: Request) {
        if let Err(refusal) = self.ask(connection, request) {
            panic!("{refusal}");
        }
    }

    fn send(&mut self, connection: ConnectionKey, exchange: &str, headers: &Table, body: &[u8]) {
        let (mut table, mut properties) = (bytes::BytesMut::new(), bytes::BytesMut::new());
        headers.encode(&mut table).expect("small");
        let headers = (!headers.is_empty()).then(|| TableRef::parse(&table).expect("just written"));
        let decoded = Properties { headers, ..Properties::default() };
        decoded.encode(&mut properties).expect("small");
        let route =
            self.vhost.topology().route(exchange, "k", &Features::of(&decoded, 0), &[]).expect("open");
        let parts = MessageParts { exchange, routing_key: "k", properties: &properties, persistent: false };
        let message = Message::new(parts, Bytes::copy_from_slice(body));
        self.turn(
            connection,
            [Command::Publish(Publish { message, route, returned: false, awaiting: Awaiting::Nothing })],
        );
    }

    /// Takes all messages of a queue, as exchange and body.
    fn drain(
        &mut self,
        connection: ConnectionKey,
        channel: ChannelKey,
        queue: &str,
    ) -> Vec<(String, String)> {
        let mut got = Vec::new();
        loop {
            let request = Request::Get(Get { channel, queue: queue.into(), no_ack: true });
            match self.ask(connection, request).expect("the queue exists") {
                Reply::Got(Some(Got { message, .. })) => {
                    let body = String::from_utf8_lossy(message.body()).into_owned();
                    got.push((message.exchange().to_owned(), body));
                }
                _ => return got,
            }
        }
    }

    fn texts(&mut self, connection: ConnectionKey, channel: ChannelKey, queue: &str) -> Vec<String> {
        self.drain(connection, channel, queue).into_iter().map(|(_, body)| body).collect()
    }
}

#[test]
fn a_new_binding_gets_the_last_messages_in_order() {
    let (mut kit, me, channel) = Kit::remembering(3);
    for body in ["1", "2", "3", "4"] {
        kit.send(me, "x", &Table::default(), body.as_bytes());
    }
    kit.ok(me, bound("x", to_queue("a"), ""));
    let expected = ["2", "3", "4"].map(|body| ("x".to_owned(), body.to_owned()));
    assert_eq!(kit.drain(me, channel, "a"), expected);
    // What is bound already gets nothing again; another binding to the same queue does.
    kit.ok(me, bound("x", to_queue("a"), ""));
    assert!(kit.texts(me, channel, "a").is_empty());
    kit.send(me, "x", &Table::default(), b"5");
    assert_eq!(kit.texts(me, channel, "a"), ["5"]);
    kit.ok(me, bound("x", to_queue("a"), "another"));
    assert_eq!(kit.texts(me, channel, "a"), ["3", "4", "5"]);
}

#[test]
fn marked_messages_are_delivered_and_not_remembered() {
    let (mut kit, me, channel) = Kit::remembering(5);
    kit.ok(me, bound("x", to_queue("a"), ""));
    let mark = |value: ferrymq_protocol::table::Value| Table::new().with("x-recent-history-no-store", value);
    kit.send(me, "x", &mark(true.into()), b"marked");
    kit.send(me, "x", &mark(false.into()), b"plain");
    kit.send(me, "x", &mark("true".into()), b"text");
    assert_eq!(kit.texts(me, channel, "a"), ["marked", "plain", "text"]);
    kit.ok(me, bound("x", to_queue("b"), ""));
    assert_eq!(kit.texts(me, channel, "b"), ["plain", "text"]);
}

#[test]
fn an_exchange_gets_the_history_and_routes_it() {
    let (mut kit, me, channel) = Kit::remembering(5);
    kit.ok(me, Request::DeclareExchange(exchange("d", ExchangeKind::Direct, Table::default())));
    kit.ok(me, Request::DeclareExchange(exchange("y", ExchangeKind::RecentHistory, Table::default())));
    kit.ok(me, bound("d", to_queue("a"), "k"));
    kit.ok(me, bound("d", to_queue("b"), "further"));
    kit.send(
        me,
        "x",
        &Table::new().with("CC", ferrymq_protocol::table::Value::Array(vec!["further".into()])),
        b"1",
    );
    kit.ok(me, bound("x", Destination::Exchange("d".into()), ""));
    assert_eq!(kit.texts(me, channel, "a"), ["1"]);
    assert_eq!(kit.texts(me, channel, "b"), ["1"]);
    // Nothing is bound to it, but it remembers what it got.
    kit.ok(me, bound("x", Destination::Exchange("y".into()), ""));
    kit.ok(me, bound("y", to_queue("a"), ""));
    assert_eq!(kit.drain(me, channel, "a"), [("x".to_owned(), "1".to_owned())]);
}

#[test]
fn a_history_goes_with_its_exchange() {
    let (mut kit, me, channel) = Kit::remembering(5);
    kit.send(me, "x", &Table::default(), b"1");
    let route = kit.vhost.topology().route("x", "", &Features::default(), &[]).expect("open");
    kit.ok(me, Request::DeleteExchange { name: "x".into(), if_unused: false });
    // Routed before the exchange went, applied after.
    let parts = MessageParts { exchange: "x", routing_key: "", properties: &[0, 0], persistent: false };
    let message = Message::new(parts, Bytes::from_static(b"late"));
    kit.turn(
        me,
        [Command::Publish(Publish { message, route, returned: false, awaiting: Awaiting::Nothing })],
    );
    kit.ok(me, Request::DeclareExchange(exchange("x", ExchangeKind::RecentHistory, Table::default())));
    kit.ok(me, bound("x", to_queue("a"), ""));
    assert!(kit.texts(me, channel, "a").is_empty());
}

#[test]
fn a_history_is_bounded_in_bytes() {
    let (mut kit, me, channel) = Kit::remembering(i64::MAX);
    let third = vec![b'x'; HISTORY_BYTES / 3];
    kit.send(me, "x", &Table::default(), b"oldest");
    for _ in 0..3 {
        kit.send(me, "x", &Table::default(), &third);
    }
    kit.ok(me, bound("x", to_queue("a"), ""));
    assert_eq!(kit.texts(me, channel, "a").len(), 2);
    kit.send(me, "x", &Table::default(), &vec![b'x'; HISTORY_BYTES]);
    kit.ok(me, bound("x", to_queue("b"), ""));
    assert!(kit.texts(me, channel, "b").is_empty(), "one that is too large leaves no history before it");
}
