//! What clients refuse for good goes where its queue says, with the turn that takes it from there.

use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{Table, Value};

use super::storing::{durable, settle};
use super::*;
use crate::queue::Moment;

/// A connection with a channel, and the durable queue 1, `q`, whose dead letters go to an exchange with this key.
fn kit(exchange: &str, key: Option<&str>) -> (Kit, ConnectionKey, ChannelKey) {
    let mut kit = Kit::new();
    kit.vhost.set_time(Moment(1_700_000_000_123));
    let (connection, channel) = kit.open();
    let mut arguments = Table::new().with("x-dead-letter-exchange", exchange);
    if let Some(key) = key {
        arguments = arguments.with("x-dead-letter-routing-key", key);
    }
    kit.declare(connection, QueueDefinition { arguments, ..durable("q") });
    kit.journal();
    (kit, connection, channel)
}

/// Publishes a persistent message to `q`, gets it and refuses it. What the journal says of the last turn.
fn refuse(kit: &mut Kit, connection: ConnectionKey, channel: ChannelKey, seq: u64) -> Vec<String> {
    let command = kit.persistent("", "q", "m");
    kit.turn(connection, [command]);
    kit.journal();
    let get = Get { channel, queue: QueueName::from("q"), no_ack: false };
    assert!(matches!(kit.ask(connection, Request::Get(get)), Ok(Reply::Got(Some(_)))));
    kit.turn(connection, [settle(channel, QueueId(1), seq, Outcome::Discard)]);
    kit.journal()
}

fn get(kit: &mut Kit, connection: ConnectionKey, channel: ChannelKey, queue: &str) -> Option<Message> {
    let get = Get { channel, queue: QueueName::from(queue), no_ack: true };
    match kit.ask(connection, Request::Get(get)) {
        Ok(Reply::Got(got)) => got.map(|got| got.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_message_moves_in_one_batch() {
    let (mut kit, connection, channel) = kit("", Some("dead"));
    kit.declare(connection, durable("dead"));
    kit.journal();
    let journal = refuse(&mut kit, connection, channel, 0);
    assert_eq!(journal, ["gone 1:0-0", "m in [2:0]", "freed 1: 1"], "in neither place is impossible");
    let letter = get(&mut kit, connection, channel, "dead").expect("it is there");
    assert_eq!((letter.exchange(), letter.routing_key(), letter.body()), ("", "dead", &b"m"[..]));
    let headers = Properties::decode(letter.properties()).unwrap().headers.unwrap().to_owned();
    let death = headers.get("x-death").and_then(Value::as_array).unwrap()[0].as_table().unwrap().clone();
    assert_eq!(death.get("queue").and_then(Value::as_str), Some("q"));
    assert_eq!(death.get("time"), Some(&Value::Timestamp(1_700_000_000)));
}

#[test]
fn dead_letters_are_routed_like_publishes_and_may_come_around() {
    let (mut kit, connection, channel) = kit("amq.fanout", None);
    kit.declare(connection, durable("a"));
    for name in ["q", "a"] {
        kit.turn(connection, [storing::bind_to_fanout(name)]);
    }
    kit.journal();
    let mut journal = refuse(&mut kit, connection, channel, 0);
    journal.iter_mut().for_each(|line| *line = line.replace("[2:0 1:1]", "[1:1 2:0]"));
    assert_eq!(journal, ["gone 1:0-0", "m in [1:1 2:0]", "freed 1: 1"], "its own queue is no exception");
    assert!(get(&mut kit, connection, channel, "q").is_some());
    assert!(get(&mut kit, connection, channel, "a").is_some());
}

#[test]
fn without_an_exchange_or_a_binding_a_refused_message_is_gone() {
    for exchange in ["missing", "amq.direct"] {
        let (mut kit, connection, channel) = kit(exchange, None);
        assert_eq!(refuse(&mut kit, connection, channel, 0), ["gone 1:0-0", "freed 1: 1"], "{exchange}");
    }
}
