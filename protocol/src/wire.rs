//! The primitives of the wire: how an integer, a string, a bit and a table lie in the octets.
//!
//! Reading goes through nom's complete parsers over slices that are known to be whole; writing checks each length
//! before the first octet of the field is written.

use bytes::{BufMut, BytesMut};
use nom::IResult;
use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use crate::error::{EncodeError, Fault};
use crate::table::TableRef;

/// What a parser over a complete slice returns.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Fault>;

/// A short string: one octet of length, then UTF-8.
#[inline]
pub(crate) fn short_string(input: &[u8]) -> Parsed<'_, &str> {
    let (input, length) = be_u8(input)?;
    let (input, octets) = take(length)(input)?;
    match std::str::from_utf8(octets) {
        Ok(text) => Ok((input, text)),
        Err(_) => Err(nom::Err::Error(Fault::NotUtf8)),
    }
}

/// A long string, or anything else with four octets of length before it.
#[inline]
pub(crate) fn long_string(input: &[u8]) -> Parsed<'_, &[u8]> {
    be_u32.flat_map(take).parse(input)
}

/// Writes a short string.
#[inline]
pub(crate) fn put_short_string(text: &str, out: &mut BytesMut) -> Result<(), EncodeError> {
    let length =
        u8::try_from(text.len()).map_err(|_| EncodeError::ShortStringTooLong { length: text.len() })?;
    out.put_u8(length);
    out.put_slice(text.as_bytes());
    Ok(())
}

/// Writes a long string.
#[inline]
pub(crate) fn put_long_string(octets: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u32(length_u32(octets.len())?);
    out.put_slice(octets);
    Ok(())
}

/// A length as the four octets that carry it.
#[inline]
pub(crate) fn length_u32(length: usize) -> Result<u32, EncodeError> {
    u32::try_from(length).map_err(|_| EncodeError::TooLong { length })
}

/// Runs `write` between a four-octet length and what follows, and fills the length in afterwards.
pub(crate) fn put_sized(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u32(0);
    write(out)?;
    let length = length_u32(out.len() - start - 4)?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// A field table with its length, checked.
#[inline]
pub(crate) fn table(input: &[u8]) -> Parsed<'_, TableRef<'_>> {
    let (input, octets) = long_string(input)?;
    let table = TableRef::check(octets).map_err(nom::Err::Error)?;
    Ok((input, table))
}

/// Reads the fields of a method one after the other. Consecutive bits share octets, lowest bit first.
pub(crate) struct Reader<'a> {
    input: &'a [u8],
    /// The octet the next bit comes from.
    bits: u8,
    /// The place of the next bit in it; 0 means that the next bit begins a new octet.
    next_bit: u8,
}

impl<'a> Reader<'a> {
    #[inline(always)]
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Reader { input, bits: 0, next_bit: 0 }
    }

    /// Reads a field that is not a bit.
    #[inline(always)]
    fn take<T>(&mut self, parser: impl FnOnce(&'a [u8]) -> Parsed<'a, T>) -> Result<T, Fault> {
        let (rest, value) = parser(self.input)?;
        self.input = rest;
        self.next_bit = 0;
        Ok(value)
    }

    #[inline(always)]
    fn bit(&mut self) -> Result<bool, Fault> {
        if self.next_bit == 0 {
            self.bits = self.take(be_u8)?;
        }
        let bit = self.bits >> self.next_bit & 1 != 0;
        self.next_bit = (self.next_bit + 1) % 8;
        Ok(bit)
    }

    /// Ends the fields: nothing may be left.
    #[inline(always)]
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        if self.input.is_empty() { Ok(()) } else { Err(Fault::TrailingOctets) }
    }
}

/// Writes the fields of a method one after the other, bits as [`Reader`] reads them.
pub(crate) struct Writer<'o> {
    out: &'o mut BytesMut,
    /// As in [`Reader`].
    next_bit: u8,
}

impl<'o> Writer<'o> {
    #[inline(always)]
    pub(crate) fn new(out: &'o mut BytesMut) -> Self {
        Writer { out, next_bit: 0 }
    }

    /// Ends a run of bits and gives access to the octets.
    #[inline(always)]
    fn field(&mut self) -> &mut BytesMut {
        self.next_bit = 0;
        self.out
    }

    #[inline(always)]
    fn bit(&mut self, bit: bool) {
        if self.next_bit == 0 {
            self.out.put_u8(0);
        }
        if let Some(octet) = self.out.last_mut() {
            *octet |= u8::from(bit) << self.next_bit;
        }
        self.next_bit = (self.next_bit + 1) % 8;
    }
}

/// A type that is a field of methods: `bool` a bit, `&str` a short string, `&[u8]` a long string.
pub(crate) trait Field<'a>: Sized {
    /// What a reserved field of this type is filled with.
    const RESERVED: Self;

    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault>;
    fn write(self, writer: &mut Writer<'_>) -> Result<(), EncodeError>;
}

macro_rules! integer_fields {
    ($($type:ty: $parse:ident, $put:ident;)*) => {$(
        impl Field<'_> for $type {
            const RESERVED: Self = 0;

            #[inline(always)]
            fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
                reader.take($parse)
            }

            #[inline(always)]
            fn write(self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
                writer.field().$put(self);
                Ok(())
            }
        }
    )*};
}

integer_fields! {
    u8: be_u8, put_u8;
    u16: be_u16, put_u16;
    u32: be_u32, put_u32;
    u64: be_u64, put_u64;
}

impl Field<'_> for bool {
    const RESERVED: Self = false;

    #[inline(always)]
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.bit()
    }

    #[inline(always)]
    fn write(self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.bit(self);
        Ok(())
    }
}

impl<'a> Field<'a> for &'a str {
    const RESERVED: Self = "";

    #[inline(always)]
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        reader.take(short_string)
    }

    #[inline(always)]
    fn write(self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        put_short_string(self, writer.field())
    }
}

impl<'a> Field<'a> for &'a [u8] {
    const RESERVED: Self = &[];

    #[inline(always)]
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        reader.take(long_string)
    }

    #[inline(always)]
    fn write(self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        put_long_string(self, writer.field())
    }
}

impl<'a> Field<'a> for TableRef<'a> {
    const RESERVED: Self = TableRef::EMPTY;

    #[inline(always)]
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        reader.take(table)
    }

    #[inline(always)]
    fn write(self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        put_long_string(self.as_bytes(), writer.field())
    }
}
