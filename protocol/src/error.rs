//! What can be wrong with bytes or with values: one variant per cause, none of them by string.

use std::fmt;

use nom::error::{ErrorKind, ParseError};

use crate::method::MethodId;
use crate::table::MAX_DEPTH;

/// Why a sequence of octets is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The octets end before the field does, or a length points past what encloses it.
    #[error("a field reaches past the end")]
    Truncated,
    /// All fields are read and octets are left over.
    #[error("octets are left over after the last field")]
    TrailingOctets,
    /// A short string is not UTF-8. The text is RabbitMQ's.
    #[error("Malformed UTF-8 in shortstr")]
    NotUtf8,
    /// A table or array holds a value of a type that does not exist.
    #[error("unknown field type {0}")]
    UnknownFieldType(u8),
    /// Tables and arrays are nested deeper than [`MAX_DEPTH`].
    #[error("tables and arrays are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The property flags name a property that does not exist.
    #[error("unknown property flags {0:#06x}")]
    UnknownProperty(u16),
}

/// The parsers only look at complete slices, so the one thing a primitive can report is that octets are missing.
impl<I> ParseError<I> for Fault {
    #[inline]
    fn from_error_kind(_: I, _: ErrorKind) -> Self {
        Fault::Truncated
    }

    #[inline]
    fn append(_: I, _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl From<nom::Err<Fault>> for Fault {
    #[inline]
    fn from(error: nom::Err<Fault>) -> Self {
        match error {
            nom::Err::Error(fault) | nom::Err::Failure(fault) => fault,
            nom::Err::Incomplete(_) => Fault::Truncated,
        }
    }
}

/// Why a method, a content header or a property list cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The class and method ids name no method of AMQP 0-9-1 or of RabbitMQ's extensions.
    #[error("unknown method {0}")]
    UnknownMethod(MethodId),
    /// The fields are not what the method or header consists of.
    #[error("cannot decode {what}: {fault}")]
    Malformed {
        /// `basic.publish`, `content header`, `properties`: what the octets claim to be.
        what: &'static str,
        /// What is wrong with them.
        fault: Fault,
    },
}

/// Why a value cannot be put on the wire. Nothing is written in that case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A short string, a field name among them, is limited to 255 octets.
    #[error("a short string of {length} octets exceeds the limit of 255")]
    ShortStringTooLong {
        /// The length of the refused string in octets.
        length: usize,
    },
    /// A long string, table, array or frame is limited to 2^32 - 1 octets.
    #[error("a field of {length} octets exceeds the limit of 4294967295")]
    TooLong {
        /// The length of the refused field in octets.
        length: usize,
    },
    /// Tables and arrays are nested deeper than [`MAX_DEPTH`].
    #[error("tables and arrays are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Octets as Erlang prints a binary, the form in which RabbitMQ's error texts quote what a peer sent.
///
/// The plain form (`{}`) prints text as `<<"text">>` where every octet is printable, and numbers otherwise; the
/// alternate form (`{:#}`) always prints numbers.
#[derive(Clone, Copy, Debug)]
pub struct ErlangBinary<'a>(
    /// The octets to print.
    pub &'a [u8],
);

impl fmt::Display for ErlangBinary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |octet: &u8| matches!(octet, b' '..=b'~' | b'\t' | b'\n' | b'\r');
        f.write_str("<<")?;
        if !f.alternate() && !self.0.is_empty() && self.0.iter().all(printable) {
            // Debug quotes and escapes like Erlang does for this range, except for the apostrophe.
            write!(f, "\"{}\"", self.0.escape_ascii().to_string().replace("\\'", "'"))?;
        } else {
            for (index, octet) in self.0.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(f, "{comma}{octet}")?;
            }
        }
        f.write_str(">>")
    }
}
