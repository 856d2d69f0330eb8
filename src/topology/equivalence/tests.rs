//! Which differences are refused, and with which words.

use super::super::tests::fixture::{exchange, queue, table, text};
use super::*;
use crate::model::ExchangeKind;

fn queues<const R: usize, const C: usize>(
    received: [(&str, Value); R],
    current: [(&str, Value); C],
) -> Result<(), String> {
    let with = |arguments| QueueDefinition { arguments, ..queue("q") };
    check_queue(&with(table(received)), &with(table(current)), &VhostName::from("/")).map_err(|r| text(&r))
}

fn differs(argument: &str, received: &str, current: &str) -> Result<(), String> {
    Err(format!(
        "inequivalent arg '{argument}' for queue 'q' in vhost '/': received {received} but current is {current}"
    ))
}

#[test]
fn properties_are_compared() {
    let vhost = VhostName::from("/");
    let transient = QueueDefinition { durable: false, ..queue("q") };
    let refusal = check_queue(&transient, &queue("q"), &vhost).map_err(|r| text(&r));
    assert_eq!(refusal, differs("durable", "'false'", "'true'"));
    let fleeting = QueueDefinition { auto_delete: true, ..queue("q") };
    let refusal = check_queue(&queue("q"), &fleeting, &vhost).map_err(|r| text(&r));
    assert_eq!(refusal, differs("auto_delete", "'false'", "'true'"));
}

#[test]
fn values_are_compared_by_class() {
    assert_eq!(queues([("x-max-length", 10_i8.into())], [("x-max-length", 10_i64.into())]), Ok(()));
    assert_eq!(
        queues([("x-message-ttl", 10.0_f64.into())], [("x-message-ttl", 10.into())]),
        differs("x-message-ttl", "'10.0'", "'10'")
    );
    assert_eq!(
        queues([("x-dead-letter-exchange", "bar".into())], [("x-dead-letter-exchange", "foo".into())]),
        differs("x-dead-letter-exchange", "'bar'", "'foo'")
    );
}

#[test]
fn an_absent_side_is_none() {
    assert_eq!(
        queues([], [("x-max-length", 1_i8.into())]),
        differs("x-max-length", "none", "the value '1' of type 'byte'")
    );
    assert_eq!(
        queues([("x-dead-letter-routing-key", "foo".into())], []),
        differs("x-dead-letter-routing-key", "the value 'foo' of type 'longstr'", "none")
    );
}

#[test]
fn unknown_arguments_are_not_compared() {
    assert_eq!(
        queues([("x-mine", 1.into()), ("x-queue-mode", "lazy".into())], [("x-mine", 2.into())]),
        Ok(())
    );
    // Known to another type only.
    assert_eq!(queues([("x-consumer-timeout", 1.into())], []), Ok(()));
}

#[test]
fn no_type_is_classic() {
    assert_eq!(queues([], [("x-queue-type", "classic".into())]), Ok(()));
    assert_eq!(queues([("x-queue-type", "classic".into())], [("x-mine", 1.into())]), Ok(()));
    assert_eq!(
        queues([("x-queue-type", "quorum".into())], []),
        differs("x-queue-type", "'quorum'", "'classic'")
    );
    assert_eq!(
        queues([], [("x-queue-type", "quorum".into())]),
        differs("x-queue-type", "'classic'", "'quorum'")
    );
}

#[test]
fn exchanges_differ_by_type_properties_and_alternate() {
    let vhost = VhostName::from("/");
    let current = ExchangeDefinition {
        arguments: table([("alternate-exchange", "UME".into())]),
        ..exchange("x", ExchangeKind::Direct)
    };
    let outcome = |change: fn(&mut ExchangeDefinition)| {
        let mut received = current.clone();
        change(&mut received);
        check_exchange(&received, &current, &vhost).map_err(|r| text(&r))
    };
    let differs = |argument: &str, received: &str, current: &str| {
        Err(format!(
            "inequivalent arg '{argument}' for exchange 'x' in vhost '/': received {received} but current is {current}"
        ))
    };
    assert_eq!(outcome(|x| x.arguments = x.arguments.clone().with("x-mine", 1)), Ok(()));
    assert_eq!(outcome(|x| x.kind = ExchangeKind::Topic), differs("type", "'topic'", "'direct'"));
    assert_eq!(outcome(|x| x.durable = false), differs("durable", "'false'", "'true'"));
    assert_eq!(outcome(|x| x.auto_delete = true), differs("auto_delete", "'true'", "'false'"));
    assert_eq!(outcome(|x| x.internal = true), differs("internal", "'true'", "'false'"));
    assert_eq!(
        outcome(|x| x.arguments = table([("alternate-exchange", "somewhere".into())])),
        differs("alternate-exchange", "'somewhere'", "'UME'")
    );
    assert_eq!(
        outcome(|x| x.arguments = Table::new()),
        differs("alternate-exchange", "none", "the value 'UME' of type 'longstr'")
    );
}
