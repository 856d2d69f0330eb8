//! Messages that wait at an exchange: when they go on, where to, and what becomes of them otherwise.

use bytes::BytesMut;
use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{TableRef, Value};

use super::storing::durable;
use super::*;
use crate::queue::{Backlog, Home, Location, Moment, Terms};
use crate::topology::Features;

const START: Moment = Moment(1_000_000);

/// A vhost at [`START`] with the exchange `later`, which routes like a topic exchange to the queue 2, `q`, for `a.*`.
fn kit() -> (Kit, ConnectionKey, ChannelKey) {
    let mut kit = Kit::new();
    kit.vhost.set_time(START);
    let (connection, channel) = kit.open();
    kit.turn(connection, [request_of(Request::DeclareExchange(exchange()))]);
    kit.declare(connection, durable("q"));
    kit.turn(connection, [request_of(Request::Bind(binding()))]);
    assert_eq!(kit.journal(), ["delay 1 later", "created 2 q"]);
    (kit, connection, channel)
}

fn exchange() -> ExchangeDefinition {
    ExchangeDefinition {
        name: ExchangeName::from("later"),
        kind: ExchangeKind::Delayed,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new().with("x-delayed-type", "topic"),
        origin: Origin::Client,
    }
}

fn binding() -> BindingDefinition {
    BindingDefinition {
        source: ExchangeName::from("later"),
        destination: Destination::Queue(QueueName::from("q")),
        routing_key: RoutingKey::from("a.*"),
        arguments: Table::new(),
        origin: Origin::Client,
    }
}

impl Kit {
    fn later(&self, key: &str, body: &'static str, delay: i64) -> Command {
        let mut table = BytesMut::new();
        Table::new().with("x-delay", Value::I64(delay)).encode(&mut table).unwrap();
        let headers = Some(TableRef::parse(&table).unwrap());
        let properties = Properties { headers, delivery_mode: Some(2), ..Properties::default() };
        let mut encoded = BytesMut::new();
        properties.encode(&mut encoded).unwrap();
        let features = Features::of(&properties, 0);
        let route = self.vhost.topology().route("later", key, &features, &[]).expect("the exchange exists");
        assert!(!route.cacheable, "the next message may ask for another delay");
        let parts =
            MessageParts { exchange: "later", routing_key: key, properties: &encoded, persistent: true };
        let message = Message::new(parts, Bytes::from_static(body.as_bytes()));
        let returned = route.targets.is_empty();
        Command::Publish(Publish {
            message,
            route,
            returned,
            awaiting: Awaiting::Confirm { channel: ChannelNumber(1), tag: 1 },
        })
    }

    fn wait_until(&mut self, now: Moment) {
        self.vhost.set_time(now);
        self.vhost.work(&mut self.effects);
        assert!(!self.effects.more_work);
    }

    fn waits_in(&self, queue: &str) -> u64 {
        self.vhost.queue(self.id(queue)).expect("it is there").ready()
    }

    fn waiting(&self) -> Vec<(u64, u64)> {
        let waiting = self.vhost.delayed("later", Seq(0)).expect("it delays");
        waiting.map(|delayed| (delayed.seq.0, delayed.due.0 - START.0)).collect()
    }
}

#[test]
fn messages_go_on_when_their_time_has_come_and_in_that_order() {
    let (mut kit, connection, channel) = kit();
    let commands = [
        kit.later("a.1", "third", 300),
        kit.later("a.2", "first", 100),
        kit.later("b.1", "nowhere", 150),
        kit.later("a.3", "second", 200),
        kit.later("a.4", "at once", 0),
        kit.later("a.5", "at once, too", -7),
    ];
    kit.turn(connection, commands);
    let stored = ["third in [1:0]", "first in [1:1]", "nowhere in [1:2]", "second in [1:3]"];
    let at_once = ["at once in [2:0]", "at once, too in [2:1]", "waited for"];
    assert_eq!(kit.journal(), [&stored[..], &at_once[..]].concat(), "confirmed when it is durable");
    assert_eq!(kit.waiting(), [(0, 300), (1, 100), (2, 150), (3, 200)]);
    assert_eq!(kit.vhost.next_deadline(), START.after(100));
    kit.wait_until(START.after(99));
    assert_eq!((kit.waits_in("q"), kit.journal().len()), (2, 0));
    kit.wait_until(START.after(100));
    assert_eq!(
        kit.journal(),
        ["gone 1:1-1", "first in [2:2]", "freed 1: 1"],
        "in neither place is impossible"
    );
    kit.wait_until(START.after(300));
    let expected = ["gone 1:2-3", "gone 1:0-0", "second in [2:3]", "third in [2:4]", "freed 1: 3"];
    assert_eq!(kit.journal(), expected);
    assert_eq!((kit.waiting(), kit.vhost.next_deadline()), (vec![], Moment::NEVER));
    let events = kit.consume(connection, channel, "q", Consuming::default());
    let delays = events.iter().filter_map(|event| match event {
        Event::Delivery(Delivery { message, .. }) => {
            assert_eq!(message.exchange(), "later");
            let headers = Properties::decode(message.properties()).unwrap().headers.unwrap().to_owned();
            headers.get("x-delay").and_then(Value::as_integer)
        }
        _ => None,
    });
    assert_eq!(delays.collect::<Vec<_>>(), [0, -7, -100, -200, -300], "what has waited says so");
}

#[test]
fn what_waits_can_be_listed_and_cancelled_and_goes_with_its_exchange() {
    let (mut kit, connection, _) = kit();
    let commands =
        [kit.later("a.1", "one", 100), kit.later("a.2", "two", 200), kit.later("a.3", "three", 300)];
    kit.turn(connection, commands);
    kit.journal();
    assert!(kit.vhost.delayed("amq.topic", Seq(0)).is_none());
    let second = kit.vhost.delayed("later", Seq(1)).expect("it delays").next().expect("it waits");
    assert_eq!((second.seq, second.due, second.body_bytes), (Seq(1), START.after(200), 3));
    let Kit { vhost, effects } = &mut kit;
    assert!(vhost.cancel_delayed("later", Seq(1), effects));
    assert!(!vhost.cancel_delayed("later", Seq(1), effects), "it is gone");
    assert_eq!(kit.journal(), ["gone 1:1-1", "freed 1: 1"]);
    assert_eq!(kit.waiting(), [(0, 100), (2, 300)]);
    let name = ExchangeName::from("later");
    kit.turn(connection, [request_of(Request::DeleteExchange { name, if_unused: false })]);
    assert_eq!(kit.journal(), ["deleted 1"]);
    assert_eq!((kit.effects.deleted.len(), kit.vhost.next_deadline()), (1, Moment::NEVER));
    kit.wait_until(START.after(1_000));
    assert_eq!(kit.waits_in("q"), 0);
}

#[test]
fn what_waited_waits_on_after_a_restart() {
    let mut messages = Backlog::default();
    for (seq, due) in [(3, 10), (5, 500)] {
        let terms = Terms { deadline: START.after(due), ..Terms::default() };
        messages.restore(Seq(seq), Home::new(Location { segment: 7, offset: 8 * seq }, 10), 4, terms);
    }
    let kept = RestoredQueue { id: QueueId(4), next: Seq(9), messages };
    let restored = Restored {
        definitions: vec![
            Definition::Exchange(exchange()),
            Definition::Queue(durable("q")),
            Definition::Binding(binding()),
        ],
        delays: std::iter::once((ExchangeName::from("later"), kept)).collect(),
        next_queue: 6,
        now: START.after(50),
        ..Restored::default()
    };
    let options = VhostOptions { outbox_bytes: 1 << 20, cache_bytes: 1 << 20, default_delivery_limit: None };
    let (vhost, report) = Vhost::restore(VhostName::from("/"), options, restored);
    let mut kit = Kit { vhost, effects: Effects { journal: report.journal, ..Effects::default() } };
    assert_eq!(kit.journal(), ["created 6 q"]);
    assert_eq!((kit.waiting(), kit.vhost.delay_queue("later")), (vec![(3, 10), (5, 500)], Some(QueueId(4))));
    kit.wait_until(START.after(50));
    let reads = std::mem::take(&mut kit.effects.reads);
    assert_eq!(reads.len(), 1, "its body is in the log only");
    assert_eq!(reads[0].wanted.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn an_exchange_that_leads_to_a_delaying_one_has_its_messages_wait_there() {
    let (mut kit, connection, _) = kit();
    let source = ExchangeName::from("amq.fanout");
    let destination = Destination::Exchange(ExchangeName::from("later"));
    kit.turn(connection, [request_of(Request::Bind(BindingDefinition { source, destination, ..binding() }))]);
    let Command::Publish(publish) = kit.later("a.1", "m", 100) else { unreachable!("it is one") };
    let message = publish.message;
    let properties = Properties::decode(message.properties()).unwrap();
    let route = kit.vhost.topology().route("amq.fanout", "a.1", &Features::of(&properties, 0), &[]);
    let route = route.expect("the exchange exists");
    assert_eq!(route.targets, Targets::One(QueueId(1)));
    let publish = Publish { message: message.clone(), route, returned: false, awaiting: Awaiting::Nothing };
    kit.turn(connection, [Command::Publish(publish)]);
    kit.wait_until(START.after(100));
    assert_eq!(kit.waits_in("q"), 1);
}
