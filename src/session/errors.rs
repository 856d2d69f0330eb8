//! Reply codes: the one place where a mistake becomes what the peer is told.
//!
//! Invariant: nobody else knows a code's number, whether it costs the channel or the connection, or how the text on
//! the wire is put together.

use std::borrow::Cow;

use ferrymq_protocol::frame::{Frame, FrameError};
use ferrymq_protocol::method::MethodId;
use ferrymq_protocol::{DecodeError, ErlangBinary};

use crate::topology::Refusal;

/// Octets a reply text may have: it is a short string.
const REPLY_TEXT_MAX: usize = 255;

/// How a text ends that was cut.
const CUT: &str = "...";

/// How many octets of a payload an error quotes.
const QUOTED: usize = 16;

/// A reply code of AMQP 0-9-1, as far as the broker raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyCode {
    /// 312, in `basic.return` only.
    NoRoute,
    /// 320.
    ConnectionForced,
    /// 403.
    AccessRefused,
    /// 404.
    NotFound,
    /// 405.
    ResourceLocked,
    /// 406.
    PreconditionFailed,
    /// 501.
    FrameError,
    /// 502.
    SyntaxError,
    /// 503.
    CommandInvalid,
    /// 504.
    ChannelError,
    /// 505.
    UnexpectedFrame,
    /// 506.
    ResourceError,
    /// 530.
    NotAllowed,
    /// 540.
    NotImplemented,
    /// 541.
    InternalError,
}

impl ReplyCode {
    /// The number on the wire.
    pub(super) fn number(self) -> u16 {
        match self {
            Self::NoRoute => 312,
            Self::ConnectionForced => 320,
            Self::AccessRefused => 403,
            Self::NotFound => 404,
            Self::ResourceLocked => 405,
            Self::PreconditionFailed => 406,
            Self::FrameError => 501,
            Self::SyntaxError => 502,
            Self::CommandInvalid => 503,
            Self::ChannelError => 504,
            Self::UnexpectedFrame => 505,
            Self::ResourceError => 506,
            Self::NotAllowed => 530,
            Self::NotImplemented => 540,
            Self::InternalError => 541,
        }
    }

    /// The name that opens every reply text.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Whether it costs only the channel.
    pub(super) fn is_soft(self) -> bool {
        matches!(self, Self::AccessRefused | Self::NotFound | Self::ResourceLocked | Self::PreconditionFailed)
    }
}

/// A mistake of the peer, on its way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: ReplyCode,
    /// Without the code's name.
    pub(super) text: Cow<'static, str>,
    /// The method that failed; `None` until the dispatcher fills in the one it was handling.
    pub(super) method: Option<MethodId>,
}

impl Fault {
    pub(super) fn new(code: ReplyCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), method: None }
    }

    /// A precondition that failed, the most frequent mistake of all.
    pub(super) fn precondition(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    /// A frame that is sound but out of place; the text is RabbitMQ's.
    pub(super) fn unexpected_frame(frame: &Frame<'_>) -> Self {
        Self::new(ReplyCode::UnexpectedFrame, quoted(frame)).outside_methods()
    }

    /// A frame of a known kind with a payload that this kind cannot have; the text is RabbitMQ's.
    pub(super) fn unknown_frame(frame: &Frame<'_>) -> Self {
        Self::new(ReplyCode::FrameError, format!("{}: unknown_frame", quoted(frame))).outside_methods()
    }

    /// Names the method that failed, unless one is named already.
    pub(super) fn at(mut self, method: MethodId) -> Self {
        self.method.get_or_insert(method);
        self
    }

    /// Says that no method is to blame.
    pub(super) fn outside_methods(self) -> Self {
        self.at(MethodId { class_id: 0, method_id: 0 })
    }

    /// The text on the wire: `CODE_NAME - text`. One that is too long ends in three dots, as with RabbitMQ.
    pub(super) fn reply_text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.text);
        if text.len() > REPLY_TEXT_MAX {
            text.truncate(text.floor_char_boundary(REPLY_TEXT_MAX - CUT.len()));
            text.push_str(CUT);
        }
        text
    }

    /// The same for the log, with the code's number and the method's name.
    pub(super) fn report(&self) -> String {
        let text = self.reply_text();
        let code = self.code.number();
        match self.method.and_then(|method| method.name()) {
            Some(method) => format!("{text} ({code}, {method})"),
            None => format!("{text} ({code})"),
        }
    }

    /// Class and method id on the wire; zeros when no method failed.
    pub(super) fn method_id(&self) -> MethodId {
        self.method.unwrap_or(MethodId { class_id: 0, method_id: 0 })
    }
}

/// A frame's kind and the beginning of its payload.
fn quoted(frame: &Frame<'_>) -> String {
    let (quantity, octets) = match frame.payload.get(..QUOTED) {
        Some(first) if frame.payload.len() > QUOTED => ("first 16", first),
        _ => ("all", frame.payload),
    };
    format!("type {}, {quantity} octets = {}", frame.kind as u8, ErlangBinary(octets))
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::NoQueue { .. } | Refusal::NoExchange { .. } | Refusal::NoPreviousQueue => {
                ReplyCode::NotFound
            }
            Refusal::ReservedName { .. }
            | Refusal::DefaultExchange
            | Refusal::SystemExchange { .. }
            | Refusal::InternalExchange { .. }
            | Refusal::ExclusiveUse { .. }
            | Refusal::ReplyToQueue { .. } => ReplyCode::AccessRefused,
            Refusal::Locked { .. } | Refusal::SingleActiveGet { .. } => ReplyCode::ResourceLocked,
            Refusal::Inequivalent { .. }
            | Refusal::InvalidArgument { .. }
            | Refusal::InvalidArgumentType { .. }
            | Refusal::ArgumentOfOtherType { .. }
            | Refusal::InvalidProperty { .. }
            | Refusal::ServerNamedQueue { .. }
            | Refusal::UnknownExchangeType { .. }
            | Refusal::InUse { .. }
            | Refusal::NotEmpty { .. }
            | Refusal::ExchangeArguments { .. }
            | Refusal::InvalidBinding { .. }
            | Refusal::NoReplyConsumer
            | Refusal::ReplyConsumerSet
            | Refusal::ReplyConsumerAcknowledges
            // No method of AMQP sets a policy.
            | Refusal::InvalidPolicy { .. }
            | Refusal::NoPolicy
            | Refusal::PolicyOfFile { .. }
            | Refusal::PolicyDiffers { .. } => ReplyCode::PreconditionFailed,
            Refusal::ConditionalDelete { .. } | Refusal::NotYet { .. } => ReplyCode::NotImplemented,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::new(ReplyCode::FrameError, error.to_string()).outside_methods()
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::UnknownMethod(method) => {
                Self::new(ReplyCode::CommandInvalid, "unimplemented method").at(method)
            }
            DecodeError::Malformed { .. } => Self::new(ReplyCode::FrameError, error.to_string()),
        }
    }
}
