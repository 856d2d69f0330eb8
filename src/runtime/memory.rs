//! The memory watermark: counted bytes in, an alarm with hysteresis out.
//!
//! Invariant: bytes are folded in once per burst; the alarm changes at most once per crossing, and clears only
//! below nine tenths of the watermark, so that one message more or less does not make it flap.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::model::settle_message_bytes;
use crate::session::Shortage;

/// What became of the alarm when bytes were folded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmChange {
    /// It is as it was.
    Unchanged,
    /// Memory has risen above the watermark: publishers must stop being read.
    Raised,
    /// Memory has fallen below the lower mark: publishers may go on.
    Cleared,
}

/// Bytes held for messages and for frames on their way in and out, over all connections.
#[derive(Debug)]
pub struct Memory {
    bytes: AtomicI64,
    watermark_bytes: i64,
    /// Of these, bytes of messages that are incomplete.
    assembling_bytes: AtomicI64,
    alarm: AtomicBool,
}

/// The part of the watermark that messages whose publish came before the alarm may take beyond it.
const CRITICAL_SHARE: i64 = 4;

impl Memory {
    /// A gauge at zero that raises the alarm above `watermark_bytes`.
    #[must_use]
    pub fn new(watermark_bytes: u64) -> Self {
        let watermark_bytes = i64::try_from(watermark_bytes).unwrap_or(i64::MAX);
        Self {
            bytes: AtomicI64::new(0),
            watermark_bytes,
            assembling_bytes: AtomicI64::new(0),
            alarm: AtomicBool::new(false),
        }
    }

    /// Folds in what this thread's messages and the caller's buffers have changed by.
    pub fn fold(&self, buffers_changed_bytes: i64) -> AlarmChange {
        let changed = settle_message_bytes() + buffers_changed_bytes;
        if changed == 0 {
            return AlarmChange::Unchanged;
        }
        self.bytes.fetch_add(changed, Ordering::SeqCst);
        let mut change = AlarmChange::Unchanged;
        // Looked at again after each change of the alarm: another thread may have crossed the marks meanwhile
        // and found the alarm as it was before, and nobody else may come by after it.
        loop {
            let bytes = self.bytes.load(Ordering::SeqCst);
            let alarm = self.alarm.load(Ordering::SeqCst);
            let due =
                if alarm { bytes >= self.watermark_bytes / 10 * 9 } else { bytes > self.watermark_bytes };
            if due == alarm {
                return change;
            }
            if self.alarm.compare_exchange(alarm, due, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                change = if due { AlarmChange::Raised } else { AlarmChange::Cleared };
            }
        }
    }

    /// Folds in what incomplete messages have changed by; their bytes are folded as buffers besides.
    pub fn fold_assembling(&self, changed_bytes: i64) {
        if changed_bytes != 0 {
            self.assembling_bytes.fetch_add(changed_bytes, Ordering::Relaxed);
        }
    }

    /// How scarce memory is.
    #[must_use]
    pub fn shortage(&self) -> Shortage {
        if !self.alarm() {
            return Shortage::None;
        }
        let bytes = self.bytes();
        if bytes <= self.watermark_bytes + self.watermark_bytes / CRITICAL_SHARE {
            Shortage::Alarm
        } else if self.assembling_bytes.load(Ordering::Relaxed) <= bytes / 2 {
            Shortage::Critical
        } else {
            Shortage::Deadlock
        }
    }

    /// Whether so much is held that messages should leave memory which need not be there: half of the watermark.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.bytes() > self.watermark_bytes / 2
    }

    /// Whether publishers must not be read.
    #[must_use]
    pub fn alarm(&self) -> bool {
        self.alarm.load(Ordering::Acquire)
    }

    /// Bytes counted at this moment.
    #[must_use]
    pub fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Above this many bytes the alarm is raised.
    #[must_use]
    pub fn watermark_bytes(&self) -> i64 {
        self.watermark_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarm_rises_once_above_the_watermark_and_clears_once_below_nine_tenths() {
        let memory = Memory::new(1_000);
        assert_eq!(memory.fold(1_000), AlarmChange::Unchanged);
        assert_eq!(memory.fold(1), AlarmChange::Raised);
        assert_eq!(memory.fold(500), AlarmChange::Unchanged);
        assert!(memory.alarm());
        assert_eq!(memory.fold(-600), AlarmChange::Unchanged, "901 is within the hysteresis");
        assert!(memory.alarm());
        assert_eq!(memory.fold(-2), AlarmChange::Cleared);
        assert_eq!(memory.fold(-899), AlarmChange::Unchanged);
        assert!(!memory.alarm());
    }
}
