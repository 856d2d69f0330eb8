//! Time and alarms: heartbeats, time-outs, and publishers that are not read.
//!
//! Invariant: nothing here reads a clock; a silence that the broker itself asked for is never held against the peer.

use std::time::{Duration, Instant};

use ferrymq_protocol::frame::HEARTBEAT_FRAME;
use ferrymq_protocol::method::connection;

use super::errors::{Fault, ReplyCode};
use super::heartbeat::Heartbeat;
use super::link::Link;
use super::report::CloseReport;
use super::session::{CONNECTION, Phase, Session};

/// Bytes of answers that may wait for a client to read them, before nothing more is read from it. More than any
/// client's own buffers, so that one that writes first and reads later is not stopped.
const UNREAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How scarce memory is, over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shortage {
    /// There is enough.
    #[default]
    None,
    /// No further message is taken from those who publish.
    Alarm,
    /// Not even the rest of messages that have been begun.
    Critical,
    /// The same, and it is they that use it up: consumers cannot help.
    Deadlock,
}

impl Session {
    /// How long the phase may last.
    pub(super) fn patience(&self) -> Option<Duration> {
        let options = &self.link.options;
        match self.phase {
            Phase::Running | Phase::Closed => None,
            Phase::Silent => Some(options.silent_close_delay),
            Phase::Leaving | Phase::Closing { .. } => Some(options.close_timeout),
            _ => Some(options.handshake_timeout),
        }
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let heartbeat = self.heartbeat.as_ref().filter(|_| matches!(self.phase, Phase::Running));
        let patience = self.until.filter(|_| !matches!(self.phase, Phase::Running | Phase::Closed));
        [heartbeat.map(Heartbeat::deadline), patience].into_iter().flatten().min()
    }

    /// Lets time pass. [`Self::receive`] tells what comes of it.
    pub fn tick(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Running) {
            self.tick_heartbeat(now);
            return;
        }
        if self.until.is_some_and(|until| until <= now) {
            if self.phase.is_handshake() {
                let text = format!("handshake timeout in connection state {}", self.phase.name());
                self.end(CloseReport::client(text));
            } else if !matches!(self.phase, Phase::Closed) {
                self.over();
            }
        }
    }

    fn tick_heartbeat(&mut self, now: Instant) {
        let paused = self.reads_paused();
        let Some(heartbeat) = &mut self.heartbeat else { return };
        let due = heartbeat.tick(now, paused);
        if due.send {
            self.link.output.room(HEARTBEAT_FRAME.len()).extend_from_slice(&HEARTBEAT_FRAME);
        }
        if due.gone {
            let seconds = self.link.tuned.heartbeat_seconds;
            self.end(CloseReport::client(format!("missed heartbeats from client, timeout: {seconds}s")));
        }
    }

    /// Bytes have come from the peer.
    pub fn received(&mut self, _now: Instant) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.received();
        }
    }

    /// Bytes have gone to the peer.
    pub fn sent(&mut self, _now: Instant) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.sent();
        }
    }

    /// Whether the client wants no heartbeats.
    #[must_use]
    pub fn heartbeats_off(&self) -> bool {
        self.link.tuned.heartbeat_seconds == 0
    }

    /// Whether the socket must not be read: a publisher is blocked, too much waits behind the disk, or the client
    /// asks and does not read the answers.
    #[must_use]
    pub fn reads_paused(&self) -> bool {
        let parked_too_much = self.link.parked_bytes > self.link.options.parked_bytes_max;
        let unread_too_much = self.link.output.len() > UNREAD_BYTES_MAX;
        matches!(self.phase, Phase::Running) && (self.link.blocked || parked_too_much || unread_too_much)
    }

    /// Tells how scarce memory is.
    pub fn set_shortage(&mut self, shortage: Shortage) {
        self.link.shortage = shortage;
        self.reconsider_alarm();
    }

    /// Tells whether the disk is full, or as good as.
    pub fn set_disk_short(&mut self, short: bool) {
        self.link.disk_short = short;
        self.reconsider_alarm();
    }

    /// The reasons are worded as RabbitMQ words them.
    fn reconsider_alarm(&mut self) {
        self.set_alarm(match (self.link.shortage != Shortage::None, self.link.disk_short) {
            (false, false) => None,
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (true, true) => Some("low on memory & disk"),
        });
    }

    /// Raises an alarm, or clears it: publishers are to be stopped for this reason. A connection is stopped, and told
    /// so if it can understand, as soon as it publishes.
    pub fn set_alarm(&mut self, reason: Option<&'static str>) {
        self.link.alarm = reason;
        let cleared = reason.is_none() && std::mem::take(&mut self.link.blocked);
        if cleared && self.link.client.connection_blocked && matches!(self.phase, Phase::Running) {
            self.link.send(CONNECTION, connection::Unblocked {});
        }
    }
}

impl Link {
    /// A body goes on. A message that was begun in time may be finished, as long as memory allows for it.
    #[inline]
    pub(super) fn block_body(&mut self) -> Result<(), Fault> {
        match self.shortage {
            Shortage::None | Shortage::Alarm => Ok(()),
            Shortage::Critical => {
                self.block_publisher();
                Ok(())
            }
            Shortage::Deadlock => {
                let text = "memory is used up by messages that are incomplete";
                Err(Fault::new(ReplyCode::ResourceError, text))
            }
        }
    }

    /// The connection publishes: while there is an alarm it is not read any further.
    #[inline]
    pub(super) fn block_publisher(&mut self) {
        if let Some(reason) = self.alarm
            && !self.blocked
        {
            self.blocked = true;
            if self.client.connection_blocked {
                self.send(CONNECTION, connection::Blocked { reason });
            }
        }
    }
}
