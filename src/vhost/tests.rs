//! Bursts in, events out: each test applies commands and expects exactly what follows.

mod dead_letters;
mod delay;
mod expiry;
mod history;
mod limits;
mod order;
mod paging;
mod policies;
mod storing;

use bytes::Bytes;
use ferrymq_protocol::table::Table;

use super::*;
use crate::model::*;
use crate::topology::{Features, Refusal, Targets};

/// A vhost with connections that collect at once.
struct Kit {
    vhost: Vhost,
    effects: Effects,
}

impl Kit {
    fn new() -> Self {
        Self::with_outbox(1024 * 1024)
    }

    fn with_outbox(outbox_bytes: usize) -> Self {
        Self::with_options(VhostOptions { outbox_bytes, cache_bytes: 1 << 20, default_delivery_limit: None })
    }

    fn with_options(options: VhostOptions) -> Self {
        let (vhost, _) = Vhost::restore(VhostName::from("/"), options, Restored::default());
        Self { vhost, effects: Effects::default() }
    }

    fn turn(&mut self, connection: ConnectionKey, commands: impl IntoIterator<Item = Command>) -> Vec<Event> {
        self.vhost.turn(connection, &mut commands.into_iter().collect(), &mut self.effects);
        self.collect(connection)
    }

    fn collect(&mut self, connection: ConnectionKey) -> Vec<Event> {
        let mut events = Vec::new();
        self.vhost.collect(connection, &mut events);
        events
    }

    /// Asks on channel 1 and expects the answer to be all that happens.
    fn ask(&mut self, connection: ConnectionKey, request: Request) -> Result<Reply, Refusal> {
        let mut events = self.turn(connection, [request_of(request)]);
        assert_eq!(events.len(), 1, "{events:?}");
        match events.pop() {
            Some(Event::Replied { channel: ChannelNumber(1), result }) => result,
            other => panic!("no reply: {other:?}"),
        }
    }

    fn open(&mut self) -> (ConnectionKey, ChannelKey) {
        let connection = self.vhost.attach();
        match self.ask(connection, Request::OpenChannel) {
            Ok(Reply::ChannelOpened(channel)) => (connection, channel),
            other => panic!("{other:?}"),
        }
    }

    fn declare(&mut self, connection: ConnectionKey, queue: QueueDefinition) -> QueueId {
        let name = queue.name.clone();
        assert!(matches!(
            self.ask(connection, Request::DeclareQueue(queue)),
            Ok(Reply::QueueDeclared { .. })
        ));
        self.id(name.as_str())
    }

    fn id(&self, name: &str) -> QueueId {
        self.vhost.topology().queue(name).expect("declared").id
    }

    fn publish(&self, key: &str, body: &'static str) -> Command {
        let route = self
            .vhost
            .topology()
            .route("", key, &Features::default(), &[])
            .expect("the default exchange exists");
        let parts = MessageParts { exchange: "", routing_key: key, properties: &[0, 0], persistent: false };
        let message = Message::new(parts, Bytes::from_static(body.as_bytes()));
        let returned = route.targets.is_empty();
        Command::Publish(Publish { message, route, returned, awaiting: Awaiting::Nothing })
    }

    fn consume(
        &mut self,
        connection: ConnectionKey,
        channel: ChannelKey,
        queue: &str,
        options: Consuming,
    ) -> Vec<Event> {
        self.turn(
            connection,
            [request_of(Request::Consume(Consume {
                channel,
                consumer: ConsumerKey(options.consumer),
                queue: QueueName::from(queue),
                no_ack: options.no_ack,
                exclusive: options.exclusive,
                prefetch: options.prefetch,
                arguments: Table::default(),
            }))],
        )
    }
}

#[derive(Clone, Copy, Default)]
struct Consuming {
    consumer: u32,
    no_ack: bool,
    exclusive: bool,
    prefetch: u16,
}

fn request_of(request: Request) -> Command {
    Command::Request { channel: ChannelNumber(1), request }
}

fn queue(name: &str) -> QueueDefinition {
    QueueDefinition {
        name: QueueName::from(name),
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: Table::default(),
        origin: Origin::Client,
    }
}

fn settle(channel: ChannelKey, queue: QueueId, seq: u64, outcome: Outcome) -> Command {
    Command::Settle(Settlement { channel, queue, seq: Seq(seq), outcome })
}

/// Consumer, body and redelivered flag of each delivery; panics at anything else.
fn deliveries(events: &[Event]) -> Vec<(u32, String, bool)> {
    events
        .iter()
        .map(|event| match event {
            Event::Delivery(delivery) => (
                delivery.consumer.0,
                String::from_utf8(delivery.message.body().to_vec()).expect("text"),
                delivery.redelivered,
            ),
            other => panic!("not a delivery: {other:?}"),
        })
        .collect()
}

fn body(consumer: u32, body: &str, redelivered: bool) -> (u32, String, bool) {
    (consumer, body.to_owned(), redelivered)
}

#[test]
fn a_consumer_is_answered_before_its_first_delivery() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    kit.declare(connection, queue("q"));
    kit.turn(connection, [kit.publish("q", "a")]);
    let events = kit.consume(connection, channel, "q", Consuming::default());
    assert!(matches!(events[0], Event::Replied { result: Ok(Reply::Consuming(ConsumerKey(0))), .. }));
    assert_eq!(deliveries(&events[1..]), [body(0, "a", false)]);
}

#[test]
fn a_request_sees_the_publishes_before_it() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    kit.declare(connection, queue("q"));
    let publish = kit.publish("q", "a");
    let events = kit.turn(connection, [publish, request_of(Request::CheckQueue(QueueName::from("q")))]);
    assert!(
        matches!(&events[..], [Event::Replied { result: Ok(Reply::QueueDeclared { messages: 1, .. }), .. }]),
        "{events:?}"
    );
}

#[test]
fn an_exchange_counts_what_becomes_of_its_messages() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    kit.declare(connection, queue("q"));
    let mut dropped = kit.publish("nowhere", "b");
    if let Command::Publish(publish) = &mut dropped {
        publish.returned = false;
        publish.awaiting = Awaiting::Confirm { channel: ChannelNumber(1), tag: 1 };
    }
    kit.turn(connection, [kit.publish("q", "a"), dropped, kit.publish("nowhere", "c")]);
    let id = kit.vhost.topology().exchange_id("").expect("the default exchange exists");
    let expected = ExchangeCounters { published: 3, routed: 1, returned: 1, dropped: 1, confirmed: 1 };
    assert_eq!(kit.vhost.exchange_counters(id), expected);
}

#[test]
fn others_are_woken_once_until_they_collect() {
    let mut kit = Kit::new();
    let (publisher, _) = kit.open();
    let (consumer, channel) = kit.open();
    kit.declare(consumer, queue("q"));
    kit.consume(consumer, channel, "q", Consuming { no_ack: true, ..Consuming::default() });
    kit.effects.wake.clear();
    kit.turn(publisher, [kit.publish("q", "a"), kit.publish("q", "b")]);
    kit.turn(publisher, [kit.publish("q", "c")]);
    assert_eq!(kit.effects.wake, [consumer]);
    let events = kit.collect(consumer);
    assert_eq!(deliveries(&events), [body(0, "a", false), body(0, "b", false), body(0, "c", false)]);
    kit.turn(publisher, [kit.publish("q", "d")]);
    assert_eq!(kit.effects.wake, [consumer, consumer]);
}

#[test]
fn a_connection_that_does_not_drain_gets_no_more_than_its_budget_and_one() {
    let mut kit = Kit::with_outbox(1);
    let (connection, channel) = kit.open();
    kit.declare(connection, queue("q"));
    kit.consume(connection, channel, "q", Consuming { no_ack: true, ..Consuming::default() });
    let events = kit.turn(connection, [kit.publish("q", "a"), kit.publish("q", "b")]);
    assert_eq!(deliveries(&events), [body(0, "a", false)]);
    let cost = match &events[0] {
        Event::Delivery(delivery) => delivery.cost(),
        other => panic!("{other:?}"),
    };
    let events = kit.turn(connection, [Command::Drained { bytes: cost }]);
    assert_eq!(deliveries(&events), [body(0, "b", false)]);
}

#[test]
fn room_that_a_closed_channel_gives_back_is_used_by_the_others() {
    let mut kit = Kit::with_outbox(200);
    let (connection, one) = kit.open();
    let two = match kit
        .turn(connection, [Command::Request { channel: ChannelNumber(2), request: Request::OpenChannel }])
        .pop()
    {
        Some(Event::Replied { result: Ok(Reply::ChannelOpened(key)), .. }) => key,
        other => panic!("{other:?}"),
    };
    kit.declare(connection, queue("one"));
    kit.declare(connection, queue("two"));
    kit.consume(connection, one, "one", Consuming::default());
    kit.consume(connection, two, "two", Consuming { consumer: 1, ..Consuming::default() });
    let unseen = kit.publish("one", "fills the outbox");
    let parked = kit.publish("two", "waits");
    kit.vhost.turn(connection, &mut vec![unseen], &mut kit.effects);
    kit.vhost.turn(connection, &mut vec![parked], &mut kit.effects);
    assert_eq!(kit.vhost.queue(kit.id("two")).expect("there").ready(), 1, "its consumer is parked");
    kit.vhost.turn(connection, &mut vec![request_of(Request::CloseChannel(one))], &mut kit.effects);
    let waits = kit
        .collect(connection)
        .into_iter()
        .any(|event| matches!(&event, Event::Delivery(delivery) if delivery.message.body() == b"waits"));
    assert!(waits);
}

#[test]
fn a_full_connection_leaves_the_ring_to_others() {
    let mut kit = Kit::with_outbox(1);
    let (slow, slow_channel) = kit.open();
    let (quick, quick_channel) = kit.open();
    kit.declare(slow, queue("q"));
    kit.consume(slow, slow_channel, "q", Consuming { no_ack: true, ..Consuming::default() });
    kit.consume(quick, quick_channel, "q", Consuming { consumer: 1, no_ack: true, ..Consuming::default() });
    kit.turn(slow, [kit.publish("q", "a")]);
    kit.turn(quick, [kit.publish("q", "b")]);
    kit.turn(quick, [Command::Drained { bytes: usize::MAX }, kit.publish("q", "c")]);
    assert_eq!(kit.vhost.queue(kit.id("q")).expect("it is there").ready(), 0, "c went to the quick one");
}

#[test]
fn the_channel_limit_counts_all_its_consumers_and_changes_live() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    let one = kit.declare(connection, queue("one"));
    kit.declare(connection, queue("two"));
    kit.turn(connection, [Command::LimitChannel { channel, prefetch: 2 }]);
    kit.consume(connection, channel, "one", Consuming::default());
    kit.consume(connection, channel, "two", Consuming { consumer: 1, ..Consuming::default() });
    let publishes =
        ["one", "two", "one", "two"].map(|key| kit.publish(key, if key == "one" { "1" } else { "2" }));
    let events = kit.turn(connection, publishes);
    assert_eq!(events.len(), 2);
    let events = kit.turn(connection, [settle(channel, one, 0, Outcome::Ack)]);
    assert!(events.len() <= 1, "a channel at its limit got more: {events:?}");
    let events = kit.turn(connection, [Command::LimitChannel { channel, prefetch: 0 }]);
    let rest: u64 =
        ["one", "two"].iter().map(|name| kit.vhost.queue(kit.id(name)).expect("there").ready()).sum();
    assert_eq!(rest, 0, "{events:?}");
}

#[test]
fn closing_a_channel_returns_what_it_held_and_marks_only_what_it_saw() {
    let mut kit = Kit::new();
    let (holder, holding) = kit.open();
    let (other, other_channel) = kit.open();
    kit.declare(holder, queue("q"));
    kit.consume(holder, holding, "q", Consuming::default());
    kit.turn(other, [kit.publish("q", "seen")]);
    assert_eq!(kit.collect(holder).len(), 1);
    kit.turn(other, [kit.publish("q", "unseen")]);
    kit.vhost.turn(holder, &mut vec![request_of(Request::CloseChannel(holding))], &mut kit.effects);
    let events = kit.collect(holder);
    assert!(matches!(&events[..], [Event::Replied { result: Ok(Reply::ChannelClosed), .. }]), "{events:?}");
    let events = kit.consume(other, other_channel, "q", Consuming::default());
    assert_eq!(deliveries(&events[1..]), [body(0, "seen", true), body(0, "unseen", false)]);
}

#[test]
fn a_channel_that_holds_much_is_released_in_slices_and_answered_at_the_end() {
    const MESSAGES: usize = 2_500;
    let mut kit = Kit::with_outbox(usize::MAX);
    let (connection, channel) = kit.open();
    let id = kit.declare(connection, queue("q"));
    kit.consume(connection, channel, "q", Consuming::default());
    let publishes: Vec<Command> = (0..MESSAGES).map(|_| kit.publish("q", "m")).collect();
    assert_eq!(kit.turn(connection, publishes).len(), MESSAGES);
    let events = kit.turn(connection, [request_of(Request::CloseChannel(channel))]);
    assert!(events.is_empty() && kit.effects.more_work);
    let mut slices = 0;
    while std::mem::take(&mut kit.effects.more_work) {
        kit.vhost.work(&mut kit.effects);
        slices += 1;
    }
    assert_eq!(slices, 2);
    assert_eq!(kit.vhost.queue(id).expect("there").ready(), MESSAGES as u64);
    assert!(matches!(
        &kit.collect(connection)[..],
        [Event::Replied { result: Ok(Reply::ChannelClosed), .. }]
    ));
}

#[test]
fn deleting_a_queue_tells_its_consumers_and_frees_the_channels_credit() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    let (other, _) = kit.open();
    kit.declare(connection, queue("doomed"));
    kit.declare(connection, queue("kept"));
    kit.turn(connection, [Command::LimitChannel { channel, prefetch: 1 }]);
    kit.consume(connection, channel, "doomed", Consuming::default());
    kit.consume(connection, channel, "kept", Consuming { consumer: 1, ..Consuming::default() });
    let publishes = [kit.publish("doomed", "d"), kit.publish("kept", "k")];
    let events = kit.turn(connection, publishes);
    assert_eq!(events.len(), 1);
    let first_from_doomed = deliveries(&events) == [body(0, "d", false)];
    let delete = Request::DeleteQueue { name: QueueName::from("doomed"), if_unused: false, if_empty: false };
    assert!(matches!(kit.ask(other, delete), Ok(Reply::QueueDeleted { .. })));
    let events = kit.collect(connection);
    assert!(
        matches!(events[0], Event::ConsumerCancelled { consumer: ConsumerKey(0), channel: ChannelNumber(1) }),
        "{events:?}"
    );
    if first_from_doomed {
        assert_eq!(deliveries(&events[1..]), [body(1, "k", false)]);
    }
}

#[test]
fn whoever_deletes_a_queue_is_answered_before_its_consumers_are_told() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    kit.declare(connection, queue("q"));
    kit.consume(connection, channel, "q", Consuming::default());
    let delete = Request::DeleteQueue { name: QueueName::from("q"), if_unused: false, if_empty: false };
    let events = kit.turn(connection, [request_of(delete)]);
    assert!(
        matches!(
            events[..],
            [Event::Replied { result: Ok(Reply::QueueDeleted { .. }), .. }, Event::ConsumerCancelled { .. }]
        ),
        "{events:?}"
    );
}

#[test]
fn a_publish_to_a_queue_deleted_since_its_snapshot_is_lost_with_the_queue() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    kit.declare(connection, queue("q"));
    let stale = kit.publish("q", "a");
    let delete = Request::DeleteQueue { name: QueueName::from("q"), if_unused: false, if_empty: false };
    assert!(kit.ask(connection, delete).is_ok());
    kit.declare(connection, queue("q"));
    assert!(kit.turn(connection, [stale]).is_empty());
    assert_eq!(kit.vhost.queue(kit.id("q")).expect("there").ready(), 0);
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer_and_not_before_it_had_one() {
    let mut kit = Kit::new();
    let (connection, channel) = kit.open();
    kit.declare(connection, QueueDefinition { auto_delete: true, ..queue("q") });
    kit.consume(connection, channel, "q", Consuming::default());
    kit.consume(connection, channel, "q", Consuming { consumer: 1, ..Consuming::default() });
    assert!(kit.ask(connection, Request::Cancel { channel, consumer: ConsumerKey(0) }).is_ok());
    assert!(kit.vhost.topology().queue("q").is_some());
    assert!(kit.ask(connection, Request::Cancel { channel, consumer: ConsumerKey(1) }).is_ok());
    assert!(kit.vhost.topology().queue("q").is_none());
}

#[test]
fn a_connection_takes_its_exclusive_queues_with_it() {
    let mut kit = Kit::new();
    let (owner, _) = kit.open();
    let (other, _) = kit.open();
    kit.declare(owner, QueueDefinition { exclusive: true, durable: true, ..queue("own") });
    assert!(matches!(
        kit.ask(other, Request::CheckQueue(QueueName::from("own"))),
        Err(Refusal::Locked { .. })
    ));
    assert!(kit.effects.definitions.is_empty(), "an exclusive queue is never made durable");
    kit.vhost.detach(owner, &mut kit.effects);
    assert!(kit.vhost.topology().queue("own").is_none());
}

#[test]
fn durable_definitions_are_recorded_and_restored() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    kit.declare(connection, QueueDefinition { durable: true, ..queue("d") });
    kit.declare(connection, queue("t"));
    let bind = |queue: &str| {
        Request::Bind(BindingDefinition {
            source: ExchangeName::from("amq.direct"),
            destination: Destination::Queue(QueueName::from(queue)),
            routing_key: RoutingKey::from("k"),
            arguments: Table::default(),
            origin: Origin::Client,
        })
    };
    assert!(kit.ask(connection, bind("d")).is_ok());
    assert!(kit.ask(connection, bind("t")).is_ok());
    let stored: Vec<Definition> = kit
        .effects
        .definitions
        .drain(..)
        .map(|change| match change {
            DefinitionChange::Put(definition) => definition,
            DefinitionChange::Delete(definition) => panic!("{definition:?} was never deleted"),
        })
        .collect();
    let definitions = Restored { definitions: stored.clone(), ..Restored::default() };
    let (restored, report) = Vhost::restore(
        VhostName::from("/"),
        VhostOptions { outbox_bytes: 1, cache_bytes: 1 << 20, default_delivery_limit: None },
        definitions,
    );
    assert_eq!((stored.len(), report.refused.len()), (2, 0));
    let route = restored.topology().route("amq.direct", "k", &Features::default(), &[]).expect("it exists");
    assert_eq!(route.targets, Targets::One(restored.topology().queue("d").expect("restored").id));
}

#[test]
fn an_answer_about_what_somebody_else_made_durable_waits_for_it_too() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    let declare = |durable| request_of(Request::DeclareQueue(QueueDefinition { durable, ..queue("q") }));
    kit.turn(connection, [declare(true)]);
    assert!(!kit.effects.relies_on_definitions, "the change itself is waited for");
    kit.turn(connection, [declare(true)]);
    assert!(std::mem::take(&mut kit.effects.relies_on_definitions));
    let delete =
        |name: &str| Request::DeleteQueue { name: QueueName::from(name), if_unused: false, if_empty: false };
    kit.turn(connection, [request_of(delete("q")), declare(false)]);
    assert!(!kit.effects.relies_on_definitions);
    kit.turn(connection, [declare(false)]);
    assert!(!kit.effects.relies_on_definitions, "nothing about a transient queue is durable");
    kit.turn(connection, [request_of(delete("nothing"))]);
    assert!(kit.effects.relies_on_definitions, "whoever deleted it may still be waiting");
}

#[test]
fn replies_reach_the_requester_while_it_is_there() {
    let mut kit = Kit::new();
    let (requester, channel) = kit.open();
    let (responder, _) = kit.open();
    let token = ReplyToken([7; 16]);
    let consume = |consumer| Request::ConsumeReplies { channel, consumer: ConsumerKey(consumer), token };
    assert!(kit.ask(requester, consume(3)).is_ok());
    assert_eq!(kit.ask(requester, consume(4)).err(), Some(Refusal::ReplyConsumerSet));
    let address = crate::topology::reply_to_address(token.0);
    kit.turn(responder, [kit.publish(&address, "answer")]);
    assert_eq!(deliveries(&kit.collect(requester)), [body(3, "answer", false)]);
    assert!(kit.ask(requester, Request::Cancel { channel, consumer: ConsumerKey(3) }).is_ok());
    kit.turn(responder, [kit.publish(&address, "late")]);
    assert!(kit.collect(requester).is_empty());
    let name = QueueName::from(address.as_str());
    assert!(matches!(
        kit.ask(responder, Request::CheckReplyTo { token, name }),
        Err(Refusal::NoQueue { .. })
    ));
}

mod operator {
    use super::*;

    fn file(queues: &[&str], keys: &[(&str, &str)]) -> OperatorTopology {
        OperatorTopology {
            exchanges: Vec::new(),
            queues: queues
                .iter()
                .map(|name| QueueDefinition { durable: true, origin: Origin::Config, ..queue(name) })
                .collect(),
            bindings: keys
                .iter()
                .map(|(queue, key)| BindingDefinition {
                    source: ExchangeName::from("amq.topic"),
                    destination: Destination::Queue(QueueName::from(*queue)),
                    routing_key: RoutingKey::from(*key),
                    arguments: Table::default(),
                    origin: Origin::Config,
                })
                .collect(),
            policies: Vec::new(),
        }
    }

    #[test]
    fn an_edit_adds_and_removes_what_the_file_declared_and_nothing_else() {
        let mut kit = Kit::new();
        let (connection, _) = kit.open();
        kit.declare(connection, queue("clients"));
        let first = file(&["a", "b"], &[("a", "x"), ("b", "y")]);
        let report = kit.vhost.apply_operator(&first, &mut kit.effects).expect("no conflict");
        assert_eq!((report.created.len(), report.removed.len()), (4, 0));
        let report = kit.vhost.apply_operator(&first, &mut kit.effects).expect("no conflict");
        assert_eq!((report.created.len(), report.removed.len()), (0, 0), "what is in force stays as it is");
        let second = file(&["a"], &[("a", "z")]);
        let report = kit.vhost.apply_operator(&second, &mut kit.effects).expect("no conflict");
        assert_eq!(report.created, ["binding 'amq.topic' -> queue 'a' by 'z'"]);
        assert_eq!(
            report.removed,
            [
                "binding 'amq.topic' -> queue 'a' by 'x'",
                "binding 'amq.topic' -> queue 'b' by 'y'",
                "queue 'b'"
            ]
        );
        assert!(kit.vhost.topology().queue("b").is_none());
        assert!(kit.vhost.topology().queue("clients").is_some());
    }

    #[test]
    fn a_binding_to_a_queue_that_the_same_edit_removes_is_a_conflict() {
        let mut kit = Kit::new();
        kit.vhost.apply_operator(&file(&["a"], &[("a", "x")]), &mut kit.effects).expect("no conflict");
        let conflicts =
            kit.vhost.apply_operator(&file(&[], &[("a", "x")]), &mut kit.effects).expect_err("one conflict");
        assert_eq!(conflicts[0].declaration, Declaration::Binding(0));
        assert!(kit.vhost.topology().queue("a").is_some(), "nothing has changed");
    }

    #[test]
    fn a_queue_with_messages_stays_until_it_is_empty() {
        let mut kit = Kit::new();
        let (connection, _) = kit.open();
        kit.vhost.apply_operator(&file(&["a"], &[]), &mut kit.effects).expect("no conflict");
        kit.turn(connection, [kit.publish("a", "m")]);
        let report = kit.vhost.apply_operator(&file(&[], &[]), &mut kit.effects).expect("no conflict");
        assert_eq!(report.kept, ["queue 'a' (messages: 1, consumers: 0)"]);
        assert!(kit.ask(connection, Request::PurgeQueue(QueueName::from("a"))).is_ok());
        let report = kit.vhost.apply_operator(&file(&[], &[]), &mut kit.effects).expect("no conflict");
        assert_eq!((report.removed.len(), report.kept.len()), (1, 0));
    }

    #[test]
    fn an_edit_with_conflicts_changes_nothing_and_names_them_all() {
        let mut kit = Kit::new();
        let (connection, _) = kit.open();
        kit.declare(connection, queue("clients"));
        let edit = file(&["clients", "fine"], &[("nowhere", "x"), ("fine", "y")]);
        let conflicts = kit.vhost.apply_operator(&edit, &mut kit.effects).expect_err("two conflicts");
        let texts: Vec<String> = conflicts.iter().map(|conflict| conflict.refusal.to_string()).collect();
        assert_eq!(
            texts,
            [
                "inequivalent arg 'durable' for queue 'clients' in vhost '/': received 'true' but current is 'false'",
                "no queue 'nowhere' in vhost '/'"
            ]
        );
        assert_eq!(
            conflicts.iter().map(|conflict| conflict.declaration).collect::<Vec<_>>(),
            [Declaration::Queue(0), Declaration::Binding(0)]
        );
        assert!(kit.vhost.topology().queue("fine").is_none());
    }
}
