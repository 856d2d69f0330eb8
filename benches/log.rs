//! The message log beside a bare loop of append and fdatasync, on the same disk in the same run.
//!
//! `cargo bench --bench log`. `LOG_BENCH_DIR` chooses the disk; the default is the build's own. Runs of both are
//! interleaved and the median is printed. Every round of the log is one turn of so many messages, then a wait for its position:
//! the rate at which one publisher that waits for each confirm can go.

#![allow(clippy::disallowed_methods, reason = "to measure is to read the clock")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded for people")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrymq::model::{Message, MessageParts, QueueId, Seq};
use ferrymq::storage::log::{Batch, Log, LogOptions, OsFileSystem, Record, SegmentNumber, VhostId};

const RUNS: usize = 5;
const TIME: Duration = Duration::from_millis(500);
const BODY: usize = 1024;

/// What one run measured.
#[derive(Clone, Copy)]
struct Run {
    rounds_per_second: f64,
    median_us: f64,
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        // `cargo test --benches` runs this too; a measurement is no test.
        return;
    }
    let root = std::env::var_os("LOG_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let root = root.join("log-bench");
    println!(
        "{:>9} {:>10} | {:>10} {:>9} | {:>10} {:>9} {:>10} | ratio",
        "messages", "bytes", "bare/s", "p50 µs", "log/s", "p50 µs", "messages/s"
    );
    for messages in [1, 16, 100, 1000] {
        let (mut bare, mut log) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let batch = turn(messages);
            bare.push(fresh(&root, |root| bare_loop(root, batch.size())));
            log.push(fresh(&root, |root| log_loop(root, messages)));
        }
        let (bare, log) = (median(bare), median(log));
        println!(
            "{messages:>9} {:>10} | {:>10.0} {:>9.0} | {:>10.0} {:>9.0} {:>10.0} | {:.2}",
            turn(messages).size(),
            bare.rounds_per_second,
            bare.median_us,
            log.rounds_per_second,
            log.median_us,
            log.rounds_per_second * f64::from(messages),
            log.rounds_per_second / bare.rounds_per_second,
        );
    }
    append_only(&root);
}

/// A directory for one run.
fn fresh<T>(root: &Path, run: impl FnOnce(&Path) -> T) -> T {
    let _ = std::fs::remove_dir_all(root);
    std::fs::create_dir_all(root).expect("a directory to measure in");
    let result = run(root);
    let _ = std::fs::remove_dir_all(root);
    result
}

fn message() -> Message {
    let parts =
        MessageParts { exchange: "", routing_key: "queue", properties: &[0x10, 0, 2], persistent: true };
    Message::new(parts, Bytes::from(vec![b'x'; BODY]))
}

fn fill(batch: &mut Batch, message: &Message, messages: u32) {
    for seq in 0..messages {
        let queues = [(QueueId(1), Seq(u64::from(seq)))];
        batch.push(&Record::Publish { vhost: VhostId(1), queues: &queues, message });
    }
}

fn turn(messages: u32) -> Batch {
    let mut batch = Batch::new();
    fill(&mut batch, &message(), messages);
    batch
}

fn bare_loop(root: &Path, size: usize) -> Run {
    let mut options = OpenOptions::new();
    let mut file: File = options.create(true).append(true).open(root.join("bare")).expect("a file");
    let bytes = vec![b'x'; size];
    measure(|| {
        file.write_all(&bytes).expect("space");
        file.sync_data().expect("a disk");
    })
}

fn log_loop(root: &Path, messages: u32) -> Run {
    let (log, _) = open(root);
    let mut durable = log.durable();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut batch, message, mut retired) = (Batch::new(), message(), SegmentNumber(0));
    let run = runtime.block_on(async {
        measure_async(async || {
            fill(&mut batch, &message, messages);
            let appended = log.append(&mut batch, true);
            durable.wait_for(|durable| *durable >= appended.position).await.expect("a thread");
            retire_before(&log, &mut retired, appended.segment);
        })
        .await
    });
    log.shutdown().expect("a disk");
    run
}

fn open(root: &Path) -> (Log, ferrymq::storage::log::RecoveryReport) {
    let files = OsFileSystem::open(&root.join("messages")).expect("a directory");
    Log::open(Arc::new(files), LogOptions::new(1), &mut |_| {}).expect("an empty log")
}

/// As if all messages but those of the newest segment were acked.
fn retire_before(log: &Log, retired: &mut SegmentNumber, newest: SegmentNumber) {
    if *retired < newest {
        *retired = newest;
        log.retire(newest);
    }
}

fn measure(mut round: impl FnMut()) -> Run {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed() < TIME {
        let before = Instant::now();
        round();
        times.push(before.elapsed());
    }
    summary(begin.elapsed(), times)
}

async fn measure_async(mut round: impl AsyncFnMut()) -> Run {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed() < TIME {
        let before = Instant::now();
        round().await;
        times.push(before.elapsed());
    }
    summary(begin.elapsed(), times)
}

fn summary(elapsed: Duration, mut times: Vec<Duration>) -> Run {
    times.sort_unstable();
    let median_us = times[times.len() / 2].as_secs_f64() * 1e6;
    Run { rounds_per_second: times.len() as f64 / elapsed.as_secs_f64(), median_us }
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.rounds_per_second.total_cmp(&b.rounds_per_second));
    runs[runs.len() / 2]
}

/// What encoding and appending cost the thread that publishes, when nobody waits for the disk.
fn append_only(root: &Path) {
    let nanos = fresh(root, |root| {
        let (log, _) = open(root);
        let (mut batch, message, mut retired) = (Batch::new(), message(), SegmentNumber(0));
        let (mut messages, mut spent) = (0_u32, Duration::ZERO);
        while messages < 200_000 {
            if log.congested() {
                std::thread::yield_now();
                continue;
            }
            let before = Instant::now();
            fill(&mut batch, &message, 100);
            let appended = log.append(&mut batch, false);
            spent += before.elapsed();
            messages += 100;
            retire_before(&log, &mut retired, appended.segment);
        }
        log.shutdown().expect("a disk");
        spent.as_nanos() as f64 / f64::from(messages)
    });
    println!("encode and append, {BODY} bytes, 100 per turn, nobody waits: {nanos:.0} ns per message");
}
