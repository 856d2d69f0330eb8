//! Consumers, deliveries, acknowledgements and `basic.get`.

use ferrymq_protocol::table::{TableRef, ValueRef};

use super::*;
use crate::topology::Refusal;
use crate::vhost::Got;

fn consuming() -> (Kit, ConsumerKey) {
    let mut kit = Kit::open();
    kit.channel(1);
    let consumer = kit.consumer(1, "c", false);
    (kit, consumer)
}

fn deliver(delivery_tag: u64) -> basic::Deliver<'static> {
    basic::Deliver { consumer_tag: "c", delivery_tag, redelivered: false, exchange: "", routing_key: "q" }
}

fn cancel(consumer_tag: &str, no_wait: bool) -> basic::Cancel<'_> {
    basic::Cancel { consumer_tag, no_wait }
}

#[test]
fn a_delivery_carries_tag_and_content() {
    let (mut kit, consumer) = consuming();
    for (seq, body) in [(10, &b"one"[..]), (11, b"")] {
        kit.deliver(1, consumer, seq, body);
        kit.expect(1, deliver(seq - 9));
        let (properties, found) = kit.expect_content(1);
        assert_eq!((&properties[..], &found[..]), (&[0, 0][..], body));
    }
    kit.expect_nothing();
    kit.send(1, ack(2, false));
    assert_eq!(kit.take_settlements(), [(11, Outcome::Ack)]);
    assert_eq!(kit.session.totals().deliver, 2);
}

#[test]
fn what_was_written_is_reported_as_drained() {
    let (mut kit, consumer) = consuming();
    kit.deliver(1, consumer, 1, b"body");
    let delivery_cost = 64 + message("", "q", b"body").cost();
    assert_eq!(kit.session.take_drained(), delivery_cost);
    assert_eq!(kit.session.take_drained(), 0);
}

#[test]
fn giving_a_message_back_may_count_as_a_failure() {
    let options = SessionOptions { nack_counts_as_failure: true, ..SessionOptions::default() };
    for method in [Method::from(nack(1, false, true)), basic::RecoverAsync { requeue: true }.into()] {
        let mut kit = Kit::open_with(options.clone(), &capabilities());
        kit.channel(1);
        let consumer = kit.consumer(1, "c", false);
        kit.deliver_quietly(1, consumer, 1..=1);
        kit.send(1, method);
        assert_eq!(kit.take_settlements(), [(1, Outcome::Requeue)]);
    }
}

#[test]
fn settlements_name_the_messages() {
    for (method, expected) in [
        (Method::from(ack(2, false)), vec![(2, Outcome::Ack)]),
        (ack(3, true).into(), vec![(1, Outcome::Ack), (2, Outcome::Ack), (3, Outcome::Ack)]),
        (ack(0, true).into(), (1..=4).map(|seq| (seq, Outcome::Ack)).collect()),
        (nack(2, true, true).into(), vec![(1, Outcome::Return), (2, Outcome::Return)]),
        (nack(0, true, false).into(), (1..=4).map(|seq| (seq, Outcome::Discard)).collect()),
        (basic::Reject { delivery_tag: 4, requeue: true }.into(), vec![(4, Outcome::Requeue)]),
        (basic::Reject { delivery_tag: 4, requeue: false }.into(), vec![(4, Outcome::Discard)]),
        (basic::RecoverAsync { requeue: true }.into(), (1..=4).map(|seq| (seq, Outcome::Return)).collect()),
    ] {
        let (mut kit, consumer) = consuming();
        kit.deliver_quietly(1, consumer, 1..=4);
        kit.send(1, method);
        assert_eq!(kit.take_settlements(), expected);
        kit.expect_nothing();
    }
}

#[test]
fn tags_that_wait_for_nothing_cost_the_channel() {
    for (method, id, tag) in [
        (Method::from(ack(3, false)), 80, 3),
        (ack(3, true).into(), 80, 3),
        (ack(0, false).into(), 80, 0),
        (ack(1, false).into(), 80, 1),
        (nack(1, true, true).into(), 120, 1),
        (basic::Reject { delivery_tag: 1, requeue: true }.into(), 90, 1),
    ] {
        let (mut kit, consumer) = consuming();
        kit.deliver_quietly(1, consumer, 1..=2);
        kit.send(1, ack(1, false));
        kit.commands.clear();
        kit.send(1, method);
        let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
        kit.expect_channel_error(1, 406, &text, (60, id));
    }
}

#[test]
fn all_of_nothing_is_fine() {
    let (mut kit, _) = consuming();
    kit.send(1, ack(0, true));
    kit.expect_nothing();
    assert!(kit.commands.is_empty());
}

#[test]
fn more_settlements_than_a_burst_holds_keep_their_order() {
    let (mut kit, consumer) = consuming();
    kit.deliver_quietly(1, consumer, 1..=2_500);
    let mut pipelined = encoded(1, ack(0, true));
    pipelined
        .extend_from_slice(&encoded(1, basic::Qos { prefetch_size: 0, prefetch_count: 7, global: true }));
    kit.feed(&pipelined);
    let mut seqs = Vec::new();
    for size in [1_000, 1_000] {
        assert!(matches!(kit.step, Step::NeedTurn));
        assert_eq!(kit.commands.len(), size);
        seqs.extend(kit.take_settlements().into_iter().map(|(seq, _)| seq));
        kit.applied(0);
    }
    let last = kit.commands.pop();
    let limit = Some(Command::LimitChannel { channel: ChannelKey(101), prefetch: 7 });
    assert_eq!(format!("{last:?}"), format!("{limit:?}"));
    seqs.extend(kit.take_settlements().into_iter().map(|(seq, _)| seq));
    assert_eq!(seqs, (1..=2_500).collect::<Vec<_>>());
}

#[test]
fn recover_answers_and_can_only_requeue() {
    let (mut kit, consumer) = consuming();
    kit.deliver_quietly(1, consumer, 1..=2);
    kit.send(1, basic::Recover { requeue: true });
    assert_eq!(kit.take_settlements(), [(1, Outcome::Return), (2, Outcome::Return)]);
    kit.expect(1, basic::RecoverOk {});
    kit.send(1, basic::Recover { requeue: false });
    kit.expect_connection_error(540, "NOT_IMPLEMENTED - requeue=false", (60, 110));
}

#[test]
fn deliveries_without_acknowledgement_leave_no_tag() {
    let mut kit = Kit::open();
    kit.channel(1);
    let consumer = kit.consumer(1, "c", true);
    kit.deliver_quietly(1, consumer, [1]);
    assert_eq!(kit.session.totals().deliver_no_ack, 1);
    kit.send(1, ack(1, false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", (60, 80));
}

#[test]
fn consumers_get_the_prefetch_that_was_set_before_them() {
    let mut kit = Kit::open();
    kit.channel(1);
    for prefetch_count in [0, 5] {
        kit.send(1, basic::Qos { prefetch_size: 0, prefetch_count, global: false });
        kit.expect(1, basic::QosOk {});
        assert!(kit.commands.is_empty());
        let arguments = Table::new().with("x-priority", 3_i32);
        let mut octets = BytesMut::new();
        arguments.encode(&mut octets).unwrap();
        let method = basic::Consume {
            exclusive: true,
            arguments: TableRef::parse(&octets).unwrap(),
            ..consume("q\r\n", "", false)
        };
        kit.send(1, method);
        let Request::Consume(request) = kit.request() else { panic!() };
        assert_eq!((request.queue.as_str(), request.prefetch), ("q", prefetch_count));
        assert!(request.exclusive && !request.no_ack);
        assert_eq!(request.arguments, arguments);
        kit.reply(1, Reply::Consuming(request.consumer));
        let octets = kit.pop_frame().unwrap();
        assert!(String::from_utf8_lossy(&octets).contains("amq.ctag-"));
    }
}

#[test]
fn prefetch_in_bytes_is_not_implemented() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, basic::Qos { prefetch_size: 10, prefetch_count: 0, global: false });
    kit.expect_connection_error(540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)", (60, 10));
}

#[test]
fn a_consumer_tag_is_used_once_at_a_time() {
    let (mut kit, consumer) = consuming();
    kit.send(1, cancel("c", false));
    assert!(matches!(kit.request(), Request::Cancel { consumer: key, .. } if key == consumer));
    kit.reply(1, Reply::Cancelled(consumer));
    kit.expect(1, basic::CancelOk { consumer_tag: "c" });
    kit.consumer(1, "c", false);
    kit.send(1, consume("q", "c", false));
    kit.expect_connection_error(530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'", (60, 20));
}

#[test]
fn consumers_per_channel_are_limited() {
    let options = SessionOptions { consumers_per_channel_max: 1, ..SessionOptions::default() };
    let mut kit = Kit::open_with(options, &capabilities());
    kit.channel(1);
    kit.consumer(1, "a", false);
    kit.send(1, consume("q", "b", false));
    kit.expect_connection_error(530, "NOT_ALLOWED - reached maximum (1) of consumers per channel", (60, 20));
}

#[test]
fn the_reply_consumer_is_limited_but_does_not_count() {
    let options = SessionOptions { consumers_per_channel_max: 1, ..SessionOptions::default() };
    let mut kit = Kit::open_with(options, &capabilities());
    kit.channel(1);
    kit.send(1, consume("amq.rabbitmq.reply-to", "r", true));
    let Request::ConsumeReplies { consumer, .. } = kit.request() else { panic!() };
    kit.reply(1, Reply::Consuming(consumer));
    kit.expect(1, basic::ConsumeOk { consumer_tag: "r" });
    kit.consumer(1, "a", false);
    kit.send(1, consume("amq.rabbitmq.reply-to", "s", false));
    kit.expect_connection_error(530, "NOT_ALLOWED - reached maximum (1) of consumers per channel", (60, 20));
}

#[test]
fn a_reused_tag_is_told_before_what_is_wrong_with_the_reply_consumer() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.channel(2);
    kit.send(1, consume("amq.rabbitmq.reply-to", "r", true));
    let Request::ConsumeReplies { consumer, .. } = kit.request() else { panic!() };
    kit.reply(1, Reply::Consuming(consumer));
    kit.expect(1, basic::ConsumeOk { consumer_tag: "r" });
    kit.send(1, consume("amq.rabbitmq.reply-to", "r", true));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - reply consumer already set", (60, 20));
    kit.consumer(2, "c", false);
    kit.send(2, consume("amq.rabbitmq.reply-to", "c", false));
    kit.expect_connection_error(530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'", (60, 20));
}

#[test]
fn a_quorum_queue_with_a_single_active_consumer_is_not_fetched_from() {
    let quorum = Table::new().with("x-queue-type", "quorum");
    let mut kit = Kit::open();
    kit.channel(1);
    kit.queue_with("many", 1, quorum.clone());
    kit.queue_with("off", 2, quorum.clone().with("x-single-active-consumer", false));
    kit.queue_with("classic", 3, Table::new().with("x-single-active-consumer", true));
    kit.queue_with("q", 4, quorum.with("x-single-active-consumer", true));
    for queue in ["many", "off", "classic", "missing"] {
        kit.send(1, basic::Get { queue, no_ack: true });
        assert!(matches!(kit.request(), Request::Get(_)), "{queue}");
        kit.reply(1, Reply::Got(None));
        kit.expect(1, basic::GetEmpty {});
    }
    kit.send(1, basic::Get { queue: "q", no_ack: true });
    let text = "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not supported by quorum queues with single active consumer";
    kit.expect_channel_error(1, 405, text, (60, 70));
}

#[test]
fn cancelling_nobody_is_fine() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, cancel("nobody", true));
    kit.expect_nothing();
    kit.send(1, cancel("nobody", false));
    kit.expect(1, basic::CancelOk { consumer_tag: "nobody" });
}

#[test]
fn a_refused_consumer_leaves_no_trace() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, consume("nosuch", "c", false));
    kit.request();
    kit.refuse(1, Refusal::NoQueue { queue: "nosuch".into(), vhost: "/".into() });
    kit.expect_channel_error(1, 404, "NOT_FOUND - no queue 'nosuch' in vhost '/'", (60, 20));
}

#[test]
fn nowait_consumers_start_silently() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, basic::Consume { no_wait: true, ..consume("q", "c", true) });
    let Request::Consume(request) = kit.request() else { panic!() };
    kit.reply(1, Reply::Consuming(request.consumer));
    kit.expect_nothing();
    kit.deliver(1, request.consumer, 1, b"x");
    kit.expect(1, deliver(1));
    kit.skip(2);
    kit.send(1, cancel("c", true));
    kit.request();
    kit.reply(1, Reply::Cancelled(request.consumer));
    kit.expect_nothing();
}

#[test]
fn a_consumer_that_lost_its_queue_is_cancelled() {
    for (properties, told) in [(capabilities(), true), (Table::new(), false)] {
        let mut kit = Kit::open_with(SessionOptions::default(), &properties);
        kit.channel(1);
        let consumer = kit.consumer(1, "c", false);
        let event = Event::ConsumerCancelled { channel: ChannelNumber(1), consumer };
        kit.session.event(event, LogPosition::START);
        kit.run();
        if told {
            kit.expect(1, cancel("c", true));
        }
        kit.expect_nothing();
        kit.consumer(1, "c", false);
    }
}

#[test]
fn a_cancel_that_crosses_the_brokers_is_answered_once() {
    let (mut kit, consumer) = consuming();
    kit.send(1, cancel("c", false));
    kit.request();
    let event = Event::ConsumerCancelled { channel: ChannelNumber(1), consumer };
    kit.session.event(event, LogPosition::START);
    kit.reply(1, Reply::Cancelled(consumer));
    kit.expect(1, basic::CancelOk { consumer_tag: "c" });
    kit.expect_nothing();
}

#[test]
fn a_delivery_that_cannot_be_sent_goes_back_as_undelivered() {
    let (mut kit, consumer) = consuming();
    kit.send(1, ack(9, false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 9", (60, 80));
    kit.deliver(1, consumer, 5, b"x");
    kit.expect_nothing();
    assert_eq!(kit.take_settlements(), [(5, Outcome::Undelivered)]);
    assert!(kit.session.take_drained() > 0);
}

#[test]
fn get_hands_over_one_message_or_says_that_there_is_none() {
    let mut kit = Kit::open();
    kit.channel(1);
    for (no_ack, tag) in [(false, 1), (true, 2)] {
        kit.send(1, basic::Get { queue: "q", no_ack });
        let Request::Get(get) = kit.request() else { panic!() };
        assert_eq!((get.queue.as_str(), get.no_ack), ("q", no_ack));
        let message = message("x", "k", b"body");
        let got = Got {
            queue: QueueId(1),
            seq: Seq(3),
            redelivered: true,
            delivery_count: 0,
            remaining: 7,
            message,
        };
        kit.reply(1, Reply::Got(Some(got)));
        let get_ok = basic::GetOk {
            delivery_tag: tag,
            redelivered: true,
            exchange: "x",
            routing_key: "k",
            message_count: 7,
        };
        kit.expect(1, get_ok);
        assert_eq!(&kit.expect_content(1).1[..], b"body");
    }
    kit.send(1, basic::Get { queue: "q", no_ack: false });
    kit.request();
    kit.reply(1, Reply::Got(None));
    kit.expect(1, basic::GetEmpty {});
    kit.send(1, ack(0, true));
    assert_eq!(kit.take_settlements(), [(3, Outcome::Ack)]);
    let totals = kit.session.totals();
    assert_eq!((totals.get, totals.get_no_ack, totals.get_empty, totals.redeliver), (1, 1, 1, 2));
}

#[test]
fn failures_are_told_in_a_header_beside_those_of_the_publisher() {
    let mut kit = Kit::open();
    kit.channel(1);
    let headers = Table::new().with("x-delivery-count", 9_i64).with("h", "v");
    let mut table = BytesMut::new();
    headers.encode(&mut table).unwrap();
    let headers = Some(TableRef::parse(&table).unwrap());
    let with_headers = Properties { headers, message_id: Some("id"), ..Properties::default() };
    for properties in [Properties::default(), with_headers] {
        let mut encoded = BytesMut::new();
        properties.encode(&mut encoded).unwrap();
        let parts = MessageParts { exchange: "", routing_key: "q", properties: &encoded, persistent: false };
        let message = Message::new(parts, Bytes::from_static(b"body"));
        kit.send(1, basic::Get { queue: "q", no_ack: true });
        kit.request();
        let (queue, seq) = (QueueId(1), Seq(3));
        let got = Got { queue, seq, redelivered: true, delivery_count: 2, remaining: 0, message };
        kit.reply(1, Reply::Got(Some(got)));
        kit.skip(1);
        let (told, body) = kit.expect_content(1);
        let told = Properties::decode(&told).unwrap();
        assert_eq!((told.message_id, &body[..]), (properties.message_id, &b"body"[..]));
        let told = told.headers.unwrap();
        assert_eq!(told.get("x-delivery-count"), Some(ValueRef::I64(2)));
        assert_eq!(told.iter().count(), 1 + usize::from(headers == properties.headers));
    }
}

#[test]
fn a_channel_has_one_reply_consumer_which_cannot_acknowledge() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.channel(2);
    kit.send(1, consume("amq.rabbitmq.reply-to", "r", false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge", (60, 20));
    kit.send(2, consume("amq.rabbitmq.reply-to", "r", true));
    let Request::ConsumeReplies { consumer, .. } = kit.request() else { panic!() };
    kit.reply(2, Reply::Consuming(consumer));
    kit.expect(2, basic::ConsumeOk { consumer_tag: "r" });
    kit.send(2, consume("amq.rabbitmq.reply-to", "s", true));
    kit.expect_channel_error(2, 406, "PRECONDITION_FAILED - reply consumer already set", (60, 20));
}

#[test]
fn no_queue_was_declared_before() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, consume("", "c", false));
    kit.expect_channel_error(1, 404, "NOT_FOUND - no previously declared queue", (60, 20));
}
