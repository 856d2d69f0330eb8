//! Full queues: what gives way and when, who is refused and told so, and what clients fail with too often.

use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{Table, Value};

use super::storing::{durable, settle};
use super::*;
use crate::queue::{Backlog, History, Home, Location, Terms};

fn number(value: i64) -> Value {
    Value::I64(value)
}

fn with(name: &str, arguments: Table) -> QueueDefinition {
    QueueDefinition { arguments, ..durable(name) }
}

fn short(length: i64) -> Table {
    Table::new().with("x-max-length", number(length))
}

fn refusing(length: i64) -> Table {
    short(length).with("x-overflow", "reject-publish")
}

/// The same, and dead letters go to this queue.
fn dying_to(arguments: Table, queue: &str) -> Table {
    arguments.with("x-dead-letter-exchange", "").with("x-dead-letter-routing-key", queue)
}

/// A vhost with a connection, a channel, and the durable queues 1, `q`, with these arguments, and 2, `dead`.
fn kit(arguments: Table) -> (Kit, ConnectionKey, ChannelKey) {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    kit.declare(connection, with("q", arguments));
    kit.declare(connection, durable("dead"));
    kit.journal();
    (kit, connection, channel)
}

const Q: QueueId = QueueId(1);

fn tag(tag: u64) -> Awaiting {
    Awaiting::Confirm { channel: ChannelNumber(1), tag }
}

impl Kit {
    /// Publishes to the queue, each awaiting the confirm of its place in the row, and says which of these were refused.
    fn publish_all(
        &mut self,
        connection: ConnectionKey,
        queue: &str,
        bodies: &[&'static str],
    ) -> (Vec<Event>, Vec<Awaiting>) {
        let commands = bodies.iter().zip(1..).map(|(body, place)| {
            let mut command = self.persistent("", queue, body);
            if let Command::Publish(publish) = &mut command {
                publish.awaiting = tag(place);
            }
            command
        });
        let commands: Vec<_> = commands.collect();
        let events = self.turn(connection, commands);
        (events, std::mem::take(&mut self.effects.refused))
    }

    /// Takes everything out of the queue and says what it was.
    fn take_all(&mut self, connection: ConnectionKey, channel: ChannelKey, queue: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let get = Get { channel, queue: QueueName::from(queue), no_ack: true };
            match self.ask(connection, Request::Get(get)) {
                Ok(Reply::Got(Some(got))) => messages.push(got.message),
                Ok(Reply::Got(None)) => return messages,
                other => panic!("{other:?}"),
            }
        }
    }

    fn ready(&self, queue: QueueId) -> u64 {
        self.vhost.queue(queue).expect("it is there").ready()
    }

    fn work_all(&mut self) -> usize {
        for slices in 0.. {
            if !std::mem::take(&mut self.effects.more_work) {
                return slices;
            }
            assert!(slices < 1_000, "the work has an end");
            self.vhost.work(&mut self.effects);
        }
        unreachable!("the loop returns")
    }
}

fn bodies(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8(message.body().to_vec()).unwrap()).collect()
}

/// The reasons and queues of a letter's deaths.
fn deaths(message: &Message) -> Vec<(String, String)> {
    let headers = Properties::decode(message.properties()).unwrap().headers.unwrap().to_owned();
    let deaths = headers.get("x-death").and_then(Value::as_array).unwrap().to_vec();
    let text =
        |death: &Value, name| death.as_table().unwrap().get(name).unwrap().as_str().unwrap().to_owned();
    deaths.iter().map(|death| (text(death, "reason"), text(death, "queue"))).collect()
}

#[test]
fn the_head_gives_way_with_the_publish_that_has_no_room() {
    let (mut kit, connection, channel) = kit(short(2));
    let (_, refused) = kit.publish_all(connection, "q", &["1", "2", "3"]);
    assert_eq!((kit.ready(Q), refused), (2, vec![]));
    assert_eq!(kit.journal(), ["1 in []", "2 in [1:1]", "3 in [1:2]", "waited for"]);
    kit.publish_all(connection, "q", &["4"]);
    assert_eq!(kit.journal(), ["4 in [1:3]", "gone 1:1-1", "freed 1: 1", "waited for"]);
    assert_eq!(kit.vhost.queue(Q).unwrap().counters().dropped, 2);
    assert_eq!(bodies(&kit.take_all(connection, channel, "q")), ["3", "4"]);
}

#[test]
fn octets_count_as_well_and_one_message_may_take_all_the_room() {
    let arguments = short(3).with("x-max-length-bytes", number(10));
    let (mut kit, connection, channel) = kit(arguments);
    kit.publish_all(connection, "q", &["1234", "5678", "90"]);
    assert_eq!(kit.ready(Q), 3);
    kit.publish_all(connection, "q", &["x"]);
    assert_eq!(kit.ready(Q), 3, "by length");
    kit.publish_all(connection, "q", &["yyyyyyyy"]);
    assert_eq!(bodies(&kit.take_all(connection, channel, "q")), ["x", "yyyyyyyy"], "by octets");
    kit.publish_all(connection, "q", &["1", "larger than all"]);
    assert_eq!(kit.ready(Q), 0);
}

#[test]
fn who_waits_takes_what_there_is_no_room_for() {
    let (mut kit, connection, channel) = kit(short(0));
    kit.consume(connection, channel, "q", Consuming { prefetch: 2, ..Consuming::default() });
    let (events, _) = kit.publish_all(connection, "q", &["1", "2", "3", "4"]);
    assert_eq!(deliveries(&events), [body(0, "1", false), body(0, "2", false)]);
    let queue = kit.vhost.queue(Q).unwrap();
    assert_eq!((queue.ready(), queue.unacked(), queue.counters().dropped), (0, 2, 2));
}

#[test]
fn what_is_dropped_is_dead_lettered_in_the_same_batch() {
    let (mut kit, connection, channel) = kit(dying_to(short(1), "dead"));
    kit.publish_all(connection, "q", &["1"]);
    kit.journal();
    kit.publish_all(connection, "q", &["2"]);
    let journal = kit.journal();
    assert_eq!(journal, ["2 in [1:1]", "gone 1:0-0", "1 in [2:0]", "freed 1: 1", "waited for"]);
    let letters = kit.take_all(connection, channel, "dead");
    assert_eq!(bodies(&letters), ["1"]);
    assert_eq!(deaths(&letters[0]), [("maxlen".into(), "q".into())]);
}

#[test]
fn a_full_queue_refuses_and_the_publisher_is_told() {
    let (mut kit, connection, channel) = kit(dying_to(refusing(2), "dead"));
    let (_, refused) = kit.publish_all(connection, "q", &["1", "2", "3", "4"]);
    assert_eq!(refused, [tag(3), tag(4)]);
    assert_eq!(kit.journal(), ["1 in [1:0]", "2 in [1:1]", "waited for"]);
    assert_eq!((kit.vhost.queue(Q).unwrap().counters().refused, kit.ready(QueueId(2))), (2, 0));
    let command = kit.publish("q", "nobody waits");
    kit.turn(connection, [command]);
    assert_eq!(kit.effects.refused, []);
    assert_eq!(bodies(&kit.take_all(connection, channel, "q")), ["1", "2"]);
    let (_, refused) = kit.publish_all(connection, "q", &["5"]);
    assert_eq!(refused, []);
}

#[test]
fn what_is_handed_out_at_once_needs_room_for_a_moment_only() {
    let (mut kit, connection, channel) = kit(refusing(1));
    kit.consume(connection, channel, "q", Consuming { prefetch: 3, ..Consuming::default() });
    let (events, refused) = kit.publish_all(connection, "q", &["1", "2", "3", "4", "5"]);
    assert_eq!((deliveries(&events).len(), refused), (3, vec![tag(5)]));
    let (mut kit, connection, channel) = self::kit(refusing(0));
    kit.consume(connection, channel, "q", Consuming::default());
    let (events, refused) = kit.publish_all(connection, "q", &["1"]);
    assert_eq!((deliveries(&events).len(), refused), (0, vec![tag(1)]), "as RabbitMQ, which looks first");
}

#[test]
fn one_refusal_is_told_though_others_have_taken_the_message() {
    let (mut kit, connection, _) = kit(refusing(0));
    for name in ["q", "dead"] {
        kit.turn(connection, [storing::bind_to_fanout(name)]);
    }
    let mut command = kit.persistent("amq.fanout", "", "m");
    if let Command::Publish(publish) = &mut command {
        publish.awaiting = Awaiting::Commit { channel: ChannelNumber(4) };
    }
    kit.turn(connection, [Command::Transaction(vec![command])]);
    assert_eq!(kit.effects.refused, [Awaiting::Commit { channel: ChannelNumber(4) }]);
    assert_eq!((kit.ready(Q), kit.ready(QueueId(2))), (0, 1));
}

#[test]
fn a_refused_message_may_be_dead_lettered() {
    let arguments = dying_to(short(1).with("x-overflow", "reject-publish-dlx"), "dead");
    let (mut kit, connection, channel) = kit(arguments);
    let (_, refused) = kit.publish_all(connection, "q", &["1", "2"]);
    assert_eq!(refused, [tag(2)]);
    assert_eq!(kit.journal(), ["1 in [1:0]", "2 in [2:0]", "waited for"]);
    let letters = kit.take_all(connection, channel, "dead");
    assert_eq!(
        (bodies(&letters), deaths(&letters[0])),
        (vec!["2".into()], vec![("maxlen".into(), "q".into())])
    );
}

#[test]
fn a_chain_of_full_queues_costs_no_stack_and_a_round_of_them_ends() {
    const QUEUES: usize = 300;
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    let full = |next: usize| dying_to(short(0).with("x-overflow", "reject-publish-dlx"), &next.to_string());
    for index in 0..QUEUES {
        kit.declare(connection, with(&index.to_string(), full(index + 1)));
    }
    kit.declare(connection, durable(&QUEUES.to_string()));
    let (_, refused) = kit.publish_all(connection, "0", &["m"]);
    assert_eq!(refused, [tag(1)]);
    let letters = kit.take_all(connection, channel, &QUEUES.to_string());
    assert_eq!(deaths(&letters[0]).len(), QUEUES);
    kit.declare(connection, with("round", dying_to(short(1), "round")));
    kit.publish_all(connection, "round", &["1", "2"]);
    assert_eq!(bodies(&kit.take_all(connection, channel, "round")), ["2"]);
    assert_eq!(kit.effects.cycles, [QueueName::from("round")]);
}

#[test]
fn full_queues_that_send_each_other_their_dead_letters_let_a_turn_end() {
    const LENGTH: u64 = 1_500;
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    let length = i64::try_from(LENGTH).unwrap();
    let [a, b] = [("a", "b"), ("b", "a")]
        .map(|(name, other)| kit.declare(connection, with(name, dying_to(short(length), other))));
    for name in ["a", "b"] {
        for _ in 0..3 {
            kit.publish_all(connection, name, &["m"; 500]);
        }
    }
    assert_eq!((kit.ready(a), kit.ready(b)), (LENGTH, LENGTH));
    kit.publish_all(connection, "a", &["one more"]);
    let dropped =
        |kit: &Kit| [a, b].map(|id| kit.vhost.queue(id).unwrap().counters().dropped).iter().sum::<u64>();
    assert!(dropped(&kit) <= 1_001, "a turn stays short");
    kit.work_all();
    assert!(dropped(&kit) > LENGTH, "each message moves on until it has been in both");
    assert!(kit.ready(a) <= LENGTH && kit.ready(b) <= LENGTH);
}

#[test]
fn what_comes_back_has_to_find_room_too() {
    let (mut kit, connection, channel) = kit(dying_to(short(1), "dead"));
    kit.publish_all(connection, "q", &["1"]);
    let get = Get { channel, queue: QueueName::from("q"), no_ack: false };
    kit.ask(connection, Request::Get(get)).unwrap();
    kit.publish_all(connection, "q", &["2"]);
    kit.journal();
    kit.turn(connection, [settle(channel, Q, 0, Outcome::Return)]);
    let journal = kit.journal();
    assert_eq!(journal, ["back 1:0-0 failed 0", "gone 1:0-0", "1 in [2:0]", "freed 1: 1"]);
    assert_eq!(bodies(&kit.take_all(connection, channel, "q")), ["2"]);
}

#[test]
fn a_classic_queue_makes_room_before_it_serves_and_a_quorum_queue_afterwards() {
    for (kind, expected) in [("classic", "2"), ("quorum", "1")] {
        let (mut kit, connection, channel) = kit(short(1).with("x-queue-type", kind));
        kit.consume(connection, channel, "q", Consuming { prefetch: 1, ..Consuming::default() });
        kit.publish_all(connection, "q", &["1", "2"]);
        let events = kit.turn(connection, [settle(channel, Q, 0, Outcome::Requeue)]);
        let bodies: Vec<_> = deliveries(&events).into_iter().map(|(_, body, _)| body).collect();
        assert_eq!(bodies, [expected], "{kind}");
    }
}

#[test]
fn a_closed_channel_returns_within_the_limit() {
    let (mut kit, connection, channel) = kit(short(2));
    kit.publish_all(connection, "q", &["1", "2"]);
    let (other, holder) = kit.open();
    kit.consume(other, holder, "q", Consuming::default());
    kit.publish_all(connection, "q", &["3", "4"]);
    kit.vhost.detach(other, &mut kit.effects);
    assert_eq!(kit.vhost.queue(Q).unwrap().unacked(), 0);
    assert_eq!(bodies(&kit.take_all(connection, channel, "q")), ["3", "4"]);
}

#[test]
fn one_large_message_makes_room_in_slices() {
    let (mut kit, connection, channel) = kit(Table::new().with("x-max-length-bytes", number(4_000)));
    for _ in 0..4 {
        kit.publish_all(connection, "q", &["m"; 1_000]);
    }
    assert_eq!(kit.ready(Q), 4_000);
    let body: &'static str = String::leak("x".repeat(3_999));
    kit.publish_all(connection, "q", &[body]);
    assert_eq!(kit.ready(Q), 3_001, "a turn stays short");
    assert!((3..=4).contains(&kit.work_all()));
    assert_eq!(kit.ready(Q), 2);
    let drained = bodies(&kit.take_all(connection, channel, "q"));
    assert_eq!(drained.iter().map(String::len).collect::<Vec<_>>(), [1, 3_999]);
}

fn restored(definition: QueueDefinition, failures: &[u16]) -> (Kit, Vec<String>) {
    let mut messages = Backlog::default();
    for (seq, failures) in (0..).zip(failures) {
        messages.restore(
            Seq(seq),
            Home::new(Location { segment: 1, offset: seq * 64 }, 8),
            4,
            Terms::default(),
        );
        messages.mark(Seq(seq), History { redelivered: *failures > 0, delivery_count: *failures });
    }
    let kept = RestoredQueue { id: Q, next: Seq(messages.len()), messages };
    let restored = Restored {
        queues: [(definition.name.clone(), kept)].into_iter().collect(),
        definitions: vec![Definition::Queue(definition)],
        next_queue: 2,
        ..Restored::default()
    };
    let options = VhostOptions { outbox_bytes: 1 << 20, cache_bytes: 0, default_delivery_limit: None };
    let (vhost, report) = Vhost::restore(VhostName::from("/"), options, restored);
    assert!(report.refused.is_empty() && report.undefined.is_empty(), "{report:?}");
    let mut kit = Kit { vhost, effects: Effects { journal: report.journal, ..Effects::default() } };
    let journal = kit.journal();
    (kit, journal)
}

#[test]
fn a_restart_brings_a_queue_within_its_limits_before_anybody_asks() {
    let (mut kit, journal) = restored(with("q", short(2)), &[0; 2_500]);
    assert_eq!((kit.ready(Q), journal.len()), (2_500, 0));
    kit.vhost.work(&mut kit.effects);
    assert_eq!(kit.ready(Q), 1_500);
    kit.work_all();
    assert_eq!(kit.ready(Q), 2);
    assert_eq!(kit.journal(), ["gone 1:0-2497", "freed 1: 2498"]);
}

#[test]
fn a_restart_does_not_hand_out_what_clients_have_failed_with_too_often() {
    let arguments = || Table::new().with("x-delivery-limit", number(2));
    let (kit, journal) = restored(with("q", arguments()), &[0, 3, 2, 7]);
    assert_eq!(kit.ready(Q), 2);
    assert_eq!(journal, ["gone 1:1-1", "gone 1:3-3", "freed 1: 2"]);
    let (mut kit, journal) = restored(with("q", dying_to(arguments(), "dead")), &[0, 3]);
    assert_eq!((kit.ready(Q), journal.len()), (1, 0), "it stays where it is until it has been read");
    kit.vhost.work(&mut kit.effects);
    let read = kit.effects.reads.pop().expect("it is to be read");
    assert_eq!(read.wanted.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), [1]);
    let (connection, channel) = kit.open();
    kit.declare(connection, durable("dead"));
    let parts = MessageParts { exchange: "", routing_key: "q", properties: &[0, 0], persistent: true };
    let message = Message::new(parts, Bytes::from_static(b"poison"));
    let found = read.wanted.into_iter().map(|(seq, home)| (seq, home, message.clone())).collect();
    kit.journal();
    kit.vhost.read(ReadResult { queue: Q, found, missing: Vec::new() }, &mut kit.effects);
    assert_eq!(kit.journal(), ["gone 1:1-1", "poison in [2:0]", "freed 1: 1"]);
    let letters = kit.take_all(connection, channel, "dead");
    assert_eq!(deaths(&letters[0]), [("delivery_limit".into(), "q".into())]);
}

#[test]
fn clients_may_fail_with_a_message_as_often_as_its_queue_allows() {
    for kind in ["classic", "quorum"] {
        let arguments = Table::new().with("x-queue-type", kind).with("x-delivery-limit", number(1));
        let (mut kit, connection, channel) = kit(dying_to(arguments, "dead"));
        kit.publish_all(connection, "q", &["poison"]);
        kit.journal();
        let mut told = Vec::new();
        for outcome in [Outcome::Return, Outcome::Requeue, Outcome::Return, Outcome::Requeue] {
            let get = Get { channel, queue: QueueName::from("q"), no_ack: false };
            match kit.ask(connection, Request::Get(get)) {
                Ok(Reply::Got(Some(got))) => told.push(got.delivery_count),
                other => panic!("{other:?}"),
            }
            kit.turn(connection, [settle(channel, Q, 0, outcome)]);
        }
        assert_eq!(told, [0, 0, 1, 1], "{kind}");
        assert_eq!(kit.ready(Q), 0);
        let journal = kit.journal();
        assert_eq!(journal[journal.len() - 3..], ["gone 1:0-0", "poison in [2:0]", "freed 1: 1"]);
        let letters = kit.take_all(connection, channel, "dead");
        assert_eq!(deaths(&letters[0]), [("delivery_limit".into(), "q".into())]);
    }
}

#[test]
fn a_lost_channel_has_failed_with_what_it_held() {
    let (mut kit, connection, channel) = kit(Table::new().with("x-delivery-limit", number(0)));
    kit.publish_all(connection, "q", &["1", "2"]);
    kit.journal();
    let (other, holder) = kit.open();
    kit.consume(other, holder, "q", Consuming { prefetch: 1, ..Consuming::default() });
    kit.vhost.detach(other, &mut kit.effects);
    assert_eq!(kit.journal(), ["gone 1:0-0", "freed 1: 1"]);
    assert_eq!(kit.vhost.queue(Q).unwrap().counters().exhausted, 1);
    assert_eq!(bodies(&kit.take_all(connection, channel, "q")), ["2"]);
}

#[test]
fn what_is_given_up_and_not_in_memory_is_known_to_be_so_after_a_crash() {
    let arguments = dying_to(Table::new().with("x-delivery-limit", number(0)), "dead");
    let (mut kit, _) = restored(with("q", arguments), &[0]);
    let (connection, channel) = kit.open();
    kit.vhost.page_out(Location { segment: 9, offset: 0 }, &mut kit.effects);
    kit.consume(connection, channel, "q", Consuming::default());
    while let Some(Read { queue, wanted }) = kit.effects.reads.pop() {
        let parts = MessageParts { exchange: "", routing_key: "q", properties: &[0, 0], persistent: true };
        let message = Message::new(parts, Bytes::from_static(b"m"));
        let found = wanted.into_iter().map(|(seq, home)| (seq, home, message.clone())).collect();
        kit.vhost.read(ReadResult { queue, found, missing: Vec::new() }, &mut kit.effects);
    }
    assert_eq!(kit.vhost.queue(Q).unwrap().unacked(), 1);
    kit.journal();
    kit.turn(connection, [settle(channel, Q, 0, Outcome::Requeue)]);
    assert_eq!(kit.journal(), ["back 1:0-0 failed 1"]);
    assert_eq!((kit.vhost.queue(Q).unwrap().dying(), kit.ready(Q)), (1, 0));
}
