//! The session of one connection: frames in; commands, bytes and requests to the runtime out.
//!
//! Invariant: frames of a channel are processed in order, whatever they have to wait for; after the connection has
//! failed only the peer's `connection.close-ok` matters.

use std::sync::Arc;
use std::time::Instant;

use ferrymq_protocol::frame::{self, Frame, FrameKind};
use ferrymq_protocol::method::{Method, channel, connection};
use rustc_hash::FxHashMap;

use super::channel::{Asked, Channel, Outstanding, Phase as ChannelPhase};
use super::errors::{Fault, ReplyCode};
use super::handshake::Credentials;
use super::heartbeat::Heartbeat;
use super::link::{BURST_COMMANDS, Context, Link, Turn};
use super::options::{Peer, SessionOptions};
use super::output::Output;
use super::report::CloseReport;
use crate::model::{ChannelNumber, LogPosition, VhostName};
use crate::vhost::{Awaiting, Command, Request};

/// The channel of the connection's own methods.
pub(super) const CONNECTION: ChannelNumber = ChannelNumber(0);
/// `connection.close-ok` as it stands on the wire: found at the end of a stream that is no longer understood.
const CLOSE_OK_FRAME: [u8; 12] = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, frame::FRAME_END];

/// What a session waits for.
#[derive(Debug)]
pub enum Step {
    /// Bytes.
    NeedInput,
    /// The commands must be applied, and their events handed in, before it goes on.
    NeedTurn,
    /// [`Session::authenticated`].
    Authenticate(Credentials),
    /// [`Session::vhost_opened`].
    OpenVhost(VhostName),
    /// The vhost must forget the connection; then [`Session::detached`].
    Detach,
    /// Nothing: what is in the output is all there will be.
    Closed,
}

/// Where a connection is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing has come yet.
    AwaitingHeader,
    /// `connection.start` is out.
    Starting,
    /// The runtime is to be asked whether the peer may log in.
    LoginAsked(Credentials),
    /// It has been asked.
    LoggingIn,
    /// `connection.tune` is out.
    Tuning,
    /// The client has to name a vhost.
    AwaitingOpen,
    /// The runtime is to be asked to open it.
    OpenAsked(VhostName),
    /// It has been asked.
    Opening,
    /// Open.
    Running,
    /// The client has said goodbye.
    Leaving,
    /// `connection.close` is out.
    Closing {
        /// Where frames begin in the input is no longer known.
        deaf: bool,
    },
    /// It failed to log in; the socket closes without a word, but not at once.
    Silent,
    /// Over.
    Closed,
}

impl Phase {
    /// RabbitMQ's name for it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AwaitingHeader | Self::Starting => "starting",
            Self::LoginAsked(_) | Self::LoggingIn => "securing",
            Self::Tuning => "tuning",
            Self::AwaitingOpen | Self::OpenAsked(_) | Self::Opening => "opening",
            Self::Running => "running",
            Self::Leaving | Self::Closing { .. } | Self::Silent => "closing",
            Self::Closed => "closed",
        }
    }

    /// Whether the vhost is not open yet.
    pub(super) fn is_handshake(&self) -> bool {
        !matches!(self, Self::Running | Self::Leaving | Self::Closing { .. } | Self::Silent | Self::Closed)
    }
}

/// AMQP for one connection.
#[derive(Debug)]
pub struct Session {
    pub(super) link: Link,
    pub(super) channels: FxHashMap<ChannelNumber, Box<Channel>>,
    pub(super) phase: Phase,
    pub(super) heartbeat: Option<Heartbeat>,
    /// The vhost knows the connection.
    pub(super) attached: bool,
    /// The runtime has to end that.
    pub(super) detach_due: bool,
    /// When patience ends. `None` in a phase that ends by itself at a time means: not fixed yet.
    pub(super) until: Option<Instant>,
    pub(super) report: Option<CloseReport>,
    /// Why channels failed, for the log.
    pub(super) channel_faults: Vec<String>,
}

impl Session {
    /// The session of a connection that has just been accepted.
    #[must_use]
    pub fn new(options: Arc<SessionOptions>, peer: Peer, now: Instant) -> Self {
        let until = now + options.handshake_timeout;
        Self {
            link: Link::new(options, peer),
            channels: FxHashMap::default(),
            phase: Phase::AwaitingHeader,
            heartbeat: None,
            attached: false,
            detach_due: false,
            until: Some(until),
            report: None,
            channel_faults: Vec::new(),
        }
    }

    /// Processes whole frames of `input`, and before them what waits inside, until something has to be done first.
    /// Returns how many bytes it has consumed, and what has to be done. Commands are appended in order; they must be
    /// applied before the step is taken.
    pub fn receive(
        &mut self,
        input: &[u8],
        context: &mut Context<'_>,
        commands: &mut Vec<Command>,
    ) -> (usize, Step) {
        self.link.requested = false;
        self.link.attention = true;
        let mut consumed = 0;
        loop {
            if self.link.attention || commands.len() >= BURST_COMMANDS {
                self.link.attention = false;
                self.link.flush_queued(commands);
                if let Some(step) = self.step(commands, context.now) {
                    return (consumed, step);
                }
            }
            if let Some(number) = self.link.released.pop_front() {
                self.replay(number, context, commands);
                // A client that has said goodbye may have waited for nothing else.
                self.link.attention = true;
                continue;
            }
            match self.next_frame(&input[consumed..], context, commands) {
                Some(taken) => consumed += taken,
                None => return (consumed, Step::NeedInput),
            }
        }
    }

    /// What has to be done before the next frame, if anything.
    fn step(&mut self, commands: &[Command], now: Instant) -> Option<Step> {
        if self.link.has_queued() || self.link.requested || commands.len() >= BURST_COMMANDS {
            return Some(Step::NeedTurn);
        }
        if self.until.is_none() {
            self.until = self.patience().map(|patience| now + patience);
        }
        if self.detach_due || (self.may_leave() && self.attached) {
            if !commands.is_empty() {
                return Some(Step::NeedTurn);
            }
            self.detach_due = false;
            return Some(Step::Detach);
        }
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closed => return Some(Step::Closed),
            Phase::LoginAsked(credentials) => {
                self.phase = Phase::LoggingIn;
                return Some(Step::Authenticate(credentials));
            }
            Phase::OpenAsked(vhost) => {
                self.phase = Phase::Opening;
                return Some(Step::OpenVhost(vhost));
            }
            other => self.phase = other,
        }
        None
    }

    /// Whether the client has said goodbye and everything it said before has been dealt with.
    fn may_leave(&self) -> bool {
        matches!(self.phase, Phase::Leaving)
            && self.channels.values().all(|channel| !channel.is_busy() && !channel.has_parked())
    }

    /// Processes one frame; returns how many bytes it took, `None` if there is no whole one.
    #[inline]
    fn next_frame(
        &mut self,
        input: &[u8],
        context: &mut Context<'_>,
        commands: &mut Vec<Command>,
    ) -> Option<usize> {
        match self.phase {
            Phase::AwaitingHeader => return self.protocol_header(input),
            Phase::Leaving | Phase::Silent => return swallow(input),
            Phase::Closing { deaf: true } => {
                if input.ends_with(&CLOSE_OK_FRAME) {
                    self.over();
                }
                return swallow(&input[..input.len() - beginning_of_close_ok(input)]);
            }
            Phase::LoggingIn | Phase::Opening => return None,
            _ => {}
        }
        let max = match self.link.tuned.frame_max {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        match frame::decode_frame(input, max) {
            Ok(Some((frame, taken))) => {
                self.frame(&frame, &input[..taken], context, commands);
                Some(taken)
            }
            Ok(None) => None,
            Err(error) => {
                if !matches!(self.phase, Phase::Closing { .. }) {
                    self.fail(CONNECTION, &Fault::from(error));
                }
                if let Phase::Closing { deaf } = &mut self.phase {
                    *deaf = true;
                }
                swallow(input)
            }
        }
    }

    #[inline]
    fn frame(
        &mut self,
        frame: &Frame<'_>,
        octets: &[u8],
        context: &mut Context<'_>,
        commands: &mut Vec<Command>,
    ) {
        let number = ChannelNumber(frame.channel);
        if matches!(self.phase, Phase::Running) && number != CONNECTION && frame.kind != FrameKind::Heartbeat
        {
            match self.channels.get_mut(&number) {
                Some(channel) if channel.parks() => channel.park(octets, &mut self.link),
                // The road of every publish and acknowledgement: one look-up.
                Some(channel) if channel.phase == ChannelPhase::Open => {
                    let turn = &mut Turn { link: &mut self.link, context, commands };
                    if let Err(fault) = channel.frame(frame, turn) {
                        self.fail(number, &fault);
                    }
                }
                _ => {
                    self.channel_frame(number, frame, context, commands);
                    self.forget_if_gone(number);
                }
            }
            return;
        }
        if let Err(fault) = self.connection_frame(frame, context.now) {
            self.fail(CONNECTION, &fault);
        }
    }

    fn channel_frame(
        &mut self,
        number: ChannelNumber,
        frame: &Frame<'_>,
        context: &mut Context<'_>,
        commands: &mut Vec<Command>,
    ) {
        let turn = &mut Turn { link: &mut self.link, context, commands };
        let result = match self.channels.get_mut(&number) {
            Some(channel) if channel.phase != ChannelPhase::Gone => channel.frame(frame, turn),
            _ => self.first_frame(number, frame, context, commands),
        };
        if let Err(fault) = result {
            self.fail(number, &fault);
        }
    }

    /// A frame of a channel that is not open.
    fn first_frame(
        &mut self,
        number: ChannelNumber,
        frame: &Frame<'_>,
        context: &mut Context<'_>,
        commands: &mut Vec<Command>,
    ) -> Result<(), Fault> {
        self.forget(number);
        if frame.kind != FrameKind::Method {
            let text = "expected method frame, got non method frame instead";
            return Err(Fault::new(ReplyCode::UnexpectedFrame, text).outside_methods());
        }
        let method = Method::decode(frame.payload)?;
        if !matches!(method, Method::ChannelOpen(_)) {
            return Err(Fault::new(ReplyCode::ChannelError, "expected 'channel.open'").at(method.id()));
        }
        let max = usize::from(self.link.tuned.channel_max);
        if max > 0 && self.channels.len() >= max {
            let text =
                format!("number of channels opened ({max}) has reached the negotiated channel_max ({max})");
            return Err(Fault::new(ReplyCode::NotAllowed, text).outside_methods());
        }
        let channel = self.channels.entry(number).or_insert_with(|| Box::new(Channel::new(number)));
        let turn = &mut Turn { link: &mut self.link, context, commands };
        let outstanding =
            Outstanding { method: channel::Open::ID, no_wait: false, asked: Asked::OpenChannel };
        turn.ask(channel, Request::OpenChannel, outstanding);
        Ok(())
    }

    /// A frame that concerns the connection, or one that comes while no channel can be open.
    fn connection_frame(&mut self, frame: &Frame<'_>, now: Instant) -> Result<(), Fault> {
        if let Phase::Closing { .. } = self.phase {
            self.frame_while_closing(frame);
            return Ok(());
        }
        let on_channel = frame.channel != CONNECTION.0;
        match frame.kind {
            FrameKind::Heartbeat if !frame.payload.is_empty() => Err(Fault::unknown_frame(frame)),
            FrameKind::Heartbeat if on_channel => Err(Fault::unexpected_frame(frame)),
            FrameKind::Heartbeat => Ok(()),
            FrameKind::Method if !on_channel => {
                let method = Method::decode(frame.payload)?;
                let result = match self.phase {
                    Phase::Running => self.connection_method(&method),
                    _ => self.handshake_method(&method, now),
                };
                result.map_err(|fault| fault.at(method.id()))
            }
            _ => Err(Fault::unexpected_frame(frame)),
        }
    }

    fn connection_method(&mut self, method: &Method<'_>) -> Result<(), Fault> {
        match method {
            Method::ConnectionClose(close) => {
                let text = format!("closed by the client: {} {}", close.reply_code, close.reply_text);
                self.report = Some(CloseReport::nobody(text));
                self.phase = Phase::Leaving;
                self.until = None;
                self.link.attention = true;
                Ok(())
            }
            // The broker's own users have no secret that expires, so there is nothing to renew.
            Method::ConnectionUpdateSecret(_) => {
                self.link.send(CONNECTION, connection::UpdateSecretOk {});
                Ok(())
            }
            _ => Err(Fault::new(ReplyCode::ChannelError, "unexpected method in connection state running")),
        }
    }

    fn frame_while_closing(&mut self, frame: &Frame<'_>) {
        if frame.channel != CONNECTION.0 || frame.kind != FrameKind::Method {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk(_)) => self.over(),
            // Both sides closed at the same time.
            Ok(Method::ConnectionClose(_)) => self.link.send(CONNECTION, connection::CloseOk {}),
            _ => {}
        }
    }

    /// Processes frames that had to wait.
    fn replay(&mut self, number: ChannelNumber, context: &mut Context<'_>, commands: &mut Vec<Command>) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let frames = channel.unpark(&mut self.link);
        let mut start = 0;
        while start < frames.len() && matches!(self.phase, Phase::Running | Phase::Leaving) {
            let busy = self.channels.get(&number).is_some_and(|channel| channel.is_busy());
            if busy || self.link.requested || self.link.has_queued() || commands.len() >= BURST_COMMANDS {
                break;
            }
            let Ok(Some((frame, taken))) = frame::decode_frame(&frames[start..], usize::MAX) else {
                debug_assert!(false, "only whole frames are parked");
                return;
            };
            start += taken;
            self.channel_frame(number, &frame, context, commands);
        }
        if !matches!(self.phase, Phase::Running | Phase::Leaving) {
            // The connection has failed, and with it what was left.
            return;
        }
        if let Some(channel) = self.channels.get_mut(&number).filter(|_| start < frames.len()) {
            channel.repark(frames, start, &mut self.link);
            channel.release_parked(&mut self.link);
        }
        self.forget_if_gone(number);
    }

    pub(super) fn forget_if_gone(&mut self, number: ChannelNumber) {
        if self.channels.get(&number).is_some_and(|channel| channel.is_gone()) {
            self.forget(number);
        }
    }

    pub(super) fn forget(&mut self, number: ChannelNumber) {
        if let Some(mut channel) = self.channels.remove(&number) {
            channel.forget_content(&mut self.link);
            self.link.past.add(&channel.counters);
        }
    }

    /// Bytes for the socket.
    pub fn output(&mut self) -> &mut Output {
        &mut self.link.output
    }

    /// Takes the costs of the deliveries that have been written to the socket since the last call, for
    /// [`Command::Drained`].
    pub fn take_drained(&mut self) -> usize {
        self.link.output.take_drained()
    }

    /// The commands handed out so far have been applied; what they logged ends at `position`.
    pub fn turn_applied(&mut self, position: LogPosition) {
        for number in std::mem::take(&mut self.link.in_turn) {
            if let Some(channel) = self.channels.get_mut(&number)
                && let Err(fault) = channel.turn_applied(position, &mut self.link)
                && matches!(self.phase, Phase::Running | Phase::Leaving)
            {
                self.fail(number, &fault);
            }
        }
    }

    /// Queues have refused publishes of the commands handed out so far. To be said before [`Self::turn_applied`].
    pub fn refused(&mut self, publishes: impl IntoIterator<Item = Awaiting>) {
        for awaiting in publishes {
            let (Awaiting::Confirm { channel, .. } | Awaiting::Commit { channel }) = awaiting else {
                continue;
            };
            if let Some(channel) = self.channels.get_mut(&channel) {
                channel.publish_refused(awaiting);
            }
        }
    }

    /// Everything up to `position` is on disk: replies and confirms that waited for it leave.
    pub fn durable(&mut self, position: LogPosition) {
        if position <= self.link.durable {
            return;
        }
        self.link.durable = position;
        for number in std::mem::take(&mut self.link.waiting) {
            if let Some(channel) = self.channels.get_mut(&number) {
                channel.durable(&mut self.link);
            }
            self.forget_if_gone(number);
        }
    }
}

/// How many octets at the end of `input` may be the beginning of a `connection.close-ok`.
fn beginning_of_close_ok(input: &[u8]) -> usize {
    (1..CLOSE_OK_FRAME.len()).rev().find(|len| input.ends_with(&CLOSE_OK_FRAME[..*len])).unwrap_or(0)
}

/// Consumes all there is.
fn swallow(input: &[u8]) -> Option<usize> {
    (!input.is_empty()).then_some(input.len())
}
