//! `ferrymq fsck` and `ferrymq log dump` on what a stopped broker leaves, sound and damaged.

mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use ferrymq::model::{Message, MessageParts, QueueId, QueueName, Seq, VhostName};
use ferrymq::storage::log::{Batch, Log, LogOptions, OsFileSystem, Record, SeqRange, VhostId};
use kit::{Broker, data_dir};

const VHOST: VhostId = VhostId(1);
const SEGMENT: &str = "log/0000000001.log";

/// What a run of the binary came to.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ferrymq(arguments: &[&str], directory: &Path) -> Run {
    let (command, rest) = arguments.split_at(if arguments[0] == "log" { 2 } else { 1 });
    let output = Command::new(env!("CARGO_BIN_EXE_ferrymq"))
        .args(command)
        .arg(directory)
        .args(rest)
        .output()
        .expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Stores some turns of two queues, and stops in order.
fn store(directory: &Path) {
    let files = OsFileSystem::open(&directory.join("log")).expect("a directory");
    let (log, _) = Log::open(Arc::new(files), LogOptions::new(1), &mut |_| {}).expect("an empty log");
    let mut batch = Batch::new();
    batch.push(&Record::CreateVhost { vhost: VHOST, name: &VhostName::from("/") });
    for (queue, name) in [(1, "orders"), (2, "audit\u{1b}[2J")] {
        let name = QueueName::from(name);
        batch.push(&Record::CreateQueue { vhost: VHOST, queue: QueueId(queue), name: &name });
    }
    log.append(&mut batch, true);
    for seq in 1..=5 {
        let parts = MessageParts { exchange: "x", routing_key: "k", properties: &[0, 0], persistent: true };
        let message = Message::new(parts, Bytes::from(format!("secret {seq}")));
        let queues = [(QueueId(1), Seq(seq)), (QueueId(2), Seq(seq))];
        let queues = if seq == 1 { &queues[..] } else { &queues[..1] };
        batch.push(&Record::Publish { vhost: VHOST, queues, deadlines: &[], message: (&message).into() });
        log.append(&mut batch, true);
    }
    let seqs = [SeqRange { first: Seq(1), last: Seq(2) }];
    batch.push(&Record::Ack { vhost: VHOST, queue: QueueId(1), seqs: &seqs });
    log.append(&mut batch, true);
    log.shutdown().expect("a disk");
}

/// Changes a byte of a stored message.
fn damage(directory: &Path) {
    let path = directory.join(SEGMENT);
    let mut bytes = fs::read(&path).expect("a segment");
    let at = bytes.windows(8).position(|part| part == b"secret 4").expect("a body");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("a writable segment");
}

/// All files below a directory.
fn snapshot(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.insert(path.display().to_string(), fs::read(&path).expect("a file"));
        }
    }
    files
}

#[test]
fn a_sound_log_is_described_and_left_alone() {
    let root = data_dir();
    store(root.path());
    let before = snapshot(root.path());
    let run = ferrymq(&["fsck"], root.path());
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{}", run.out);
    for line in [
        "message log: 1 segment, ",
        "stopped in order: yes\n",
        "stored: 4 messages in 2 queues, 32 B\n",
        "           1          8 B  queue \"audit\\u{1b}[2J\" in vhost \"/\"\n",
        "           3         24 B  queue \"orders\" in vhost \"/\"\n",
        "sound: no damage\n",
    ] {
        assert!(run.out.contains(line), "'{line}' is not in:\n{}", run.out);
    }
    assert_eq!(ferrymq(&["log", "dump"], root.path()).code, Some(0));
    assert_eq!(snapshot(root.path()), before);
}

#[test]
fn damage_is_found_mended_and_kept() {
    let root = data_dir();
    store(root.path());
    damage(root.path());
    let before = snapshot(root.path());
    let run = ferrymq(&["fsck"], root.path());
    assert_eq!(run.code, Some(1), "{}", run.out);
    assert!(run.out.contains("DAMAGE: segment 0000000001: 1 batch lost"), "{}", run.out);
    assert_eq!(snapshot(root.path()), before, "a check changes nothing");

    let damaged = fs::read(root.path().join(SEGMENT)).expect("a segment");
    let run = ferrymq(&["fsck", "--repair"], root.path());
    assert_eq!(run.code, Some(0), "{}\n{}", run.out, run.err);
    assert!(run.out.contains("written anew with its 7 intact batches"), "{}", run.out);
    let kept = fs::read(root.path().join("damaged-1/0000000001.log")).expect("a copy");
    assert_eq!(kept, damaged);

    for arguments in [&["fsck"][..], &["fsck", "--repair"]] {
        let run = ferrymq(arguments, root.path());
        assert_eq!(run.code, Some(0), "{}", run.out);
        assert!(run.out.contains("stored: 3 messages in 2 queues"), "{}", run.out);
        assert!(run.out.contains("stopped in order: no\n"), "{}", run.out);
    }
    assert!(!root.path().join("damaged-2").exists(), "there was nothing to mend");
}

#[test]
fn a_dump_shows_records_and_bodies_only_when_asked() {
    let root = data_dir();
    store(root.path());
    let run = ferrymq(&["log", "dump"], root.path());
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let lines: Vec<_> = run.out.lines().collect();
    assert_eq!(lines.len(), 10, "{}", run.out);
    assert_eq!(lines[0], "0000000001 1 create-vhost vhost=\"/\" id=1");
    assert_eq!(
        lines[3],
        "0000000001 2 publish vhost=\"/\" queue=\"orders\":1 queue=\"audit\\u{1b}[2J\":1 exchange=\"x\" key=\"k\" \
         properties=2 body=8"
    );
    assert_eq!(lines[8], "0000000001 7 ack vhost=\"/\" queue=\"orders\" 1-2");
    assert_eq!(lines[9], "0000000001 8 clean-stop");
    assert!(!run.out.contains("secret"));

    let run = ferrymq(&["log", "dump", "--bodies", "--queue", "audit\u{1b}[2J"], root.path());
    let lines: Vec<_> = run.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", run.out);
    assert!(lines[1].ends_with("body=8 \"secret 1\""), "{}", run.out);
}

#[test]
fn what_cannot_be_checked_is_refused_with_a_reason() {
    let root = data_dir();
    let missing = root.path().join("missing");
    for arguments in [&["fsck"][..], &["fsck", "--repair"], &["log", "dump"]] {
        for directory in [root.path(), &missing] {
            let run = ferrymq(arguments, directory);
            assert_eq!(run.code, Some(66), "{arguments:?}: {}", run.err);
            assert!(run.err.starts_with("error: cannot read the data directory '"), "{}", run.err);
        }
        assert!(!missing.exists());
        assert_eq!(snapshot(root.path()).len(), 0);
    }

    let broker = Broker::start("");
    let data = broker.data.path().join("data");
    for arguments in [&["fsck"][..], &["fsck", "--repair"], &["log", "dump"]] {
        let run = ferrymq(arguments, &data);
        assert_eq!(run.code, Some(75), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(&format!("is in use by process {}", broker.id())), "{}", run.err);
    }
    let kept = broker.kill();
    let run = ferrymq(&["fsck"], &kept.path().join("data"));
    assert_eq!(run.code, Some(0), "{}\n{}", run.out, run.err);
}
