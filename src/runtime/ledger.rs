//! What is alive in each segment of the log, and what the oldest segment calls for.
//!
//! Invariant: a batch is appended and counted under one lock, so that no segment ever seems empty while something
//! alive is on its way into it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::journal::Extent;
use crate::model::{DefinitionChange, LogPosition, VhostName};
use crate::queue::{Home, Location};
use crate::storage::Storage;
use crate::storage::log::{self, Batch, SegmentNumber, Space, Usage};
use crate::vhost::Freed;

/// After so many bytes free space is looked at, so that a small disk is not full before the next regular look.
const UNSEEN_BYTES_MAX: u64 = 1 << 20;

/// What may be moved out of a segment while the disk is full: it takes of the reserve, which acks need as well, and
/// gives back the segment. More would leave messages nowhere but in memory, or out of reach.
const MOVED_WHEN_FULL_BYTES: u64 = 256 << 10;

/// The node's storage, and what is alive in it.
#[derive(Debug)]
pub(super) struct Ledger {
    storage: Storage,
    /// Bytes that the log may take up besides twice what is alive.
    budget_bytes: u64,
    counts: Mutex<Counts>,
    /// Rung when a segment may have become useless, or a new one was begun.
    pub(super) changed: Notify,
    /// Rung when so much was appended that free space should be looked at.
    pub(super) grown: Notify,
}

/// What is alive, by segment. Where nothing is, there is no entry.
#[derive(Debug, Default)]
struct Counts {
    segments: BTreeMap<u32, Live>,
    /// Sum over all segments.
    bytes: u64,
    /// The segment that was last appended to.
    newest: u32,
    /// Bytes appended since free space was looked at.
    unseen_bytes: u64,
}

/// What is alive in one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// Places of messages.
    pub(super) places: u64,
    /// Bytes of records for them.
    pub(super) bytes: u64,
    /// There are definitions or identities among its records, and some may be in force.
    pub(super) defines: bool,
}

/// A batch that is about to be appended.
pub(super) struct Outgoing<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) vhost: &'a VhostName,
    /// Definitions that changed with it.
    pub(super) definitions: &'a [DefinitionChange],
    /// It holds identities, or definitions that have not changed.
    pub(super) defines: bool,
    /// Where in it each place of each message is.
    pub(super) extents: &'a [Extent],
    /// What is not alive any more from here on.
    pub(super) freed: &'a [Freed],
    /// Somebody waits for the position.
    pub(super) waits: bool,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) position: LogPosition,
    location: Location,
}

impl Stored {
    /// Where a message of the batch is stored.
    pub(super) fn home(self, Extent { begin, bytes }: Extent) -> Home {
        let Location { segment, offset } = self.location;
        Home::new(Location { segment, offset: offset + begin as u64 }, bytes)
    }
}

/// What the oldest segment calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing: it holds messages, and there is room for it.
    Nothing,
    /// Nothing below this segment is needed.
    Retire(SegmentNumber),
    /// It holds no messages; definitions and identities are to be appended again.
    Redefine,
    /// The log takes too much room for what is alive: its messages are to be appended again.
    Relocate(SegmentNumber),
}

impl Ledger {
    pub(super) fn new(storage: Storage, budget_bytes: u64) -> Self {
        Self { storage, budget_bytes, counts: Mutex::default(), changed: Notify::new(), grown: Notify::new() }
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Appends a batch and counts what it brings and what it ends.
    pub(super) fn append(&self, outgoing: Outgoing<'_>) -> Stored {
        let Outgoing { batch, vhost, definitions, defines, extents, freed, waits } = outgoing;
        let size = batch.size() as u64;
        let mut counts = self.counts.lock();
        let appended = self.storage.append(batch, vhost, definitions, waits);
        let stored = Stored { position: appended.position, location: location(appended.location) };
        let segment = stored.location.segment;
        counts.add(segment, extents, defines || !definitions.is_empty());
        let begun = segment > std::mem::replace(&mut counts.newest, segment);
        if counts.free(freed) || begun {
            self.changed.notify_one();
        }
        counts.unseen_bytes += size;
        if counts.unseen_bytes >= UNSEEN_BYTES_MAX {
            counts.unseen_bytes = 0;
            self.grown.notify_one();
        }
        stored
    }

    /// Counts what recovery found in a segment.
    pub(super) fn found(&self, segment: u32, live: Live) {
        let mut counts = self.counts.lock();
        counts.bytes += live.bytes;
        counts.segments.insert(segment, live);
    }

    /// Counts what is not alive any more, of queues that were purged or deleted.
    pub(super) fn free(&self, freed: &[Freed]) {
        if self.counts.lock().free(freed) {
            self.changed.notify_one();
        }
    }

    /// What the oldest segment calls for, when everything below `retired` is being given up already.
    pub(super) fn due(&self, retired: SegmentNumber) -> Due {
        let counts = self.counts.lock();
        let log = self.storage.log();
        let space = *log.space().borrow();
        counts.due(log.usage(), space, retired, self.budget_bytes)
    }

    /// All definitions and identities have been appended again since `segment` was the newest one.
    pub(super) fn redefined(&self, segment: SegmentNumber) {
        let mut counts = self.counts.lock();
        counts.segments.range_mut(..number(segment)).for_each(|(_, live)| live.defines = false);
        counts.forget_useless();
    }

    /// The segments that hold definitions or identities.
    pub(super) fn defined_in(&self) -> Vec<SegmentNumber> {
        let counts = self.counts.lock();
        let defining = counts.segments.iter().filter(|(_, live)| live.defines);
        defining.map(|(segment, _)| SegmentNumber(u64::from(*segment))).collect()
    }

    /// Up to where messages can be read again.
    pub(super) fn written(&self) -> Location {
        location(self.storage.log().written_until())
    }

    /// The newest segment.
    pub(super) fn newest(&self) -> SegmentNumber {
        self.storage.log().usage().newest
    }
}

impl Counts {
    fn add(&mut self, segment: u32, extents: &[Extent], defines: bool) {
        if extents.is_empty() && !defines {
            return;
        }
        let live = self.segments.entry(segment).or_default();
        let bytes = extents.iter().map(|extent| u64::from(extent.bytes)).sum::<u64>();
        live.places += extents.len() as u64;
        live.bytes += bytes;
        live.defines |= defines;
        self.bytes += bytes;
    }

    /// Says whether a segment has lost its last message.
    fn free(&mut self, freed: &[Freed]) -> bool {
        let mut emptied = false;
        for &Freed { segment, places, bytes } in freed {
            let live = self.segments.get_mut(&segment).expect("what is freed was counted when it was stored");
            live.places -= places;
            live.bytes -= bytes;
            self.bytes -= bytes;
            emptied |= live.places == 0;
        }
        if emptied {
            self.forget_useless();
        }
        emptied
    }

    fn forget_useless(&mut self) {
        self.segments.retain(|_, live| live.places > 0 || live.defines);
    }

    fn due(&self, usage: Usage, space: Space, retired: SegmentNumber, budget_bytes: u64) -> Due {
        let oldest = usage.oldest.max(retired);
        if oldest >= usage.newest {
            return Due::Nothing;
        }
        let needed = self.segments.range(number(oldest)..number(usage.newest)).next();
        let Some((&segment, live)) = needed else { return Due::Retire(usage.newest) };
        let segment = SegmentNumber(u64::from(segment));
        // Half the budget, and half of what is alive, remain for what is on its way.
        let crowded = usage.bytes > budget_bytes / 2 + self.bytes / 2 * 3;
        if segment > oldest {
            Due::Retire(segment)
        } else if live.places == 0 {
            Due::Redefine
        } else if crowded && (space == Space::Ample || live.bytes <= MOVED_WHEN_FULL_BYTES) {
            Due::Relocate(segment)
        } else {
            Due::Nothing
        }
    }
}

/// A location as queues know it.
pub(super) fn location(location: log::Location) -> Location {
    Location { segment: number(location.segment), offset: location.offset }
}

/// A segment's number as queues keep it.
pub(super) fn number(segment: SegmentNumber) -> u32 {
    u32::try_from(segment.0).expect("4 billion segments are 16 million GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 1_000;

    fn counts(segments: &[(u32, u64, bool)]) -> Counts {
        let mut counts = Counts::default();
        for &(segment, places, defines) in segments {
            let extent = Extent { begin: 0, bytes: 10 };
            counts.add(segment, &vec![extent; usize::try_from(places).unwrap()], defines);
        }
        counts
    }

    fn due(counts: &Counts, oldest: u64, newest: u64, bytes: u64, retired: u64) -> Due {
        due_with(Space::Ample, counts, oldest, newest, bytes, retired)
    }

    fn due_with(space: Space, counts: &Counts, oldest: u64, newest: u64, bytes: u64, retired: u64) -> Due {
        let segments = usize::try_from(newest - oldest + 1).unwrap();
        let (oldest, newest) = (SegmentNumber(oldest), SegmentNumber(newest));
        let usage = Usage { segments, bytes, oldest, newest };
        counts.due(usage, space, SegmentNumber(retired), BUDGET)
    }

    #[test]
    fn segments_without_anything_alive_are_retired_up_to_the_first_that_has() {
        let mut counts = counts(&[(3, 2, false), (5, 1, false)]);
        assert_eq!(due(&counts, 1, 6, 0, 0), Due::Retire(SegmentNumber(3)));
        assert_eq!(due(&counts, 1, 6, 0, 3), Due::Nothing, "that much is on its way already");
        assert!(!counts.free(&[Freed { segment: 3, places: 1, bytes: 10 }]));
        assert!(counts.free(&[Freed { segment: 3, places: 1, bytes: 10 }]));
        assert_eq!(due(&counts, 1, 6, 0, 3), Due::Retire(SegmentNumber(5)));
        assert!(counts.free(&[Freed { segment: 5, places: 1, bytes: 10 }]));
        assert_eq!(due(&counts, 5, 6, 0, 3), Due::Retire(SegmentNumber(6)));
        assert_eq!(due(&counts, 5, 5, 0, 3), Due::Nothing, "the newest stays");
        assert_eq!(counts.bytes, 0);
    }

    #[test]
    fn a_crowded_log_moves_its_oldest_messages_and_only_then() {
        let counts = counts(&[(1, 100, false), (2, 1, true)]);
        // 1,010 bytes are alive: 500 of the budget and one and a half times that.
        assert_eq!(due(&counts, 1, 3, 2_015, 0), Due::Nothing);
        assert_eq!(due(&counts, 1, 3, 2_016, 0), Due::Relocate(SegmentNumber(1)));
        assert_eq!(due(&counts, 1, 1, 2_016, 0), Due::Nothing, "not what is being written");
    }

    #[test]
    fn a_full_disk_is_not_asked_to_take_more_than_its_reserve() {
        let few = MOVED_WHEN_FULL_BYTES / 10;
        let mut counts = counts(&[(1, few, false), (2, 1, true)]);
        let relocate = Due::Relocate(SegmentNumber(1));
        assert_eq!(
            due_with(Space::Full, &counts, 1, 3, u64::MAX, 0),
            relocate,
            "one message pins no segment"
        );
        counts.add(1, &[Extent { begin: 0, bytes: 10 }], false);
        assert_eq!(due_with(Space::Full, &counts, 1, 3, u64::MAX, 0), Due::Nothing);
        assert_eq!(due_with(Space::Ample, &counts, 1, 3, u64::MAX, 0), relocate);
    }

    #[test]
    fn definitions_alone_are_appended_again() {
        let mut counts = counts(&[(1, 1, true), (2, 0, true)]);
        assert_eq!(due(&counts, 1, 3, 0, 0), Due::Nothing);
        counts.free(&[Freed { segment: 1, places: 1, bytes: 10 }]);
        assert_eq!(due(&counts, 1, 3, 0, 0), Due::Redefine);
        counts.segments.range_mut(..2).for_each(|(_, live)| live.defines = false);
        counts.forget_useless();
        assert_eq!(due(&counts, 1, 3, 0, 0), Due::Retire(SegmentNumber(2)));
        assert_eq!(due(&counts, 2, 3, 0, 0), Due::Redefine);
    }
}
