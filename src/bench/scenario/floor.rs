//! `floor`: what this machine allows at best, without a broker.
//!
//! Two loops that any broker contains: read a socket and write what came to another one, and append to a file and
//! sync it. What a broker costs beyond them is its own.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Part;
use crate::bench::client::Pace;
use crate::bench::clock;
use crate::bench::error::{BenchError, Result};
use crate::bench::figures::Figure;
use crate::bench::flow::{self, Bench};
use crate::bench::report::{About, Durability};
use crate::bench::tally::{Allowance, Limit, Tally};

/// How much a read takes at most.
const READ_BYTES: usize = 128 * 1024;
/// How many slices a write has at most.
const SLICES: usize = 64;

/// What this machine allows at best.
#[derive(Clone, Debug)]
pub struct Floor {
    /// Octets of a record, at least 1.
    pub size: u32,
    /// Records that are written, and synced, at a time; at least 1.
    pub batch_records: u32,
    /// For each of the two loops: time, or records.
    pub limit: Limit,
    /// Where the file of the second loop is made, and deleted.
    pub dir: PathBuf,
}

/// What a loop took.
struct Took {
    records: u64,
    time: Duration,
    cpu: Duration,
}

impl Part for Floor {
    fn check(&self) -> std::result::Result<(), String> {
        if u64::from(self.size) * u64::from(self.batch_records) > Self::MAX_BATCH {
            return Err("--size times --batch-records is more than 256 MiB".into());
        }
        Ok(())
    }

    fn about(&self) -> About {
        let limit = match self.limit {
            Limit::Time(time) => ("seconds", format!("{} each", time.as_secs())),
            Limit::Messages(records) => ("records", records.to_string()),
        };
        About {
            scenario: "floor",
            settings: vec![
                ("size", format!("{} B", self.size)),
                ("batch", format!("{} records", self.batch_records)),
                limit,
                ("dir", self.dir.display().to_string()),
            ],
            durability: Durability::NoMessages,
            confirms: "none".into(),
            acks: "none".into(),
        }
    }

    fn run(&self, bench: Bench<'_>) -> Result<Vec<Figure>> {
        self.measure(bench.tally)
    }
}

impl Floor {
    /// What a batch may take, in octets.
    const MAX_BATCH: u64 = 256 << 20;

    /// Runs both loops.
    pub(in crate::bench) fn measure(&self, tally: &Tally) -> Result<Vec<Figure>> {
        let (relayed, received) = self.relay(tally)?;
        let (appended, syncs) = self.append(tally)?;
        let mut figures = vec![
            Figure::count("published", relayed.records),
            Figure::count("consumed", received),
            Figure::rate("published_per_s", relayed.records, relayed.time),
            Figure::rate("consumed_per_s", received, relayed.time),
            Figure::share("relay_cpu_us_per_record", relayed.cpu, received),
            Figure::count("appended", appended.records),
            Figure::rate("appended_per_s", appended.records, appended.time),
            Figure::share("append_cpu_us_per_record", appended.cpu, appended.records),
            Figure::rate("syncs_per_s", syncs.len(), appended.time),
        ];
        figures.extend(Figure::percentiles("sync", &syncs));
        Ok(figures)
    }

    fn batch(&self) -> Vec<u8> {
        vec![b'x'; self.size as usize * self.batch_records as usize]
    }

    /// A source, a relay and a sink, each a thread; the relay's CPU is what is measured.
    fn relay(&self, tally: &Tally) -> Result<(Took, u64)> {
        let (mut source, from) = pair()?;
        let (to, mut sink) = pair()?;
        let (batch, size) = (self.batch(), u64::from(self.size));
        let start = clock::now();
        let allowance = self.limit.part(0, 1, start);
        let (sent, relayed, received) = thread::scope(|scope| {
            let sending = scope.spawn(move || {
                let sent = send(&mut source, &batch, (allowance, self.batch_records), size, tally);
                // The others end at the end of the stream.
                drop(source);
                sent.inspect_err(|_| tally.fail())
            });
            let relaying =
                scope.spawn(move || relay(from, to, self.size as usize).inspect_err(|_| tally.fail()));
            let receiving = scope.spawn(move || drain(&mut sink, size, tally).inspect_err(|_| tally.fail()));
            (flow::join(vec![sending]), flow::join(vec![relaying]), flow::join(vec![receiving]))
        });
        let time = clock::now().duration_since(start);
        let ((sent, cpu), received) = flow::both(flow::both(sent, relayed), received)?;
        let records: u64 = sent.into_iter().sum();
        let octets: u64 = received.into_iter().sum();
        if octets != records * size {
            return Err(BenchError::Wrong(format!("{octets} octets were relayed of {}", records * size)));
        }
        let cpu = cpu.into_iter().sum();
        Ok((Took { records, time, cpu }, octets / size))
    }

    /// Appends and syncs; returns also how many nanoseconds each sync took.
    fn append(&self, tally: &Tally) -> Result<(Took, Histogram<u64>)> {
        let cannot = BenchError::io("cannot write a file in --dir");
        let path = self.dir.join(format!("ferrymq-bench-{}.tmp", std::process::id()));
        let file = File::create_new(&path).map_err(&cannot)?;
        let deleted = Deleted(path);
        let took = self.append_to(&file, tally, &cannot);
        drop((file, deleted));
        took
    }

    fn append_to(
        &self,
        mut file: &File,
        tally: &Tally,
        cannot: &dyn Fn(std::io::Error) -> BenchError,
    ) -> Result<(Took, Histogram<u64>)> {
        let batch = self.batch();
        let (start, cpu) = (clock::now(), clock::thread_cpu());
        let allowance = self.limit.part(0, 1, start);
        let (mut records, mut syncs) = (0, Pace::histogram());
        loop {
            tally.go_on()?;
            let count = allowance.next(records, self.batch_records as usize);
            if count == 0 {
                break;
            }
            file.write_all(&batch[..count * self.size as usize]).map_err(cannot)?;
            let written = clock::now();
            file.sync_data().map_err(cannot)?;
            Pace::record(&mut syncs, clock::now().duration_since(written));
            records += count as u64;
        }
        let cpu = clock::thread_cpu().saturating_sub(cpu);
        Ok((Took { records, time: clock::now().duration_since(start), cpu }, syncs))
    }
}

/// A file that goes when this goes.
struct Deleted(PathBuf);

impl Drop for Deleted {
    fn drop(&mut self) {
        // It was made in here; if it is gone, that is what was wanted.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Two ends of a connection on the loopback interface.
fn pair() -> Result<(TcpStream, TcpStream)> {
    let cannot = BenchError::io("cannot connect to this machine");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(&cannot)?;
    let client = TcpStream::connect(listener.local_addr().map_err(&cannot)?).map_err(&cannot)?;
    let server = listener.accept().map_err(&cannot)?.0;
    client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).map_err(&cannot)?;
    Ok((client, server))
}

fn send(
    source: &mut TcpStream,
    batch: &[u8],
    (allowance, records): (Allowance, u32),
    size: u64,
    tally: &Tally,
) -> Result<u64> {
    let mut sent = 0;
    loop {
        tally.go_on()?;
        let count = allowance.next(sent, records as usize);
        if count == 0 {
            return Ok(sent);
        }
        let octets = &batch[..count * usize::try_from(size).unwrap_or(usize::MAX)];
        source.write_all(octets).map_err(BenchError::io("cannot write to a socket"))?;
        sent += count as u64;
        tally.published.store(sent, Ordering::Relaxed);
    }
}

/// Reads, and writes what was read as one slice for each record, until the end; returns its CPU time.
fn relay(mut from: TcpStream, mut to: TcpStream, size: usize) -> Result<Duration> {
    let cannot = BenchError::io("cannot relay");
    let before = clock::thread_cpu();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = from.read(&mut buffer).map_err(&cannot)?;
        if read == 0 {
            return Ok(clock::thread_cpu().saturating_sub(before));
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let slices: Vec<IoSlice<'_>> = rest.chunks(size).take(SLICES).map(IoSlice::new).collect();
            rest = &rest[to.write_vectored(&slices).map_err(&cannot)?..];
        }
    }
}

/// Reads until the end; returns how many octets that were.
fn drain(sink: &mut TcpStream, size: u64, tally: &Tally) -> Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut octets = 0;
    loop {
        match sink.read(&mut buffer).map_err(BenchError::io("cannot read from a socket"))? {
            0 => return Ok(octets),
            read => octets += read as u64,
        }
        tally.consumed.store(octets / size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Interrupt;

    #[test]
    fn everything_is_relayed_and_appended_and_the_file_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().to_owned();
        let floor = Floor { size: 100, batch_records: 30, limit: Limit::Messages(1_000), dir };
        let tally = Tally::new(&Interrupt::default(), Duration::from_secs(30));
        let figures = floor.measure(&tally).unwrap();
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        for name in ["published", "consumed", "appended"] {
            assert!((value(name) - 1_000.0).abs() < f64::EPSILON, "{name}: {figures:?}");
        }
        assert!(value("syncs_per_s") > 0.0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let huge = Floor { batch_records: 1 << 30, ..floor };
        assert!(huge.check().unwrap_err().contains("256 MiB"));
    }
}
