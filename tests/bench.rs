//! `ferrymq bench` against a real broker: every scenario in a small form, its answers as programs read them, and what
//! happens when something is wrong.

mod kit;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitStatus, Output, Stdio};

use ferrymq_protocol::frame::{FrameKind, decode_frame};
use ferrymq_protocol::method::{Method, queue};
use kit::{Broker, Client, eventually};
use serde_json::Value;

fn bench(address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrymq"));
    command.arg("bench").args(arguments).arg("--uri").arg(format!("amqp://{address}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(mut command: Command) -> Output {
    command.output().expect("the benchmark can be started")
}

/// Runs a scenario that succeeds, and returns its JSON.
fn measured(address: SocketAddr, arguments: &[&str]) -> Value {
    let output = output(bench(address, &[arguments, &["--json"]].concat()));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}\n{out}{err}", output.status);
    assert_eq!(err, "", "{arguments:?}: standard error is no terminal and there is nothing to say");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

fn whole(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no '{name}' in {report}"))
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("no '{name}' in {report}"))
}

#[test]
fn scenarios_with_messages_report_what_was_published_and_consumed() {
    let mut broker = Broker::start("");
    let n = ["--messages", "2000"];
    let cases: &[(&str, &[&str], u64)] = &[
        ("throughput", &[], 1),
        ("throughput", &["--size", "0"], 1),
        ("throughput", &["--size", "15", "--persistent"], 1),
        ("throughput", &["--size", "300000", "--messages", "20"], 1),
        ("throughput", &["--ack-every", "7", "--prefetch", "50", "--publishers", "3", "--consumers", "2"], 1),
        ("confirm", &["--window", "10", "--size", "100"], 1),
        ("confirm", &["--publish-only", "--publishers", "2"], 0),
        ("confirm", &["--ack-every", "1", "--prefetch", "5", "--consumers", "3"], 1),
        ("latency", &["--rate", "10000", "--publishers", "2"], 1),
        ("latency", &["--rate", "10000", "--confirms", "--persistent"], 1),
        ("fanout", &["--queues", "3", "--ack-every", "10"], 3),
        ("topic", &["--bindings", "50", "--keys", "7"], 1),
        ("fill", &[], 0),
        ("fill", &["--window", "100", "--publishers", "2"], 0),
        ("drain", &["--consumers", "2", "--ack-every", "100", "--size", "1024"], 1),
        ("queues", &["--count", "30", "--persistent"], 1),
        ("queues", &["--count", "30", "--persistent", "--window", "100"], 1),
    ];
    for (scenario, options, copies) in cases {
        let messages = if options.contains(&"--messages") { &[][..] } else { &n[..] };
        let report = measured(broker.address, &[&[*scenario], *options, messages].concat());
        let published = if messages.is_empty() { 20 } else { 2_000 };
        assert_eq!(whole(&report, "published"), published, "{scenario} {options:?}");
        assert_eq!(whole(&report, "consumed"), published * copies, "{scenario} {options:?}");
        let rate = if *copies > 0 { "consumed_per_s" } else { "published_per_s" };
        assert!(number(&report, rate) > 0.0, "{report}");
        assert!(number(&report, "generator_cpu_us_per_message") > 0.0, "{report}");
        let confirmed =
            *scenario == "confirm" || options.contains(&"--window") || options.contains(&"--confirms");
        if confirmed {
            assert_eq!((whole(&report, "confirmed"), whole(&report, "nacked")), (published, 0));
            assert_eq!(report["durability"], "persistent + confirms", "{report}");
        } else {
            assert_eq!((&report["confirmed"], &report["confirms"]), (&Value::Null, &Value::from("none")));
        }
        if *scenario == "latency" {
            assert!(number(&report, "deliver_p99_us") >= number(&report, "deliver_p50_us"), "{report}");
            assert_eq!(report["confirm_p50_us"].is_number(), confirmed, "{report}");
        }
        #[cfg(target_os = "linux")]
        {
            assert_eq!(whole(&report, "pid"), u64::from(broker.id()), "{report}");
            assert!(number(&report, "broker_cpu_us_per_message") >= 0.0);
            assert!(whole(&report, "broker_rss_bytes") > 1 << 20);
        }
    }
    broker.assert_sound();
}

#[test]
fn scenarios_without_messages_report_their_rates() {
    let mut broker = Broker::start("");
    let connections = measured(broker.address, &["connections", "--count", "50", "--seconds", "0"]);
    assert_eq!(whole(&connections, "connections"), 50);
    for options in [&["--durable"][..], &["--parallel", "3"]] {
        let churn = measured(broker.address, &[&["churn", "--messages", "20"], options].concat());
        for name in ["connections_per_s", "channels_per_s", "queues_per_s", "bindings_per_s"] {
            assert!(number(&churn, name) > 0.0, "{churn}");
        }
    }
    let dir = tempfile::tempdir().expect("there is room for temporary files");
    let dir = dir.path().to_str().expect("a name in UTF-8");
    let floor =
        measured(broker.address, &["floor", "--messages", "5000", "--batch-records", "100", "--dir", dir]);
    assert_eq!((whole(&floor, "published"), whole(&floor, "appended")), (5_000, 5_000));
    assert!(number(&floor, "relay_cpu_us_per_record") > 0.0, "{floor}");
    broker.assert_sound();
}

#[test]
fn two_brokers_run_in_turn_and_every_run_is_in_the_file() {
    let (a, b) = (Broker::start(""), Broker::start(""));
    let csv = a.data.path().join("runs.csv");
    let other = format!("amqp://{}", b.address);
    let options = ["throughput", "--messages", "500", "--runs", "3", "--compare", &other, "--csv"];
    let path = csv.to_str().expect("a name in UTF-8");
    let report = measured(a.address, &[&options[..], &[path]].concat());
    assert_eq!(report["runs"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(report["compared"]["runs"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(report["compared"]["uri"], Value::from(other.clone()));
    let text = std::fs::read_to_string(&csv).expect("the file is there");
    assert_eq!(text.lines().count(), 7, "{text}");
    let table = output(bench(a.address, &options[..7]));
    let table = String::from_utf8_lossy(&table.stdout);
    for part in ["durability: transient", "confirms: none", "A: ", "B: ", "medians of 3 runs", "published/s"]
    {
        assert!(table.contains(part), "{part} is not in {table}");
    }
}

fn failure(command: Command) -> (Option<i32>, String) {
    let output = output(command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "there are no figures");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_cannot_be_done_is_said() {
    let broker = Broker::start("");
    let (code, said) =
        failure(bench(broker.address, &["throughput", "--ack-every", "100", "--prefetch", "10"]));
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("--prefetch 10"), "{said}");
    let (code, said) = failure(bench(broker.address, &["latency", "--size", "8"]));
    assert_eq!(code, Some(64), "{said}");
    for options in [&["throughput", "--publishers", "0"][..], &["confirm", "--window", "0"], &["nothing"]] {
        assert_eq!(failure(bench(broker.address, options)).0, Some(64), "{options:?}");
    }

    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrymq"));
    command.args(["bench", "throughput", "--uri", &format!("amqp://guest:wrong@{}", broker.address)]);
    let (code, said) = failure(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the broker closed the connection: 403 ACCESS_REFUSED"), "{said}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrymq"));
    command.args(["bench", "throughput", "--uri", &format!("amqp://{}/elsewhere", broker.address)]);
    let (code, said) = failure(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("vhost"), "{said}");

    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let (code, said) = failure(bench(nobody, &["throughput"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("cannot reach {nobody}")), "{said}");
}

/// Declares a durable queue that a benchmark has no business with, so that there is one to be seen.
fn keep_one_queue(broker: &Broker) {
    let mut client = Client::open(broker.address);
    client.open_channel(1);
    let declare = queue::Declare { queue: "kept", durable: true, ..queue::Declare::default() };
    let answer = client.call(1, declare);
    assert!(matches!(answer.method(), Method::QueueDeclareOk(_)), "{:?}", answer.method());
}

/// Nothing durable is left but the one queue.
fn assert_clean(broker: Broker) {
    let data = broker.kill();
    let check =
        Command::new(env!("CARGO_BIN_EXE_ferrymq")).arg("fsck").arg(data.path().join("data")).output();
    let said = String::from_utf8_lossy(&check.expect("the data can be read").stdout).into_owned();
    assert!(said.contains("stored: 0 messages in 1 queue,"), "{said}");
}

fn interrupt(child: &mut std::process::Child) -> ExitStatus {
    let status = Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    assert!(status.is_ok_and(|status| status.success()), "the benchmark can be signalled");
    child.wait().expect("it ends")
}

#[test]
fn an_interrupt_ends_it_and_removes_what_it_made() {
    let broker = Broker::start("");
    keep_one_queue(&broker);
    let mut running = bench(broker.address, &["confirm", "--seconds", "600"]).spawn().expect("it starts");
    let before = broker.cpu_ticks();
    eventually("messages flow", || broker.cpu_ticks() > before + 10);
    assert_eq!(interrupt(&mut running).code(), Some(130));
    assert_clean(broker);
}

#[test]
fn a_broker_that_ends_is_an_error_with_its_words() {
    let mut broker = Broker::start("");
    let running = bench(broker.address, &["throughput", "--seconds", "600"]).spawn().expect("it starts");
    let before = broker.cpu_ticks();
    eventually("messages flow", || broker.cpu_ticks() > before + 10);
    broker.terminate();
    let output = running.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the broker closed the connection: 320 CONNECTION_FORCED"), "{said}");
    broker.wait();
}

/// Passes bytes on in both directions, and gives every whole frame from the broker to `change` first.
fn proxy(broker: SocketAddr, change: fn(FrameKind, u64, &mut Vec<u8>)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a port");
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let server = TcpStream::connect(broker).expect("the broker listens");
            let (mut from, mut to) =
                (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            std::thread::spawn(move || {
                // Either end may go first.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || pass_frames(server, client, change));
        }
    });
    address
}

fn pass_frames(mut server: TcpStream, mut client: TcpStream, change: fn(FrameKind, u64, &mut Vec<u8>)) {
    let (mut input, mut chunk) = (Vec::new(), vec![0; 65_536]);
    let mut bodies = 0;
    while let Ok(read) = server.read(&mut chunk) {
        if read == 0 {
            break;
        }
        input.extend_from_slice(&chunk[..read]);
        while let Some((frame, taken)) = decode_frame(&input, 1 << 20).expect("the broker frames correctly") {
            bodies += u64::from(frame.kind == FrameKind::Body);
            let kind = frame.kind;
            let mut octets: Vec<u8> = input.drain(..taken).collect();
            change(kind, bodies, &mut octets);
            if client.write_all(&octets).is_err() {
                return;
            }
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_broker_that_changes_a_body_is_found_out() {
    let broker = Broker::start("");
    let address = proxy(broker.address, |kind, bodies, octets| {
        if kind == FrameKind::Body && bodies == 700 {
            octets[7 + 40] ^= 1;
        }
    });
    let (code, said) = failure(bench(address, &["throughput", "--messages", "1000", "--size", "64"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("the broker is wrong: the body of message 699 of publisher 0 was changed"),
        "{said}"
    );
}

#[test]
fn a_broker_that_mixes_up_two_bodies_is_found_out() {
    let broker = Broker::start("");
    // The head of every message from the 500th on is that of the one before.
    let address = proxy(broker.address, |kind, bodies, octets| {
        static LAST: std::sync::Mutex<Vec<u8>> = std::sync::Mutex::new(Vec::new());
        if kind == FrameKind::Body {
            let mut last = LAST.lock().expect("nobody panics");
            let own = octets.clone();
            if bodies >= 500 {
                octets.clone_from(&last);
            }
            *last = own;
        }
    });
    let (code, said) = failure(bench(address, &["confirm", "--messages", "1000"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("came twice or out of order"), "{said}");
}

#[test]
fn refused_messages_are_counted_and_may_be_missing() {
    let broker = Broker::start("");
    // Every basic.ack of a publisher's channel becomes a basic.nack, which has the same fields in the same places.
    let address = proxy(broker.address, |kind, _, octets| {
        if kind == FrameKind::Method && octets[7..11] == [0, 60, 0, 80] {
            octets[10] = 120;
        }
    });
    for options in [&["--window", "1"][..], &["--window", "300", "--publishers", "2", "--consumers", "2"]] {
        let report = measured(address, &[&["confirm", "--messages", "1000"], options].concat());
        assert_eq!((whole(&report, "published"), whole(&report, "nacked")), (1_000, 1_000), "{report}");
        assert_eq!(whole(&report, "confirmed"), 0, "{report}");
        assert!(whole(&report, "consumed") <= 1_000, "{report}");
    }
}

#[test]
fn nothing_is_left_behind_by_scenarios_that_end_well() {
    let broker = Broker::start("");
    keep_one_queue(&broker);
    for scenario in [
        &["confirm"][..],
        &["fanout", "--queues", "2", "--persistent"],
        &["queues", "--count", "3", "--persistent"],
    ] {
        measured(broker.address, &[scenario, &["--messages", "100"]].concat());
    }
    assert_clean(broker);
}
