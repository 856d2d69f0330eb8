//! Queues longer than memory, and a log that stays small however old its oldest message is.

mod kit;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::BytesMut;
use ferrymq_protocol::frame;
use ferrymq_protocol::method::{Method, basic, queue};
use ferrymq_protocol::properties::Properties;
use kit::{Broker, Client, Options, eventually};

const STUCK: &[u8] = b"nobody acks this";

/// Messages that flow through behind the stuck one: several times the log's budget.
const BEHIND: &str = "5000000";

/// Runs a scenario of the benchmark, which checks every delivery.
fn bench(address: SocketAddr, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrymq"));
    command.arg("bench").args(arguments).arg("--uri").arg(format!("amqp://{address}")).stdin(Stdio::null());
    let output = command.output().expect("the benchmark can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn declare_durable(client: &mut Client, name: &str) {
    let declare = queue::Declare { queue: name, durable: true, ..queue::Declare::default() };
    let answer = client.call(1, declare);
    assert!(matches!(answer.method(), Method::QueueDeclareOk(_)), "{:?}", answer.method());
}

fn publish_persistent(client: &mut Client, queue: &str, body: &[u8]) {
    let mut properties = BytesMut::new();
    Properties { delivery_mode: Some(2), ..Properties::default() }.encode(&mut properties).expect("no texts");
    let mut octets = BytesMut::new();
    let publish = basic::Publish { exchange: "", routing_key: queue, mandatory: false, immediate: false };
    frame::encode_method(1, &publish.into(), &mut octets).expect("a short name");
    frame::encode_header(1, 60, body.len() as u64, &properties, &mut octets);
    frame::encode_body(1, body, &mut octets);
    client.write(&octets);
}

/// Gets a message without settling it.
fn get(client: &mut Client, queue: &str) -> (bool, Vec<u8>) {
    let answer = client.call(1, basic::Get { queue, no_ack: false });
    let Method::BasicGetOk(got) = answer.method() else { panic!("{:?}", answer.method()) };
    (got.redelivered, client.receiver.content())
}

fn log_bytes(data: &Path) -> u64 {
    let files = std::fs::read_dir(data.join("data").join("log")).expect("the log's directory").flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn a_message_that_nobody_acks_pins_nothing_behind_it() {
    let options = Options { config: "[storage]\nlog_budget = \"64 MiB\"\n", ..Options::default() };
    let broker = Broker::start_with(&options, std::sync::Arc::new(kit::data_dir()));
    let mut client = Client::open(broker.address);
    client.open_channel(1);
    declare_durable(&mut client, "stuck");
    client.confirm_select(1);
    publish_persistent(&mut client, "stuck", STUCK);
    client.confirmed();
    assert_eq!(get(&mut client, "stuck"), (false, STUCK.to_vec()));
    bench(broker.address, &["confirm", "--size", "16", "--messages", BEHIND]);
    // The budget, the segment that is being written, and two that wait to be used again.
    let most = (64 + 3 * 64) << 20;
    eventually("the log is small again", || log_bytes(broker.data.path()) <= most);
    drop(client);
    let data = broker.kill();
    let broker = Broker::start_with(&options, data);
    let mut client = Client::open(broker.address);
    client.open_channel(1);
    assert_eq!(
        get(&mut client, "stuck"),
        (true, STUCK.to_vec()),
        "it was moved again and again, and is whole"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_long_queue_takes_little_memory() {
    let broker = Broker::start("");
    bench(broker.address, &["confirm", "--size", "1024", "--messages", "400000", "--publish-only"]);
    let most = broker.memory("VmHWM");
    assert!(most < 128 << 20, "{} MiB for 400 MiB of messages", most >> 20);
}
