//! The log on a simulated disk: what crashes, failing disks and damage leave of it.

mod basics;
mod client;
mod crash;
mod damage;
mod disk;
mod faults;
mod mending;
mod reread;
mod spares;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use super::recovery::recover;
use super::segments::WriteError;
use super::shared::Work;
use super::writer::Writer;
use super::zeroing::Zeroer;
use super::*;
use disk::SimDisk;

/// Small enough that a few batches fill a segment.
fn small_options() -> LogOptions {
    LogOptions {
        segment_bytes_min: 2048,
        segment_bytes_max: 4096,
        durability: Durability::Fsync,
        max_unwritten_bytes: 1 << 20,
        idle_sync: Duration::from_millis(1),
        salt: 7,
        start: LogPosition::START,
    }
}

/// A log whose threads are the test.
struct Driven {
    log: Log,
    writer: Writer,
    zeroer: Zeroer,
    work: Work,
}

impl Driven {
    fn open(
        disk: &SimDisk,
        options: LogOptions,
        visitor: &mut dyn FnMut(Placed<'_>),
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let file_system: Arc<dyn FileSystem> = Arc::new(disk.clone());
        let mut recovered = recover(Arc::clone(&file_system), &options, visitor)?;
        let report = std::mem::take(&mut recovered.report);
        let (log, writer, zeroer) = Log::assemble(file_system, options, recovered);
        Ok((Self { log, writer, zeroer, work: Work::default() }, report))
    }

    /// One turn of the thread, or an error that ends it.
    fn pump(&mut self) -> Result<LogPosition, WriteError> {
        self.log.shared.take_now(&mut self.work);
        let done = self.writer.turn(&self.log.shared, &mut self.work);
        if let Err(error) = &done {
            self.log.shared.fail(&error.to_string());
        }
        done.map(|()| *self.log.durable().borrow())
    }

    fn close(&mut self) -> Result<LogPosition, WriteError> {
        self.log.shared.close(true);
        self.pump()
    }
}

/// Random numbers of a seed (SplitMix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below a bound.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}
