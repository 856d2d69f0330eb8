//! Publishing: content, checks, routes, returns and confirms.

use ferrymq_protocol::method::confirm;
use ferrymq_protocol::table::{Value, ValueRef};

use super::*;
use crate::topology::Targets;

fn publish_to<'a>(exchange: &'a str, routing_key: &'a str, mandatory: bool) -> basic::Publish<'a> {
    basic::Publish { exchange, routing_key, mandatory, immediate: false }
}

fn with_channel() -> Kit {
    let mut kit = Kit::open();
    kit.queue("q", 1);
    kit.channel(1);
    kit
}

fn confirming() -> Kit {
    let mut kit = with_channel();
    kit.send(1, confirm::Select { no_wait: false });
    kit.expect(1, confirm::SelectOk {});
    kit
}

/// What the publish with this tag on channel 1 waits for.
fn awaiting(tag: u64) -> Awaiting {
    Awaiting::Confirm { channel: ChannelNumber(1), tag }
}

fn table(table: &Table) -> BytesMut {
    let mut octets = BytesMut::new();
    table.encode(&mut octets).unwrap();
    octets
}

#[test]
fn a_message_is_put_together_and_routed() {
    let mut kit = with_channel();
    let body: Vec<u8> = (0..10_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let properties =
        Properties { content_type: Some("text/plain"), delivery_mode: Some(2), ..Properties::default() };
    kit.feed(&published(1, publish_to("", "q", false), properties, &body));
    let publishes = kit.take_publishes();
    let [publish] = &publishes[..] else { panic!("{publishes:?}") };
    assert_eq!((publish.message.exchange(), publish.message.routing_key()), ("", "q"));
    assert_eq!(publish.message.body(), &body);
    assert!(publish.message.persistent() && !publish.returned);
    assert_eq!(publish.awaiting, Awaiting::Nothing);
    assert_eq!(publish.route.targets, Targets::One(QueueId(1)));
    assert_eq!(Properties::decode(publish.message.properties()).unwrap(), properties);
    assert_eq!(kit.session.assembling_bytes(), 0);
    kit.expect_nothing();
}

#[test]
fn an_empty_body_needs_no_body_frame() {
    let mut kit = with_channel();
    kit.publish(1, "q", b"");
    kit.publish(1, "q", b"second");
    let bodies: Vec<_> = kit.take_publishes().iter().map(|publish| publish.message.body().to_vec()).collect();
    assert_eq!(bodies, [&b""[..], b"second"]);
}

#[test]
fn what_is_incomplete_is_counted_and_given_up_with_the_channel() {
    let mut kit = with_channel();
    let mut octets = encoded(1, publish_to("", "q", false));
    frame::encode_header(1, 60, 5_000, &[0, 0], &mut octets);
    frame::encode_body(1, &[0; 2_000], &mut octets);
    kit.feed(&octets);
    assert_eq!(kit.session.assembling_bytes(), 4_000, "what came, and as much room ahead");
    kit.session.shutdown();
    kit.run();
    kit.detach();
    assert_eq!(kit.session.assembling_bytes(), 0);
}

#[test]
fn channels_may_take_turns_between_frames() {
    let mut kit = with_channel();
    kit.channel(2);
    let mut octets = encoded(1, publish_to("", "q", false));
    octets.extend_from_slice(&encoded(2, publish_to("", "q", false)));
    for (channel, size) in [(1, 4), (2, 2)] {
        frame::encode_header(channel, 60, size, &[0, 0], &mut octets);
    }
    for (channel, chunk) in [(1, "ab"), (2, "xy"), (1, "cd")] {
        frame::encode_body(channel, chunk.as_bytes(), &mut octets);
    }
    kit.feed(&octets);
    let bodies: Vec<_> = kit.take_publishes().iter().map(|publish| publish.message.body().to_vec()).collect();
    assert_eq!(bodies, [&b"xy"[..], b"abcd"]);
}

#[test]
fn content_out_of_order_costs_the_connection() {
    let method = encoded(1, publish_to("", "q", false));
    let mut wrong_class = method.clone();
    frame::encode_header(1, 50, 1, &[0, 0], &mut wrong_class);
    let mut no_header = method.clone();
    frame::encode_body(1, b"x", &mut no_header);
    let mut no_body = method.clone();
    frame::encode_header(1, 60, 1, &[0, 0], &mut no_body);
    no_body.extend_from_slice(&method);
    let mut too_much = method.clone();
    frame::encode_header(1, 60, 1, &[0, 0], &mut too_much);
    frame::encode_body(1, b"xyz", &mut too_much);
    let mut unasked = BytesMut::new();
    frame::encode_body(1, b"x", &mut unasked);
    let mut gigantic = method.clone();
    frame::encode_header(1, 60, 536_870_913, &[0, 0], &mut gigantic);
    for (octets, code, text, method) in [
        (
            wrong_class,
            505,
            "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
            (60, 40),
        ),
        (
            no_header,
            505,
            "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
            (60, 40),
        ),
        (
            no_body,
            505,
            "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
            (60, 40),
        ),
        (too_much, 501, "FRAME_ERROR - content body exceeds its announced size by 2 bytes", (60, 40)),
        (unasked, 505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", (0, 0)),
        (gigantic, 501, "FRAME_ERROR - content body of 536870913 bytes is too large", (60, 40)),
    ] {
        let mut kit = with_channel();
        kit.feed(&octets);
        kit.expect_connection_error(code, text, method);
    }
}

#[test]
fn a_message_too_large_is_refused_at_its_header() {
    let options = SessionOptions { max_message_size: 100, ..SessionOptions::default() };
    let mut kit = Kit::open_with(options, &capabilities());
    kit.queue("q", 1);
    kit.channel(1);
    kit.publish(1, "q", &[0; 100]);
    assert_eq!(kit.take_publishes().len(), 1);
    kit.publish(1, "q", &[0; 101]);
    let text = "PRECONDITION_FAILED - message size 101 is larger than configured max size 100";
    kit.expect_channel_error(1, 406, text, (60, 40));
}

#[test]
fn publishes_that_cannot_be_taken_cost_the_channel() {
    let cc = table(&Table::new().with("CC", 5_i32));
    let bcc = table(&Table::new().with("BCC", "q"));
    let none = Properties::default();
    let header = |octets| Properties { headers: Some(TableRef::parse(octets).unwrap()), ..none };
    for (exchange, properties, code, text) in [
        ("nosuch", header(&cc), 404, "NOT_FOUND - no exchange 'nosuch' in vhost '/'"),
        (
            "inner",
            header(&cc),
            403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'",
        ),
        (
            "",
            Properties { reply_to: Some("amq.rabbitmq.reply-to"), expiration: Some("x"), ..none },
            406,
            "PRECONDITION_FAILED - fast reply consumer does not exist",
        ),
        (
            "",
            Properties { expiration: Some("x"), ..header(&cc) },
            406,
            "PRECONDITION_FAILED - invalid expiration 'x': no_integer",
        ),
        (
            "",
            Properties { user_id: Some("other"), ..header(&cc) },
            406,
            "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",signedint}",
        ),
        (
            "",
            header(&bcc),
            406,
            "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"BCC\",longstr}",
        ),
        (
            "",
            Properties { user_id: Some("other"), ..none },
            406,
            "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
        ),
    ] {
        let mut kit = with_channel();
        kit.exchange("inner", ExchangeKind::Fanout, true);
        kit.feed(&published(1, publish_to(exchange, "q", false), properties, b"x"));
        kit.expect_channel_error(1, code, text, (60, 40));
        assert!(kit.commands.is_empty());
    }
}

#[test]
fn a_user_may_name_itself_and_an_impersonator_anybody() {
    let mut kit = with_channel();
    kit.publish_with(1, "q", Properties { user_id: Some("guest"), ..Properties::default() });
    kit.session.allow_impersonation();
    kit.publish_with(1, "q", Properties { user_id: Some("other"), ..Properties::default() });
    assert_eq!(kit.take_publishes().len(), 2);
}

#[test]
fn immediate_is_not_implemented() {
    let mut kit = with_channel();
    kit.send(1, basic::Publish { exchange: "", routing_key: "q", mandatory: false, immediate: true });
    kit.expect_connection_error(540, "NOT_IMPLEMENTED - immediate=true", (60, 40));
}

#[test]
fn properties_that_are_not_properties_cost_the_connection() {
    let mut kit = with_channel();
    let mut octets = encoded(1, publish_to("", "q", false));
    frame::encode_header(1, 60, 0, &[0x80, 0, 200, b'x'], &mut octets);
    kit.feed(&octets);
    let text = "FRAME_ERROR - cannot decode properties: a field reaches past the end";
    kit.expect_connection_error(501, text, (60, 40));
}

#[test]
fn copies_are_routed_and_blind_ones_are_not_shown() {
    let mut kit = with_channel();
    kit.queue("cc", 2);
    kit.queue("bcc", 3);
    let headers = Table::new()
        .with("CC", Value::Array(vec!["cc".into(), Value::I32(7)]))
        .with("BCC", Value::Array(vec!["bcc".into(), "q".into()]))
        .with("mine", true);
    let octets = table(&headers);
    let headers = TableRef::parse(&octets).unwrap();
    kit.publish_with(
        1,
        "q",
        Properties { headers: Some(headers), app_id: Some("a"), ..Properties::default() },
    );
    let publishes = kit.take_publishes();
    assert_eq!(publishes[0].route.targets.queues(), [QueueId(1), QueueId(2), QueueId(3)]);
    let properties = Properties::decode(publishes[0].message.properties()).unwrap();
    assert_eq!(properties.app_id, Some("a"));
    let seen: Vec<_> = properties.headers.unwrap().iter().map(|(name, _)| name).collect();
    assert_eq!(seen, ["CC", "mine"]);
    // Copies of the last message must not stick to the channel's cached route.
    kit.publish(1, "q", b"x");
    assert_eq!(kit.take_publishes()[0].route.targets.queues(), [QueueId(1)]);
}

#[test]
fn a_cached_route_lasts_until_the_topology_changes() {
    let mut kit = with_channel();
    kit.publish(1, "later", b"x");
    kit.publish(1, "later", b"x");
    kit.queue("later", 9);
    kit.publish(1, "later", b"x");
    kit.publish(1, "q", b"x");
    let targets: Vec<_> = kit.take_publishes().into_iter().map(|publish| publish.route.targets).collect();
    assert_eq!(targets, [Targets::None, Targets::None, Targets::One(QueueId(9)), Targets::One(QueueId(1))]);
}

#[test]
fn an_unroutable_message_returns_before_its_confirm() {
    let mut kit = confirming();
    let properties = Properties { message_id: Some("m"), ..Properties::default() };
    kit.feed(&published(1, publish_to("amq.direct", "nowhere", true), properties, b"lost"));
    let returned = basic::Return {
        reply_code: 312,
        reply_text: "NO_ROUTE",
        exchange: "amq.direct",
        routing_key: "nowhere",
    };
    kit.expect(1, returned);
    let (raw, body) = kit.expect_content(1);
    assert_eq!((Properties::decode(&raw).unwrap(), &body[..]), (properties, &b"lost"[..]));
    kit.expect_nothing();
    let publishes = kit.take_publishes();
    assert!(publishes[0].returned);
    assert_eq!(publishes[0].awaiting, awaiting(1));
    kit.applied(0);
    kit.expect(1, ack(1, false));
}

#[test]
fn a_refused_publish_is_nacked_in_its_turn() {
    let mut kit = confirming();
    for body in [&b"1"[..], b"2", b"3", b"4"] {
        kit.publish(1, "q", body);
    }
    let tags: Vec<_> = kit.take_publishes().iter().map(|publish| publish.awaiting).collect();
    assert_eq!(tags, [1, 2, 3, 4].map(awaiting));
    kit.session.refused([awaiting(2), awaiting(3), Awaiting::Confirm { channel: ChannelNumber(7), tag: 1 }]);
    kit.applied(0);
    kit.expect(1, ack(1, false));
    kit.expect(1, basic::Nack { delivery_tag: 3, multiple: true, requeue: false });
    kit.expect(1, ack(4, false));
    kit.expect_nothing();
    let counters = kit.session.totals();
    assert_eq!((counters.publish, counters.confirm, counters.refused), (4, 2, 2));
}

#[test]
fn an_unroutable_message_that_may_get_lost_is_confirmed() {
    let mut kit = confirming();
    kit.publish(1, "nowhere", b"lost");
    assert!(!kit.take_publishes()[0].returned);
    kit.applied(0);
    kit.expect(1, ack(1, false));
    kit.expect_nothing();
}

#[test]
fn confirms_of_a_turn_fold_into_one() {
    let mut kit = confirming();
    for _ in 0..5 {
        kit.publish(1, "q", b"x");
    }
    kit.expect_nothing();
    kit.commands.clear();
    kit.applied(0);
    kit.expect(1, ack(5, true));
    kit.publish(1, "q", b"x");
    kit.commands.clear();
    kit.applied(0);
    kit.expect(1, ack(6, false));
    assert_eq!(kit.session.totals().confirm, 6);
}

#[test]
fn a_confirm_waits_for_the_disk_and_the_next_ones_wait_behind_it() {
    let mut kit = confirming();
    kit.publish(1, "q", b"transient");
    kit.publish_with(1, "q", Properties { delivery_mode: Some(2), ..Properties::default() });
    kit.commands.clear();
    kit.applied(7);
    kit.expect(1, ack(1, false));
    kit.publish(1, "q", b"transient");
    kit.commands.clear();
    kit.applied(0);
    kit.publish_with(1, "q", Properties { delivery_mode: Some(2), ..Properties::default() });
    kit.commands.clear();
    kit.applied(9);
    kit.durable(6);
    kit.expect_nothing();
    kit.durable(8);
    kit.expect(1, ack(3, true));
    kit.durable(9);
    kit.expect(1, ack(4, false));
    kit.expect_nothing();
}

#[test]
fn confirm_select_may_be_silent_and_repeated() {
    let mut kit = with_channel();
    kit.send(1, confirm::Select { no_wait: true });
    kit.expect_nothing();
    kit.publish(1, "q", b"x");
    assert_eq!(kit.take_publishes()[0].awaiting, awaiting(1));
    kit.applied(0);
    kit.expect(1, ack(1, false));
    kit.send(1, confirm::Select { no_wait: false });
    kit.expect(1, confirm::SelectOk {});
    kit.publish(1, "q", b"x");
    kit.commands.clear();
    kit.applied(0);
    kit.expect(1, ack(2, false));
}

#[test]
fn a_reply_address_replaces_the_pseudo_queue() {
    let mut kit = with_channel();
    kit.send(1, consume("amq.rabbitmq.reply-to", "replies", true));
    let Request::ConsumeReplies { channel, consumer, token } = kit.request() else { panic!() };
    assert_eq!(channel, ChannelKey(101));
    kit.reply(1, Reply::Consuming(consumer));
    kit.expect(1, basic::ConsumeOk { consumer_tag: "replies" });
    let request =
        Properties { reply_to: Some("amq.rabbitmq.reply-to"), app_id: Some("a"), ..Properties::default() };
    kit.publish_with(1, "q", request);
    let publishes = kit.take_publishes();
    let properties = Properties::decode(publishes[0].message.properties()).unwrap();
    let address = properties.reply_to.unwrap();
    assert_eq!(address.strip_prefix("amq.rabbitmq.reply-to.").unwrap().len(), 22);
    assert_eq!(properties.app_id, Some("a"));
    kit.publish(1, address, b"the answer");
    assert_eq!(kit.take_publishes()[0].route.targets, Targets::ReplyTo(token.0));
    kit.deliver(1, consumer, 0, b"the answer");
    kit.skip(3);
    kit.send(1, ack(1, false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", (60, 80));
}

#[test]
fn large_bodies_leave_in_frames_that_were_agreed_on() {
    let mut kit = Kit::with(SessionOptions::default());
    kit.log_in(&capabilities());
    kit.tune(2_047, 131_072, 0);
    kit.open_vhost();
    kit.channel(1);
    let consumer = kit.consumer(1, "c", true);
    let body: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 253).unwrap()).collect();
    kit.deliver(1, consumer, 0, &body);
    kit.skip(2);
    let mut found = Vec::new();
    while let Some(octets) = kit.pop_frame() {
        assert!(octets.len() <= 131_072);
        found.extend_from_slice(&octets[7..octets.len() - 1]);
    }
    assert_eq!(found, body);
    assert_eq!(kit.session.buffered_bytes(), 0);
}

#[test]
fn headers_are_compared_by_headers_exchanges() {
    use crate::model::{BindingDefinition, Destination, RoutingKey};
    let mut kit = with_channel();
    let definition = BindingDefinition {
        source: "amq.headers".into(),
        destination: Destination::Queue("q".into()),
        routing_key: RoutingKey::from(""),
        arguments: Table::new().with("colour", "red"),
        origin: Origin::Client,
    };
    kit.topology.bind(definition, None).unwrap();
    for (colour, targets) in [("red", Targets::One(QueueId(1))), ("blue", Targets::None)] {
        let octets = table(&Table::new().with("colour", colour));
        let headers = TableRef::parse(&octets).unwrap();
        assert_eq!(headers.get("colour"), Some(ValueRef::LongString(colour.as_bytes())));
        let properties = Properties { headers: Some(headers), ..Properties::default() };
        kit.feed(&published(1, publish_to("amq.headers", "", false), properties, b"x"));
        assert_eq!(kit.take_publishes()[0].route.targets, targets);
    }
}
