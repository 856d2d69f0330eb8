//! Heartbeats: when to send one, and when silence has lasted too long.
//!
//! Invariant: any traffic counts. A peer is gone after two whole intervals without a byte, that is two to three
//! intervals after its last one, as with RabbitMQ.

use std::time::{Duration, Instant};

/// Both directions of a connection's heartbeats.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    send_check: Instant,
    receive_check: Instant,
    sent: bool,
    received: bool,
    silent_checks: u8,
}

/// What a look at the clock came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Nothing was sent for half an interval: send a heartbeat.
    pub(super) send: bool,
    /// Nothing came for two intervals: the peer is gone.
    pub(super) gone: bool,
}

impl Heartbeat {
    /// Starts both watches; `None` if the client wants no heartbeats.
    pub(super) fn start(seconds: u16, now: Instant) -> Option<Self> {
        let interval = Duration::from_secs(seconds.into());
        (seconds > 0).then(|| Self {
            interval,
            send_check: now + interval / 2,
            receive_check: now + interval,
            sent: false,
            received: false,
            silent_checks: 0,
        })
    }

    pub(super) fn sent(&mut self) {
        self.sent = true;
    }

    pub(super) fn received(&mut self) {
        self.received = true;
    }

    pub(super) fn deadline(&self) -> Instant {
        self.send_check.min(self.receive_check)
    }

    /// Looks at the clock. While the socket is not read on purpose, `paused`, silence proves nothing.
    pub(super) fn tick(&mut self, now: Instant, paused: bool) -> Due {
        let mut due = Due::default();
        if now >= self.send_check {
            due.send = !std::mem::take(&mut self.sent);
            self.send_check = now + self.interval / 2;
        }
        if now >= self.receive_check {
            let heard = std::mem::take(&mut self.received) || paused;
            self.silent_checks = if heard { 0 } else { self.silent_checks + 1 };
            due.gone = self.silent_checks >= 2;
            self.receive_check = now + self.interval;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "an instant can only be had from a clock; it stands still here"
    )]
    fn some_time() -> Instant {
        Instant::now()
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_heartbeat_goes_out_each_half_interval_without_traffic() {
        let start = some_time();
        let mut heartbeat = Heartbeat::start(10, start).expect("on");
        assert_eq!(heartbeat.deadline(), after(start, 5_000));
        assert!(heartbeat.tick(after(start, 5_000), false).send);
        heartbeat.sent();
        assert!(!heartbeat.tick(after(start, 10_000), false).send);
        assert!(heartbeat.tick(after(start, 15_000), false).send);
    }

    #[test]
    fn two_silent_intervals_mean_gone_and_a_pause_means_nothing() {
        let start = some_time();
        let mut heartbeat = Heartbeat::start(10, start).expect("on");
        heartbeat.received();
        assert!(!heartbeat.tick(after(start, 10_000), false).gone);
        assert!(!heartbeat.tick(after(start, 20_000), false).gone);
        assert!(!heartbeat.tick(after(start, 30_000), true).gone);
        assert!(!heartbeat.tick(after(start, 40_000), false).gone);
        assert!(heartbeat.tick(after(start, 50_000), false).gone);
    }

    #[test]
    fn zero_turns_them_off() {
        assert!(Heartbeat::start(0, some_time()).is_none());
    }
}
