//! Messages that are in the log only: read when somebody is due for them, in their order, and given up when lost.

use super::*;
use crate::queue::{Home, Location};

/// Everything is written.
const ALL: Location = Location { segment: u32::MAX - 2, offset: 0 };

/// Where the tests' log has a message: each place by itself.
fn home(seq: u64) -> Home {
    Home::new(Location { segment: 1, offset: 8 * seq }, 1)
}

fn numbered(seq: u64) -> Message {
    let parts = MessageParts { exchange: "", routing_key: "d", properties: &[0, 0], persistent: true };
    Message::new(parts, Bytes::from(seq.to_string()))
}

fn durable(name: &str) -> QueueDefinition {
    QueueDefinition { durable: true, ..queue(name) }
}

fn get(channel: ChannelKey) -> Command {
    request_of(Request::Get(Get { channel, queue: QueueName::from("d"), no_ack: false }))
}

fn delete() -> Command {
    let name = QueueName::from("d");
    request_of(Request::DeleteQueue { name, if_unused: false, if_empty: false })
}

/// Place and mark of each message among the events, whether delivered or got; no place where a get found nothing.
fn received(events: &[Event]) -> Vec<Option<(u64, bool)>> {
    let shown = events.iter().filter_map(|event| match event {
        Event::Delivery(delivery) => Some(Some((&delivery.message, delivery.seq, delivery.redelivered))),
        Event::Replied { result: Ok(Reply::Got(got)), .. } => {
            Some(got.as_ref().map(|got| (&got.message, got.seq, got.redelivered)))
        }
        _ => None,
    });
    let checked = shown.map(|shown| {
        shown.map(|(message, seq, redelivered)| {
            assert_eq!(message.body(), seq.0.to_string().as_bytes());
            (seq.0, redelivered)
        })
    });
    checked.collect()
}

impl Kit {
    /// A connection with a channel and the durable queue 1, `d`, and nothing may stay in memory.
    fn paging() -> (Self, ConnectionKey, ChannelKey) {
        let mut kit = Self::with_options(VhostOptions {
            outbox_bytes: 1 << 20,
            cache_bytes: 0,
            default_delivery_limit: None,
        });
        let (connection, channel) = kit.open();
        kit.declare(connection, durable("d"));
        kit.store_all();
        (kit, connection, channel)
    }

    /// Publishes the next messages of `d`, and takes everything out of memory.
    fn put(&mut self, connection: ConnectionKey, messages: u64) {
        let next = self.vhost.queue(QueueId(1)).expect("it is there").next().0;
        let commands: Vec<_> = (next..next + messages).map(|seq| self.publish_to("", "d", seq)).collect();
        self.turn(connection, commands);
        self.end_turn();
    }

    fn publish_to(&self, exchange: &str, key: &str, seq: u64) -> Command {
        let route = self
            .vhost
            .topology()
            .route(exchange, key, &Features::default(), &[])
            .expect("the exchange exists");
        Command::Publish(Publish {
            message: numbered(seq),
            route,
            returned: false,
            awaiting: Awaiting::Nothing,
        })
    }

    /// What the runtime does behind a turn.
    fn end_turn(&mut self) {
        self.store_all();
        self.vhost.page_out(ALL, &mut self.effects);
    }

    fn store_all(&mut self) {
        for (queue, seq) in std::mem::take(&mut self.effects.journal).places {
            if self.vhost.awaits_home(queue, seq) {
                self.vhost.store(queue, seq, home(seq.0));
            }
        }
    }

    /// The read that was asked for since the last call, if any.
    fn read(&mut self) -> Option<Read> {
        let read = self.effects.reads.pop();
        assert!(self.effects.reads.is_empty(), "one read of a queue at a time");
        read
    }

    /// Performs a read; those places are damaged.
    fn perform(&mut self, read: Read, damaged: &[u64]) {
        let Read { queue, wanted } = read;
        assert!(wanted.is_sorted_by_key(|(seq, _)| *seq));
        let (missing, there): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(seq, _)| damaged.contains(&seq.0));
        let found = there.into_iter().map(|(seq, home)| (seq, home, numbered(seq.0))).collect();
        self.vhost.read(ReadResult { queue, found, missing }, &mut self.effects);
    }

    fn queue(&self) -> &crate::queue::Queue {
        self.vhost.queue(QueueId(1)).expect("it is there")
    }
}

#[test]
fn a_consumer_gets_everything_once_and_in_order_through_a_cache_of_nothing() {
    let (mut kit, connection, channel) = Kit::paging();
    kit.put(connection, 300);
    assert_eq!((kit.queue().cached_bytes(), kit.queue().ready()), (0, 300));
    assert!(kit.read().is_none(), "nobody wants them");
    let events = kit.consume(connection, channel, "d", Consuming { prefetch: 7, ..Consuming::default() });
    assert_eq!(received(&events), []);
    let mut seen = Vec::new();
    while let Some(read) = kit.read() {
        kit.perform(read, &[]);
        kit.end_turn();
        let events = kit.collect(connection);
        assert_eq!(events.len(), 7.min(300 - seen.len()), "as many as it may hold");
        assert_eq!(kit.queue().cached_bytes(), 0, "the others have left again");
        for (seq, redelivered) in received(&events).into_iter().flatten() {
            assert!(!redelivered);
            seen.push(seq);
        }
        let acks: Vec<_> = received(&events)
            .into_iter()
            .flatten()
            .map(|(seq, _)| settle(channel, QueueId(1), seq, Outcome::Ack))
            .collect();
        kit.turn(connection, acks);
        kit.end_turn();
    }
    assert!(seen.into_iter().eq(0..300));
    assert_eq!((kit.queue().ready(), kit.queue().unacked()), (0, 0));
}

#[test]
fn nothing_is_read_that_nobody_can_take() {
    let (mut kit, connection, channel) = Kit::paging();
    kit.put(connection, 3);
    kit.consume(connection, channel, "d", Consuming { prefetch: 1, ..Consuming::default() });
    let read = kit.read().expect("it waits");
    kit.put(connection, 1);
    assert!(kit.read().is_none(), "one is under way");
    kit.perform(read, &[]);
    kit.end_turn();
    assert_eq!(received(&kit.collect(connection)), [Some((0, false))]);
    let ahead = kit.read().expect("one more has come meanwhile, and the consumer was taking");
    kit.perform(ahead, &[]);
    kit.end_turn();
    kit.put(connection, 1);
    assert!(kit.read().is_none(), "its consumer has all it may have");
    kit.turn(connection, [settle(channel, QueueId(1), 0, Outcome::Ack)]);
    assert!(kit.read().is_some());
}

#[test]
fn gets_are_answered_in_the_order_in_which_they_came() {
    let (mut kit, one, channel) = Kit::paging();
    let (two, other) = kit.open();
    kit.put(one, 2);
    assert_eq!(received(&kit.turn(one, [get(channel)])), []);
    let read = kit.read().expect("the get waits");
    assert_eq!(received(&kit.turn(two, [get(other)])), []);
    assert_eq!(received(&kit.turn(one, [get(channel)])), []);
    assert!(kit.read().is_none(), "one is under way");
    kit.perform(read, &[]);
    assert_eq!(received(&kit.collect(one)), [Some((0, false)), None]);
    assert_eq!(received(&kit.collect(two)), [Some((1, false))]);
    assert!(kit.effects.wake.contains(&one) && kit.effects.wake.contains(&two));
    assert_eq!(kit.queue().unacked(), 2);
    assert_eq!(received(&kit.turn(two, [get(other)])), [None], "and at once when there is nothing");
}

#[test]
fn a_get_that_waits_is_answered_when_there_is_nothing_any_more() {
    let purge = || request_of(Request::PurgeQueue(QueueName::from("d")));
    for (how, end) in [("purge", purge()), ("delete", delete())] {
        let (mut kit, connection, channel) = Kit::paging();
        let (other, _) = kit.open();
        kit.put(connection, 2);
        kit.turn(connection, [get(channel)]);
        let read = kit.read().expect("the get waits");
        kit.turn(other, [end]);
        assert_eq!(received(&kit.collect(connection)), [None], "{how}");
        kit.perform(read, &[]);
        assert_eq!(kit.collect(connection).len(), 0, "{how}: what was read of it is not wanted");
        if how == "delete" {
            kit.declare(other, durable("d"));
        }
        assert_eq!(received(&kit.turn(connection, [get(channel)])), [None], "{how}");
        assert_eq!(kit.effects.lost, []);
    }
}

#[test]
fn what_is_lost_is_passed_over_and_told_once() {
    let (mut kit, connection, channel) = Kit::paging();
    kit.put(connection, 3);
    kit.turn(connection, [get(channel), get(channel)]);
    let read = kit.read().expect("the gets wait");
    kit.perform(read, &[0, 2]);
    assert_eq!(received(&kit.collect(connection)), [Some((1, false)), None]);
    let lost = Lost { queue: QueueName::from("d"), messages: 2 };
    assert_eq!(kit.effects.lost, [lost]);
    let again = Read { queue: QueueId(1), wanted: vec![(Seq(0), home(0)), (Seq(2), home(2))] };
    kit.perform(again, &[0, 2]);
    assert_eq!(kit.effects.lost.len(), 1);
    let counters = kit.queue().counters();
    assert_eq!((counters.lost, counters.got, kit.queue().ready()), (2, 1, 0));
}

#[test]
fn what_has_moved_since_it_was_asked_for_is_asked_for_again() {
    let (mut kit, connection, channel) = Kit::paging();
    kit.put(connection, 1);
    kit.turn(connection, [get(channel)]);
    let read = kit.read().expect("the get waits");
    let moved = Home::new(Location { segment: 9, offset: 8 }, 1);
    kit.vhost.store(QueueId(1), Seq(0), moved);
    kit.perform(read, &[0]);
    assert_eq!(kit.effects.lost, [], "it is not lost, it is elsewhere");
    let read = kit.read().expect("the get still waits");
    assert_eq!(read.wanted, [(Seq(0), moved)]);
    kit.perform(read, &[]);
    assert_eq!(received(&kit.collect(connection)), [Some((0, false))]);
}

#[test]
fn a_get_goes_with_its_channel_and_takes_no_message_along() {
    for closes in [true, false] {
        let (mut kit, connection, channel) = Kit::paging();
        let (other, other_channel) = kit.open();
        kit.put(other, 1);
        kit.turn(connection, [get(channel)]);
        let read = kit.read().expect("the get waits");
        if closes {
            let events = kit.turn(connection, [request_of(Request::CloseChannel(channel))]);
            assert!(matches!(events[..], [Event::Replied { result: Ok(Reply::ChannelClosed), .. }]));
        } else {
            kit.vhost.detach(connection, &mut kit.effects);
        }
        kit.perform(read, &[]);
        assert_eq!((kit.queue().ready(), kit.queue().unacked()), (1, 0));
        assert_eq!(received(&kit.turn(other, [get(other_channel)])), [Some((0, false))]);
    }
}

#[test]
fn what_was_never_sent_returns_unmarked_even_if_its_body_has_to_be_read_again() {
    let (mut kit, connection, channel) = Kit::paging();
    let (other, other_channel) = kit.open();
    kit.put(other, 2);
    kit.consume(connection, channel, "d", Consuming { prefetch: 1, ..Consuming::default() });
    let read = kit.read().expect("it waits");
    kit.perform(read, &[]);
    kit.end_turn();
    assert_eq!(kit.queue().unacked(), 1);
    // It stands in the outbox, which nobody collects any more.
    kit.vhost.detach(connection, &mut kit.effects);
    kit.effects.reads.clear();
    assert_eq!((kit.queue().ready(), kit.queue().unacked()), (2, 0));
    kit.turn(other, [get(other_channel)]);
    let read = kit.read().expect("the get waits");
    kit.perform(read, &[]);
    assert_eq!(received(&kit.collect(other)), [Some((0, false))]);
}

#[test]
fn nothing_leaves_memory_before_it_is_written() {
    let (mut kit, connection, _) = Kit::paging();
    let commands: Vec<_> = (0..200).map(|seq| kit.publish_to("", "d", seq)).collect();
    kit.turn(connection, commands);
    kit.store_all();
    let all = kit.queue().cached_bytes();
    let written = |seq| home(seq).location().expect("it is stored");
    assert!(kit.vhost.page_out(Location::default(), &mut kit.effects), "it waits for the log");
    assert_eq!(kit.queue().cached_bytes(), all);
    assert!(kit.vhost.page_out(written(100), &mut kit.effects));
    let left = (100..200).map(|seq| numbered(seq).cost() as u64).sum::<u64>();
    assert_eq!((kit.queue().cached_bytes(), kit.effects.discarded.len()), (left, 100));
    assert!(!kit.vhost.page_out(ALL, &mut kit.effects));
    assert_eq!((kit.queue().cached_bytes(), kit.effects.more_work), (0, false));
}

#[test]
fn what_comes_back_from_a_channel_can_leave_memory_again() {
    let mut kit = Kit::with_options(VhostOptions {
        outbox_bytes: 1 << 30,
        cache_bytes: 1 << 20,
        default_delivery_limit: None,
    });
    let (connection, channel) = kit.open();
    kit.declare(connection, durable("d"));
    kit.consume(connection, channel, "d", Consuming::default());
    let commands: Vec<_> = (0..20_000).map(|seq| kit.publish_to("", "d", seq)).collect();
    assert_eq!(kit.turn(connection, commands).len(), 20_000);
    kit.end_turn();
    kit.vhost.detach(connection, &mut kit.effects);
    while std::mem::take(&mut kit.effects.more_work) {
        kit.vhost.work(&mut kit.effects);
        kit.end_turn();
    }
    assert_eq!(kit.queue().ready(), 20_000);
    assert!(kit.queue().cached_bytes() <= 1 << 20, "{} bytes", kit.queue().cached_bytes());
}

#[test]
fn eviction_keeps_up_with_messages_that_go_to_many_queues() {
    const QUEUES: u64 = 200;
    let (mut kit, connection, _) = Kit::paging();
    for number in 0..QUEUES {
        let name = format!("q{number}");
        kit.declare(connection, durable(&name));
        kit.turn(
            connection,
            [request_of(Request::Bind(BindingDefinition {
                source: ExchangeName::from("amq.fanout"),
                destination: Destination::Queue(QueueName::from(name.as_str())),
                routing_key: RoutingKey::from(""),
                arguments: Table::default(),
                origin: Origin::Client,
            }))],
        );
    }
    kit.store_all();
    for turn in 0..3 {
        let commands: Vec<_> = (0..256).map(|_| kit.publish_to("amq.fanout", "", turn)).collect();
        kit.turn(connection, commands);
        kit.end_turn();
        assert!(!kit.vhost.fills_cache(), "turn {turn}");
    }
}

#[test]
fn parts_of_queues_that_come_and_go_do_not_pile_up() {
    let mut kit = Kit::with_options(VhostOptions {
        outbox_bytes: 1 << 30,
        cache_bytes: 1 << 20,
        default_delivery_limit: None,
    });
    let (connection, channel) = kit.open();
    kit.declare(connection, durable("d"));
    kit.put(connection, 65);
    for _ in 0..50 {
        // One chunk after the other empties and fills again, the last one aside.
        let gets = std::iter::repeat_with(|| get(channel)).take(64);
        kit.turn(connection, gets);
        for _ in 0..100 {
            kit.turn(connection, [settle(channel, QueueId(1), 63, Outcome::Requeue), get(channel)]);
        }
        kit.turn(connection, (0..64).map(|seq| settle(channel, QueueId(1), seq, Outcome::Requeue)));
    }
    assert!(kit.vhost.listed_parts() <= 4_096, "{}", kit.vhost.listed_parts());
}

#[test]
fn one_slice_stores_little_however_many_queues_there_are() {
    let mut kit = Kit::new();
    let (connection, _) = kit.open();
    for number in 0..300 {
        let name = format!("q{number}");
        kit.declare(connection, queue(&name));
        let commands: Vec<_> = (0..10).map(|_| kit.publish(&name, "m")).collect();
        kit.turn(connection, commands);
    }
    let mut stored = 0;
    loop {
        kit.effects = Effects::default();
        kit.vhost.spill(&mut kit.effects);
        let places = kit.effects.journal.places.len();
        assert!(places <= 1_000, "{places} at a time");
        stored += places;
        if !kit.effects.more_work {
            break;
        }
    }
    assert_eq!((stored, kit.vhost.can_spill()), (3_000, false));
}

#[test]
fn what_is_refused_is_read_before_it_is_dead_lettered() {
    let (mut kit, connection, channel) = Kit::paging();
    let arguments = Table::new().with("x-dead-letter-exchange", "").with("x-dead-letter-routing-key", "dead");
    kit.declare(connection, QueueDefinition { arguments, ..durable("source") });
    let dead = kit.declare(connection, durable("dead"));
    let source = kit.id("source");
    let commands: Vec<_> = (0..3).map(|seq| kit.publish_to("", "source", seq)).collect();
    kit.turn(connection, commands);
    kit.end_turn();
    kit.consume(connection, channel, "source", Consuming::default());
    let read = kit.read().expect("it waits");
    kit.perform(read, &[]);
    kit.end_turn();
    assert_eq!(kit.collect(connection).len(), 3);
    kit.turn(connection, (0..3).map(|seq| settle(channel, source, seq, Outcome::Discard)));
    kit.end_turn();
    let queue = kit.vhost.queue(source).expect("it is there");
    assert_eq!((queue.unacked(), queue.dying()), (0, 3), "until they have been read they stay");
    assert!((0..3).all(|seq| queue.kept(Seq(seq)).is_some()));
    let read = kit.read().expect("they are to be read");
    kit.perform(read, &[1]);
    let lost = std::mem::take(&mut kit.effects.lost);
    assert_eq!(lost.iter().map(|lost| lost.messages).collect::<Vec<_>>(), [1]);
    let [source, dead] = [source, dead].map(|id| kit.vhost.queue(id).expect("it is there"));
    assert_eq!((source.dying(), dead.ready()), (0, 2));
    assert!((0..3).all(|seq| source.kept(Seq(seq)).is_none()));
    assert!(kit.read().is_none());
}

#[test]
fn more_may_expire_than_a_turn_has_room_for_before_it_has_been_read() {
    const MESSAGES: u64 = 2_500;
    let (mut kit, connection, channel) = Kit::paging();
    let arguments = Table::new()
        .with("x-message-ttl", 10_i64)
        .with("x-dead-letter-exchange", "")
        .with("x-dead-letter-routing-key", "dead");
    let source = kit.declare(connection, QueueDefinition { arguments, ..durable("source") });
    let dead = kit.declare(connection, durable("dead"));
    let commands: Vec<_> = (0..MESSAGES).map(|seq| kit.publish_to("", "source", seq)).collect();
    kit.turn(connection, commands);
    kit.end_turn();
    kit.vhost.set_time(crate::queue::Moment(11));
    kit.consume(connection, channel, "source", Consuming::default());
    for _ in 0..20 {
        while let Some(read) = kit.read() {
            kit.perform(read, &[]);
            kit.end_turn();
        }
        kit.vhost.work(&mut kit.effects);
    }
    let [source, dead] = [source, dead].map(|id| kit.vhost.queue(id).expect("it is there"));
    assert_eq!((source.ready(), source.dying(), source.unacked(), dead.ready()), (0, 0, 0, MESSAGES));
}
