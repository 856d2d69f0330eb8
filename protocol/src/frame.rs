//! Frames: the envelope of everything after the protocol header.
//!
//! A frame is one octet of kind, two of channel, four of payload size, the payload and [`FRAME_END`]. Invariant: the
//! payload of a decoded [`Frame`] is whole and its end octet was seen, so what reads it need not know about streams.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::error::{EncodeError, ErlangBinary};
use crate::method::{Method, basic};
use crate::wire::length_u32;

pub use crate::header::{PROTOCOL_HEADER, ProtocolHeader, decode_protocol_header};

/// The octet that ends each frame.
pub const FRAME_END: u8 = 0xCE;
/// Kind, channel, size and end octet: what a frame takes beyond its payload.
pub const FRAME_OVERHEAD: usize = 8;
/// The smallest `frame_max` the specification lets a peer ask for.
pub const FRAME_MIN_SIZE: u32 = 4096;
/// A whole heartbeat frame.
pub const HEARTBEAT_FRAME: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// Kind, channel and size.
const FRAME_START: usize = 7;
/// How much of a payload an error quotes.
const QUOTED: usize = 16;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A method of a class.
    Method = 1,
    /// A content header: size and properties of the body that follows.
    Header = 2,
    /// A piece of a content body.
    Body = 3,
    /// A sign of life, without payload, on channel 0.
    Heartbeat = 8,
}

impl FrameKind {
    #[inline]
    fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(FrameKind::Method),
            2 => Some(FrameKind::Header),
            3 => Some(FrameKind::Body),
            8 => Some(FrameKind::Heartbeat),
            _ => None,
        }
    }
}

/// A whole frame, borrowed from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// Everything between the size and the end octet.
    pub payload: &'a [u8],
}

/// Why a stream cannot be cut into frames. Each is a `FRAME_ERROR` (501) of the connection, and the display is the
/// text RabbitMQ sends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first octet is none of [`FrameKind`].
    UnknownKind {
        /// The octet.
        kind: u8,
        /// The channel the frame claims.
        channel: u16,
        /// The first 16 octets of the payload, or all of it if it is shorter.
        first: Vec<u8>,
        /// The size of the payload the frame claims, in octets.
        size: usize,
    },
    /// The payload is larger than the peer may send.
    TooLarge {
        /// The kind octet, not checked.
        kind: u8,
        /// The channel the frame claims.
        channel: u16,
        /// The size of the payload the frame claims, in octets.
        size: usize,
        /// The largest payload a frame of the agreed size has room for, in octets.
        max: usize,
    },
    /// The octet after the payload is not [`FRAME_END`].
    BadEnd {
        /// The kind octet.
        kind: u8,
        /// The channel of the frame.
        channel: u16,
        /// The first 16 octets of the payload, or all of it if it is shorter.
        first: Vec<u8>,
        /// The size of the payload in octets.
        size: usize,
        /// The octet in place of the end.
        end: u8,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |first: &[u8], size: usize| {
            let quantity = if size <= QUOTED { "all" } else { "first 16" };
            format!("{quantity} octets = {}", ErlangBinary(first))
        };
        match self {
            FrameError::UnknownKind { kind, first, size, .. } => {
                write!(f, "type {kind}, {}: unknown_frame", quote(first, *size))
            }
            FrameError::TooLarge { kind, size, max, .. } => {
                write!(f, "type {kind}, all octets = <<>>: {{frame_too_large,{size},{max}}}")
            }
            FrameError::BadEnd { kind, first, size, end, .. } => {
                write!(f, "type {kind}, {}: {{invalid_frame_end_marker,{end}}}", quote(first, *size))
            }
        }
    }
}

/// Cuts the first frame off `input`, the unread octets of a connection. `Ok(None)` asks for more octets; otherwise
/// the frame comes with the number of octets it took.
///
/// `max_frame_size` is the agreed `frame_max` in octets. A payload of up to that size is accepted, though with its
/// overhead the frame is 8 octets larger then: many clients count so, and RabbitMQ lets them. There is no value for
/// "unlimited". Nothing beyond the first frame is looked at, and a wrong kind or size is reported before the payload
/// has arrived.
///
/// # Errors
/// [`FrameError`]; the stream cannot be read on after it.
#[inline]
pub fn decode_frame(input: &[u8], max_frame_size: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((&[kind_octet, channel_high, channel_low, s0, s1, s2, s3], after)) =
        input.split_first_chunk::<FRAME_START>()
    else {
        return Ok(None);
    };
    let channel = u16::from_be_bytes([channel_high, channel_low]);
    // A target whose usize has less than 32 bits cannot hold such a frame anyway.
    let size = usize::try_from(u32::from_be_bytes([s0, s1, s2, s3])).unwrap_or(usize::MAX);
    if size > max_frame_size {
        let max = max_frame_size.saturating_sub(FRAME_OVERHEAD);
        return Err(FrameError::TooLarge { kind: kind_octet, channel, size, max });
    }
    let Some(kind) = FrameKind::from_octet(kind_octet) else {
        return unknown_kind(kind_octet, channel, size, after);
    };
    let Some((payload, [end, ..])) = after.split_at_checked(size) else {
        return Ok(None);
    };
    if *end != FRAME_END {
        return Err(bad_end(kind_octet, channel, payload, *end));
    }
    Ok(Some((Frame { kind, channel, payload }, FRAME_START + size + 1)))
}

/// Waits for as many octets as the error quotes, so that the text does not depend on how the stream was cut.
#[cold]
fn unknown_kind(
    kind: u8,
    channel: u16,
    size: usize,
    after: &[u8],
) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    match after.get(..size.min(QUOTED)) {
        Some(first) => Err(FrameError::UnknownKind { kind, channel, first: first.to_vec(), size }),
        None => Ok(None),
    }
}

#[cold]
fn bad_end(kind: u8, channel: u16, payload: &[u8], end: u8) -> FrameError {
    let first = payload[..payload.len().min(QUOTED)].to_vec();
    FrameError::BadEnd { kind, channel, first, size: payload.len(), end }
}

/// Appends a whole method frame.
///
/// The caller answers for the frame staying within the agreed `frame_max`: what is written is `out`'s growth.
///
/// # Errors
/// [`EncodeError`] for a field the wire cannot carry. `out` is unchanged then.
#[inline]
pub fn encode_method(channel: u16, method: &Method<'_>, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    out.reserve(128);
    out.put_slice(&frame_start(FrameKind::Method, channel, 0));
    let written = method.encode(out).and_then(|()| length_u32(out.len() - start - FRAME_START));
    match written {
        Ok(size) => {
            out[start + 3..start + FRAME_START].copy_from_slice(&size.to_be_bytes());
            out.put_u8(FRAME_END);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Appends a whole content header frame. `raw_properties` are the flags and fields as on the wire, from
/// [`ContentHeader::raw_properties`](crate::properties::ContentHeader) or
/// [`Properties::encode`](crate::properties::Properties::encode).
///
/// # Panics
/// If the properties take 4 GiB, which nothing that came out of a frame does.
#[inline]
pub fn encode_header(channel: u16, class_id: u16, body_size: u64, raw_properties: &[u8], out: &mut BytesMut) {
    /// Class, weight (always 0) and body size.
    const FIXED: usize = 12;
    out.reserve(FRAME_OVERHEAD + FIXED + raw_properties.len());
    encode_frame_start(FrameKind::Header, channel, FIXED + raw_properties.len(), out);
    let mut fixed = [0; FIXED];
    fixed[..2].copy_from_slice(&class_id.to_be_bytes());
    fixed[4..].copy_from_slice(&body_size.to_be_bytes());
    out.put_slice(&fixed);
    out.put_slice(raw_properties);
    encode_frame_end(out);
}

/// What the frames before a delivery's body say.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryStart<'a> {
    /// Whose delivery it is.
    pub consumer_tag: &'a str,
    /// Its tag on the channel.
    pub delivery_tag: u64,
    /// Whether somebody may have received the message before.
    pub redelivered: bool,
    /// The exchange of the message, in UTF-8.
    pub exchange: &'a [u8],
    /// Its routing key, in UTF-8.
    pub routing_key: &'a [u8],
    /// As for [`encode_header`].
    pub raw_properties: &'a [u8],
    /// As for [`encode_header`].
    pub body_size: u64,
}

/// Appends a method frame with `basic.deliver` and a content header frame: what [`encode_method`] and
/// [`encode_header`] would append, for the two frames that a broker sends most.
///
/// # Panics
/// If a name is longer than the 255 octets of a short string, or the properties take 4 GiB: neither came from the wire.
pub fn encode_delivery_start(channel: u16, start: &DeliveryStart<'_>, out: &mut BytesMut) {
    /// Class and method, and the lengths, tag and bit beside the names.
    const METHOD: usize = 4 + 1 + 8 + 1 + 1 + 1;
    /// Class, weight (always 0) and body size.
    const HEADER: usize = 12;
    let DeliveryStart { consumer_tag, exchange, routing_key, raw_properties, .. } = start;
    let short =
        |name: &[u8]| u8::try_from(name.len()).unwrap_or_else(|_| panic!("a name of {} octets", name.len()));
    let ids = [basic::Deliver::ID.class_id, basic::Deliver::ID.method_id].map(u16::to_be_bytes);
    let method = METHOD + consumer_tag.len() + exchange.len() + routing_key.len();
    let header = HEADER + raw_properties.len();
    let before = out.len();
    out.resize(before + method + header + 2 * FRAME_OVERHEAD, 0);
    let rest = &mut out[before..];
    let rest = put(rest, &frame_start(FrameKind::Method, channel, method));
    let rest = put(rest, &[ids[0][0], ids[0][1], ids[1][0], ids[1][1], short(consumer_tag.as_bytes())]);
    let rest = put(rest, consumer_tag.as_bytes());
    let rest = put(rest, &start.delivery_tag.to_be_bytes());
    let rest = put(rest, &[u8::from(start.redelivered), short(exchange)]);
    let rest = put(rest, exchange);
    let rest = put(rest, &[short(routing_key)]);
    let rest = put(rest, routing_key);
    let rest = put(rest, &[FRAME_END]);
    let rest = put(rest, &frame_start(FrameKind::Header, channel, header));
    let rest = put(rest, &[ids[0][0], ids[0][1], 0, 0]);
    let rest = put(rest, &start.body_size.to_be_bytes());
    let rest = put(rest, raw_properties);
    put(rest, &[FRAME_END]);
}

/// Writes `octets` at the beginning of `out`, and returns what is behind them.
#[inline(always)]
fn put<'o>(out: &'o mut [u8], octets: &[u8]) -> &'o mut [u8] {
    let (place, rest) = out.split_at_mut(octets.len());
    place.copy_from_slice(octets);
    rest
}

/// Appends a whole body frame. The caller cuts bodies to the agreed `frame_max` less [`FRAME_OVERHEAD`].
///
/// # Panics
/// If the chunk takes 4 GiB.
#[inline]
pub fn encode_body(channel: u16, chunk: &[u8], out: &mut BytesMut) {
    out.reserve(FRAME_OVERHEAD + chunk.len());
    encode_frame_start(FrameKind::Body, channel, chunk.len(), out);
    out.put_slice(chunk);
    encode_frame_end(out);
}

/// Appends the seven octets before a payload of `length` octets, for payloads that go out as a segment of their
/// own. [`encode_frame_end`] goes after the payload.
///
/// # Panics
/// If `length` is 4 GiB or more: a frame cannot say so, and no body is cut so large.
#[inline]
pub fn encode_frame_start(kind: FrameKind, channel: u16, length: usize, out: &mut BytesMut) {
    out.put_slice(&frame_start(kind, channel, length));
}

/// Appends the octet after a payload.
#[inline]
pub fn encode_frame_end(out: &mut BytesMut) {
    out.put_u8(FRAME_END);
}

/// Kind, channel and size.
#[inline]
fn frame_start(kind: FrameKind, channel: u16, length: usize) -> [u8; FRAME_START] {
    let size = u32::try_from(length).unwrap_or_else(|_| panic!("a frame of {length} octets"));
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    [kind as u8, c0, c1, s0, s1, s2, s3]
}
