//! The only place of this room that reads clocks and waits for them.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The time.
#[inline]
#[expect(clippy::disallowed_methods, reason = "a benchmark is made of clocks")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Waits until then; returns at once if that is past.
#[expect(
    clippy::disallowed_methods,
    reason = "messages at a fixed rate are due at a time, not after an event"
)]
pub(super) fn sleep_until(then: Instant) {
    std::thread::sleep(then.saturating_duration_since(now()));
}

/// Makes this thread's [`sleep_until`] as exact as the system allows; Linux adds 50 us otherwise.
pub(super) fn wake_exactly() {
    #[cfg(target_os = "linux")]
    {
        let nanosecond = std::num::NonZeroU64::MIN;
        // It is late by a little more otherwise, and how late is reported.
        let _ = rustix::thread::set_current_timer_slack(Some(nanosecond));
    }
}

/// User and system time of this process so far.
pub(super) fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

/// User and system time of this thread so far.
pub(super) fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}
