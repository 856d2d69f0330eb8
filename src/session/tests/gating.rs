//! Replies that wait for the disk, and the frames that wait behind them.

use ferrymq_protocol::method::{confirm, queue, tx};

use super::*;
use crate::model::QueueName;

fn declare(no_wait: bool) -> queue::Declare<'static> {
    queue::Declare {
        queue: "q",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait,
        arguments: TableRef::default(),
    }
}

fn declared() -> Reply {
    Reply::QueueDeclared { name: QueueName::from("q"), messages: 0, consumers: 0 }
}

const DECLARE_OK: queue::DeclareOk<'static> =
    queue::DeclareOk { queue: "q", message_count: 0, consumer_count: 0 };
const QOS: basic::Qos = basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false };

fn with_channels() -> Kit {
    let mut kit = Kit::open();
    kit.queue("q", 1);
    kit.channel(1);
    kit.channel(2);
    kit
}

#[test]
fn a_reply_leaves_when_its_promise_is_on_disk() {
    let mut kit = with_channels();
    kit.send(1, declare(false));
    kit.request();
    kit.reply_gated(1, declared(), 5);
    kit.expect_nothing();
    kit.durable(4);
    kit.expect_nothing();
    kit.durable(5);
    kit.expect(1, DECLARE_OK);
    kit.send(1, declare(false));
    kit.request();
    kit.reply_gated(1, declared(), 5);
    kit.expect(1, DECLARE_OK);
}

#[test]
fn a_waiting_channel_parks_and_the_others_go_on() {
    let mut kit = with_channels();
    kit.send(1, declare(false));
    kit.request();
    kit.reply_gated(1, declared(), 5);
    kit.publish(1, "q", b"one");
    kit.send(1, QOS);
    kit.publish(1, "q", b"two");
    assert!(kit.commands.is_empty());
    assert!(kit.session.buffered_bytes() > 0);
    kit.send(2, QOS);
    kit.expect(2, basic::QosOk {});
    kit.expect_nothing();
    kit.durable(5);
    kit.expect(1, DECLARE_OK);
    kit.expect(1, basic::QosOk {});
    let bodies: Vec<_> = kit.take_publishes().iter().map(|publish| publish.message.body().to_vec()).collect();
    assert_eq!(bodies, [b"one", b"two"]);
    assert_eq!(kit.session.buffered_bytes(), 0);
}

#[test]
fn parked_frames_stop_at_the_next_thing_that_waits() {
    let mut kit = with_channels();
    let mut pipelined = BytesMut::new();
    for _ in 0..3 {
        pipelined.extend_from_slice(&encoded(1, declare(false)));
    }
    pipelined.extend_from_slice(&encoded(1, QOS));
    kit.feed(&pipelined);
    for position in 1..=3 {
        kit.request();
        kit.reply_gated(1, declared(), position);
        kit.expect_nothing();
        kit.durable(position);
        kit.expect(1, DECLARE_OK);
    }
    kit.expect(1, basic::QosOk {});
    assert_eq!(kit.session.buffered_bytes(), 0);
}

#[test]
fn whoever_wants_no_reply_does_not_wait() {
    let mut kit = with_channels();
    let mut pipelined = encoded(1, declare(true));
    pipelined.extend_from_slice(&encoded(1, QOS));
    kit.feed(&pipelined);
    kit.request();
    kit.reply_gated(1, declared(), 5);
    kit.expect(1, basic::QosOk {});
    kit.expect_nothing();
}

#[test]
fn too_much_behind_the_disk_stops_reading() {
    let options = SessionOptions { parked_bytes_max: 10_000, ..SessionOptions::default() };
    let mut kit = Kit::open_with(options, &capabilities());
    kit.queue("q", 1);
    kit.channel(1);
    kit.send(1, declare(false));
    kit.request();
    kit.reply_gated(1, declared(), 5);
    kit.publish(1, "q", &[0; 8_000]);
    assert!(!kit.session.reads_paused());
    kit.publish(1, "q", &[0; 8_000]);
    assert!(kit.session.reads_paused());
    kit.durable(5);
    assert!(!kit.session.reads_paused());
    assert_eq!(kit.take_publishes().len(), 2);
}

#[test]
fn deliveries_do_not_wait() {
    let mut kit = with_channels();
    let consumer = kit.consumer(1, "c", true);
    kit.send(1, declare(false));
    kit.request();
    kit.reply_gated(1, declared(), 5);
    kit.deliver(1, consumer, 1, b"x");
    kit.skip(3);
    kit.durable(5);
    kit.expect(1, DECLARE_OK);
}

#[test]
fn a_cancellation_does_not_overtake_the_answer_to_the_delete_that_caused_it() {
    let mut kit = Kit::open_with(SessionOptions::default(), &capabilities());
    kit.channel(1);
    let consumer = kit.consumer(1, "c", false);
    let delete = queue::Delete { queue: "q", if_unused: false, if_empty: false, no_wait: false };
    kit.send(1, delete);
    kit.request();
    kit.reply_gated(1, Reply::QueueDeleted { messages: 0 }, 5);
    let event = Event::ConsumerCancelled { channel: ChannelNumber(1), consumer };
    kit.session.event(event, LogPosition::START);
    kit.run();
    kit.expect_nothing();
    kit.durable(5);
    kit.expect(1, queue::DeleteOk { message_count: 0 });
    kit.expect(1, basic::Cancel { consumer_tag: "c", no_wait: true });
}

#[test]
fn consume_ok_never_waits_for_its_deliveries_follow_it() {
    let mut kit = with_channels();
    kit.send(1, consume("q", "c", true));
    let Request::Consume(request) = kit.request() else { panic!() };
    kit.reply_gated(1, Reply::Consuming(request.consumer), 5);
    kit.expect(1, basic::ConsumeOk { consumer_tag: "c" });
}

#[test]
fn a_commit_waits_for_the_disk() {
    let mut kit = with_channels();
    kit.send(1, tx::Select {});
    kit.expect(1, tx::SelectOk {});
    kit.publish(1, "q", b"x");
    let mut pipelined = encoded(1, tx::Commit {});
    pipelined.extend_from_slice(&encoded(1, QOS));
    kit.feed(&pipelined);
    assert!(matches!(kit.step, Step::NeedTurn));
    assert!(matches!(&kit.commands[..], [Command::Transaction(commands)] if commands.len() == 1));
    kit.commands.clear();
    kit.applied(3);
    kit.expect_nothing();
    kit.durable(3);
    kit.expect(1, tx::CommitOk {});
    kit.expect(1, basic::QosOk {});
}

#[test]
fn a_close_that_waits_keeps_the_number_taken() {
    let mut kit = with_channels();
    let mut pipelined =
        encoded(1, channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 });
    pipelined.extend_from_slice(&encoded(1, channel::Open {}));
    kit.feed(&pipelined);
    assert!(matches!(kit.request(), Request::CloseChannel(_)));
    kit.reply_gated(1, Reply::ChannelClosed, 8);
    kit.expect_nothing();
    kit.durable(8);
    kit.expect(1, channel::CloseOk {});
    assert!(matches!(kit.request(), Request::OpenChannel));
}

#[test]
fn frames_parked_behind_a_mistake_are_discarded() {
    let mut kit = with_channels();
    let mut pipelined = encoded(1, declare(false));
    pipelined.extend_from_slice(&encoded(1, ack(1, false)));
    pipelined.extend_from_slice(&encoded(1, QOS));
    kit.feed(&pipelined);
    kit.request();
    kit.reply_gated(1, declared(), 2);
    kit.durable(2);
    kit.expect(1, DECLARE_OK);
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", (60, 80));
    kit.reply(1, Reply::ChannelClosed);
    kit.expect_nothing();
    assert_eq!(kit.session.buffered_bytes(), 0);
}

#[test]
fn frames_parked_behind_the_end_of_the_connection_are_dropped() {
    let mut kit = with_channels();
    let mut pipelined = encoded(1, declare(false));
    pipelined.extend_from_slice(&encoded(1, channel::Flow { active: false }));
    pipelined.extend_from_slice(&encoded(1, QOS));
    kit.feed(&pipelined);
    kit.request();
    kit.reply_gated(1, declared(), 2);
    kit.durable(2);
    kit.expect(1, DECLARE_OK);
    kit.expect_connection_error(540, "NOT_IMPLEMENTED - active=false", (20, 20));
    assert_eq!(kit.session.buffered_bytes(), 0);
}

#[test]
fn confirms_of_many_channels_are_released_together() {
    let mut kit = with_channels();
    for channel in [1, 2] {
        kit.send(channel, confirm::Select { no_wait: true });
        for _ in 0..channel {
            kit.publish_with(channel, "q", Properties { delivery_mode: Some(2), ..Properties::default() });
        }
    }
    kit.commands.clear();
    kit.applied(4);
    kit.expect_nothing();
    kit.durable(4);
    kit.expect(1, ack(1, false));
    kit.expect(2, ack(2, true));
}
