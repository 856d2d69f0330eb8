//! What a turn leaves in its journal: everything that is to survive, and nothing else.

use super::*;
use crate::queue::{Backlog, History, Home, Location, Moment, Terms};

impl Kit {
    pub(super) fn persistent(&self, exchange: &str, key: &str, body: &'static str) -> Command {
        let topology = self.vhost.topology();
        let route = topology.route(exchange, key, &Features::default(), &[]).expect("the exchange exists");
        let parts = MessageParts { exchange, routing_key: key, properties: &[0, 0], persistent: true };
        let message = Message::new(parts, Bytes::from_static(body.as_bytes()));
        Command::Publish(Publish {
            message,
            route,
            returned: false,
            awaiting: Awaiting::Confirm { channel: ChannelNumber(1), tag: 1 },
        })
    }

    /// The journal of the turns since the last call, as text. Messages that are still there get a home in segment 1,
    /// and count for a byte each.
    pub(super) fn journal(&mut self) -> Vec<String> {
        let journal = std::mem::take(&mut self.effects.journal);
        let mut places = journal.places.iter().copied();
        let mut lines = Vec::new();
        for entry in &journal.entries {
            lines.push(match entry {
                Entry::Published { message, places: count } => {
                    let kept: Vec<_> = places
                        .by_ref()
                        .take(*count)
                        .filter(|(queue, seq)| self.vhost.awaits_home(*queue, *seq))
                        .collect();
                    for (queue, seq) in &kept {
                        self.vhost.store(*queue, *seq, Home::new(Location { segment: 1, offset: 0 }, 1));
                    }
                    let kept: Vec<_> =
                        kept.iter().map(|(queue, seq)| format!("{}:{}", queue.0, seq.0)).collect();
                    format!("{} in [{}]", String::from_utf8_lossy(message.body()), kept.join(" "))
                }
                Entry::Gone(places) => format!("gone {}", range(places)),
                Entry::CameBack { places, delivery_count } => {
                    format!("back {} failed {delivery_count}", range(places))
                }
                Entry::Created { queue, name } => format!("created {} {name}", queue.0),
                Entry::DelayCreated { queue, exchange } => format!("delay {} {exchange}", queue.0),
                Entry::Deleted(queue) => format!("deleted {}", queue.0),
            });
        }
        lines.extend(journal.freed.iter().map(|freed| format!("freed {}: {}", freed.segment, freed.places)));
        if journal.waited_for {
            lines.push("waited for".into());
        }
        lines
    }
}

fn range(places: &Places) -> String {
    format!("{}:{}-{}", places.queue.0, places.first.0, places.last.0)
}

pub(super) fn durable(name: &str) -> QueueDefinition {
    QueueDefinition { durable: true, ..queue(name) }
}

pub(super) fn settle(channel: ChannelKey, queue: QueueId, seq: u64, outcome: Outcome) -> Command {
    Command::Settle(Settlement { channel, queue, seq: Seq(seq), outcome })
}

/// A connection with a channel and the durable queue 1, `d`.
fn kit() -> (Kit, ConnectionKey, ChannelKey) {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    kit.declare(connection, durable("d"));
    assert_eq!(kit.journal(), ["created 1 d"]);
    (kit, connection, channel)
}

#[test]
fn only_persistent_messages_in_durable_queues_are_stored() {
    let (mut kit, connection, _) = kit();
    kit.declare(connection, queue("t"));
    kit.declare(connection, QueueDefinition { exclusive: true, ..queue("x") });
    for name in ["d", "t", "x"] {
        kit.turn(connection, [bind_to_fanout(name)]);
    }
    assert_eq!(kit.journal(), [""; 0]);
    let transient = kit.publish("d", "transient");
    let commands = [transient, kit.persistent("", "t", "t"), kit.persistent("", "x", "x")];
    kit.turn(connection, commands);
    assert_eq!(kit.journal(), [""; 0], "and nobody waits for the disk");
    let commands = [kit.persistent("", "d", "one"), kit.persistent("amq.fanout", "", "all")];
    kit.turn(connection, commands);
    assert_eq!(kit.journal(), ["one in [1:1]", "all in [1:2]", "waited for"]);
}

#[test]
fn one_message_in_many_queues_is_stored_once() {
    let (mut kit, connection, _) = kit();
    kit.declare(connection, durable("e"));
    for name in ["d", "e"] {
        kit.turn(connection, [bind_to_fanout(name)]);
    }
    kit.journal();
    let commands = [kit.persistent("amq.fanout", "", "a"), kit.persistent("amq.fanout", "", "a")];
    kit.turn(connection, commands);
    let mut stored = kit.journal();
    stored
        .iter_mut()
        .for_each(|line| *line = line.replace("[2:0 1:0]", "[1:0 2:0]").replace("[2:1 1:1]", "[1:1 2:1]"));
    assert_eq!(stored, ["a in [1:0 2:0]", "a in [1:1 2:1]", "waited for"]);
}

#[test]
fn what_is_gone_by_the_end_of_its_turn_is_not_stored() {
    let (mut kit, connection, channel) = kit();
    kit.consume(connection, channel, "d", Consuming { no_ack: true, ..Consuming::default() });
    let command = kit.persistent("", "d", "through");
    kit.turn(connection, [command]);
    assert_eq!(kit.journal(), ["through in []", "waited for"]);
    kit.turn(connection, [request_of(Request::Cancel { channel, consumer: ConsumerKey(0) })]);
    let purge = request_of(Request::PurgeQueue(QueueName::from("d")));
    let commands = [kit.persistent("", "d", "purged"), purge];
    kit.turn(connection, commands);
    assert_eq!(kit.journal()[0], "purged in []");
}

#[test]
fn ends_of_deliveries_are_stored_in_ranges() {
    let (mut kit, connection, channel) = kit();
    let commands: Vec<_> = (0..6).map(|_| kit.persistent("", "d", "m")).collect();
    kit.turn(connection, commands);
    kit.consume(connection, channel, "d", Consuming::default());
    kit.journal();
    let queue = QueueId(1);
    let acks = [0, 1, 2].map(|seq| settle(channel, queue, seq, Outcome::Ack));
    kit.turn(connection, acks.into_iter().chain([settle(channel, queue, 4, Outcome::Discard)]));
    assert_eq!(kit.journal(), ["gone 1:0-2", "gone 1:4-4", "freed 1: 4"]);
    kit.turn(connection, [settle(channel, queue, 3, Outcome::Requeue)]);
    assert_eq!(kit.journal(), ["back 1:3-3 failed 1"]);
    kit.turn(connection, [settle(channel, queue, 3, Outcome::Return)]);
    assert_eq!(kit.journal(), ["back 1:3-3 failed 1"], "not held against it");
    kit.turn(connection, [settle(channel, queue, 5, Outcome::Undelivered)]);
    assert_eq!(kit.journal(), [""; 0], "nobody has seen it");
    kit.vhost.detach(connection, &mut kit.effects);
    assert_eq!(kit.journal(), ["back 1:3-3 failed 2", "back 1:5-5 failed 1"]);
}

#[test]
fn a_purge_leaves_what_is_held_and_a_deletion_nothing() {
    let (mut kit, connection, channel) = kit();
    let commands: Vec<_> = (0..4).map(|_| kit.persistent("", "d", "m")).collect();
    kit.turn(connection, commands);
    let get = Get { channel, queue: QueueName::from("d"), no_ack: false };
    kit.turn(connection, [request_of(Request::Get(get))]);
    kit.journal();
    kit.turn(connection, [request_of(Request::PurgeQueue(QueueName::from("d")))]);
    assert_eq!(kit.journal(), ["gone 1:1-3", "waited for"]);
    assert_eq!(kit.effects.purged.pop().map(|purged| purged.filter_map(Home::stored).count()), Some(3));
    let delete = Request::DeleteQueue { name: QueueName::from("d"), if_unused: false, if_empty: false };
    kit.turn(connection, [request_of(delete)]);
    assert_eq!(kit.journal(), ["deleted 1"]);
    let deleted = kit.effects.deleted.pop().expect("it is to be freed");
    assert_eq!(deleted.into_detached().filter_map(Home::stored).count(), 1);
}

#[test]
fn a_transaction_is_waited_for_even_if_it_only_acks() {
    let (mut kit, connection, channel) = kit();
    let command = kit.persistent("", "d", "m");
    kit.turn(connection, [command]);
    kit.consume(connection, channel, "d", Consuming::default());
    kit.journal();
    kit.turn(connection, [Command::Transaction(vec![settle(channel, QueueId(1), 0, Outcome::Ack)])]);
    assert_eq!(kit.journal(), ["gone 1:0-0", "freed 1: 1", "waited for"]);
}

#[test]
fn a_vhost_comes_back_with_what_its_queues_kept() {
    let backlog = |messages: &[u64]| {
        let mut backlog = Backlog::default();
        for seq in messages {
            backlog.restore(
                Seq(*seq),
                Home::new(Location { segment: 7, offset: 8 * seq }, 10),
                4,
                Terms::default(),
            );
        }
        backlog.mark(Seq(5), History { redelivered: true, delivery_count: 3 });
        backlog
    };
    let kept =
        |id, messages: &[u64]| RestoredQueue { id: QueueId(id), next: Seq(9), messages: backlog(messages) };
    let queues = [("d", kept(4, &[2, 5])), ("gone", kept(3, &[1]))];
    let restored = Restored {
        definitions: ["d", "new"].map(|name| Definition::Queue(durable(name))).into(),
        queues: queues.into_iter().map(|(name, kept)| (QueueName::from(name), kept)).collect(),
        delays: Default::default(),
        next_queue: 6,
        now: Moment(0),
        marks_unknown: true,
    };
    let options = VhostOptions { outbox_bytes: 1 << 20, cache_bytes: 1 << 20, default_delivery_limit: None };
    let (vhost, report) = Vhost::restore(VhostName::from("/"), options, restored);
    assert_eq!(report.undefined, [(QueueName::from("gone"), 1)]);
    let mut kit = Kit { vhost, effects: Effects { journal: report.journal, ..Effects::default() } };
    assert_eq!(kit.journal(), ["back 4:5-5 failed 3", "created 6 new", "deleted 3", "freed 7: 1"]);
    assert_eq!((kit.id("d"), kit.id("new")), (QueueId(4), QueueId(6)));
    let (connection, channel) = kit.open();
    let command = kit.persistent("", "d", "next");
    kit.turn(connection, [command]);
    assert_eq!(kit.journal(), ["next in [4:9]", "waited for"]);
    let events = kit.consume(connection, channel, "d", Consuming::default());
    assert_eq!(events.len(), 1, "what it kept has to be read first: {events:?}");
    let read = kit.effects.reads.pop().expect("the consumer waits for it");
    assert_eq!(read.wanted.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), [2, 5]);
    let found = read.wanted.into_iter().map(|(seq, home)| (seq, home, message())).collect();
    kit.vhost.read(ReadResult { queue: read.queue, found, missing: Vec::new() }, &mut kit.effects);
    let mut events = Vec::new();
    kit.vhost.collect(connection, &mut events);
    let delivered: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Delivery(delivery) => Some((delivery.seq.0, delivery.redelivered)),
            _ => None,
        })
        .collect();
    assert_eq!(delivered, [(2, false), (5, true), (9, false)]);
}

fn message() -> Message {
    let parts = MessageParts { exchange: "", routing_key: "d", properties: &[0, 0], persistent: true };
    Message::new(parts, Bytes::from_static(b"m"))
}

pub(super) fn bind_to_fanout(name: &str) -> Command {
    request_of(Request::Bind(BindingDefinition {
        source: ExchangeName::from("amq.fanout"),
        destination: Destination::Queue(QueueName::from(name)),
        routing_key: RoutingKey::from(""),
        arguments: Table::default(),
        origin: Origin::Client,
    }))
}
