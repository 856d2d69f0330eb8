//! Content headers: the size of a body and the message's properties.
//!
//! The properties are two octets of flags and then the present fields in the order of the flags. They pass through
//! the broker as octets; [`Properties::decode`] is for those who need to look inside.

use bytes::{BufMut, BytesMut};
use nom::number::complete::{be_u8, be_u16, be_u64};

use crate::error::{DecodeError, EncodeError, Fault};
use crate::table::TableRef;
use crate::wire::{Parsed, put_long_string, put_short_string, short_string, table};

/// The payload of a header frame, without a look at the property fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the method the content belongs to; 60 for all of AMQP 0-9-1.
    pub class_id: u16,
    /// The size of the body that follows, in octets, as the peer claims it.
    pub body_size: u64,
    /// Flags and fields as on the wire, not checked.
    pub raw_properties: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Reads class and body size. The weight, which the specification fixes at 0, is passed over.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] if the payload is too short to hold these and the property flags.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        match payload {
            [k0, k1, _, _, b0, b1, b2, b3, b4, b5, b6, b7, raw_properties @ ..]
                if raw_properties.len() >= 2 =>
            {
                Ok(ContentHeader {
                    class_id: u16::from_be_bytes([*k0, *k1]),
                    body_size: u64::from_be_bytes([*b0, *b1, *b2, *b3, *b4, *b5, *b6, *b7]),
                    raw_properties,
                })
            }
            _ => Err(DecodeError::Malformed { what: "content header", fault: Fault::Truncated }),
        }
    }
}

/// The properties of a message. Every one is optional, and the broker passes on those it has no use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// The MIME type of the body.
    pub content_type: Option<&'a str>,
    /// The MIME encoding of the body.
    pub content_encoding: Option<&'a str>,
    /// Headers of the application, of headers exchanges and of RabbitMQ's extensions.
    pub headers: Option<TableRef<'a>>,
    /// 2 asks for the message to survive a restart; 1 and absence do not.
    pub delivery_mode: Option<u8>,
    /// The priority, from 0.
    pub priority: Option<u8>,
    /// What ties a reply to its request.
    pub correlation_id: Option<&'a str>,
    /// The queue a reply goes to.
    pub reply_to: Option<&'a str>,
    /// The message's own time to live: milliseconds in decimal digits.
    pub expiration: Option<&'a str>,
    /// The application's name of the message.
    pub message_id: Option<&'a str>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's kind of message (`type`).
    pub kind: Option<&'a str>,
    /// The user who published, which the broker verifies.
    pub user_id: Option<&'a str>,
    /// The application that published.
    pub app_id: Option<&'a str>,
    /// Deprecated; carried along.
    pub cluster_id: Option<&'a str>,
}

/// The flag of each property, from the highest bit down in the order of the fields.
mod flag {
    pub(super) const CONTENT_TYPE: u16 = 1 << 15;
    pub(super) const CONTENT_ENCODING: u16 = 1 << 14;
    pub(super) const HEADERS: u16 = 1 << 13;
    pub(super) const DELIVERY_MODE: u16 = 1 << 12;
    pub(super) const PRIORITY: u16 = 1 << 11;
    pub(super) const CORRELATION_ID: u16 = 1 << 10;
    pub(super) const REPLY_TO: u16 = 1 << 9;
    pub(super) const EXPIRATION: u16 = 1 << 8;
    pub(super) const MESSAGE_ID: u16 = 1 << 7;
    pub(super) const TIMESTAMP: u16 = 1 << 6;
    pub(super) const KIND: u16 = 1 << 5;
    pub(super) const USER_ID: u16 = 1 << 4;
    pub(super) const APP_ID: u16 = 1 << 3;
    pub(super) const CLUSTER_ID: u16 = 1 << 2;
    /// Bit 1 belongs to no property, and bit 0 announces flags for more properties than exist.
    pub(super) const UNKNOWN: u16 = 0b11;
}

impl<'a> Properties<'a> {
    /// Reads and checks flags and fields, the headers table included.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] if a field is not what it should be, a flag stands for no property, or octets are
    /// left over.
    #[inline]
    pub fn decode(raw: &'a [u8]) -> Result<Self, DecodeError> {
        let mut properties = Self::default();
        match properties.fill(raw) {
            Ok([]) => Ok(properties),
            Ok(_) => Err(malformed(Fault::TrailingOctets)),
            Err(error) => Err(malformed(error.into())),
        }
    }

    /// Reads into the properties in place, which are too large to be handed around, and returns what is left over.
    #[inline]
    fn fill(&mut self, raw: &'a [u8]) -> Result<&'a [u8], nom::Err<Fault>> {
        let (mut input, flags) = be_u16(raw)?;
        if flags & flag::UNKNOWN != 0 {
            return Err(nom::Err::Error(Fault::UnknownProperty(flags & flag::UNKNOWN)));
        }
        // The order is that of the wire.
        take_if(flags, flag::CONTENT_TYPE, short_string, &mut self.content_type, &mut input)?;
        take_if(flags, flag::CONTENT_ENCODING, short_string, &mut self.content_encoding, &mut input)?;
        take_if(flags, flag::HEADERS, table, &mut self.headers, &mut input)?;
        take_if(flags, flag::DELIVERY_MODE, be_u8, &mut self.delivery_mode, &mut input)?;
        take_if(flags, flag::PRIORITY, be_u8, &mut self.priority, &mut input)?;
        take_if(flags, flag::CORRELATION_ID, short_string, &mut self.correlation_id, &mut input)?;
        take_if(flags, flag::REPLY_TO, short_string, &mut self.reply_to, &mut input)?;
        take_if(flags, flag::EXPIRATION, short_string, &mut self.expiration, &mut input)?;
        take_if(flags, flag::MESSAGE_ID, short_string, &mut self.message_id, &mut input)?;
        take_if(flags, flag::TIMESTAMP, be_u64, &mut self.timestamp, &mut input)?;
        take_if(flags, flag::KIND, short_string, &mut self.kind, &mut input)?;
        take_if(flags, flag::USER_ID, short_string, &mut self.user_id, &mut input)?;
        take_if(flags, flag::APP_ID, short_string, &mut self.app_id, &mut input)?;
        take_if(flags, flag::CLUSTER_ID, short_string, &mut self.cluster_id, &mut input)?;
        Ok(input)
    }

    /// Appends flags and fields as on the wire.
    ///
    /// # Errors
    /// [`EncodeError`] for a string that does not fit. `out` is unchanged then.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u16(self.flags());
        self.put_fields(out).inspect_err(|_| out.truncate(start))
    }

    fn flags(&self) -> u16 {
        let present = [
            self.content_type.is_some(),
            self.content_encoding.is_some(),
            self.headers.is_some(),
            self.delivery_mode.is_some(),
            self.priority.is_some(),
            self.correlation_id.is_some(),
            self.reply_to.is_some(),
            self.expiration.is_some(),
            self.message_id.is_some(),
            self.timestamp.is_some(),
            self.kind.is_some(),
            self.user_id.is_some(),
            self.app_id.is_some(),
            self.cluster_id.is_some(),
        ];
        // Fourteen properties, and the two low bits stay clear.
        present.iter().fold(0, |flags, present| (flags << 1) | u16::from(*present)) << 2
    }

    fn put_fields(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_text(self.content_type, out)?;
        put_text(self.content_encoding, out)?;
        if let Some(headers) = self.headers {
            put_long_string(headers.as_bytes(), out)?;
        }
        if let Some(delivery_mode) = self.delivery_mode {
            out.put_u8(delivery_mode);
        }
        if let Some(priority) = self.priority {
            out.put_u8(priority);
        }
        put_text(self.correlation_id, out)?;
        put_text(self.reply_to, out)?;
        put_text(self.expiration, out)?;
        put_text(self.message_id, out)?;
        if let Some(timestamp) = self.timestamp {
            out.put_u64(timestamp);
        }
        put_text(self.kind, out)?;
        put_text(self.user_id, out)?;
        put_text(self.app_id, out)?;
        put_text(self.cluster_id, out)
    }
}

/// Reads a field into `field` if its flag is set.
#[inline(always)]
fn take_if<'a, T>(
    flags: u16,
    flag: u16,
    parser: impl FnOnce(&'a [u8]) -> Parsed<'a, T>,
    field: &mut Option<T>,
    input: &mut &'a [u8],
) -> Result<(), nom::Err<Fault>> {
    if flags & flag != 0 {
        let (rest, value) = parser(input)?;
        *field = Some(value);
        *input = rest;
    }
    Ok(())
}

fn put_text(text: Option<&str>, out: &mut BytesMut) -> Result<(), EncodeError> {
    text.map_or(Ok(()), |text| put_short_string(text, out))
}

#[cold]
fn malformed(fault: Fault) -> DecodeError {
    DecodeError::Malformed { what: "properties", fault }
}
