//! What time does: messages go when their deadline comes, wherever they stand; queues when nobody uses them.

use bytes::BytesMut;
use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{Table, Value};

use super::storing::{durable, settle};
use super::*;
use crate::queue::Moment;
use crate::vhost::Overdue;

const START: Moment = Moment(1_000_000);

/// A vhost at [`START`], with a connection and a channel.
fn kit() -> (Kit, ConnectionKey, ChannelKey) {
    let mut kit = Kit::new();
    kit.vhost.set_time(START);
    let (connection, channel) = kit.open();
    (kit, connection, channel)
}

fn number(value: i64) -> Value {
    Value::I64(value)
}

fn with(name: &str, arguments: Table) -> QueueDefinition {
    QueueDefinition { arguments, ..durable(name) }
}

impl Kit {
    fn expiring(&self, queue: &str, body: &'static str, expiration: &str) -> Command {
        let properties =
            Properties { expiration: Some(expiration), delivery_mode: Some(2), ..Properties::default() };
        let mut encoded = BytesMut::new();
        properties.encode(&mut encoded).unwrap();
        let parts = MessageParts { exchange: "", routing_key: queue, properties: &encoded, persistent: true };
        let message = Message::new(parts, Bytes::from_static(body.as_bytes()));
        let route = self
            .vhost
            .topology()
            .route("", queue, &Features::default(), &[])
            .expect("the default exchange exists");
        Command::Publish(Publish { message, route, returned: false, awaiting: Awaiting::Nothing })
    }

    /// Time has come to this moment, and the slices of work that it brings are done. Says how many they were.
    fn pass_to(&mut self, now: Moment) -> usize {
        self.vhost.set_time(now);
        for slices in 1.. {
            self.vhost.work(&mut self.effects);
            if !std::mem::take(&mut self.effects.more_work) {
                return slices;
            }
            assert!(slices < 10_000, "the work has an end");
        }
        unreachable!("the loop returns")
    }

    fn bodies(&mut self, connection: ConnectionKey, channel: ChannelKey, queue: &str) -> Vec<Bytes> {
        let mut bodies = Vec::new();
        while let Some(message) = self.take(connection, channel, queue) {
            bodies.push(Bytes::copy_from_slice(message.body()));
        }
        bodies
    }

    fn take(&mut self, connection: ConnectionKey, channel: ChannelKey, queue: &str) -> Option<Message> {
        let get = Get { channel, queue: QueueName::from(queue), no_ack: true };
        match self.ask(connection, Request::Get(get)) {
            Ok(Reply::Got(got)) => got.map(|got| got.message),
            other => panic!("{other:?}"),
        }
    }

    fn expired(&self, queue: &str) -> u64 {
        self.vhost.queue(self.id(queue)).expect("it is there").counters().expired
    }
}

#[test]
fn each_message_goes_at_its_own_deadline_wherever_it_stands() {
    let (mut kit, connection, channel) = kit();
    kit.declare(connection, with("q", Table::new().with("x-message-ttl", number(100))));
    let commands = [
        kit.expiring("q", "long", "5000"),
        kit.expiring("q", "short", "20"),
        kit.persistent("", "q", "plain"),
        kit.expiring("q", "middle", "60"),
    ];
    kit.turn(connection, commands);
    kit.journal();
    for (at, left) in [(20, 3), (60, 2), (100, 0)] {
        assert_eq!(kit.vhost.next_deadline(), START.after(at));
        kit.pass_to(START.after(at - 1));
        assert_eq!(kit.vhost.queue(QueueId(1)).unwrap().ready(), left + if at == 100 { 2 } else { 1 });
        kit.pass_to(START.after(at));
        assert_eq!(kit.vhost.queue(QueueId(1)).unwrap().ready(), left, "at {at}");
    }
    assert_eq!(kit.journal(), ["gone 1:1-1", "gone 1:3-3", "gone 1:0-0", "gone 1:2-2", "freed 1: 4"]);
    assert_eq!((kit.expired("q"), kit.vhost.next_deadline()), (4, Moment::NEVER));
    assert!(kit.take(connection, channel, "q").is_none());
}

#[test]
fn nobody_gets_a_message_after_its_deadline_even_if_nothing_has_been_done_about_it() {
    let (mut kit, connection, channel) = kit();
    kit.declare(connection, durable("q"));
    let commands = [kit.expiring("q", "late", "10"), kit.expiring("q", "in time", "11")];
    kit.turn(connection, commands);
    kit.vhost.set_time(START.after(11));
    assert_eq!(kit.bodies(connection, channel, "q"), ["in time"]);
    let commands = [kit.expiring("q", "late", "10"), kit.expiring("q", "in time", "11")];
    kit.turn(connection, commands);
    kit.vhost.set_time(START.after(22));
    let events = kit.consume(connection, channel, "q", Consuming::default());
    let bodies: Vec<_> =
        deliveries(&events).map(|delivery| String::from_utf8_lossy(delivery.message.body())).collect();
    assert_eq!(bodies, ["in time"]);
}

fn deliveries(events: &[Event]) -> impl Iterator<Item = &Delivery> {
    events.iter().filter_map(|event| match event {
        Event::Delivery(delivery) => Some(delivery),
        _ => None,
    })
}

#[test]
fn without_any_time_a_message_is_for_whoever_waits_already() {
    let (mut kit, connection, channel) = kit();
    kit.declare(connection, with("q", Table::new().with("x-message-ttl", number(0))));
    let command = kit.persistent("", "q", "nobody");
    kit.turn(connection, [command]);
    assert_eq!((kit.expired("q"), kit.vhost.queue(QueueId(1)).unwrap().ready()), (1, 0));
    let consuming = Consuming { prefetch: 1, ..Consuming::default() };
    kit.consume(connection, channel, "q", consuming);
    let commands = [kit.persistent("", "q", "first"), kit.persistent("", "q", "second")];
    let events = kit.turn(connection, commands);
    assert_eq!(deliveries(&events).count(), 1);
    assert_eq!((kit.expired("q"), kit.vhost.queue(QueueId(1)).unwrap().unacked()), (2, 1));
}

#[test]
fn whoever_holds_a_message_keeps_it_and_coming_back_gives_it_no_time() {
    let (mut kit, connection, channel) = kit();
    let q = kit.declare(connection, durable("q"));
    let command = kit.expiring("q", "m", "50");
    kit.turn(connection, [command]);
    let get = Get { channel, queue: QueueName::from("q"), no_ack: false };
    kit.ask(connection, Request::Get(get)).unwrap();
    kit.pass_to(START.after(49));
    kit.turn(connection, [settle(channel, q, 0, Outcome::Return)]);
    assert_eq!(kit.vhost.next_deadline(), START.after(50));
    let get = Get { channel, queue: QueueName::from("q"), no_ack: false };
    assert!(matches!(kit.ask(connection, Request::Get(get)), Ok(Reply::Got(Some(_)))));
    kit.pass_to(START.after(70));
    assert_eq!(kit.vhost.queue(q).unwrap().unacked(), 1);
    kit.turn(connection, [settle(channel, q, 0, Outcome::Return)]);
    assert_eq!(kit.vhost.next_deadline(), START.after(50));
    kit.pass_to(START.after(70));
    assert_eq!((kit.expired("q"), kit.vhost.queue(q).unwrap().ready()), (1, 0));
}

#[test]
fn many_expire_in_slices_and_those_behind_them_wait_for_the_last() {
    let (mut kit, connection, channel) = kit();
    kit.declare(connection, durable("q"));
    let mut commands: Vec<_> = (0..2_500).map(|_| kit.expiring("q", "m", "10")).collect();
    commands.push(kit.persistent("", "q", "stays"));
    kit.turn(connection, commands);
    kit.vhost.set_time(START.after(11));
    let events = kit.consume(connection, channel, "q", Consuming::default());
    assert_eq!(deliveries(&events).count(), 0);
    assert!(kit.expired("q") <= 1_000, "a turn stays short");
    assert!(std::mem::take(&mut kit.effects.more_work));
    assert!((2..=3).contains(&kit.pass_to(START.after(11))));
    let events = kit.collect(connection);
    let bodies: Vec<_> =
        deliveries(&events).map(|delivery| String::from_utf8_lossy(delivery.message.body())).collect();
    assert_eq!(bodies, ["stays"]);
}

fn dead_lettered_to(queue: &str, ttl: i64) -> Table {
    Table::new()
        .with("x-message-ttl", number(ttl))
        .with("x-dead-letter-exchange", "")
        .with("x-dead-letter-routing-key", queue)
}

fn deaths(message: &Message) -> Vec<(String, String, i64)> {
    let headers = Properties::decode(message.properties()).unwrap().headers.unwrap().to_owned();
    let deaths = headers.get("x-death").and_then(Value::as_array).unwrap().to_vec();
    let entry = |death: Value| {
        let death = death.as_table().unwrap().clone();
        let text = |name| death.get(name).and_then(Value::as_str).unwrap().to_owned();
        (text("queue"), text("reason"), death.get("count").and_then(Value::as_integer).unwrap())
    };
    deaths.into_iter().map(entry).collect()
}

#[test]
fn what_expires_is_dead_lettered_in_one_batch_and_does_not_expire_again() {
    let (mut kit, connection, channel) = kit();
    kit.declare(connection, with("q", dead_lettered_to("dead", 1_000)));
    kit.declare(connection, durable("dead"));
    let command = kit.expiring("q", "m", "10");
    kit.turn(connection, [command]);
    kit.journal();
    kit.pass_to(START.after(10));
    assert_eq!(kit.journal(), ["gone 1:0-0", "m in [2:0]", "freed 1: 1"]);
    assert_eq!(kit.vhost.next_deadline(), Moment::NEVER);
    let letter = kit.take(connection, channel, "dead").expect("it is there");
    assert_eq!(deaths(&letter), [("q".into(), "expired".into(), 1)]);
    let properties = Properties::decode(letter.properties()).unwrap();
    assert_eq!(properties.expiration, None);
    let headers = properties.headers.unwrap().to_owned();
    let death = headers.get("x-death").and_then(Value::as_array).unwrap()[0].as_table().unwrap().clone();
    assert_eq!(death.get("original-expiration").and_then(Value::as_str), Some("10"));
    assert_eq!(death.get("time"), Some(&Value::Timestamp(1_000)));
}

#[test]
fn a_round_without_any_client_ends_and_is_told() {
    let (mut kit, connection, channel) = kit();
    kit.declare(connection, with("a", dead_lettered_to("b", 10)));
    kit.declare(connection, with("b", dead_lettered_to("a", 10)));
    let command = kit.persistent("", "a", "m");
    kit.turn(connection, [command]);
    kit.pass_to(START.after(10));
    assert_eq!(kit.vhost.queue(QueueId(2)).unwrap().ready(), 1);
    kit.pass_to(START.after(20));
    assert_eq!(std::mem::take(&mut kit.effects.cycles), [QueueName::from("b")]);
    assert_eq!(kit.vhost.next_deadline(), Moment::NEVER);
    // A client that refuses it on its way lets it go round once more.
    let command = kit.persistent("", "a", "again");
    kit.turn(connection, [command]);
    kit.pass_to(START.after(30));
    let get = Get { channel, queue: QueueName::from("b"), no_ack: false };
    kit.ask(connection, Request::Get(get)).unwrap();
    kit.turn(connection, [settle(channel, QueueId(2), 1, Outcome::Discard)]);
    kit.pass_to(START.after(40));
    let letter = kit.take(connection, channel, "b").expect("it came again");
    let expected = [("a", "expired", 2), ("b", "rejected", 1)];
    assert_eq!(deaths(&letter), expected.map(|(queue, why, count)| (queue.into(), why.into(), count)));
    assert!(kit.effects.cycles.is_empty());
}

#[test]
fn a_long_chain_costs_turns_and_no_stack() {
    const QUEUES: usize = 200;
    let (mut kit, connection, channel) = kit();
    for index in 0..QUEUES {
        kit.declare(connection, with(&index.to_string(), dead_lettered_to(&(index + 1).to_string(), 0)));
    }
    kit.declare(connection, durable(&QUEUES.to_string()));
    let command = kit.persistent("", "0", "m");
    kit.turn(connection, [command]);
    kit.pass_to(START.after(0));
    let letter = kit.take(connection, channel, &QUEUES.to_string()).expect("it has come through");
    assert_eq!(deaths(&letter).len(), QUEUES);
}

#[test]
fn a_queue_goes_when_nobody_has_used_it_for_its_time() {
    let (mut kit, connection, channel) = kit();
    let lease = || with("q", Table::new().with("x-expires", number(100)));
    kit.declare(connection, lease());
    let command = kit.persistent("", "q", "goes with it");
    kit.turn(connection, [command]);
    let mut end = START.after(100);
    assert_eq!(kit.vhost.next_deadline(), end);
    for _ in 0..3 {
        kit.pass_to(Moment(end.0 - 1));
        kit.declare(connection, lease());
        end = Moment(end.0 - 1).after(100);
        assert_eq!(kit.vhost.next_deadline(), end, "declared again");
        kit.pass_to(Moment(end.0 - 1));
        kit.take(connection, channel, "q");
        end = Moment(end.0 - 1).after(100);
        assert_eq!(kit.vhost.next_deadline(), end, "asked for a message");
    }
    kit.consume(connection, channel, "q", Consuming::default());
    assert_eq!(kit.vhost.next_deadline(), Moment::NEVER, "it has a consumer");
    kit.pass_to(end.after(1_000));
    let consumer = ConsumerKey(0);
    kit.turn(connection, [request_of(Request::Cancel { channel, consumer })]);
    kit.journal();
    kit.pass_to(end.after(1_099));
    assert!(kit.vhost.topology().queue("q").is_some());
    kit.pass_to(end.after(1_100));
    assert!(kit.vhost.topology().queue("q").is_none());
    assert_eq!(std::mem::take(&mut kit.effects.overdue), [Overdue { queue: QueueName::from("q") }]);
    assert_eq!((kit.journal(), kit.vhost.next_deadline()), (vec!["deleted 1".into()], Moment::NEVER));
}
