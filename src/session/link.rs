//! What the channels of a connection share: the way out to the client, the way to the vhost, and who waits.
//!
//! Invariant: commands leave in the order in which they were given, no more than [`BURST_COMMANDS`] at a time; a
//! request ends the burst.

use std::collections::VecDeque;
use std::sync::Arc;

use ferrymq_protocol::frame;
use ferrymq_protocol::method::Method;

use super::channel::Outstanding;
use super::counters::ChannelCounters;
use super::handshake::Client;
use super::options::{Peer, SessionOptions};
use super::output::Output;
use super::patience::Shortage;
use crate::model::{ChannelNumber, LogPosition, UserName};
use crate::topology::Topology;
use crate::vhost::{Command, Request, Settlement};

/// Commands after which a burst ends.
pub(super) const BURST_COMMANDS: usize = 1_000;
/// Bytes of room for a method frame beside the texts in it.
pub(super) const METHOD_ROOM: usize = 160;

/// What a session is told with every burst.
pub struct Context<'a> {
    /// The time.
    pub now: std::time::Instant,
    /// The newest snapshot of the open vhost's topology.
    pub topology: Option<&'a Topology>,
    /// Bytes that nobody can guess.
    pub random: &'a mut dyn FnMut() -> [u8; 16],
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuned {
    /// 0 is no limit.
    pub(super) channel_max: u16,
    /// 0 is no limit.
    pub(super) frame_max: u32,
    /// 0 is none.
    pub(super) heartbeat_seconds: u16,
}

impl Tuned {
    /// Bytes of payload a frame may carry to the client.
    pub(super) fn payload_max(&self) -> usize {
        match usize::try_from(self.frame_max) {
            Ok(0) | Err(_) => usize::try_from(u32::MAX / 2).unwrap_or(usize::MAX),
            Ok(bytes) => bytes - frame::FRAME_OVERHEAD,
        }
    }
}

/// What the channels of a connection share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) options: Arc<SessionOptions>,
    pub(super) peer: Peer,
    pub(super) client: Client,
    pub(super) user: Option<UserName>,
    /// The user may publish under another user's name.
    pub(super) impersonator: bool,
    pub(super) tuned: Tuned,
    pub(super) output: Output,
    /// Everything up to here is on disk.
    pub(super) durable: LogPosition,
    /// Why publishers are to be stopped.
    pub(super) alarm: Option<&'static str>,
    /// How scarce memory is.
    pub(super) shortage: Shortage,
    /// The disk is full, or as good as.
    pub(super) disk_short: bool,
    /// This connection has published while there was an alarm.
    pub(super) blocked: bool,
    /// Something happened that the receive loop must look at before the next frame.
    pub(super) attention: bool,
    /// A request is among the commands of this burst.
    pub(super) requested: bool,
    /// Channels with publishes in this turn that wait for a confirm, or with a commit.
    pub(super) in_turn: Vec<ChannelNumber>,
    /// Channels with something that waits for the disk.
    pub(super) waiting: Vec<ChannelNumber>,
    /// Channels whose parked frames may be processed.
    pub(super) released: VecDeque<ChannelNumber>,
    /// Bytes of parked frames, over all channels.
    pub(super) parked_bytes: usize,
    /// Bytes of memory for bodies that are not complete, over all channels.
    pub(super) assembling_bytes: usize,
    /// Bytes of uncommitted transactions, over all channels.
    pub(super) transaction_bytes: usize,
    /// Counters of the channels that are gone.
    pub(super) past: ChannelCounters,
    /// What did not fit into a burst, or came up between two.
    queued: VecDeque<Command>,
    /// Deliveries that came after the connection's end, to go back with everything else it holds.
    pub(super) handed_back: Vec<Settlement>,
}

impl Link {
    pub(super) fn new(options: Arc<SessionOptions>, peer: Peer) -> Self {
        let tuned =
            Tuned { channel_max: 0, frame_max: super::handshake::FIRST_FRAME_MAX, heartbeat_seconds: 0 };
        Self {
            options,
            peer,
            client: Client::default(),
            user: None,
            impersonator: false,
            tuned,
            output: Output::default(),
            durable: LogPosition::START,
            alarm: None,
            shortage: Shortage::None,
            disk_short: false,
            blocked: false,
            attention: false,
            requested: false,
            in_turn: Vec::new(),
            waiting: Vec::new(),
            released: VecDeque::new(),
            parked_bytes: 0,
            assembling_bytes: 0,
            transaction_bytes: 0,
            past: ChannelCounters::default(),
            queued: VecDeque::new(),
            handed_back: Vec::new(),
        }
    }

    /// Hands a command out, with this burst if it still has room.
    pub(super) fn emit(&mut self, commands: &mut Vec<Command>, command: Command) {
        if self.queued.is_empty() && commands.len() < BURST_COMMANDS {
            commands.push(command);
        } else {
            self.queue(command);
        }
    }

    /// Hands a command out with the next burst.
    pub(super) fn queue(&mut self, command: Command) {
        self.queued.push_back(command);
        self.attention = true;
    }

    /// Moves what was queued into this burst, as far as it has room.
    pub(super) fn flush_queued(&mut self, commands: &mut Vec<Command>) {
        while commands.len() < BURST_COMMANDS {
            let Some(command) = self.queued.pop_front() else { break };
            self.requested |= matches!(command, Command::Request { .. });
            commands.push(command);
        }
        if self.queued.is_empty() {
            self.queued.shrink_to(0);
        }
    }

    /// Moves everything that was queued into `commands`.
    pub(super) fn flush_all(&mut self, commands: &mut Vec<Command>) {
        commands.extend(self.queued.drain(..));
        commands.extend(self.handed_back.drain(..).map(Command::Settle));
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Encodes a method frame.
    pub(super) fn send<'m>(&mut self, channel: ChannelNumber, method: impl Into<Method<'m>>) {
        let method = method.into();
        let encoded = frame::encode_method(channel.0, &method, self.output.room(METHOD_ROOM));
        debug_assert!(encoded.is_ok(), "{} cannot be encoded: {encoded:?}", method.name());
    }
}

/// One step of a channel: the link, what the runtime brought, and where commands go.
pub(super) struct Turn<'a, 'c> {
    pub(super) link: &'a mut Link,
    pub(super) context: &'a mut Context<'c>,
    pub(super) commands: &'a mut Vec<Command>,
}

impl Turn<'_, '_> {
    pub(super) fn emit(&mut self, command: Command) {
        self.link.emit(self.commands, command);
    }

    pub(super) fn send<'m>(&mut self, channel: ChannelNumber, method: impl Into<Method<'m>>) {
        self.link.send(channel, method);
    }

    /// Asks the vhost; the channel waits for the answer.
    pub(super) fn ask(
        &mut self,
        channel: &mut super::channel::Channel,
        request: Request,
        outstanding: Outstanding,
    ) {
        debug_assert!(channel.outstanding.is_none(), "a channel asks one thing at a time");
        channel.outstanding = Some(outstanding);
        self.emit(Command::Request { channel: channel.number, request });
        self.link.requested = true;
        self.link.attention = true;
    }
}
