//! One connection: drives its session with the socket's bytes, takes its commands to the vhost, performs the
//! rest, and brings back what the vhost has for it.
//!
//! Invariant: nothing here waits. `net` awaits the socket, the bell and the deadline, and calls in.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::vhost_handle::TurnBuffers;
use super::{Broker, Mailbox, VhostHandle};
use crate::model::{ConnectionKey, LogPosition};
use crate::session::{CloseReport, Context, Output, Peer, Session, Step};
use crate::vhost::{Command, Event};

/// How many bytes may have left the outbox before the vhost is told without an occasion of its own.
const DRAINED_REPORT_BYTES: usize = 128 * 1024;

/// Room for this many events is given back when a turn needs little of it.
const ROOMY_EVENTS: usize = 1_024;

/// What the socket's side has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on reading and writing.
    Continue,
    /// Write what is left, then close the socket.
    Close,
}

/// A connection between its socket and the broker.
#[derive(Debug)]
pub struct Connection {
    broker: Broker,
    session: Session,
    attached: Option<Attached>,
    mailbox: Arc<Mailbox>,
    commands: Vec<Command>,
    events: Vec<Event>,
    buffers: TurnBuffers,
    /// Costs of deliveries written to the socket and not yet reported to the vhost.
    drained: usize,
    /// What this connection's buffers last counted for in the memory gauge.
    counted_buffer_bytes: i64,
    /// How much of that were incomplete messages.
    counted_assembling_bytes: i64,
    /// Bytes of an incomplete frame that the socket's side keeps.
    partial_bytes: usize,
    /// What this connection last had stored, other than the ends of deliveries, is durable from here on.
    stored_until: LogPosition,
    closed: bool,
}

#[derive(Debug)]
struct Attached {
    vhost: Arc<VhostHandle>,
    key: ConnectionKey,
}

impl Connection {
    pub(super) fn new(broker: Broker, peer: Peer, now: Instant) -> Self {
        let session = Session::new(Arc::clone(broker.session_options()), peer, now);
        Self {
            broker,
            session,
            attached: None,
            mailbox: Arc::default(),
            commands: Vec::new(),
            events: Vec::new(),
            buffers: TurnBuffers::default(),
            drained: 0,
            counted_buffer_bytes: 0,
            counted_assembling_bytes: 0,
            partial_bytes: 0,
            stored_until: LogPosition::START,
            closed: false,
        }
    }

    /// Its bell.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Whether a vhost is open: limits for strangers no longer apply.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.attached.is_some()
    }

    /// Takes bytes from the socket, whole frames at a time; returns how many it has consumed.
    pub fn receive(&mut self, input: &[u8], now: Instant) -> (usize, Next) {
        self.session.received(now);
        let consumed = self.run(input, now);
        self.partial_bytes = input.len() - consumed;
        (consumed, self.settle())
    }

    /// Looks what the bell was rung for.
    pub fn woken(&mut self, now: Instant) -> Next {
        if self.broker.is_stopping() {
            if self.broker.storage_failed() {
                self.session.storage_failed();
            } else {
                self.session.shutdown();
            }
        }
        self.session.set_shortage(self.broker.memory().shortage());
        self.session.set_disk_short(self.broker.disk().is_short());
        self.session.durable(self.broker.durability().position());
        self.take_turn(now);
        // Frames may have been parked behind a reply that is out by this time.
        self.run(&[], now);
        self.settle()
    }

    /// Lets time pass: heartbeats and time-outs.
    pub fn tick(&mut self, now: Instant) -> Next {
        self.session.tick(now);
        self.run(&[], now);
        self.settle()
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.session.deadline()
    }

    /// Bytes for the socket.
    pub fn output(&mut self) -> &mut Output {
        self.session.output()
    }

    /// Bytes have left for the socket: its consumers may get as much again.
    pub fn written(&mut self, now: Instant) -> Next {
        self.session.sent(now);
        self.drained += self.session.take_drained();
        if self.drained >= DRAINED_REPORT_BYTES || (self.drained > 0 && self.session.output().is_empty()) {
            self.take_turn(now);
            // What the turn brought may have left the session with something to say to the vhost.
            self.run(&[], now);
        }
        self.settle()
    }

    /// Whether the socket must not be read: a blocked publisher, or a channel that waits for the disk.
    #[must_use]
    pub fn reads_paused(&self) -> bool {
        self.session.reads_paused() || self.outruns_disk()
    }

    /// Whether this connection has had something stored that is not durable, and too much of that kind waits. Who
    /// only acks goes on: acks make room.
    fn outruns_disk(&self) -> bool {
        self.stored_until > LogPosition::START
            && self.broker.outruns_disk()
            && self.stored_until > self.broker.durability().position()
    }

    /// Whether the peer asked for no heartbeats, so that only TCP can tell that it is gone.
    #[must_use]
    pub fn heartbeats_off(&self) -> bool {
        self.session.heartbeats_off()
    }

    /// Why it was closed, for one line of the log.
    #[must_use]
    pub fn close_report(&self) -> Option<&CloseReport> {
        self.session.close_report()
    }

    fn run(&mut self, input: &[u8], now: Instant) -> usize {
        let mut consumed = 0;
        loop {
            let topology = self.attached.as_ref().map(|attached| attached.vhost.topology());
            let mut random = || self.broker.random_bytes();
            let mut context = Context { now, topology: topology.as_deref(), random: &mut random };
            let (taken, step) = self.session.receive(&input[consumed..], &mut context, &mut self.commands);
            consumed += taken;
            if !self.commands.is_empty() {
                self.take_turn(now);
            }
            match step {
                Step::NeedInput => return consumed,
                Step::NeedTurn => {}
                Step::Authenticate(credentials) => {
                    let result = self.broker.authenticate(&credentials, self.session.peer());
                    self.session.authenticated(result);
                }
                Step::OpenVhost(name) => {
                    let result = self.broker.open_vhost(&name).map(|vhost| {
                        let key = vhost.attach(Arc::clone(&self.mailbox));
                        self.attached = Some(Attached { vhost, key });
                        self.session.set_shortage(self.broker.memory().shortage());
                        self.session.set_disk_short(self.broker.disk().is_short());
                    });
                    self.session.vhost_opened(result);
                }
                Step::Detach => {
                    self.detach();
                    self.session.detached();
                }
                Step::Closed => {
                    // Whatever ended it, nobody else has to wait until the socket is gone.
                    self.detach();
                    self.closed = true;
                    return consumed;
                }
            }
        }
    }

    /// Applies the commands at hand and encodes what the vhost has for this connection.
    fn take_turn(&mut self, now: Instant) {
        let Some(attached) = &self.attached else { return };
        self.drained += self.session.take_drained();
        if self.drained > 0 {
            // First, so that what the burst asks for finds the room that is there.
            self.commands.insert(0, Command::Drained { bytes: std::mem::take(&mut self.drained) });
        }
        let turned =
            attached.vhost.turn(attached.key, &mut self.commands, &mut self.events, (now, &mut self.buffers));
        if turned.gate > LogPosition::START {
            self.session.durable(self.broker.durability().position());
        }
        self.session.refused(self.buffers.take_refused());
        // What the burst published is confirmed before what it asked for is answered.
        self.session.turn_applied(turned.gate);
        let events = self.events.len();
        for event in self.events.drain(..) {
            self.session.event(event, turned.gate);
        }
        if self.events.capacity() > ROOMY_EVENTS && events < self.events.capacity() / 8 {
            self.events = Vec::new();
        }
        self.stored_until = self.stored_until.max(turned.stored);
        if turned.gate > LogPosition::START {
            self.broker.durability().ring_at(turned.gate, &self.mailbox);
        } else if turned.stored > LogPosition::START && self.broker.outruns_disk() {
            self.broker.durability().ring_at(turned.stored, &self.mailbox);
        }
    }

    fn detach(&mut self) {
        self.session.detach(&mut self.commands);
        if let Some(attached) = self.attached.take() {
            attached.vhost.detach(attached.key, &mut self.commands, &mut self.buffers);
        }
        self.commands.clear();
    }

    fn settle(&mut self) -> Next {
        self.count_buffers(
            self.session.buffered_bytes() + self.partial_bytes,
            self.session.assembling_bytes(),
        );
        self.session.set_shortage(self.broker.memory().shortage());
        for fault in self.session.take_channel_faults() {
            warn!("{}: {fault}", self.session.peer().name);
        }
        if self.closed { Next::Close } else { Next::Continue }
    }

    /// Brings the memory gauge up to what the buffers hold at this moment.
    fn count_buffers(&mut self, buffers: usize, assembling: usize) {
        let buffers = i64::try_from(buffers).unwrap_or(i64::MAX);
        let assembling = i64::try_from(assembling).unwrap_or(i64::MAX);
        let changed = assembling - std::mem::replace(&mut self.counted_assembling_bytes, assembling);
        self.broker.memory().fold_assembling(changed);
        let changed = buffers - std::mem::replace(&mut self.counted_buffer_bytes, buffers);
        self.broker.fold_memory(changed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The way out of a panic in the task: what this connection held must not be lost with it.
        if std::thread::panicking() {
            if let Some(attached) = self.attached.take() {
                // The session may be half way through a frame; the vhost is whole and knows what it gave out.
                attached.vhost.detach(attached.key, &mut Vec::new(), &mut self.buffers);
            }
        } else {
            self.detach();
        }
        self.broker.forget(&self.mailbox);
        self.count_buffers(0, 0);
    }
}
