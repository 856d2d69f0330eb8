//! Where in the message log a message of a queue is stored.
//!
//! Invariant: a place of a queue leaves it with the home it has at that moment, so that whoever counts what is alive
//! in each segment counts every place exactly once.

/// Offsets are multiples of this, so that 32 bits reach 32 GiB into a segment.
const UNIT_BYTES: u64 = 8;

/// The bit among the bytes that says that a home is for the sake of memory only.
const TRANSIENT: u32 = 1 << 31;

/// A byte of the message log. They ascend in the order in which the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// In which segment.
    pub segment: u32,
    /// Where in it.
    pub offset: u64,
}

/// Where a message is stored for one place of one queue. The log may move it while the place stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    segment: u32,
    units: u32,
    bytes: u32,
}

impl Home {
    /// Nowhere: the message goes with the process.
    pub const NONE: Self = Self { segment: 0, units: 0, bytes: 0 };

    /// It is to be stored with the turn that is running, unless it has left its queue by the end of it.
    pub const AWAITED: Self = Self { segment: u32::MAX, units: 0, bytes: 0 };

    /// The same, for the sake of memory only: the message still goes with the process.
    pub(super) const SPILLED: Self = Self { segment: u32::MAX, units: 0, bytes: TRANSIENT };

    /// There is no message.
    pub(super) const VACANT: Self = Self { segment: u32::MAX - 1, units: 0, bytes: 0 };

    /// At this location, of whose bytes so many are there for this place.
    ///
    /// # Panics
    /// If the offset is not a multiple of 8 or not below 32 GiB.
    #[must_use]
    pub fn new(location: Location, bytes: u32) -> Self {
        debug_assert!(location.offset.is_multiple_of(UNIT_BYTES), "records are aligned");
        let units = u32::try_from(location.offset / UNIT_BYTES).expect("a turn stores less than 32 GiB");
        Self { segment: location.segment, units, bytes: bytes.min(TRANSIENT - 1) }
    }

    /// Where its message is stored from here on. For whose sake it is stored does not change.
    pub(super) fn moved_to(self, home: Self) -> Self {
        Self { bytes: home.bytes | self.bytes & TRANSIENT, ..home }
    }

    /// Whether it is to be stored with the turn that is running.
    #[must_use]
    pub fn is_awaited(self) -> bool {
        self.segment == Self::AWAITED.segment
    }

    /// Whether it is stored for the sake of memory only: what is there means nothing after a restart.
    #[must_use]
    pub fn is_transient(self) -> bool {
        self.bytes & TRANSIENT != 0
    }

    /// The segment and the bytes, if it is stored.
    #[must_use]
    pub fn stored(self) -> Option<(u32, u32)> {
        self.location().map(|location| (location.segment, self.bytes()))
    }

    /// Where its record begins, if it is stored.
    #[must_use]
    pub fn location(self) -> Option<Location> {
        let stored =
            ![Self::NONE.segment, Self::AWAITED.segment, Self::VACANT.segment].contains(&self.segment);
        stored.then_some(Location { segment: self.segment, offset: u64::from(self.units) * UNIT_BYTES })
    }

    /// Bytes of the log that are there for this place.
    #[must_use]
    pub fn bytes(self) -> u32 {
        self.bytes & !TRANSIENT
    }
}
