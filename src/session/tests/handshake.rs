//! From the protocol header to the open vhost.

use ferrymq_protocol::frame::HEARTBEAT_FRAME;
use ferrymq_protocol::table::{Value, ValueRef};

use super::*;
use crate::session::{Blame, LoginRefusal, Mechanism, OpenRefusal};

fn report(kit: &Kit) -> &str {
    &kit.session.close_report().expect("a report").text
}

#[test]
fn the_server_offers_what_clients_look_for() {
    let mut kit = Kit::new();
    kit.feed(&PROTOCOL_HEADER);
    let octets = kit.pop_frame().unwrap();
    let (frame, _) = frame::decode_frame(&octets, usize::MAX).unwrap().unwrap();
    let Ok(Method::ConnectionStart(start)) = Method::decode(frame.payload) else { panic!("{frame:?}") };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!((start.mechanisms, start.locales), (&b"PLAIN AMQPLAIN"[..], &b"en_US"[..]));
    let names: Vec<_> = start.server_properties.iter().map(|(name, _)| name).collect();
    let expected =
        ["capabilities", "cluster_name", "copyright", "information", "platform", "product", "version"];
    assert_eq!(names, expected);
    let Some(ValueRef::Table(capabilities)) = start.server_properties.get("capabilities") else { panic!() };
    for name in ["publisher_confirms", "basic.nack", "connection.blocked", "direct_reply_to"] {
        assert_eq!(capabilities.get(name), Some(ValueRef::Boolean(true)), "{name}");
    }
}

#[test]
fn a_login_leads_to_an_open_vhost() {
    let mut kit = Kit::new();
    kit.feed(&PROTOCOL_HEADER);
    kit.skip(1);
    kit.start_ok(&capabilities(), "PLAIN", b"\0guest\0s3cr\xC3\xA9t");
    let Step::Authenticate(credentials) = &kit.step else { panic!("{:?}", kit.step) };
    assert_eq!((&*credentials.user, &*credentials.password), ("guest", &b"s3cr\xC3\xA9t"[..]));
    assert!(!format!("{credentials:?}").contains("s3cr"));
    kit.run();
    assert!(matches!(kit.step, Step::NeedInput), "asked once");
    kit.session.authenticated(Ok(UserName::from("guest")));
    kit.run();
    kit.expect(0, connection::Tune { channel_max: 2_047, frame_max: 131_072, heartbeat: 60 });
    kit.tune(2_047, 131_072, 60);
    kit.open_vhost();
    assert_eq!(kit.session.client().connection_name(), Some("kit"));
    assert!(!kit.session.heartbeats_off());
}

#[test]
fn amqplain_is_a_table_without_a_length() {
    let mut kit = Kit::new();
    kit.feed(&PROTOCOL_HEADER);
    let mut response = BytesMut::new();
    Table::new().with("LOGIN", "guest").with("PASSWORD", "secret").encode(&mut response).unwrap();
    kit.start_ok(&capabilities(), "AMQPLAIN", &response);
    let Step::Authenticate(credentials) = &kit.step else { panic!("{:?}", kit.step) };
    assert_eq!((&*credentials.user, credentials.mechanism), ("guest", Mechanism::AmqPlain));
}

#[test]
fn whoever_speaks_something_else_is_told_what_is_spoken_here() {
    for (header, answered, said) in [
        (&b"AMQP\x00\x00\x08\x00"[..], true, "unknown protocol header \"AMQP\\x00\\x00\\x08\\x00\""),
        (b"AMQP\x00\x01\x00\x00", true, "AMQP 1.0 protocol header, which is not supported"),
        (b"GET / HTTP/1.1\r\n\r\n", false, "HTTP request on the AMQP port"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", false, "TLS handshake on the plain AMQP port"),
    ] {
        let mut kit = Kit::new();
        kit.feed(header);
        assert!(matches!(kit.step, Step::Closed), "{:?}", kit.step);
        assert_eq!(&kit.output[..], if answered { &PROTOCOL_HEADER[..] } else { b"" });
        assert_eq!((report(&kit), kit.session.close_report().unwrap().blame), (said, Blame::Client));
    }
}

#[test]
fn amqp_0_9_is_accepted_like_0_9_1() {
    let mut kit = Kit::new();
    kit.feed(b"AMQP\x01\x01\x00\x09");
    assert!(matches!(kit.step, Step::NeedInput));
    kit.skip(1);
}

#[test]
fn a_refused_login_is_told_to_those_who_understand() {
    let mut kit = Kit::new();
    kit.feed(&PROTOCOL_HEADER);
    kit.skip(1);
    kit.start_ok(&capabilities(), "PLAIN", b"\0guest\0wrong");
    kit.session.authenticated(Err(LoginRefusal("a cause for the log".into())));
    kit.run();
    kit.expect(
        0,
        connection::Close {
            reply_code: 403,
            reply_text: "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
            class_id: 0,
            method_id: 0,
        },
    );
    assert!(matches!(kit.step, Step::NeedInput));
    kit.send(0, connection::CloseOk {});
    assert!(matches!(kit.step, Step::Closed));
}

#[test]
fn a_refused_login_of_an_old_client_ends_silently_after_a_while() {
    let mut kit = Kit::new();
    kit.feed(&PROTOCOL_HEADER);
    kit.skip(1);
    kit.start_ok(&Table::new(), "PLAIN", b"\0guest\0wrong");
    kit.session.authenticated(Err(LoginRefusal("a cause for the log".into())));
    kit.run();
    kit.expect_nothing();
    assert_eq!(kit.session.deadline(), Some(kit.now + Duration::from_secs(3)));
    kit.feed(b"whatever");
    assert!(matches!(kit.step, Step::NeedInput));
    kit.pass(Duration::from_secs(3));
    assert!(matches!(kit.step, Step::Closed));
    kit.expect_nothing();
}

#[test]
fn a_malformed_login_ends_silently() {
    for (mechanism, response, said) in [
        ("PLAIN", &b"guest\0guest"[..], "SYNTAX_ERROR - malformed PLAIN response (502, connection.start-ok)"),
        ("PLAIN", b"\0guest", "SYNTAX_ERROR - malformed PLAIN response (502, connection.start-ok)"),
        ("PLAIN", b"\0guest\0a\0b", "SYNTAX_ERROR - malformed PLAIN response (502, connection.start-ok)"),
        ("AMQPLAIN", b"\x05LOGIN", "SYNTAX_ERROR - malformed AMQPLAIN response (502, connection.start-ok)"),
        (
            "EXTERNAL",
            b"",
            "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL' (503, connection.start-ok)",
        ),
    ] {
        let mut kit = Kit::new();
        kit.feed(&PROTOCOL_HEADER);
        kit.skip(1);
        kit.start_ok(&capabilities(), mechanism, response);
        kit.expect_nothing();
        assert_eq!(report(&kit), said);
        kit.pass(Duration::from_secs(3));
        assert!(matches!(kit.step, Step::Closed));
    }
}

#[test]
fn tune_ok_must_stay_within_the_offer() {
    for (channel_max, frame_max, text) in [
        (2_047, 4_095, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
        (2_047, 131_073, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
        (2_047, 0, "negotiated frame_max = 0 is higher than the maximum allowed value (131072)"),
        (0, 4_096, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
        (2_048, 4_096, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"),
    ] {
        let mut kit = Kit::new();
        kit.log_in(&capabilities());
        kit.tune(channel_max, frame_max, 0);
        let reply_text = format!("NOT_ALLOWED - {text}");
        kit.expect(
            0,
            connection::Close { reply_code: 530, reply_text: &reply_text, class_id: 10, method_id: 30 },
        );
        assert!(matches!(kit.step, Step::NeedInput), "there is no vhost to detach from");
    }
    let mut kit = Kit::new();
    kit.log_in(&capabilities());
    kit.tune(1, 4_096, 0);
    kit.open_vhost();
}

#[test]
fn a_missing_vhost_is_named() {
    let mut kit = Kit::new();
    kit.log_in(&capabilities());
    kit.tune(2_047, 4_096, 0);
    kit.send(0, connection::Open { vhost: "nosuch" });
    kit.session.vhost_opened(Err(OpenRefusal::NoVhost(VhostName::from("nosuch"))));
    kit.run();
    let reply_text = "NOT_ALLOWED - vhost nosuch not found";
    kit.expect(0, connection::Close { reply_code: 530, reply_text, class_id: 10, method_id: 40 });
}

#[test]
fn methods_out_of_turn_end_the_handshake_silently() {
    let mut kit = Kit::new();
    kit.feed(&PROTOCOL_HEADER);
    kit.skip(1);
    kit.send(0, connection::Open { vhost: "/" });
    kit.expect_nothing();
    assert_eq!(
        report(&kit),
        "CHANNEL_ERROR - unexpected method in connection state starting (504, connection.open)"
    );
}

#[test]
fn a_frame_out_of_place_is_answered_once_limits_are_agreed() {
    let mut kit = Kit::new();
    kit.log_in(&capabilities());
    kit.tune(2_047, 4_096, 10);
    kit.send(1, channel::Open {});
    let reply_text = "UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>";
    kit.expect(0, connection::Close { reply_code: 505, reply_text, class_id: 0, method_id: 0 });
    kit.expect_nothing();
}

#[test]
fn a_handshake_has_ten_seconds() {
    let mut kit = Kit::new();
    assert_eq!(kit.session.deadline(), Some(kit.now + Duration::from_secs(10)));
    kit.log_in(&capabilities());
    kit.pass(Duration::from_secs(9));
    assert!(matches!(kit.step, Step::NeedInput));
    kit.pass(Duration::from_secs(1));
    assert!(matches!(kit.step, Step::Closed));
    assert_eq!(report(&kit), "handshake timeout in connection state tuning");
}

#[test]
fn before_tuning_frames_are_small() {
    let mut kit = Kit::new();
    kit.feed(&PROTOCOL_HEADER);
    kit.skip(1);
    kit.feed(&[1, 0, 0, 0, 1, 0, 0]);
    assert_eq!(report(&kit), "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,65536,8184} (501)");
}

#[test]
fn heartbeats_go_both_ways() {
    let mut kit = Kit::new();
    kit.log_in(&capabilities());
    kit.tune(2_047, 4_096, 10);
    kit.open_vhost();
    kit.session.received(kit.now);
    kit.pass(Duration::from_secs(5));
    assert_eq!(&kit.output.split()[..], HEARTBEAT_FRAME);
    kit.session.sent(kit.now);
    kit.pass(Duration::from_secs(5));
    kit.feed(&HEARTBEAT_FRAME);
    kit.session.received(kit.now);
    for _ in 0..2 {
        kit.pass(Duration::from_secs(10));
        assert!(matches!(kit.step, Step::NeedInput));
        kit.output.clear();
    }
    kit.pass(Duration::from_secs(10));
    assert!(matches!(kit.step, Step::Closed));
    assert_eq!(report(&kit), "missed heartbeats from client, timeout: 10s");
}

#[test]
fn client_properties_may_hold_anything() {
    let mut kit = Kit::new();
    let mut properties = capabilities();
    properties.insert("nested", Value::Array(vec![Value::Void, Value::Table(Table::new())])).unwrap();
    kit.log_in(&properties);
    assert_eq!(kit.session.client().properties, properties);
}
