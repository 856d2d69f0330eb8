//! One channel: its phase, what it waits for, and which method leads where.
//!
//! Invariant: a channel that waits for the vhost or for the disk processes no frame; its frames are parked, in order.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};
use ferrymq_protocol::frame::{self, Frame, FrameKind};
use ferrymq_protocol::method::{Method, MethodId, access, basic, channel};
use slab::Slab;

use super::confirms::{Confirms, Resolved};
use super::consume::Consumer;
use super::content::{Assembly, Content};
use super::counters::ChannelCounters;
use super::errors::{Fault, ReplyCode};
use super::link::{Link, Turn};
use super::tags::Tags;
use super::tx::Transaction;
use crate::model::{ChannelKey, ChannelNumber, ConsumerKey, LogPosition, QueueName};
use crate::vhost::{Awaiting, ReplyToken, Request};

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The vhost has not given it a key yet.
    Opening,
    /// In use.
    Open,
    /// The client wants it closed.
    Closing,
    /// It was closed for a mistake. What still arrives is discarded until the client has seen that.
    Failed {
        /// The client has seen it.
        seen: bool,
        /// The vhost has taken back what it held.
        returned: bool,
    },
    /// Only its parked frames are left, which concern the next channel of this number.
    Gone,
}

/// What a channel has asked of the vhost.
#[derive(Debug)]
pub(super) struct Outstanding {
    /// What the client wanted, for the error it may get.
    pub(super) method: MethodId,
    /// The client wants no reply.
    pub(super) no_wait: bool,
    pub(super) asked: Asked,
}

/// See [`Outstanding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    OpenChannel,
    /// The client closes the channel, or a mistake does.
    CloseChannel,
    DeclareExchange,
    DeleteExchange,
    BindExchange,
    UnbindExchange,
    DeclareQueue,
    BindQueue,
    UnbindQueue,
    PurgeQueue,
    DeleteQueue,
    Get {
        no_ack: bool,
    },
    Consume(ConsumerKey),
    Cancel(ConsumerKey),
    /// A transaction, which is applied with the turn.
    Commit {
        /// A queue has refused a message of it.
        partial: bool,
    },
}

/// A reply that waits until what it promises is on disk.
#[derive(Debug)]
pub(super) struct Gated {
    pub(super) position: LogPosition,
    /// Its encoded frame, and those of cancellations that happened since and must not overtake it.
    pub(super) frames: BytesMut,
    /// It is the last one of the channel.
    pub(super) last: bool,
}

impl Gated {
    /// Adds a method that goes out with it.
    pub(super) fn push(&mut self, number: ChannelNumber, method: &Method<'_>) {
        let encoded = frame::encode_method(number.0, method, &mut self.frames);
        debug_assert!(encoded.is_ok(), "{} cannot be encoded", method.name());
    }
}

/// How publishes and acknowledgements take effect.
#[derive(Debug, Default)]
pub(super) enum Mode {
    /// At once, and nobody is told.
    #[default]
    Plain,
    /// At once, and publishes are confirmed.
    Confirm(Confirms),
    /// Together, at the commit.
    Transaction(Transaction),
}

/// The direct reply-to consumer of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyConsumer {
    pub(super) token: ReplyToken,
    pub(super) consumer: ConsumerKey,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) number: ChannelNumber,
    pub(super) phase: Phase,
    /// `None` until the vhost has opened it.
    pub(super) key: Option<ChannelKey>,
    pub(super) outstanding: Option<Outstanding>,
    pub(super) gated: Option<Gated>,
    /// It is in [`Link::waiting`].
    pub(super) waits: bool,
    parked: BytesMut,
    pub(super) content: Content,
    pub(super) assembly: Assembly,
    pub(super) mode: Mode,
    pub(super) tags: Tags,
    pub(super) last_tag: u64,
    pub(super) prefetch: u16,
    pub(super) consumers: Slab<Consumer>,
    pub(super) consumer_keys: BTreeMap<Box<str>, ConsumerKey>,
    pub(super) replies: Option<ReplyConsumer>,
    pub(super) last_queue: Option<QueueName>,
    pub(super) counters: ChannelCounters,
}

impl Channel {
    pub(super) fn new(number: ChannelNumber) -> Self {
        Self {
            number,
            phase: Phase::Opening,
            key: None,
            outstanding: None,
            gated: None,
            waits: false,
            parked: BytesMut::new(),
            content: Content::Idle,
            assembly: Assembly::default(),
            mode: Mode::Plain,
            tags: Tags::default(),
            last_tag: 0,
            prefetch: 0,
            consumers: Slab::new(),
            consumer_keys: BTreeMap::new(),
            replies: None,
            last_queue: None,
            counters: ChannelCounters::default(),
        }
    }

    /// The key of an open channel.
    ///
    /// # Errors
    /// 504 if it is not open: its frames are processed only while it is.
    pub(super) fn open_key(&self) -> Result<ChannelKey, Fault> {
        self.key.ok_or_else(|| Fault::new(ReplyCode::ChannelError, "expected 'channel.open'"))
    }

    /// Whether its next frame has to wait.
    pub(super) fn is_busy(&self) -> bool {
        match self.phase {
            Phase::Failed { seen, .. } => seen,
            Phase::Gone => false,
            Phase::Opening | Phase::Open | Phase::Closing => {
                self.outstanding.is_some() || self.gated.is_some()
            }
        }
    }

    /// Whether a frame that arrives has to wait: the channel is busy, or others wait already.
    pub(super) fn parks(&self) -> bool {
        !self.parked.is_empty() || self.is_busy()
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Keeps a whole frame for later.
    pub(super) fn park(&mut self, frame: &[u8], link: &mut Link) {
        self.parked.extend_from_slice(frame);
        link.parked_bytes += frame.len();
    }

    /// Takes the parked frames.
    pub(super) fn unpark(&mut self, link: &mut Link) -> BytesMut {
        link.parked_bytes -= self.parked.len();
        std::mem::take(&mut self.parked)
    }

    /// Puts parked frames back, from `from` on.
    pub(super) fn repark(&mut self, mut frames: BytesMut, from: usize, link: &mut Link) {
        frames.advance(from);
        link.parked_bytes += frames.len();
        self.parked = frames;
    }

    /// Whether nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone && self.parked.is_empty()
    }

    /// Tells the receive loop that parked frames may be processed.
    pub(super) fn release_parked(&self, link: &mut Link) {
        if self.has_parked() && !self.is_busy() {
            link.released.push_back(self.number);
            link.attention = true;
        }
    }

    /// Processes one frame.
    ///
    /// # Errors
    /// The mistake in it.
    #[inline]
    pub(super) fn frame(&mut self, frame: &Frame<'_>, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        if let Phase::Failed { .. } = self.phase {
            self.discard(frame, turn);
            return Ok(());
        }
        match (self.content, frame.kind) {
            (Content::Idle, FrameKind::Method) if self.publish_again(frame.payload, turn.link) => Ok(()),
            (Content::Idle, FrameKind::Method) => {
                let method = Method::decode(frame.payload).map_err(|error| {
                    let fault = Fault::from(error);
                    if fault.code == ReplyCode::FrameError { fault.outside_methods() } else { fault }
                })?;
                self.method(&method, frame.payload, turn).map_err(|fault| fault.at(method.id()))
            }
            (Content::Idle, _) => Err(Fault::new(
                ReplyCode::UnexpectedFrame,
                "expected method frame, got non method frame instead",
            )
            .outside_methods()),
            (Content::AwaitingHeader, FrameKind::Header) => {
                self.header(frame.payload, turn).map_err(|fault| fault.at(basic::Publish::ID))
            }
            (Content::AwaitingHeader, _) => Err(Fault::new(
                ReplyCode::UnexpectedFrame,
                "expected content header for class 60, got non content header frame instead",
            )
            .at(basic::Publish::ID)),
            (Content::AwaitingBody { .. }, FrameKind::Body) => {
                self.body(frame.payload, turn).map_err(|fault| fault.at(basic::Publish::ID))
            }
            (Content::AwaitingBody { .. }, _) => Err(Fault::new(
                ReplyCode::UnexpectedFrame,
                "expected content body, got non content body frame instead",
            )
            .at(basic::Publish::ID)),
        }
    }

    fn method(&mut self, method: &Method<'_>, payload: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        match method {
            Method::BasicPublish(publish) => self.publish(publish, payload, turn),
            Method::BasicAck(ack) => self.ack(ack, turn),
            Method::BasicNack(nack) => self.nack(nack, turn),
            Method::BasicReject(reject) => self.reject(reject, turn),
            Method::BasicGet(get) => self.get(get, turn),
            Method::BasicConsume(consume) => self.consume(consume, turn),
            Method::BasicCancel(cancel) => self.cancel(cancel, turn),
            Method::BasicQos(qos) => self.qos(qos, turn),
            Method::BasicRecover(recover) => {
                self.recover(recover.requeue, turn)?;
                turn.send(self.number, basic::RecoverOk {});
                Ok(())
            }
            Method::BasicRecoverAsync(recover) => self.recover(recover.requeue, turn),
            Method::QueueDeclare(declare) => self.declare_queue(declare, turn),
            Method::QueueBind(bind) => self.bind_queue(bind, turn),
            Method::QueueUnbind(unbind) => self.unbind_queue(unbind, turn),
            Method::QueuePurge(purge) => self.purge_queue(purge, turn),
            Method::QueueDelete(delete) => self.delete_queue(delete, turn),
            Method::ExchangeDeclare(declare) => self.declare_exchange(declare, turn),
            Method::ExchangeDelete(delete) => self.delete_exchange(delete, turn),
            Method::ExchangeBind(bind) => self.bind_exchange(bind, turn),
            Method::ExchangeUnbind(unbind) => self.unbind_exchange(unbind, turn),
            Method::ConfirmSelect(select) => self.select_confirms(select, turn),
            Method::TxSelect(_) => self.select_transactions(turn),
            Method::TxCommit(_) => self.commit(turn),
            Method::TxRollback(_) => self.roll_back(turn),
            Method::ChannelClose(_) => self.close(turn),
            Method::ChannelFlow(flow) => self.flow(flow.active, turn),
            Method::AccessRequest(_) => {
                turn.send(self.number, access::RequestOk { ticket: 1 });
                Ok(())
            }
            Method::ChannelOpen(_) => Err(Fault::new(ReplyCode::ChannelError, "second 'channel.open' seen")),
            _ => Err(Fault::new(ReplyCode::CommandInvalid, "unimplemented method")),
        }
    }

    fn close(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let key = self.open_key()?;
        self.phase = Phase::Closing;
        // Publishes of the same burst are still to be confirmed, before the channel is.
        if !matches!(self.mode, Mode::Confirm(_)) {
            self.forget_content(turn.link);
        }
        self.abandon_assembly(turn.link);
        let outstanding =
            Outstanding { method: channel::Close::ID, no_wait: false, asked: Asked::CloseChannel };
        turn.ask(self, Request::CloseChannel(key), outstanding);
        Ok(())
    }

    fn flow(&self, active: bool, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        if !active {
            return Err(Fault::new(ReplyCode::NotImplemented, "active=false"));
        }
        turn.send(self.number, channel::FlowOk { active });
        Ok(())
    }

    /// Looks at a frame of a failed channel only for the client's having seen the failure.
    fn discard(&mut self, frame: &Frame<'_>, turn: &mut Turn<'_, '_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ChannelCloseOk(_)) => {
                if let Phase::Failed { seen, returned } = &mut self.phase {
                    *seen = true;
                    if *returned {
                        self.phase = Phase::Gone;
                    }
                }
            }
            // Both sides closed at the same time.
            Ok(Method::ChannelClose(_)) => turn.send(self.number, channel::CloseOk {}),
            _ => {}
        }
    }

    /// Closes the channel for a mistake. What it held goes back to its queues.
    pub(super) fn fail(&mut self, fault: &Fault, link: &mut Link) {
        let text = fault.reply_text();
        let method = fault.method_id();
        let close = channel::Close {
            reply_code: fault.code.number(),
            reply_text: &text,
            class_id: method.class_id,
            method_id: method.method_id,
        };
        link.send(self.number, close);
        self.phase = Phase::Failed { seen: false, returned: false };
        self.forget_content(link);
        if let Some(key) = self.key {
            self.outstanding = Some(Outstanding { method, no_wait: true, asked: Asked::CloseChannel });
            link.queue(crate::vhost::Command::Request {
                channel: self.number,
                request: Request::CloseChannel(key),
            });
        }
        self.release_parked(link);
    }

    /// Drops what is incomplete or waits for a later step of the client.
    pub(super) fn forget_content(&mut self, link: &mut Link) {
        self.abandon_assembly(link);
        if let Mode::Transaction(transaction) = std::mem::take(&mut self.mode) {
            link.transaction_bytes -= transaction.bytes();
        }
    }

    /// Sends a reply, as soon as what it promises is on disk.
    pub(super) fn reply<'m>(
        &mut self,
        method: impl Into<Method<'m>>,
        gate: LogPosition,
        last: bool,
        link: &mut Link,
    ) {
        if gate <= link.durable {
            link.send(self.number, method);
            self.replied(last, link);
            return;
        }
        let mut gated = Gated { position: gate, frames: BytesMut::new(), last };
        gated.push(self.number, &method.into());
        self.gated = Some(gated);
        self.wait(link);
    }

    /// A reply has gone out.
    fn replied(&mut self, last: bool, link: &mut Link) {
        if last {
            self.phase = Phase::Gone;
        }
        self.release_parked(link);
    }

    /// Something of the channel waits for the disk.
    pub(super) fn wait(&mut self, link: &mut Link) {
        if !std::mem::replace(&mut self.waits, true) {
            link.waiting.push(self.number);
        }
    }

    /// Everything up to [`Link::durable`] is on disk.
    pub(super) fn durable(&mut self, link: &mut Link) {
        self.waits = false;
        self.send_confirms(link);
        if let Some(gated) = self.gated.take_if(|gated| gated.position <= link.durable) {
            link.output.room(gated.frames.len()).extend_from_slice(&gated.frames);
            self.replied(gated.last, link);
        }
        if self.gated.is_some() {
            self.wait(link);
        }
    }

    /// A queue has refused a publish of the commands handed out so far.
    pub(super) fn publish_refused(&mut self, awaiting: Awaiting) {
        match (awaiting, &mut self.mode, &mut self.outstanding) {
            (Awaiting::Confirm { tag, .. }, Mode::Confirm(confirms), _) => confirms.refuse(tag),
            (Awaiting::Commit { .. }, _, Some(Outstanding { asked: Asked::Commit { partial }, .. })) => {
                *partial = true;
            }
            _ => {}
        }
    }

    /// The commands handed out so far have been applied; what they logged ends at `position`.
    ///
    /// # Errors
    /// 406 if a transaction was among them that has taken effect in part.
    pub(super) fn turn_applied(&mut self, position: LogPosition, link: &mut Link) -> Result<(), Fault> {
        if let Mode::Confirm(confirms) = &mut self.mode {
            confirms.turn_applied(position);
            self.send_confirms(link);
        }
        let commit = |outstanding: &mut Outstanding| matches!(outstanding.asked, Asked::Commit { .. });
        if let Some(outstanding) = self.outstanding.take_if(commit) {
            debug_assert!(!outstanding.no_wait, "a commit is always answered");
            if outstanding.asked == (Asked::Commit { partial: true }) {
                return Err(Fault::precondition("partial tx completion").at(outstanding.method));
            }
            self.reply(ferrymq_protocol::method::tx::CommitOk {}, position, false, link);
        }
        Ok(())
    }

    fn send_confirms(&mut self, link: &mut Link) {
        let Mode::Confirm(confirms) = &mut self.mode else { return };
        let listens = matches!(self.phase, Phase::Open | Phase::Closing);
        while let Some(Resolved { tag: delivery_tag, count, refused }) = confirms.resolve(link.durable) {
            let multiple = count > 1;
            if refused {
                self.counters.refused += count;
            } else {
                self.counters.confirm += count;
            }
            if !listens {
                continue;
            }
            if refused {
                link.send(self.number, basic::Nack { delivery_tag, multiple, requeue: false });
            } else {
                link.send(self.number, basic::Ack { delivery_tag, multiple });
            }
        }
        if confirms.waits() {
            self.wait(link);
        }
    }
}
