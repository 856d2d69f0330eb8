//! The end of a connection.

use super::*;
use crate::session::Blame;

fn goodbye() -> connection::Close<'static> {
    connection::Close { reply_code: 200, reply_text: "Normal shutdown", class_id: 0, method_id: 0 }
}

#[test]
fn exclusive_queues_go_before_close_ok() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(0, goodbye());
    kit.expect_nothing();
    assert!(matches!(kit.step, Step::Detach), "{:?}", kit.step);
    kit.detach();
    kit.expect(0, connection::CloseOk {});
    assert!(matches!(kit.step, Step::Closed));
    let report = kit.session.close_report().unwrap();
    assert_eq!((report.blame, &*report.text), (Blame::Nobody, "closed by the client: 200 Normal shutdown"));
}

#[test]
fn what_was_said_before_goodbye_is_done_first() {
    let mut kit = Kit::open();
    kit.queue("q", 1);
    kit.channel(1);
    kit.send(1, ferrymq_protocol::method::queue::Purge { queue: "q", no_wait: false });
    kit.request();
    let mut pipelined = published(
        1,
        basic::Publish { exchange: "", routing_key: "q", mandatory: false, immediate: false },
        Properties::default(),
        b"last words",
    );
    pipelined.extend_from_slice(&encoded(0, goodbye()));
    kit.feed(&pipelined);
    assert!(matches!(kit.step, Step::NeedInput), "{:?}", kit.step);
    kit.reply(1, Reply::QueuePurged { messages: 0 });
    assert!(matches!(kit.step, Step::NeedTurn), "{:?}", kit.step);
    assert_eq!(kit.take_publishes().len(), 1);
    kit.applied(0);
    assert!(matches!(kit.step, Step::Detach), "{:?}", kit.step);
}

#[test]
fn after_an_error_only_close_ok_matters() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(0, connection::TuneOk { channel_max: 1, frame_max: 4_096, heartbeat: 0 });
    kit.expect_connection_error(
        504,
        "CHANNEL_ERROR - unexpected method in connection state running",
        (10, 31),
    );
    kit.publish(1, "q", b"x");
    assert!(kit.commands.is_empty());
    kit.expect_nothing();
    kit.send(0, connection::CloseOk {});
    assert!(matches!(kit.step, Step::Closed));
}

#[test]
fn a_peer_that_never_answers_close_is_left_after_thirty_seconds() {
    let mut kit = Kit::open();
    kit.session.shutdown();
    kit.run();
    let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    kit.expect_connection_error(320, text, (0, 0));
    assert_eq!(kit.session.deadline(), Some(kit.now + Duration::from_secs(30)));
    kit.pass(Duration::from_secs(29));
    assert!(matches!(kit.step, Step::NeedInput));
    kit.pass(Duration::from_secs(1));
    assert!(matches!(kit.step, Step::Closed));
    assert_eq!(kit.session.close_report().unwrap().blame, Blame::Broker);
}

#[test]
fn a_stream_out_of_step_is_answered_and_close_ok_is_still_found() {
    for (octets, text) in [
        (&[0, 0, 1, 0, 0, 0, 2, 7, 9, 0xCE][..], "FRAME_ERROR - type 0, all octets = <<7,9>>: unknown_frame"),
        (
            &[1, 0, 1, 0, 1, 0, 0, 0][..],
            "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,65536,4088}",
        ),
    ] {
        let mut kit = Kit::open();
        kit.feed(octets);
        kit.expect_connection_error(501, text, (0, 0));
        kit.feed(b"\x01\x02garbage");
        assert!(matches!(kit.step, Step::NeedInput));
        kit.send(0, connection::CloseOk {});
        assert!(matches!(kit.step, Step::Closed));
    }
}

#[test]
fn a_frame_may_be_as_large_as_frame_max_without_its_envelope() {
    let mut kit = Kit::open();
    kit.channel(1);
    let method = basic::Publish { exchange: "", routing_key: "q", mandatory: false, immediate: false };
    let mut octets = encoded(1, method);
    frame::encode_header(1, 60, 4_096, &[0, 0], &mut octets);
    frame::encode_body(1, &[7; 4_096], &mut octets);
    kit.feed(&octets);
    assert_eq!(kit.take_publishes()[0].message.body().len(), 4_096);
}

#[test]
fn a_bad_frame_end_is_a_frame_error() {
    let mut kit = Kit::open();
    kit.feed(&[8, 0, 0, 0, 0, 0, 0, 0xCD]);
    kit.skip(1);
    assert!(kit.session.close_report().unwrap().text.starts_with("FRAME_ERROR - type 8"));
}

#[test]
fn heartbeats_belong_on_channel_0() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.feed(&[8, 0, 1, 0, 0, 0, 0, 0xCE]);
    kit.expect_connection_error(505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", (0, 0));
}

#[test]
fn a_method_without_octets_is_none_and_no_publish_once_more() {
    for published in [false, true] {
        let mut kit = Kit::open();
        kit.channel(1);
        kit.queue("q", 1);
        if published {
            kit.publish(1, "q", b"body");
            kit.take_publishes();
        }
        kit.feed(&[1, 0, 1, 0, 0, 0, 0, 0xCE]);
        let closed = kit.pop_frame().is_some();
        assert!(closed, "it is refused, whether or not something was published before: {published}");
    }
}

#[test]
fn frames_out_of_place_are_quoted() {
    for (octets, code, text) in [
        (
            &[8, 0, 0, 0, 0, 0, 1, b'x', 0xCE][..],
            501,
            "FRAME_ERROR - type 8, all octets = <<\"x\">>: unknown_frame",
        ),
        (&[3, 0, 0, 0, 0, 0, 2, 0, 7, 0xCE][..], 505, "UNEXPECTED_FRAME - type 3, all octets = <<0,7>>"),
        (
            &[3, 0, 0, 0, 0, 0, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 0xCE][..],
            505,
            "UNEXPECTED_FRAME - type 3, first 16 octets = <<1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16>>",
        ),
    ] {
        let mut kit = Kit::open();
        kit.feed(octets);
        kit.expect_connection_error(code, text, (0, 0));
    }
}

#[test]
fn a_new_secret_changes_nothing() {
    let mut kit = Kit::open();
    kit.send(0, connection::UpdateSecret { new_secret: b"token", reason: "expired" });
    kit.expect(0, connection::UpdateSecretOk {});
}

#[test]
fn malformed_methods_cost_the_connection() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.feed(&[1, 0, 1, 0, 0, 0, 5, 0, 60, 0, 80, 1, 0xCE]);
    kit.expect_connection_error(
        501,
        "FRAME_ERROR - cannot decode basic.ack: a field reaches past the end",
        (0, 0),
    );
}

#[test]
fn an_alarm_stops_whoever_publishes_and_nobody_else() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.session.set_alarm(Some("low on memory"));
    kit.send(1, basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false });
    kit.expect(1, basic::QosOk {});
    assert!(!kit.session.reads_paused());
    kit.publish(1, "nowhere", b"x");
    kit.publish(1, "nowhere", b"y");
    kit.expect(0, connection::Blocked { reason: "low on memory" });
    kit.expect_nothing();
    assert!(kit.session.reads_paused());
    assert_eq!(kit.take_publishes().len(), 2);
    kit.session.set_alarm(None);
    kit.session.set_alarm(None);
    kit.run();
    kit.expect(0, connection::Unblocked {});
    kit.expect_nothing();
    assert!(!kit.session.reads_paused());
}

#[test]
fn a_client_that_does_not_know_alarms_is_stopped_without_a_word() {
    let mut kit = Kit::open_with(SessionOptions::default(), &Table::new());
    kit.channel(1);
    kit.session.set_alarm(Some("low on disk"));
    kit.publish(1, "nowhere", b"x");
    assert!(kit.session.reads_paused());
    kit.session.set_alarm(None);
    kit.run();
    kit.expect_nothing();
}

#[test]
fn silence_of_a_client_that_is_not_read_is_not_held_against_it() {
    let mut kit = Kit::new();
    kit.log_in(&capabilities());
    kit.tune(2_047, FRAME_MAX, 10);
    kit.open_vhost();
    kit.channel(1);
    kit.session.set_alarm(Some("low on memory"));
    kit.publish(1, "nowhere", b"x");
    kit.commands.clear();
    for _ in 0..10 {
        kit.pass(Duration::from_secs(10));
        assert!(matches!(kit.step, Step::NeedInput));
    }
    kit.session.set_alarm(None);
    for _ in 0..2 {
        kit.pass(Duration::from_secs(10));
    }
    assert!(matches!(kit.step, Step::Closed));
}
