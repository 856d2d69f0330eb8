//! What goes first and to whom: priorities of messages, and queues with a single active consumer.

use bytes::BytesMut;
use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::Value;

use super::storing::durable;
use super::*;
use crate::queue::{Backlog, Home, Location, Moment, Terms};

fn with(name: &str, arguments: Table) -> QueueDefinition {
    QueueDefinition { arguments, ..durable(name) }
}

fn prioritised(highest: i32) -> QueueDefinition {
    with("q", Table::new().with("x-max-priority", Value::I32(highest)))
}

fn single(kind: &str) -> QueueDefinition {
    let arguments = Table::new().with("x-queue-type", kind);
    with("q", arguments.with("x-single-active-consumer", Value::Boolean(true)))
}

fn quorum(name: &str) -> QueueDefinition {
    with(name, Table::new().with("x-queue-type", "quorum"))
}

impl Kit {
    fn of_priority(&self, priority: Option<u8>, body: &'static str) -> Command {
        let mut encoded = BytesMut::new();
        Properties { priority, ..Properties::default() }.encode(&mut encoded).unwrap();
        let parts = MessageParts { exchange: "", routing_key: "q", properties: &encoded, persistent: false };
        let message = Message::new(parts, Bytes::from_static(body.as_bytes()));
        let route = self.vhost.topology().route("", "q", &Features::default(), &[]).unwrap();
        let awaiting = Awaiting::Confirm { channel: ChannelNumber(1), tag: 1 };
        Command::Publish(Publish { message, route, returned: false, awaiting })
    }

    fn start(
        &mut self,
        connection: ConnectionKey,
        channel: ChannelKey,
        consumer: u32,
        priority: i32,
    ) -> Vec<Event> {
        let consume = Consume {
            channel,
            consumer: ConsumerKey(consumer),
            queue: QueueName::from("q"),
            no_ack: false,
            exclusive: false,
            prefetch: 2,
            arguments: Table::new().with("x-priority", Value::I32(priority)),
        };
        self.turn(connection, [request_of(Request::Consume(consume))])
    }

    /// What a new consumer without limits gets at once.
    fn all_of(&mut self, connection: ConnectionKey, channel: ChannelKey) -> Vec<String> {
        let options = Consuming { consumer: 99, no_ack: true, ..Consuming::default() };
        let events = self.consume(connection, channel, "q", options);
        bodies(&events[1..])
    }
}

fn bodies(events: &[Event]) -> Vec<String> {
    deliveries(events).into_iter().map(|(_, body, _)| body).collect()
}

/// Consumers and bodies.
fn taken(events: &[Event]) -> Vec<(u32, String)> {
    deliveries(events).into_iter().map(|(consumer, body, _)| (consumer, body)).collect()
}

fn cancel(channel: ChannelKey, consumer: u32) -> Command {
    request_of(Request::Cancel { channel, consumer: ConsumerKey(consumer) })
}

#[test]
fn the_highest_priority_goes_first_and_what_comes_back_takes_its_place() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    let queue = kit.declare(connection, prioritised(5));
    let commands = [
        kit.of_priority(None, "none"),
        kit.of_priority(Some(1), "one"),
        kit.of_priority(Some(9), "nine"),
        kit.of_priority(Some(5), "five"),
        kit.of_priority(Some(0), "zero"),
    ];
    kit.turn(connection, commands);
    let events = kit.start(connection, channel, 1, 0);
    assert_eq!(bodies(&events[1..]), ["nine", "five"]);
    let commands = [cancel(channel, 1), settle(channel, queue, 2, Outcome::Requeue)];
    kit.turn(connection, commands);
    assert_eq!(kit.all_of(connection, channel), ["nine", "one", "none", "zero"]);
}

#[test]
fn a_quorum_queue_has_priorities_and_its_default_is_four() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    kit.declare(connection, quorum("q"));
    let commands = [
        kit.of_priority(Some(3), "3"),
        kit.of_priority(None, "none"),
        kit.of_priority(Some(200), "200"),
        kit.of_priority(Some(4), "4"),
        kit.of_priority(Some(31), "31"),
        kit.of_priority(Some(0), "0"),
    ];
    kit.turn(connection, commands);
    assert_eq!(kit.all_of(connection, channel), ["200", "31", "none", "4", "3", "0"]);
}

#[test]
fn what_comes_back_from_the_log_has_the_priority_it_asked_for() {
    let said = [None, Some(0), Some(200), Some(2), Some(4), Some(40)];
    for (definition, expected) in [
        (durable("q"), [0, 1, 2, 3, 4, 5]),
        (prioritised(255), [2, 5, 4, 3, 0, 1]),
        (prioritised(3), [2, 4, 5, 3, 0, 1]),
        (quorum("q"), [2, 5, 0, 4, 3, 1]),
    ] {
        let mut messages = Backlog::default();
        for (seq, priority) in (0..).zip(said) {
            let home = Home::new(Location { segment: 7, offset: 8 * seq }, 10);
            messages.restore(Seq(seq), home, 4, Terms { priority, deadline: Moment::NEVER });
        }
        let kept = RestoredQueue { id: QueueId(1), next: Seq(9), messages };
        let restored = Restored {
            definitions: vec![Definition::Queue(definition)],
            queues: [(QueueName::from("q"), kept)].into_iter().collect(),
            next_queue: 2,
            ..Restored::default()
        };
        let options =
            VhostOptions { outbox_bytes: 1 << 20, cache_bytes: 1 << 20, default_delivery_limit: None };
        let (vhost, _) = Vhost::restore(VhostName::from("/"), options, restored);
        let mut kit = Kit { vhost, effects: Effects::default() };
        let (connection, channel) = kit.open();
        kit.consume(connection, channel, "q", Consuming::default());
        let read = kit.effects.reads.pop().expect("the consumer waits for it");
        assert_eq!(read.wanted.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_quorum_queue_keeps_what_is_not_persistent() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    for definition in [durable("c"), quorum("q")] {
        let name = definition.name.clone();
        kit.declare(connection, definition);
        kit.turn(connection, [storing::bind_to_fanout(name.as_str())]);
    }
    kit.journal();
    let route = kit.vhost.topology().route("amq.fanout", "", &Features::default(), &[]).unwrap();
    assert!(route.kept);
    let Command::Publish(publish) = kit.of_priority(None, "m") else { unreachable!("it is one") };
    assert!(publish.route.kept, "so the publisher's confirm waits for the disk");
    kit.turn(connection, [Command::Publish(Publish { route, ..publish })]);
    assert_eq!(kit.journal(), ["m in [2:0]", "waited for"]);
    let delete = Request::DeleteQueue { name: QueueName::from("q"), if_unused: false, if_empty: false };
    kit.turn(connection, [request_of(delete)]);
    assert!(!kit.vhost.topology().route("amq.fanout", "", &Features::default(), &[]).unwrap().kept);
}

#[test]
fn one_consumer_has_the_messages_until_it_is_gone() {
    let mut kit = Kit::new();
    let (connection, first) = kit.open();
    let (other, second) = kit.open();
    let queue = kit.declare(connection, single("classic"));
    kit.start(connection, first, 1, 0);
    kit.start(other, second, 2, 0);
    kit.start(other, second, 3, 5);
    let commands: Vec<_> = ["a", "b", "c"].map(|body| kit.publish("q", body)).into();
    let events = kit.turn(connection, commands);
    assert_eq!(taken(&events), [(1, "a".into()), (1, "b".into())], "its limit is 2");
    assert_eq!(kit.collect(other).len(), 0, "the others wait, whatever their priority");
    let events = kit.turn(connection, [settle(first, queue, 0, Outcome::Ack)]);
    assert_eq!(taken(&events), [(1, "c".into())]);
    kit.turn(connection, [cancel(first, 1)]);
    let command = kit.publish("q", "d");
    kit.turn(connection, [command]);
    assert_eq!(taken(&kit.collect(other)), [(3, "d".into())]);
    kit.vhost.detach(connection, &mut kit.effects);
    assert_eq!(
        taken(&kit.collect(other)),
        [(3, "b".into())],
        "what the first one held goes to the active one"
    );
    kit.vhost.detach(other, &mut kit.effects);
    let (last, channel) = kit.open();
    let events = kit.start(last, channel, 7, 0);
    assert_eq!(deliveries(&events[1..]).len(), 2, "{events:?}");
}

#[test]
fn in_a_quorum_queue_a_higher_priority_takes_over_when_nothing_is_held() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    let queue = kit.declare(connection, single("quorum"));
    kit.start(connection, channel, 1, 0);
    let command = kit.publish("q", "a");
    kit.turn(connection, [command]);
    kit.start(connection, channel, 2, 5);
    let command = kit.publish("q", "b");
    assert_eq!(kit.turn(connection, [command]).len(), 0, "the active one gives way and has not finished");
    let events = kit.turn(connection, [settle(channel, queue, 0, Outcome::Ack)]);
    assert_eq!(taken(&events), [(2, "b".into())]);
    let events = kit.turn(connection, [settle(channel, queue, 1, Outcome::Ack), cancel(channel, 2)]);
    assert_eq!(events.len(), 1, "{events:?}");
    let command = kit.publish("q", "c");
    assert_eq!(taken(&kit.turn(connection, [command])), [(1, "c".into())]);
    // Whoever would have taken over goes, and the active one goes on.
    kit.start(connection, channel, 3, 5);
    kit.turn(connection, [cancel(channel, 3)]);
    let command = kit.publish("q", "d");
    assert_eq!(taken(&kit.turn(connection, [command])), [(1, "d".into())]);
}

#[test]
fn an_active_consumer_at_its_channels_limit_keeps_its_turn_and_loses_it_with_the_channel() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    let (other, second) = kit.open();
    let queue = kit.declare(connection, single("classic"));
    kit.turn(connection, [Command::LimitChannel { channel, prefetch: 1 }]);
    kit.start(connection, channel, 1, 0);
    kit.start(other, second, 2, 0);
    let commands: Vec<_> = ["a", "b", "c"].map(|body| kit.publish("q", body)).into();
    assert_eq!(taken(&kit.turn(connection, commands)), [(1, "a".into())]);
    assert_eq!(taken(&kit.turn(connection, [settle(channel, queue, 0, Outcome::Ack)])), [(1, "b".into())]);
    assert_eq!(kit.collect(other).len(), 0);
    kit.turn(connection, [request_of(Request::CloseChannel(channel))]);
    assert_eq!(taken(&kit.collect(other)), [(2, "b".into()), (2, "c".into())]);
}

#[test]
fn nobody_has_a_queue_for_itself_that_has_a_single_active_consumer() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    kit.declare(connection, single("classic"));
    let options = Consuming { exclusive: true, ..Consuming::default() };
    let events = kit.consume(connection, channel, "q", options);
    let refused = Refusal::ExclusiveUse { queue: QueueName::from("q"), vhost: VhostName::from("/") };
    assert!(matches!(&events[..], [Event::Replied { result: Err(refusal), .. }] if *refusal == refused));
}
