//! Starting, stopping and dying: what a broker says, what it keeps, and what it answers for.

mod kit;

use std::sync::Arc;

use ferrymq_protocol::method::{Method, basic, exchange, queue};
use kit::{Broker, Client, Options, data_dir, refused};

const FORCED: &str = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";

fn declare_durable(client: &mut Client, name: &str) {
    let declare = queue::Declare { queue: name, durable: true, ..queue::Declare::default() };
    let answer = client.call(1, declare);
    assert!(matches!(answer.method(), Method::QueueDeclareOk(_)), "{:?}", answer.method());
}

/// Whether a queue exists. A passive declare that fails costs the channel, which is opened again.
fn exists(client: &mut Client, name: &str) -> bool {
    client.send(1, queue::Declare { queue: name, passive: true, ..queue::Declare::default() });
    let answer = client.receiver.frame();
    match answer.method() {
        Method::QueueDeclareOk(_) => true,
        Method::ChannelClose(close) => {
            assert_eq!(close.reply_code, 404, "{}", close.reply_text);
            client.send(1, ferrymq_protocol::method::channel::CloseOk {});
            client.open_channel(1);
            false
        }
        other => panic!("{other:?}"),
    }
}

fn open(broker: &Broker) -> Client {
    let mut client = Client::open(broker.address);
    client.open_channel(1);
    client
}

#[test]
fn a_start_is_told_in_a_few_lines() {
    let mut broker = Broker::start("");
    let lines = broker.log.all();
    assert!(lines.len() <= 12, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains(" INFO ")), "{lines:#?}");
    broker.assert_sound();
}

#[test]
fn a_stop_is_announced_and_waits_for_nobody_for_long() {
    let mut broker = Broker::start("");
    let mut polite: Vec<_> = (0..3).map(|_| open(&broker)).collect();
    let deaf = open(&broker);
    let stranger = Client::connect(broker.address);
    broker.terminate();
    for client in &mut polite {
        assert_eq!(client.closed_with(), (320, FORCED.to_owned()));
    }
    let mut answerless = deaf;
    let close = answerless.receiver.frame();
    assert_eq!(close.method().name(), "connection.close");
    // It never answers, and the broker ends nevertheless.
    let status = broker.wait();
    assert_eq!(status.code(), Some(0), "{:?}", broker.log.all());
    broker.log.wait_for("SIGTERM received");
    broker.log.wait_for("stopped");
    drop(stranger);
}

#[test]
fn a_kill_leaves_what_is_durable_and_nothing_else() {
    let broker = Broker::start("");
    let mut client = open(&broker);
    for (name, durable) in [("kept", true), ("lost", false)] {
        let declare =
            exchange::Declare { exchange: name, kind: "topic", durable, ..exchange::Declare::default() };
        assert!(matches!(client.call(1, declare).method(), Method::ExchangeDeclareOk(_)));
    }
    declare_durable(&mut client, "kept");
    declare_durable(&mut client, "unbound");
    client.declare(1, "lost");
    let mine = queue::Declare { queue: "mine", durable: true, exclusive: true, ..queue::Declare::default() };
    assert!(matches!(client.call(1, mine).method(), Method::QueueDeclareOk(_)));
    for (queue, exchange) in [("kept", "kept"), ("kept", "lost"), ("lost", "kept"), ("unbound", "kept")] {
        let bind = queue::Bind { queue, exchange, routing_key: "a.*", ..queue::Bind::default() };
        assert!(matches!(client.call(1, bind).method(), Method::QueueBindOk(_)));
    }
    let unbind =
        queue::Unbind { queue: "unbound", exchange: "kept", routing_key: "a.*", ..queue::Unbind::default() };
    assert!(matches!(client.call(1, unbind).method(), Method::QueueUnbindOk(_)));
    let data = broker.kill();

    let mut broker = Broker::start_with(&Options::default(), data);
    let mut client = open(&broker);
    assert!(exists(&mut client, "kept") && exists(&mut client, "unbound"));
    assert!(!exists(&mut client, "lost") && !exists(&mut client, "mine"));
    client.confirm_select(1);
    let publish = basic::Publish { exchange: "kept", routing_key: "a.b", ..basic::Publish::default() };
    client.send(1, publish);
    client.write(&kit::header_frame(1, 0));
    client.confirmed();
    assert_eq!(client.declare_count("kept"), 1, "its binding is back");
    assert_eq!(client.declare_count("unbound"), 0, "what was unbound stays so");
    let gone = exchange::Declare { exchange: "lost", passive: true, ..exchange::Declare::default() };
    client.send(1, gone);
    assert_eq!(client.channel_closed_with().0, 404);
    broker.assert_sound();
}

#[test]
fn what_was_answered_survives_a_kill() {
    let mut data = Arc::new(data_dir());
    for round in 0..30 {
        let mut broker = Broker::start_with(&Options::default(), data);
        let mut client = open(&broker);
        for earlier in 0..round {
            assert!(exists(&mut client, &format!("q{earlier}")), "q{earlier} is gone in round {round}");
        }
        declare_durable(&mut client, &format!("q{round}"));
        if round == 29 {
            assert!(exists(&mut client, "q29"));
            broker.assert_sound();
        }
        data = broker.kill();
    }
}

#[test]
fn an_answer_about_what_exists_waits_for_its_record_as_well() {
    const CLIENTS: usize = 8;
    let broker = Broker::start("");
    // All declare the same queues at the same time: whoever comes second is promised the same.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| open(&broker)).collect();
    let mut answered = 0;
    for n in 0..50 {
        let name = format!("shared{n}");
        for client in &mut clients {
            client.send(1, queue::Declare { queue: &name, durable: true, ..queue::Declare::default() });
        }
        // The last one is most likely to have met a record that is not synced yet.
        let answer = clients[CLIENTS - 1].receiver.frame();
        assert!(matches!(answer.method(), Method::QueueDeclareOk(_)));
        answered = n;
        for client in &mut clients[..CLIENTS - 1] {
            client.receiver.frame();
        }
    }
    let name = format!("last{answered}");
    for client in &mut clients {
        client.send(1, queue::Declare { queue: &name, durable: true, ..queue::Declare::default() });
    }
    clients[CLIENTS - 1].receiver.frame();
    let data = broker.kill();
    let mut broker = Broker::start_with(&Options::default(), data);
    let mut client = open(&broker);
    assert!(exists(&mut client, &name));
    broker.assert_sound();
}

#[test]
fn two_brokers_do_not_share_a_data_directory() {
    let mut broker = Broker::start("");
    let (status, line) = refused(&broker.data, "127.0.0.1:0");
    assert_eq!(status.code(), Some(1));
    assert!(line.contains("another") && line.contains("data"), "{line}");
    open(&broker).close();
    broker.assert_sound();
}

#[test]
fn a_port_in_use_is_named() {
    let broker = Broker::start("");
    let (status, line) = refused(&data_dir(), &broker.address.to_string());
    assert_eq!(status.code(), Some(1));
    assert!(line.contains(&broker.address.to_string()) && line.contains("--listen"), "{line}");
}

#[test]
fn an_auto_delete_queue_found_at_start_lives_until_a_consumer_has_gone() {
    let broker = Broker::start("");
    let mut client = open(&broker);
    let declare =
        queue::Declare { queue: "auto", durable: true, auto_delete: true, ..queue::Declare::default() };
    assert!(matches!(client.call(1, declare).method(), Method::QueueDeclareOk(_)));
    let data = broker.kill();
    let mut broker = Broker::start_with(&Options::default(), data);
    open(&broker).close();
    let mut client = open(&broker);
    assert!(exists(&mut client, "auto"), "nobody has consumed from it");
    client.consume(1, "auto", true);
    client.call(1, basic::Cancel { consumer_tag: "c", no_wait: false });
    assert!(!exists(&mut client, "auto"));
    broker.assert_sound();
    let data = broker.kill();
    let broker = Broker::start_with(&Options::default(), data);
    assert!(!exists(&mut open(&broker), "auto"));
}
