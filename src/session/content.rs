//! Assembly of a published message from its method, header and body frames.
//!
//! Invariant: no more is reserved than twice what has been received, and what has been received is counted.

use bytes::Bytes;
use ferrymq_protocol::method::basic;
use ferrymq_protocol::properties::ContentHeader;

use super::channel::Channel;
use super::errors::{Fault, ReplyCode};
use super::link::{Link, Turn};
use super::publish::CachedRoute;
use crate::model::Body;

/// RabbitMQ's hard limit for a body, in bytes: whoever announces more has lost the thread.
const BODY_MAX: u64 = 512 * 1024 * 1024;
/// What a channel keeps of its buffers between two messages, in bytes.
const KEEP_CAPACITY: usize = 1_024;

/// What a channel expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A method.
    Idle,
    /// The header of a message.
    AwaitingHeader,
    /// More of a message's body.
    AwaitingBody {
        /// Bytes that are still to come.
        remaining: u64,
    },
}

/// A message that is not complete. Its buffers are used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// The publish method as it came last. Most publishers repeat it, octet for octet: then it need not be decoded.
    method: Vec<u8>,
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) mandatory: bool,
    /// Where the last message went that had this exchange and routing key.
    pub(super) route: CachedRoute,
    /// As they stand in the header frame.
    pub(super) properties: Vec<u8>,
    /// What is known of these properties, because a message that had them has passed all checks as it was.
    pub(super) checked: Option<Checked>,
    body: Vec<u8>,
}

/// See [`Assembly::checked`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    pub(super) persistent: bool,
}

impl Channel {
    /// Whether this method is the publish that came last, once more: its content follows then.
    #[inline]
    pub(super) fn publish_again(&mut self, payload: &[u8], link: &mut Link) -> bool {
        // Before the first publish there is nothing to repeat, and a method without a payload is none.
        let same = payload == self.assembly.method && !payload.is_empty();
        if same {
            link.block_publisher();
            self.content = Content::AwaitingHeader;
        }
        same
    }

    /// `basic.publish`: its content follows.
    pub(super) fn publish(
        &mut self,
        publish: &basic::Publish<'_>,
        payload: &[u8],
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        if publish.immediate {
            return Err(Fault::new(ReplyCode::NotImplemented, "immediate=true"));
        }
        self.open_key()?;
        turn.link.block_publisher();
        let assembly = &mut self.assembly;
        // Most publishers stay with one exchange and key: to compare is cheaper than to copy, and keeps the route.
        if assembly.routing_key != publish.routing_key || assembly.exchange != publish.exchange {
            assembly.exchange.clear();
            assembly.exchange.push_str(publish.exchange);
            assembly.routing_key.clear();
            assembly.routing_key.push_str(publish.routing_key);
            assembly.route = CachedRoute::default();
        }
        assembly.mandatory = publish.mandatory;
        assembly.method.clear();
        assembly.method.extend_from_slice(payload);
        self.content = Content::AwaitingHeader;
        Ok(())
    }

    /// The content header.
    pub(super) fn header(&mut self, payload: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let header = ContentHeader::decode(payload)?;
        if header.class_id != basic::Publish::ID.class_id {
            let text = format!(
                "expected content header for class 60, got one for class {} instead",
                header.class_id
            );
            return Err(Fault::new(ReplyCode::UnexpectedFrame, text));
        }
        let size = header.body_size;
        if size > BODY_MAX {
            return Err(Fault::new(
                ReplyCode::FrameError,
                format!("content body of {size} bytes is too large"),
            ));
        }
        let max = turn.link.options.max_message_size;
        if size > max {
            let text = format!("message size {size} is larger than configured max size {max}");
            return Err(Fault::precondition(text));
        }
        if self.assembly.properties != header.raw_properties {
            self.assembly.properties.clear();
            self.assembly.properties.extend_from_slice(header.raw_properties);
            self.assembly.checked = None;
        }
        if size == 0 {
            return self.complete(Body::Borrowed(&[]), turn);
        }
        self.content = Content::AwaitingBody { remaining: size };
        Ok(())
    }

    /// A piece of the body.
    pub(super) fn body(&mut self, chunk: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let Content::AwaitingBody { remaining } = self.content else {
            return Err(Fault::new(ReplyCode::UnexpectedFrame, "expected no content body"));
        };
        let Some(left) = remaining.checked_sub(chunk.len() as u64) else {
            let text = format!(
                "content body exceeds its announced size by {} bytes",
                chunk.len() as u64 - remaining
            );
            return Err(Fault::new(ReplyCode::FrameError, text));
        };
        turn.link.block_body()?;
        let body = &mut self.assembly.body;
        if left == 0 && body.is_empty() {
            return self.complete(Body::Borrowed(chunk), turn);
        }
        if body.capacity() - body.len() < chunk.len() {
            let received = body.len() + chunk.len();
            let ahead = usize::try_from(left).unwrap_or(usize::MAX).min(received);
            turn.link.assembling_bytes -= body.capacity();
            // Exactly, so that a complete message holds no room that it does not need.
            body.reserve_exact(chunk.len() + ahead);
            turn.link.assembling_bytes += body.capacity();
        }
        body.extend_from_slice(chunk);
        if left > 0 {
            self.content = Content::AwaitingBody { remaining: left };
            return Ok(());
        }
        let body = std::mem::take(body);
        turn.link.assembling_bytes -= body.capacity();
        self.complete(Body::Owned(Bytes::from(body)), turn)
    }

    fn complete(&mut self, body: Body<'_>, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        self.content = Content::Idle;
        let result = self.accept(body, turn);
        if self.assembly.properties.capacity() > KEEP_CAPACITY {
            self.assembly.properties = Vec::new();
            self.assembly.checked = None;
        }
        result
    }

    /// Drops a message that will not be completed.
    pub(super) fn abandon_assembly(&mut self, link: &mut Link) {
        link.assembling_bytes -= self.assembly.body.capacity();
        self.assembly = Assembly::default();
        self.content = Content::Idle;
    }
}
