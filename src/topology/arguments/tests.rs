//! Which arguments are refused, and with which words.

use super::super::tests::fixture::{queue, table, text};
use super::*;

fn outcome<const N: usize>(entries: [(&str, Value); N]) -> Result<(), String> {
    let mut definition = queue("q");
    definition.arguments = table(entries);
    check(&definition, &VhostName::from("/")).map_err(|refusal| text(&refusal))
}

fn invalid(argument: &str, reason: &str) -> Result<(), String> {
    Err(format!("invalid arg '{argument}' for queue 'q' in vhost '/': {reason}"))
}

#[test]
fn integers_have_types_and_bounds() {
    for (argument, value, reason) in [
        ("x-expires", Value::I32(0), "{value_zero,0}"),
        ("x-expires", Value::I32(-10), "{value_negative,-10}"),
        ("x-expires", Value::I64(MAX_EXPIRY_MS + 1), "{value_too_large,315360000001}"),
        ("x-message-ttl", Value::from("10"), "\"expected integer, got longstr\""),
        ("x-message-ttl", Value::F64(1.0), "\"expected integer, got double\""),
        ("x-message-ttl", Value::I8(-20), "{value_negative,-20}"),
        ("x-message-ttl", Value::I64(i64::MAX), "{value_too_large,9223372036854775807}"),
        ("x-max-length", Value::I64(-5), "{value_negative,-5}"),
        ("x-max-length-bytes", Value::from(vec![]), "\"expected integer, got array\""),
        ("x-max-priority", Value::I32(260), "{max_value_exceeded,260}"),
        ("x-max-priority", Value::I32(-10), "{value_negative,-10}"),
    ] {
        assert_eq!(outcome([(argument, value)]), invalid(argument, reason));
    }
    for (argument, value) in [
        ("x-message-ttl", Value::I8(0)),
        ("x-message-ttl", Value::I64(MAX_EXPIRY_MS)),
        ("x-expires", Value::U16(1)),
        ("x-max-length", Value::I64(i64::MAX)),
        ("x-max-length-bytes", Value::U8(0)),
        ("x-max-priority", Value::U8(255)),
        ("x-max-priority", Value::I32(0)),
    ] {
        assert_eq!(outcome([(argument, value)]), Ok(()), "{argument}");
    }
}

#[test]
fn dead_letter_arguments_are_text_and_belong_together() {
    assert_eq!(
        outcome([("x-dead-letter-exchange", 5.into())]),
        Err("invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'".to_owned())
    );
    assert_eq!(
        outcome([("x-dead-letter-routing-key", "k".into())]),
        invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
    );
    assert_eq!(
        outcome([("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", 1.into())]),
        invalid("x-dead-letter-routing-key", "{unacceptable_type,signedint}")
    );
    assert_eq!(
        outcome([("x-dead-letter-routing-key", "k".into()), ("x-dead-letter-exchange", "x".into())]),
        Ok(())
    );
}

#[test]
fn choices_are_closed() {
    assert_eq!(outcome([("x-overflow", "spill".into())]), invalid("x-overflow", "invalid_overflow"));
    assert_eq!(outcome([("x-overflow", 1.into())]), invalid("x-overflow", "{unacceptable_type,signedint}"));
    for allowed in ["drop-head", "reject-publish", "reject-publish-dlx"] {
        assert_eq!(outcome([("x-overflow", allowed.into())]), Ok(()));
    }
    assert_eq!(
        outcome([("x-single-active-consumer", "true".into())]),
        invalid("x-single-active-consumer", "{unacceptable_type,longstr}")
    );
    assert_eq!(outcome([("x-single-active-consumer", true.into())]), Ok(()));
}

#[test]
fn the_type_decides_which_arguments_are_known() {
    assert_eq!(
        outcome([("x-consumer-timeout", 5.into())]),
        Err("invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
            .to_owned())
    );
    assert_eq!(outcome([("x-delivery-limit", 5.into())]), Ok(()), "an extension");
    assert_eq!(
        outcome([("x-queue-type", "quorum".into()), ("x-max-priority", 5.into())]),
        Err("invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"
            .to_owned())
    );
    assert_eq!(outcome([("x-queue-type", "quorum".into()), ("x-delivery-limit", (-1).into())]), Ok(()));
    assert_eq!(
        outcome([("x-queue-type", "odd".into())]),
        invalid("x-queue-type", "\"unsupported queue type 'odd'\"")
    );
    assert_eq!(outcome([("x-queue-type", true.into())]), invalid("x-queue-type", "{unacceptable_type,bool}"));
    assert_eq!(
        outcome([("x-queue-type", "stream".into())]),
        Err("queue type 'stream' is not supported yet".to_owned())
    );
}

#[test]
fn a_quorum_queue_is_durable_shared_and_lasting() {
    let refused = |change: fn(&mut QueueDefinition)| {
        let mut definition = queue("q");
        definition.arguments = table([("x-queue-type", "quorum".into())]);
        change(&mut definition);
        check(&definition, &VhostName::from("/")).map_err(|refusal| text(&refusal))
    };
    assert_eq!(refused(|_| ()), Ok(()));
    let invalid = |property: &str| Err(format!("invalid property '{property}' for queue 'q' in vhost '/'"));
    assert_eq!(refused(|q| q.exclusive = true), invalid("exclusive-owner"));
    assert_eq!(refused(|q| q.durable = false), invalid("non-durable"));
    assert_eq!(refused(|q| q.auto_delete = true), invalid("auto-delete"));
    let in_order = |q: &mut QueueDefinition| (q.auto_delete, q.exclusive, q.durable) = (true, true, false);
    assert_eq!(refused(in_order), invalid("auto-delete"));
    assert_eq!(refused(|q| (q.exclusive, q.durable) = (true, false)), invalid("exclusive-owner"));
}

#[test]
fn only_classic_queues_are_server_named_which_is_looked_at_first() {
    for (kind, implementation) in [("quorum", "rabbit_quorum_queue"), ("stream", "rabbit_stream_queue")] {
        let mut definition = queue(&super::super::generated_queue_name([0; 16]));
        definition.exclusive = true;
        definition.arguments = table([
            ("x-queue-type", kind.into()),
            ("x-max-length", (-1).into()),
            ("x-dead-letter-exchange", 1.into()),
        ]);
        let expected = format!("Cannot declare a server-named queue for type {implementation}");
        assert_eq!(
            check(&definition, &VhostName::from("/")).map_err(|refusal| text(&refusal)),
            Err(expected)
        );
    }
}

#[test]
fn legacy_and_foreign_arguments_are_kept_unseen() {
    let entries = [
        ("x-queue-mode", "lazy".into()),
        ("x-queue-version", 1.into()),
        ("x-queue-master-locator", "anywhere".into()),
        ("ha-mode", "all".into()),
        ("x-mine", Value::Void),
    ];
    assert_eq!(outcome(entries.clone()), Ok(()));
    assert!(arguments_without_effect(&table(entries)).is_empty());
}

#[test]
fn arguments_that_do_nothing_yet_are_named() {
    let arguments = table([
        ("x-queue-type", "quorum".into()),
        ("x-single-active-consumer", Value::Boolean(true)),
        ("x-mine", 1.into()),
        ("x-delivery-limit", 3.into()),
        ("x-consumer-timeout", 3.into()),
    ]);
    assert_eq!(arguments_without_effect(&arguments), ["x-consumer-timeout"]);
    assert_eq!(QueueType::of(&arguments), QueueType::Quorum);
}
