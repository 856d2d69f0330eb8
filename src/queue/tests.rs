//! What a queue does, effect by effect; `model` compares it with a plain reference.

mod backlog;
mod model;

use bytes::Bytes;

use super::{
    Asked, Backlog, ConsumerOptions, Dispatched, Dropped, End, ExclusiveUse, Got, History, Holding, Home,
    Kept, Location, Queue, Reason, Released, Terms,
};
use crate::model::{
    ChannelKey, ChannelNumber, ConnectionKey, ConsumerKey, Message, MessageParts, Outcome, QueueId, Seq,
    settle_message_bytes,
};

const A: ChannelKey = ChannelKey(1);
const B: ChannelKey = ChannelKey(2);
/// What is unacked stays in memory.
const KEEP_ALL: Location = Location { segment: 0, offset: 0 };

/// Whether a message was delivered before, and nothing else.
fn marked(redelivered: bool) -> History {
    History { redelivered, delivery_count: 0 }
}

fn get(queue: &mut Queue, channel: ChannelKey, no_ack: bool) -> Option<Got> {
    match queue.get(channel, no_ack) {
        Asked::Got(got) => Some(got),
        Asked::Empty => None,
        Asked::Absent => panic!("the first message is not in memory"),
    }
}

fn message(body: u64) -> Message {
    let parts = MessageParts { exchange: "", routing_key: "q", properties: &[], persistent: false };
    Message::new(parts, Bytes::copy_from_slice(&body.to_be_bytes()))
}

fn number(message: &Message) -> u64 {
    u64::from_be_bytes(message.body().try_into().expect("a body is a number"))
}

fn consumer(channel: ChannelKey, consumer: u32) -> ConsumerOptions {
    ConsumerOptions {
        channel,
        connection: ConnectionKey(u32::try_from(channel.0).unwrap()),
        number: ChannelNumber(1),
        consumer: ConsumerKey(consumer),
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: 0,
    }
}

/// A queue with messages 0, 1, 2 and so on; each one's place equals its number.
/// Where the message of this number is stored: a segment of its own.
fn home(number: u64) -> Home {
    Home::new(Location { segment: u32::try_from(number).unwrap() + 1, offset: 0 }, 1)
}

fn filled(messages: u64) -> Queue {
    let mut queue = Queue::new(QueueId(1));
    for body in 0..messages {
        assert_eq!(queue.push(message(body), home(body), Terms::default()), Seq(body));
    }
    queue
}

/// Delivers all that can be delivered.
fn deliver_all(queue: &mut Queue) -> Vec<Dispatched> {
    std::iter::from_fn(|| queue.deliver_front(KEEP_ALL)).collect()
}

/// Delivers all that can be delivered; consumers and places.
fn turns(queue: &mut Queue) -> Vec<(u32, u64)> {
    deliver_all(queue).iter().map(|dispatched| (dispatched.consumer.consumer.0, dispatched.seq.0)).collect()
}

/// Delivers all that can be delivered; places and marks.
fn marks(queue: &mut Queue) -> Vec<(u64, bool)> {
    deliver_all(queue).iter().map(|dispatched| (dispatched.seq.0, dispatched.history.redelivered)).collect()
}

#[test]
fn hands_out_in_publish_order_and_by_turns() {
    let mut queue = filled(5);
    queue.add_consumer(consumer(A, 1)).unwrap();
    queue.add_consumer(consumer(B, 2)).unwrap();
    assert_eq!(turns(&mut queue), [(1, 0), (2, 1), (1, 2), (2, 3), (1, 4)]);
    assert_eq!((queue.ready(), queue.unacked()), (0, 5));
    queue.push(message(5), Home::NONE, Terms::default());
    assert_eq!(turns(&mut queue), [(2, 5)], "the turn goes on where it stopped");
}

#[test]
fn has_no_front_consumer_without_messages_or_consumers() {
    let mut queue = filled(1);
    assert_eq!(queue.front_consumer(), None);
    assert!(queue.deliver_front(KEEP_ALL).is_none());
    queue.add_consumer(consumer(A, 1)).unwrap();
    assert_eq!(queue.front_consumer(), Some(&consumer(A, 1)));
    queue.deliver_front(KEEP_ALL).unwrap();
    assert_eq!(queue.front_consumer(), None);
    queue.park_front();
    queue.push(message(1), Home::NONE, Terms::default());
    assert!(queue.front_consumer().is_some(), "parking without a front consumer parks nobody");
}

#[test]
fn higher_priority_goes_first_until_its_prefetch_is_full() {
    let mut queue = filled(6);
    queue.add_consumer(ConsumerOptions { priority: -1, ..consumer(A, 1) }).unwrap();
    queue.add_consumer(ConsumerOptions { priority: 7, prefetch: 2, ..consumer(A, 2) }).unwrap();
    queue.add_consumer(ConsumerOptions { prefetch: 1, ..consumer(A, 3) }).unwrap();
    assert_eq!(turns(&mut queue), [(2, 0), (2, 1), (3, 2), (1, 3), (1, 4), (1, 5)]);
    queue.settle(A, Seq(0), Outcome::Ack).unwrap();
    queue.push(message(6), Home::NONE, Terms::default());
    queue.push(message(7), Home::NONE, Terms::default());
    assert_eq!(turns(&mut queue), [(2, 6), (1, 7)]);
}

#[test]
fn prefetch_counts_neither_no_ack_deliveries_nor_gets() {
    let mut queue = filled(6);
    get(&mut queue, A, false).unwrap();
    queue.add_consumer(ConsumerOptions { prefetch: 1, no_ack: true, ..consumer(A, 1) }).unwrap();
    assert_eq!(turns(&mut queue), [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]);
    assert_eq!(queue.unacked(), 1);
    queue.remove_consumer(A, ConsumerKey(1)).unwrap();
    queue.add_consumer(ConsumerOptions { prefetch: 1, ..consumer(A, 2) }).unwrap();
    queue.push(message(6), Home::NONE, Terms::default());
    assert_eq!(turns(&mut queue), [(2, 6)]);
    assert_eq!(queue.settle(A, Seq(0), Outcome::Ack).unwrap().consumer, None, "a get had no credit");
    queue.push(message(7), Home::NONE, Terms::default());
    assert_eq!(turns(&mut queue), [], "so it gives none back");
}

#[test]
fn credit_wakes_a_consumer_at_the_back_of_its_ring() {
    let mut queue = filled(2);
    for key in 1..=3 {
        queue.add_consumer(ConsumerOptions { prefetch: 1, ..consumer(A, key) }).unwrap();
    }
    assert_eq!(turns(&mut queue), [(1, 0), (2, 1)]);
    queue.settle(A, Seq(1), Outcome::Ack).unwrap();
    queue.settle(A, Seq(0), Outcome::Ack).unwrap();
    for body in 2..6 {
        queue.push(message(body), home(body), Terms::default());
    }
    assert_eq!(turns(&mut queue), [(3, 2), (2, 3), (1, 4)]);
}

#[test]
fn requeued_messages_take_their_old_places_marked() {
    let mut queue = filled(5);
    queue.add_consumer(ConsumerOptions { prefetch: 4, ..consumer(A, 1) }).unwrap();
    assert_eq!(marks(&mut queue), [(0, false), (1, false), (2, false), (3, false)]);
    queue.remove_consumer(A, ConsumerKey(1)).unwrap();
    for seq in [3, 0, 2] {
        let settled = queue.settle(A, Seq(seq), Outcome::Requeue).unwrap();
        assert_eq!((settled.consumer, settled.end), (Some(ConsumerKey(1)), End::Back));
    }
    assert_eq!((queue.ready(), queue.unacked()), (4, 1));
    queue.add_consumer(consumer(B, 1)).unwrap();
    assert_eq!(marks(&mut queue), [(0, true), (2, true), (3, true), (4, false)]);
    assert_eq!((queue.counters().redelivered, queue.counters().requeued), (3, 3));
}

#[test]
fn undelivered_messages_keep_the_mark_they_had() {
    let mut queue = filled(2);
    get(&mut queue, A, false).unwrap();
    queue.settle(A, Seq(0), Outcome::Requeue).unwrap();
    for _ in 0..2 {
        queue.add_consumer(consumer(A, 1)).unwrap();
        assert_eq!(marks(&mut queue), [(0, true), (1, false)]);
        queue.remove_consumer(A, ConsumerKey(1)).unwrap();
        queue.settle(A, Seq(1), Outcome::Undelivered).unwrap();
        queue.settle(A, Seq(0), Outcome::Undelivered).unwrap();
    }
    assert_eq!(queue.counters().undelivered, 4);
}

#[test]
fn only_the_channel_that_holds_a_message_settles_it_and_once() {
    let mut queue = filled(2);
    queue.add_consumer(ConsumerOptions { prefetch: 1, ..consumer(A, 1) }).unwrap();
    deliver_all(&mut queue);
    assert!(queue.settle(B, Seq(0), Outcome::Ack).is_none(), "another channel");
    assert!(queue.settle(A, Seq(1), Outcome::Ack).is_none(), "ready");
    assert!(queue.settle(A, Seq(900), Outcome::Ack).is_none(), "never published");
    assert_eq!((queue.ready(), queue.unacked(), queue.counters().acked), (1, 1, 0));
    let settled = queue.settle(A, Seq(0), Outcome::Ack).unwrap();
    assert_eq!((settled.consumer, settled.end), (Some(ConsumerKey(1)), End::Done(Some(message(0)))));
    assert!(queue.settle(A, Seq(0), Outcome::Ack).is_none(), "a second time");
    assert_eq!((queue.ready(), queue.unacked(), queue.counters().acked), (1, 0, 1));
}

#[test]
fn discard_gives_the_message_up() {
    let mut queue = filled(1);
    get(&mut queue, A, false).unwrap();
    let settled = queue.settle(A, Seq(0), Outcome::Discard).unwrap();
    assert_eq!(settled.end, End::Left(Reason::Rejected, Some(message(0))));
    assert_eq!((queue.ready(), queue.unacked(), queue.counters().discarded), (0, 0, 1));
}

#[test]
fn cancelling_leaves_deliveries_with_the_channel() {
    let mut queue = filled(2);
    let options = ConsumerOptions { prefetch: 1, ..consumer(A, 1) };
    queue.add_consumer(options).unwrap();
    deliver_all(&mut queue);
    assert_eq!(queue.remove_consumer(A, ConsumerKey(1)), Some(options));
    assert_eq!(queue.remove_consumer(A, ConsumerKey(1)), None);
    assert_eq!((queue.consumers(), queue.had_consumer(), queue.unacked()), (0, true, 1));
    // Another consumer under the same key owes nothing for its predecessor and gains nothing from it.
    queue.add_consumer(options).unwrap();
    queue.push(message(2), Home::NONE, Terms::default());
    assert_eq!(turns(&mut queue), [(1, 1)]);
    assert_eq!(queue.settle(A, Seq(0), Outcome::Ack).unwrap().consumer, Some(ConsumerKey(1)));
    assert_eq!(turns(&mut queue), []);
    queue.settle(A, Seq(1), Outcome::Ack).unwrap();
    assert_eq!(turns(&mut queue), [(1, 2)]);
}

#[test]
fn exclusive_use_admits_one() {
    let mut queue = Queue::new(QueueId(1));
    let exclusive = ConsumerOptions { exclusive: true, ..consumer(B, 1) };
    assert!(!queue.had_consumer());
    queue.add_consumer(consumer(A, 1)).unwrap();
    assert_eq!(queue.add_consumer(exclusive), Err(ExclusiveUse));
    queue.remove_consumer(A, ConsumerKey(1)).unwrap();
    queue.add_consumer(exclusive).unwrap();
    assert_eq!(queue.add_consumer(consumer(A, 1)), Err(ExclusiveUse));
    assert_eq!(queue.add_consumer(ConsumerOptions { channel: A, ..exclusive }), Err(ExclusiveUse));
    assert_eq!(queue.consumers(), 1);
    queue.remove_consumer(B, ConsumerKey(1)).unwrap();
    queue.add_consumer(consumer(A, 1)).unwrap();
    queue.add_consumer(consumer(A, 2)).unwrap();
    assert_eq!(queue.consumers(), 2);
}

#[test]
fn get_says_what_is_left() {
    let mut queue = filled(2);
    let got = get(&mut queue, A, true).unwrap();
    assert_eq!(
        (got.seq, got.history.redelivered, got.remaining, number(&got.message)),
        (Seq(0), false, 1, 0)
    );
    let got = get(&mut queue, A, false).unwrap();
    assert_eq!((got.seq, got.remaining), (Seq(1), 0));
    assert!(get(&mut queue, A, false).is_none());
    queue.settle(A, Seq(1), Outcome::Requeue).unwrap();
    assert!(get(&mut queue, B, false).unwrap().history.redelivered);
    let counters = *queue.counters();
    assert_eq!((counters.got, counters.got_no_ack, counters.got_empty, counters.redelivered), (2, 1, 1, 1));
}

#[test]
fn a_parked_consumer_is_passed_over_until_unparked() {
    let mut queue = filled(5);
    for key in 1..=2 {
        queue.add_consumer(consumer(A, key)).unwrap();
    }
    queue.add_consumer(consumer(B, 3)).unwrap();
    queue.park_front();
    assert_eq!(queue.deliver_front(KEEP_ALL).unwrap().consumer.consumer, ConsumerKey(2));
    queue.unpark(A, ConsumerKey(1));
    queue.unpark(A, ConsumerKey(1));
    assert_eq!(turns(&mut queue), [(3, 1), (2, 2), (1, 3), (3, 4)]);
    for body in 5..8 {
        queue.push(message(body), home(body), Terms::default());
    }
    for _ in 0..3 {
        queue.park_front();
    }
    assert_eq!(queue.front_consumer(), None);
    queue.unpark_channel(A);
    assert_eq!(turns(&mut queue), [(1, 5), (2, 6), (1, 7)]);
}

#[test]
fn a_parked_consumer_can_be_cancelled_and_settled() {
    let mut queue = filled(3);
    queue.add_consumer(ConsumerOptions { prefetch: 2, ..consumer(A, 1) }).unwrap();
    queue.deliver_front(KEEP_ALL).unwrap();
    queue.park_front();
    queue.settle(A, Seq(0), Outcome::Ack).unwrap();
    assert_eq!(queue.front_consumer(), None, "credit does not unpark");
    queue.remove_consumer(A, ConsumerKey(1)).unwrap();
    queue.unpark(A, ConsumerKey(1));
    queue.unpark_channel(A);
    assert_eq!(queue.front_consumer(), None);
}

#[test]
fn a_channel_is_released_in_slices_and_nobody_is_served_between() {
    let mut queue = filled(10);
    queue.add_consumer(ConsumerOptions { prefetch: 3, ..consumer(A, 1) }).unwrap();
    deliver_all(&mut queue);
    get(&mut queue, A, false).unwrap();
    get(&mut queue, B, false).unwrap();
    queue.remove_consumer(A, ConsumerKey(1)).unwrap();
    queue.add_consumer(consumer(B, 1)).unwrap();
    assert!(queue.front_consumer().is_some());
    assert_eq!(queue.release_channel(A, 0, |_, _| {}), Released { messages: 0, finished: false });
    assert_eq!(queue.front_consumer(), None);
    assert_eq!(queue.release_channel(A, 3, |_, _| {}), Released { messages: 3, finished: false });
    assert_eq!(queue.front_consumer(), None);
    assert_eq!(queue.release_channel(A, 3, |_, _| {}), Released { messages: 1, finished: true });
    assert_eq!(queue.release_channel(A, 3, |_, _| {}), Released { messages: 0, finished: true });
    let expected: Vec<_> = (0..10).filter(|seq| *seq != 4).map(|seq| (seq, seq < 4)).collect();
    assert_eq!(marks(&mut queue), expected);
    assert_eq!(queue.unacked(), 10);
    assert_eq!(queue.counters().requeued, 4);
}

#[test]
fn a_release_that_fits_its_budget_exactly_is_finished() {
    let mut queue = filled(2);
    get(&mut queue, A, false).unwrap();
    get(&mut queue, A, false).unwrap();
    assert_eq!(queue.release_channel(A, 2, |_, _| {}), Released { messages: 2, finished: true });
}

#[test]
fn purge_takes_what_is_ready_and_leaves_what_is_held() {
    let mut queue = filled(3000);
    get(&mut queue, A, false).unwrap();
    get(&mut queue, A, false).unwrap();
    queue.settle(A, Seq(0), Outcome::Requeue).unwrap();
    let mut purged = queue.purge();
    assert_eq!((queue.ready(), queue.unacked(), queue.counters().purged), (0, 1, 2999));
    assert_eq!(purged.remaining(), 2999);
    assert_eq!(purged.next(), Some(home(0)));
    assert_eq!(purged.remaining(), 2998);
    assert!(purged.eq((2..3000).map(home)));
    assert_eq!(queue.purge().remaining(), 0);
    assert_eq!(queue.push(message(3000), home(3000), Terms::default()), Seq(3000));
    queue.settle(A, Seq(1), Outcome::Requeue).unwrap();
    queue.add_consumer(consumer(A, 1)).unwrap();
    assert_eq!(marks(&mut queue), [(1, true), (3000, false)]);
}

#[test]
fn holdings_name_every_holder() {
    let mut queue = filled(4);
    get(&mut queue, B, false).unwrap();
    queue.add_consumer(ConsumerOptions { prefetch: 2, ..consumer(A, 1) }).unwrap();
    queue.add_consumer(consumer(A, 2)).unwrap();
    deliver_all(&mut queue);
    queue.remove_consumer(A, ConsumerKey(1)).unwrap();
    let mut holdings: Vec<_> = queue.holdings().collect();
    holdings.sort_by_key(|holding| (holding.channel, holding.consumer));
    let held = |channel, consumer: Option<u32>, messages| Holding {
        channel,
        consumer: consumer.map(ConsumerKey),
        messages,
    };
    assert_eq!(holdings, [held(A, Some(1), 2), held(A, Some(2), 1), held(B, None, 1)]);
    assert_eq!(queue.iter_consumers().collect::<Vec<_>>(), [&consumer(A, 2)]);
}

#[test]
fn memory_shrinks_after_a_backlog() {
    let mut queue = filled(100_000);
    queue.add_consumer(consumer(A, 1)).unwrap();
    deliver_all(&mut queue);
    assert!(queue.ready.capacity_bytes() < 3 << 10, "{}", queue.ready.capacity_bytes());
    assert!(queue.unacked.capacity() >= 100_000);
    for seq in 0..100_000 {
        queue.settle(A, Seq(seq), Outcome::Ack).unwrap();
    }
    assert!(queue.unacked.capacity() < 2_000, "{}", queue.unacked.capacity());
}

#[test]
fn a_stuck_first_delivery_does_not_grow_memory() {
    let mut queue = filled(1);
    queue.add_consumer(consumer(A, 1)).unwrap();
    queue.deliver_front(KEEP_ALL).unwrap();
    for seq in 1..100_000 {
        queue.push(message(seq), Home::NONE, Terms::default());
        queue.deliver_front(KEEP_ALL).unwrap();
        queue.settle(A, Seq(seq), Outcome::Ack).unwrap();
    }
    assert_eq!(queue.unacked(), 1);
    assert!(queue.unacked.capacity() <= 3 * 32 + 8, "{}", queue.unacked.capacity());
    assert!(queue.settle(A, Seq(0), Outcome::Ack).is_some());
}

#[test]
fn whoever_holds_nothing_and_consumes_nothing_is_forgotten() {
    let mut queue = filled(102);
    for round in 0..100 {
        get(&mut queue, ChannelKey(round), false).unwrap();
        queue.add_consumer(consumer(ChannelKey(round), 1)).unwrap();
        let dispatched = queue.deliver_front(KEEP_ALL).unwrap();
        queue.remove_consumer(ChannelKey(round), ConsumerKey(1)).unwrap();
        assert_eq!(queue.holders.iter().count(), 2);
        queue.settle(ChannelKey(round), dispatched.seq, Outcome::Ack).unwrap();
        assert_eq!(queue.holders.iter().count(), 1);
        queue.release_channel(ChannelKey(round), 1, |_, _| {});
        assert_eq!(queue.holders.iter().count(), 0);
    }
}

#[test]
fn a_dropped_queue_keeps_no_message_alive() {
    let before = settle_message_bytes();
    let mut queue = filled(5000);
    get(&mut queue, A, false).unwrap();
    get(&mut queue, A, false).unwrap();
    queue.settle(A, Seq(0), Outcome::Requeue).unwrap();
    drop(queue);
    assert_eq!((before, settle_message_bytes()), (0, 0));
}

#[test]
fn a_queue_counts_what_it_knows_of_messages_that_are_in_the_log_only() {
    const MESSAGES: u64 = 64 << 10;
    let _ = settle_message_bytes();
    let mut backlog = Backlog::default();
    for seq in 0..MESSAGES {
        backlog.restore(Seq(seq), home(seq), 0, Terms::default());
    }
    let mut queue = Queue::new(QueueId(1));
    queue.recover(backlog, Seq(MESSAGES));
    let counted = settle_message_bytes();
    assert!((20 * MESSAGES..24 * MESSAGES).contains(&u64::try_from(counted).unwrap()), "{counted} bytes");
    let purged = queue.purge();
    assert_eq!(purged.count(), 64 << 10);
    drop(queue);
    assert_eq!(counted + settle_message_bytes(), 0);
}

#[test]
fn what_is_gone_with_its_queue_is_told_whether_ready_or_held() {
    let mut queue = filled(100);
    queue.add_consumer(ConsumerOptions { prefetch: 70, ..consumer(A, 1) }).unwrap();
    assert_eq!(turns(&mut queue).len(), 70);
    queue.settle(A, Seq(3), Outcome::Ack).unwrap();
    queue.settle(A, Seq(5), Outcome::Requeue).unwrap();
    queue.park_front();
    let detached = queue.into_detached();
    assert_eq!(detached.remaining(), 99);
    let mut homes: Vec<_> = detached.map(|home| home.stored().unwrap().0).collect();
    homes.sort_unstable();
    let expected: Vec<_> = (1..=100).filter(|segment| *segment != 4).collect();
    assert_eq!(homes, expected);
}

#[test]
fn a_home_is_found_and_changed_wherever_its_message_is() {
    let mut queue = filled(3000);
    for _ in 0..2 {
        get(&mut queue, A, false).unwrap();
    }
    queue.settle(A, Seq(0), Outcome::Return).unwrap();
    for (seq, redelivered) in [(0, true), (1, false), (2, false), (1500, false), (2999, false)] {
        let moved = Home::new(Location { segment: 9999, offset: 8 }, 5);
        let kept = |home| Kept { home, history: marked(redelivered), terms: Terms::default(), body_bytes: 8 };
        assert_eq!(queue.kept(Seq(seq)), Some(kept(home(seq))));
        queue.store(Seq(seq), moved);
        assert_eq!(queue.kept(Seq(seq)), Some(kept(moved)));
    }
    queue.settle(A, Seq(1), Outcome::Ack).unwrap();
    assert_eq!(queue.kept(Seq(1)), None);
    assert_eq!(queue.kept(Seq(3000)), None);
    queue.store(Seq(1), home(1));
    assert_eq!(get(&mut queue, A, true).unwrap().home, Home::new(Location { segment: 9999, offset: 8 }, 5));
}

#[test]
fn what_a_client_fails_with_is_counted_and_what_it_gives_back_is_not() {
    let mut queue = filled(1);
    let mut count = |outcome| {
        let got = get(&mut queue, A, false).unwrap();
        let settled = queue.settle(A, got.seq, outcome).unwrap();
        settled.history.delivery_count
    };
    let outcomes =
        [Outcome::Return, Outcome::Requeue, Outcome::Undelivered, Outcome::Return, Outcome::Requeue];
    assert_eq!(outcomes.map(&mut count), [0, 1, 1, 1, 2]);
    get(&mut queue, A, false).unwrap();
    let mut told = Vec::new();
    queue.release_channel(A, 1, |_, settled| told.push(settled.history.delivery_count));
    assert_eq!(told, [3]);
    assert_eq!(queue.kept(Seq(0)).unwrap().history.delivery_count, 3, "a lost channel has failed");
}

#[test]
fn beyond_its_limit_of_failures_a_message_does_not_come_back() {
    let mut queue = filled(2);
    queue.set_delivery_limit(Some(1));
    let mut end = |outcome| {
        let got = get(&mut queue, A, false).unwrap();
        queue.settle(A, got.seq, outcome).unwrap().end
    };
    assert_eq!(end(Outcome::Requeue), End::Back);
    assert_eq!(end(Outcome::Return), End::Back);
    assert_eq!(end(Outcome::Requeue), End::Left(Reason::DeliveryLimit, Some(message(0))));
    assert_eq!((queue.ready(), queue.counters().exhausted), (1, 1));
    queue.set_delivery_limit(Some(u64::from(u16::MAX)));
    for _ in 0..=u16::MAX {
        get(&mut queue, A, false).unwrap();
        assert_eq!(queue.settle(A, Seq(1), Outcome::Requeue).unwrap().end, End::Back);
    }
    queue.set_delivery_limit(Some(3));
    let history = History { redelivered: true, delivery_count: u16::MAX };
    assert_eq!(queue.exhausted(), [(Seq(1), history)], "a lower limit finds what is above it");
    assert_eq!(queue.exhaust(Seq(1)).unwrap().reason, Reason::DeliveryLimit);
    assert_eq!((queue.ready(), queue.counters().exhausted), (0, 2));
}

#[test]
fn the_front_gives_way_and_stays_until_it_is_read_if_its_body_is_needed() {
    let mut queue = filled(1);
    assert!(matches!(queue.drop_front(), Some(Dropped::Gone(dead)) if dead.message == Some(message(0))));
    assert!(queue.drop_front().is_none());
    let mut backlog = Backlog::default();
    for seq in 0..2 {
        backlog.restore(Seq(seq), home(seq), 8, Terms::default());
    }
    let mut queue = Queue::new(QueueId(1));
    queue.recover(backlog, Seq(2));
    assert!(matches!(queue.drop_front(), Some(Dropped::Gone(dead)) if dead.message.is_none()));
    queue.set_keeps_dead(true);
    assert!(matches!(queue.drop_front(), Some(Dropped::Dying)));
    assert_eq!((queue.ready(), queue.dying(), queue.counters().dropped), (0, 1, 2));
    let dead = queue.fill(Seq(1), home(1), message(1)).unwrap();
    assert_eq!((dead.reason, dead.message), (Reason::MaxLen, Some(message(1))));
}

#[test]
fn a_recovered_queue_goes_on_where_it_was() {
    let mut queue = Queue::new(QueueId(1));
    let mut backlog = Backlog::default();
    for seq in [3, 7, 8] {
        backlog.restore(Seq(seq), home(seq), 0, Terms::default());
    }
    backlog.mark(Seq(7), marked(true));
    queue.recover(backlog, Seq(12));
    assert!(matches!(queue.get(A, true), Asked::Absent), "it has to be read first");
    let wanted = queue.next_read().unwrap();
    assert_eq!(wanted, [3, 7, 8].map(|seq| (Seq(seq), home(seq))));
    assert_eq!(queue.next_read(), None, "one read at a time");
    for (seq, home) in wanted {
        queue.fill(seq, home, message(seq.0));
    }
    queue.read();
    assert_eq!((queue.ready(), queue.counters().published), (3, 3));
    assert_eq!(queue.push(message(12), home(12), Terms::default()), Seq(12));
    assert_eq!(queue.kept(Seq(12)).unwrap().home, home(12));
    queue.add_consumer(consumer(A, 1)).unwrap();
    assert_eq!(marks(&mut queue), [(3, false), (7, true), (8, false), (12, false)]);
    queue.settle(A, Seq(7), Outcome::Requeue).unwrap();
    assert_eq!(marks(&mut queue), [(7, true)]);
}

#[test]
fn a_purge_leaves_the_places_of_what_is_held() {
    let mut queue = filled(100);
    assert_eq!(queue.unheld(), [(Seq(0), Seq(99))]);
    for _ in 0..70 {
        get(&mut queue, A, false).unwrap();
    }
    for seq in (0..70).filter(|seq| ![0, 1, 33, 69].contains(seq)) {
        queue.settle(A, Seq(seq), Outcome::Ack).unwrap();
    }
    assert_eq!(queue.unheld(), [(Seq(2), Seq(32)), (Seq(34), Seq(68)), (Seq(70), Seq(99))]);
    queue.purge();
    assert_eq!(Queue::new(QueueId(1)).unheld(), []);
}
