//! Fields of stored records: strings, flags and field tables.
//!
//! Invariant: reading never panics and never allocates by a stored number.

use bytes::BytesMut;
use ferrymq_protocol::table::{Table, TableRef};

use super::RecordError;

/// Reads fields one after the other.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        let (first, rest) = self.0.split_first().ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A string behind one byte of length.
    pub(super) fn short(&mut self) -> Result<&'a str, RecordError> {
        let length = usize::from(self.byte()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| RecordError::NotUtf8)
    }

    /// Flags in the order of [`put_flags`].
    pub(super) fn flags<const N: usize>(&mut self) -> Result<[bool; N], RecordError> {
        let bits = self.byte()?;
        if u32::from(bits) >> N != 0 {
            return Err(RecordError::UnknownTag { what: "flags", tag: bits });
        }
        Ok(std::array::from_fn(|at| bits >> at & 1 == 1))
    }

    /// A text behind four bytes of length.
    pub(super) fn long(&mut self) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.behind_length()?).map_err(|_| RecordError::NotUtf8)
    }

    /// A field table behind four bytes of length.
    pub(super) fn table(&mut self) -> Result<Table, RecordError> {
        let table = TableRef::parse(self.behind_length()?).map_err(RecordError::Arguments)?;
        Ok(table.to_owned())
    }

    /// So many bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    fn behind_length(&mut self) -> Result<&'a [u8], RecordError> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(length).map_err(|_| RecordError::Truncated)?)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Everything has to have been read.
    pub(super) fn finish(&self) -> Result<(), RecordError> {
        if self.0.is_empty() { Ok(()) } else { Err(RecordError::TrailingBytes) }
    }
}

pub(super) fn put_short(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).expect("a name or key is at most 255 bytes"));
    out.extend_from_slice(text.as_bytes());
}

/// A text of any length below 4 GiB.
pub(super) fn put_long(text: &str, out: &mut Vec<u8>) {
    let length = u32::try_from(text.len()).expect("what is stored is far below 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// At most eight flags in a byte, the first in the lowest bit.
pub(super) fn put_flags<const N: usize>(flags: [bool; N], out: &mut Vec<u8>) {
    const { assert!(N <= 8, "a byte has eight bits") };
    out.push(flags.iter().enumerate().fold(0, |bits, (at, flag)| bits | u8::from(*flag) << at));
}

pub(super) fn put_table(table: &Table, out: &mut Vec<u8>) {
    out.extend_from_slice(&table_bytes(table));
}

/// A field table with its length, as on the wire.
pub(super) fn table_bytes(table: &Table) -> BytesMut {
    let mut encoded = BytesMut::new();
    table
        .encode_with_length(&mut encoded)
        .expect("a table came from a frame or the configuration: below 4 GiB");
    encoded
}
