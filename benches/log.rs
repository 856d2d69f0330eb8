//! The message log beside a bare loop of append and fdatasync, on the same disk in the same run.
//!
//! `cargo bench --bench log`. `LOG_BENCH_DIR` chooses the disk; the default is the build's own. Every round of the log
//! is one turn of so many messages, then a wait for its position: the rate at which one publisher that waits for each
//! confirm can go. `recycling` acks everything, so that segments are used again; `growing` acks nothing, in segments of
//! 256 turns within 1 to 64 MiB. Runs are interleaved; printed are medians, and ratios to the bare loop of the same
//! interleaving as median (least-greatest). Behind that, what appending costs and what a start costs.
//! `cargo bench --bench log -- rounds` and `-- recovery` measure one part alone.

#![allow(clippy::disallowed_methods, reason = "to measure is to read the clock")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded for people")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrymq::model::{Message, MessageParts, QueueId, Seq};
use ferrymq::storage::log::{
    Batch, Durability, Log, LogOptions, OsFileSystem, Record, RecoveryReport, SegmentNumber, VhostId,
};

const RUNS: usize = 3;
const TIME: Duration = Duration::from_secs(1);
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
    let only = |part: &str| std::env::args().any(|argument| argument == part);
    if !only("recovery") {
        beside_the_bare_loop(&root);
    }
    if !only("recovery") && !only("rounds") {
        append_only(&root);
    }
    if !only("rounds") {
        recovery(&root);
    }
}

fn beside_the_bare_loop(root: &Path) {
    println!(
        "{:>8} {:>9} | {:>8} {:>7} | {:>9} {:>7} {:<16} | {:>8} {:>7} {:<16}",
        "messages", "bytes", "bare/s", "p50 µs", "recycling", "p50 µs", "ratio", "growing", "p50 µs", "ratio"
    );
    for messages in [1, 16, 100, 1000] {
        let (mut bare, mut recycling, mut growing) = (Vec::new(), Vec::new(), Vec::new());
        let size = turn(messages).size();
        for _ in 0..RUNS {
            bare.push(fresh(root, |root| bare_loop(root, size)));
            recycling.push(fresh(root, |root| log_loop(root, LogOptions::new(1), messages, true)));
            let segment = (size as u64 * 256).clamp(1 << 20, 64 << 20);
            let options =
                LogOptions { segment_bytes_min: segment, segment_bytes_max: segment, ..LogOptions::new(1) };
            growing.push(fresh(root, |root| log_loop(root, options, messages, false)));
        }
        let (recycling_ratio, growing_ratio) = (ratio(&recycling, &bare), ratio(&growing, &bare));
        let (bare, recycling, growing) = (median(bare), median(recycling), median(growing));
        println!(
            "{messages:>8} {size:>9} | {:>8.0} {:>7.0} | {:>9.0} {:>7.0} {recycling_ratio:<16} | {:>8.0} {:>7.0} \
             {growing_ratio:<16}",
            bare.rounds_per_second,
            bare.median_us,
            recycling.rounds_per_second,
            recycling.median_us,
            growing.rounds_per_second,
            growing.median_us,
        );
    }
}

/// Rates of runs, each as a multiple of the bare loop beside it.
fn ratio(runs: &[Run], bare: &[Run]) -> String {
    let ratios = runs.iter().zip(bare).map(|(run, bare)| run.rounds_per_second / bare.rounds_per_second);
    let mut ratios: Vec<_> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2}-{:.2})", ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1])
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
        batch.push(&Record::Publish {
            vhost: VhostId(1),
            queues: &queues,
            deadlines: &[],
            message: message.into(),
        });
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

fn log_loop(root: &Path, options: LogOptions, messages: u32, recycles: bool) -> Run {
    let (log, _) = open_with(root, options);
    let mut durable = log.durable();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut batch, message, mut retired) = (Batch::new(), message(), SegmentNumber(0));
    let run = runtime.block_on(async {
        measure_async(async || {
            fill(&mut batch, &message, messages);
            let appended = log.append(&mut batch, true);
            durable.wait_for(|durable| *durable >= appended.position).await.expect("a thread");
            if recycles {
                retire_before(&log, &mut retired, appended.location.segment);
            }
        })
        .await
    });
    log.shutdown().expect("a disk");
    run
}

fn open(root: &Path) -> (Log, RecoveryReport) {
    open_with(root, LogOptions::new(1))
}

fn open_with(root: &Path, options: LogOptions) -> (Log, RecoveryReport) {
    let files = OsFileSystem::open(&root.join("messages")).expect("a directory");
    Log::open(Arc::new(files), options, &mut |_| {}).expect("an empty log")
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
            retire_before(&log, &mut retired, appended.location.segment);
        }
        log.shutdown().expect("a disk");
        spent.as_nanos() as f64 / f64::from(messages)
    });
    println!("encode and append, {BODY} bytes, 100 per turn, nobody waits: {nanos:.0} ns per message");
}

/// What a start costs that finds a million messages, all of them in the page cache.
fn recovery(root: &Path) {
    for per_turn in [1, 100] {
        fresh(root, |root| {
            store(root, 1_000_000, per_turn);
            for _ in 0..3 {
                println!("recovery, {BODY} bytes, {per_turn} per turn: {}", recover(root));
            }
        });
    }
}

fn store(root: &Path, messages: u32, per_turn: u32) {
    let options = LogOptions { durability: Durability::Memory, ..LogOptions::new(1) };
    let (log, _) = open_with(root, options);
    let (mut batch, message) = (Batch::new(), message());
    for _ in 0..messages / per_turn {
        while log.congested() {
            std::thread::yield_now();
        }
        fill(&mut batch, &message, per_turn);
        log.append(&mut batch, false);
    }
    log.shutdown().expect("a disk");
}

/// Opens the log and says what that took.
fn recover(root: &Path) -> String {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let (resident, cpu, begin) = (status_kib("VmRSS:"), cpu_nanos(), Instant::now());
    let files = OsFileSystem::open(&root.join("messages")).expect("a directory");
    let mut bodies = 0;
    let (log, report) = Log::open(Arc::new(files), LogOptions::new(1), &mut |placed| {
        if let Record::Publish { message, .. } = placed.record {
            bodies += message.body.len();
        }
    })
    .expect("the log of the run");
    let (wall, cpu) = (begin.elapsed(), Duration::from_nanos(cpu_nanos() - cpu));
    let peak = status_kib("VmHWM:") - resident;
    drop(log);
    format!(
        "{} messages, {} MiB read in {:.2} s, {:.2} s of CPU, {} MiB more resident at most",
        bodies / BODY,
        report.bytes >> 20,
        wall.as_secs_f64(),
        cpu.as_secs_f64(),
        peak >> 10
    )
}

/// Time on a processor of this thread.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number")
}

fn status_kib(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
