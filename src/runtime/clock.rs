//! The time that messages expire by.
//!
//! Invariant: it never goes back, whatever is done to the wall clock: not while the broker runs, and not across a
//! restart either, for it begins no earlier than the log was last written to. So a message is never given more time
//! than it had.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::queue::Moment;

/// The longest sleep: what is due later is looked at again.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// See the module's invariant.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    /// Milliseconds since 1970 at the origin.
    origin_ms: u64,
}

impl Clock {
    /// Begins with the wall clock's time, or with this one if that is later.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    pub fn start(not_before: Option<SystemTime>) -> Self {
        let wall = not_before.map_or_else(SystemTime::now, |time| SystemTime::now().max(time));
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), origin_ms: milliseconds(since) }
    }

    /// What time it is at this instant.
    #[must_use]
    #[inline]
    pub fn moment(&self, instant: Instant) -> Moment {
        Moment(self.origin_ms).after(milliseconds(instant.saturating_duration_since(self.origin)))
    }

    /// What time it is.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    pub fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    /// Sleeps until a moment, or for an hour.
    pub async fn sleep_until(&self, moment: Moment) {
        let left = Duration::from_millis(moment.0.saturating_sub(self.now().0));
        tokio::time::sleep(left.min(SLEEP_MAX)).await;
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_no_earlier_than_asked_and_goes_on_from_there() {
        let later = UNIX_EPOCH + Duration::from_secs(1 << 40);
        let clock = Clock::start(Some(later));
        let start = clock.moment(clock.origin);
        assert_eq!(start, Moment(1_000 << 40));
        assert_eq!(clock.moment(clock.origin + Duration::from_millis(1_500)), start.after(1_500));
        let earlier = clock.origin.checked_sub(Duration::from_secs(1)).unwrap_or(clock.origin);
        assert_eq!(clock.moment(earlier), start, "it does not go back");
        assert!(Clock::start(Some(UNIX_EPOCH)).now() > Moment(1_600_000_000_000));
    }
}
