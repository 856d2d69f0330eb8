//! Opening, closing and failing channels.

use super::*;

#[test]
fn the_first_method_of_a_channel_opens_it() {
    let mut kit = Kit::open();
    kit.send(1, basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false });
    kit.expect_connection_error(504, "CHANNEL_ERROR - expected 'channel.open'", (60, 10));
}

#[test]
fn a_channel_opens_once() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, channel::Open {});
    kit.expect_connection_error(504, "CHANNEL_ERROR - second 'channel.open' seen", (20, 10));
}

#[test]
fn channels_are_counted_not_numbered() {
    let options = SessionOptions { channel_max: 2, ..SessionOptions::default() };
    let mut kit = Kit::with(options);
    kit.log_in(&capabilities());
    kit.tune(2, 4_096, 0);
    kit.open_vhost();
    kit.channel(60_000);
    kit.channel(7);
    kit.send(1, channel::Open {});
    let text = "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)";
    kit.expect_connection_error(530, text, (0, 0));
}

#[test]
fn a_closed_channel_gives_its_number_back() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, channel::Close { reply_code: 200, reply_text: "bye", class_id: 0, method_id: 0 });
    assert!(matches!(kit.request(), Request::CloseChannel(ChannelKey(101))));
    kit.expect_nothing();
    kit.reply(1, Reply::ChannelClosed);
    kit.expect(1, channel::CloseOk {});
    kit.channel(1);
}

#[test]
fn a_failed_channel_discards_until_its_failure_was_seen() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.channel(2);
    kit.send(1, ack(1, false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", (60, 80));
    kit.publish(1, "q", b"late");
    kit.send(1, basic::Qos { prefetch_size: 1, prefetch_count: 1, global: false });
    kit.reply(1, Reply::ChannelClosed);
    kit.expect_nothing();
    kit.send(2, basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false });
    kit.expect(2, basic::QosOk {});
    kit.send(1, channel::CloseOk {});
    kit.expect_nothing();
    kit.channel(1);
}

#[test]
fn failures_of_channels_are_kept_for_the_log() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, ack(1, false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", (60, 80));
    let faults = kit.session.take_channel_faults();
    assert_eq!(faults, ["channel 1: PRECONDITION_FAILED - unknown delivery tag 1 (406, basic.ack)"]);
    assert!(kit.session.take_channel_faults().is_empty());
}

#[test]
fn a_channel_reopened_before_the_vhost_has_let_go_waits() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, ack(1, false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", (60, 80));
    let mut pipelined = encoded(1, channel::CloseOk {});
    pipelined.extend_from_slice(&encoded(1, channel::Open {}));
    kit.feed(&pipelined);
    assert!(kit.commands.is_empty());
    kit.reply(1, Reply::ChannelClosed);
    assert!(matches!(kit.request(), Request::OpenChannel));
    kit.reply(1, Reply::ChannelOpened(ChannelKey(101)));
    kit.expect(1, channel::OpenOk {});
    kit.expect_nothing();
}

#[test]
fn both_sides_may_close_a_channel_at_once() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, ack(1, false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", (60, 80));
    kit.reply(1, Reply::ChannelClosed);
    kit.send(1, channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 });
    kit.expect(1, channel::CloseOk {});
    kit.send(1, channel::CloseOk {});
    kit.channel(1);
}

#[test]
fn flow_can_only_be_on() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, channel::Flow { active: true });
    kit.expect(1, channel::FlowOk { active: true });
    kit.send(1, channel::Flow { active: false });
    kit.expect_connection_error(540, "NOT_IMPLEMENTED - active=false", (20, 20));
}

#[test]
fn methods_that_only_a_server_sends_are_unimplemented() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.send(1, basic::GetEmpty {});
    kit.expect_connection_error(503, "COMMAND_INVALID - unimplemented method", (60, 72));
}

#[test]
fn an_unknown_method_is_unimplemented() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.feed(&[1, 0, 1, 0, 0, 0, 4, 0, 99, 0, 1, 0xCE]);
    kit.expect_connection_error(503, "COMMAND_INVALID - unimplemented method", (99, 1));
}

#[test]
fn a_ticket_is_to_be_had() {
    use ferrymq_protocol::method::access;
    let mut kit = Kit::open();
    kit.channel(1);
    let request = access::Request {
        realm: "/data",
        exclusive: false,
        passive: true,
        active: true,
        write: true,
        read: true,
    };
    kit.send(1, request);
    kit.expect(1, access::RequestOk { ticket: 1 });
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let mut kit = Kit::open();
    kit.channel(1);
    let tag = "\u{e9}".repeat(120);
    kit.consumer(1, &tag, true);
    kit.send(1, consume("q", &tag, true));
    let octets = kit.pop_frame().unwrap();
    let (frame, _) = frame::decode_frame(&octets, usize::MAX).unwrap().unwrap();
    let Ok(Method::ConnectionClose(close)) = Method::decode(frame.payload) else { panic!("{frame:?}") };
    assert_eq!(close.reply_code, 530);
    assert_eq!(close.reply_text.len(), 254);
    assert!(close.reply_text.ends_with("\u{e9}..."));
    assert!(close.reply_text.starts_with("NOT_ALLOWED - attempt to reuse consumer tag '\u{e9}"));
}

#[test]
fn counters_survive_their_channel() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.publish(1, "nowhere", b"x");
    kit.commands.clear();
    assert_eq!(kit.session.channels().next().unwrap().1.publish, 1);
    kit.send(1, channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 });
    kit.commands.clear();
    kit.reply(1, Reply::ChannelClosed);
    assert_eq!(kit.session.channels().len(), 0);
    assert_eq!((kit.session.totals().publish, kit.session.totals().dropped), (1, 1));
}
