//! Messages on their way to the client: method, header and body frames.
//!
//! Invariant: no frame exceeds what was agreed on; a large body is shared, not copied.

use bytes::BytesMut;
use ferrymq_protocol::frame::{self, DeliveryStart, FRAME_OVERHEAD, FrameKind};
use ferrymq_protocol::method::{Method, basic};
use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{TableRef, Value};

use super::channel::{Channel, Phase};
use super::link::{Link, METHOD_ROOM};
use super::output::SHARE_FROM;
use super::tags::Unacked;
use crate::model::{ChannelNumber, Message};
use crate::vhost::{Command, Delivery, Got, Outcome, Settlement};

/// The header with which quorum queues tell how often clients have failed with a message.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Bytes of room for the fixed part of a content header frame.
const HEADER_ROOM: usize = 24;

impl Link {
    /// Encodes a message, introduced by `method`, with these properties.
    pub(super) fn send_message<'m>(
        &mut self,
        channel: ChannelNumber,
        method: impl Into<Method<'m>>,
        properties: &[u8],
        message: &Message,
    ) {
        let texts = message.exchange().len() + message.routing_key().len() + usize::from(u8::MAX);
        let small = METHOD_ROOM + HEADER_ROOM + texts + properties.len();
        let out = self.output.room(small);
        let method = method.into();
        let encoded = frame::encode_method(channel.0, &method, out);
        debug_assert!(encoded.is_ok(), "{} cannot be encoded", method.name());
        let class = basic::Publish::ID.class_id;
        frame::encode_header(channel.0, class, message.body().len() as u64, properties, out);
        self.send_body(channel, message);
    }

    fn send_body(&mut self, channel: ChannelNumber, message: &Message) {
        let body = message.body();
        let payload_max = self.tuned.payload_max();
        let mut start = 0;
        while start < body.len() {
            let end = body.len().min(start.saturating_add(payload_max));
            let chunk = start..end;
            if chunk.len() < SHARE_FROM {
                frame::encode_body(channel.0, &body[chunk], self.output.room(end - start + FRAME_OVERHEAD));
            } else {
                let out = self.output.room(FRAME_OVERHEAD);
                frame::encode_frame_start(FrameKind::Body, channel.0, chunk.len(), out);
                self.output.share(message.part_of_body(chunk));
                frame::encode_frame_end(self.output.room(1));
            }
            start = end;
        }
    }
}

impl Channel {
    fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// Sends a delivery to its consumer; one that cannot be sent goes back as if it had never been tried.
    pub(super) fn deliver(&mut self, delivery: &Delivery, link: &mut Link) {
        let consumer = match self.phase {
            Phase::Open => self.consumer(delivery.consumer),
            _ => None,
        };
        let cost = delivery.cost();
        let Some(no_ack) = consumer.map(|consumer| consumer.no_ack) else {
            if let Some(settlement) = self.undeliver(delivery, link) {
                link.queue(Command::Settle(settlement));
            }
            return;
        };
        let delivery_tag = self.next_tag();
        let from = link.output.len();
        let Some(consumer) = self.consumer(delivery.consumer) else { return };
        let told = tell_failures(&delivery.message, delivery.delivery_count);
        let (exchange, routing_key) = delivery.message.names();
        let start = DeliveryStart {
            consumer_tag: &consumer.tag,
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange,
            routing_key,
            raw_properties: told.as_deref().unwrap_or(delivery.message.properties()),
            body_size: delivery.message.body().len() as u64,
        };
        let texts = consumer.tag.len() + exchange.len() + routing_key.len() + start.raw_properties.len();
        let out = link.output.room(METHOD_ROOM + HEADER_ROOM + texts);
        frame::encode_delivery_start(self.number.0, &start, out);
        link.send_body(self.number, &delivery.message);
        link.output.mark(from, cost);
        self.counters.redeliver += u64::from(delivery.redelivered);
        if no_ack {
            self.counters.deliver_no_ack += 1;
        } else {
            self.counters.deliver += 1;
            self.tags.push(Unacked { tag: delivery_tag, queue: delivery.queue, seq: delivery.seq });
        }
    }

    /// Takes a delivery that is not sent, and says how it goes back, unless it took no credit.
    pub(super) fn undeliver(&self, delivery: &Delivery, link: &mut Link) -> Option<Settlement> {
        link.output.skip(delivery.cost());
        let was_unacked = self.consumer(delivery.consumer).is_none_or(|consumer| !consumer.no_ack);
        let Delivery { queue, seq, .. } = *delivery;
        let channel = self.key.filter(|_| was_unacked)?;
        Some(Settlement { channel, queue, seq, outcome: Outcome::Undelivered })
    }

    /// Sends what `basic.get` found.
    pub(super) fn got(&mut self, got: Option<Got>, no_ack: bool, link: &mut Link) {
        let Some(got) = got else {
            self.counters.get_empty += 1;
            link.send(self.number, basic::GetEmpty {});
            return;
        };
        let delivery_tag = self.next_tag();
        let method = basic::GetOk {
            delivery_tag,
            redelivered: got.redelivered,
            exchange: got.message.exchange(),
            routing_key: got.message.routing_key(),
            message_count: saturate(got.remaining),
        };
        let told = tell_failures(&got.message, got.delivery_count);
        let properties = told.as_deref().unwrap_or(got.message.properties());
        link.send_message(self.number, method, properties, &got.message);
        self.counters.redeliver += u64::from(got.redelivered);
        if no_ack {
            self.counters.get_no_ack += 1;
        } else {
            self.counters.get += 1;
            self.tags.push(Unacked { tag: delivery_tag, queue: got.queue, seq: got.seq });
        }
    }
}

/// The properties with the header that tells how often clients have failed with the message, if they have. What
/// cannot have the header goes without: an application that needs it sends headers that leave room for it.
fn tell_failures(message: &Message, delivery_count: u16) -> Option<BytesMut> {
    if delivery_count == 0 {
        return None;
    }
    let mut properties = Properties::decode(message.properties()).ok()?;
    let mut headers = properties.headers.map(|headers| headers.to_owned()).unwrap_or_default();
    headers.insert(DELIVERY_COUNT, Value::I64(i64::from(delivery_count))).ok()?;
    let (mut table, mut told) = (BytesMut::new(), BytesMut::new());
    headers.encode(&mut table).ok()?;
    properties.headers = Some(TableRef::parse(&table).ok()?);
    properties.encode(&mut told).ok()?;
    Some(told)
}

/// A count as the wire has room for it.
pub(super) fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
