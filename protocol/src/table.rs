//! Field tables as they lie on the wire: checked once, then read in place.
//!
//! Invariant: the octets behind a [`TableRef`] or [`ArrayRef`] are whole. Every length fits into what encloses it,
//! every name is UTF-8, every type letter is known, and nothing is nested deeper than [`MAX_DEPTH`]. The check is a
//! loop with a stack of fixed size, so a hostile table costs no stack and no memory.
//!
//! Names may repeat. The order is kept and a look-up answers with the first entry of that name, which is what
//! RabbitMQ does. A name that is not UTF-8, which RabbitMQ would carry along, is refused.

mod owned;

use nom::combinator::map;
use nom::number::complete::{be_f32, be_f64, be_i8, be_i16, be_i32, be_i64, be_u8, be_u16, be_u32, be_u64};

pub use owned::{Table, Value};

use crate::error::{DecodeError, Fault};
use crate::wire::{Parsed, long_string, short_string};

/// How deeply tables and arrays may be nested; the outermost table is level 1.
pub const MAX_DEPTH: usize = 32;

/// A field table, borrowed from the octets between its length and its end.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TableRef<'a> {
    octets: &'a [u8],
}

/// A field array, borrowed from the octets between its length and its end.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ArrayRef<'a> {
    octets: &'a [u8],
}

/// One value of a table or an array, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// `t`: any octet but zero is true.
    Boolean(bool),
    /// `b`.
    I8(i8),
    /// `B`.
    U8(u8),
    /// `s`: a signed 16-bit integer, as RabbitMQ reads it, not the short string of the specification.
    I16(i16),
    /// `u`.
    U16(u16),
    /// `I`.
    I32(i32),
    /// `i`.
    U32(u32),
    /// `l`, and `L`, which RabbitMQ reads the same.
    I64(i64),
    /// `f`.
    F32(f32),
    /// `d`.
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// The number of decimal places.
        scale: u8,
        /// The digits. Unsigned, as RabbitMQ reads it.
        value: u32,
    },
    /// `S`: octets of any kind, usually UTF-8.
    LongString(&'a [u8]),
    /// `A`.
    Array(ArrayRef<'a>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`.
    Table(TableRef<'a>),
    /// `V`: no value.
    Void,
    /// `x`: octets that are not text.
    Binary(&'a [u8]),
}

impl<'a> TableRef<'a> {
    /// The table without entries.
    pub const EMPTY: TableRef<'static> = TableRef { octets: &[] };

    /// Checks the content of a table, without its four octets of length.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] with the first fault found.
    #[inline]
    pub fn parse(octets: &'a [u8]) -> Result<Self, DecodeError> {
        Self::check(octets).map_err(|fault| DecodeError::Malformed { what: "field table", fault })
    }

    #[inline]
    pub(crate) fn check(octets: &'a [u8]) -> Result<Self, Fault> {
        if !octets.is_empty() {
            check_table(octets)?;
        }
        Ok(TableRef { octets })
    }

    /// The content as on the wire, without the length.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The entries in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> + use<'a> {
        Entries { kind: Kind::Table, rest: self.octets }
    }

    /// The first entry of that name.
    pub fn get(&self, name: &str) -> Option<ValueRef<'a>> {
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// A copy that owns its names and values.
    pub fn to_owned(&self) -> Table {
        owned::copy_table(*self)
    }
}

impl<'a> ArrayRef<'a> {
    /// The content as on the wire, without the length.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether there is no value.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The values in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = ValueRef<'a>> + use<'a> {
        Entries { kind: Kind::Array, rest: self.octets }.map(|(_, value)| value)
    }
}

impl<'a> ValueRef<'a> {
    /// The type's name in RabbitMQ's error texts.
    pub fn type_name(&self) -> &'static str {
        match self {
            ValueRef::Boolean(_) => "bool",
            ValueRef::I8(_) => "byte",
            ValueRef::U8(_) => "unsignedbyte",
            ValueRef::I16(_) => "short",
            ValueRef::U16(_) => "unsignedshort",
            ValueRef::I32(_) => "signedint",
            ValueRef::U32(_) => "unsignedint",
            ValueRef::I64(_) => "long",
            ValueRef::F32(_) => "float",
            ValueRef::F64(_) => "double",
            ValueRef::Decimal { .. } => "decimal",
            ValueRef::LongString(_) => "longstr",
            ValueRef::Array(_) => "array",
            ValueRef::Timestamp(_) => "timestamp",
            ValueRef::Table(_) => "table",
            ValueRef::Void => "void",
            ValueRef::Binary(_) => "binary",
        }
    }

    /// The value of any of the seven integer types. A timestamp is not an integer.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            ValueRef::I8(value) => Some(value.into()),
            ValueRef::U8(value) => Some(value.into()),
            ValueRef::I16(value) => Some(value.into()),
            ValueRef::U16(value) => Some(value.into()),
            ValueRef::I32(value) => Some(value.into()),
            ValueRef::U32(value) => Some(value.into()),
            ValueRef::I64(value) => Some(value),
            _ => None,
        }
    }

    /// The text of a long string that is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            ValueRef::LongString(octets) => std::str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// A copy that owns what it holds.
    pub fn to_owned(&self) -> Value {
        owned::copy_value(*self)
    }

    /// What is inside, if the value encloses others.
    #[inline]
    fn enclosed(&self) -> Option<Level<'a>> {
        match *self {
            ValueRef::Table(table) => Some(Level { kind: Kind::Table, rest: table.octets }),
            ValueRef::Array(array) => Some(Level { kind: Kind::Array, rest: array.octets }),
            _ => None,
        }
    }
}

impl std::fmt::Debug for TableRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl std::fmt::Debug for ArrayRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What a run of values is made of: named in a table, bare in an array.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Array,
}

/// A table or array that is being walked.
#[derive(Clone, Copy)]
struct Level<'a> {
    kind: Kind,
    /// What has not been read yet.
    rest: &'a [u8],
}

/// Walks a checked run of values. Values of an array have an empty name.
struct Entries<'a> {
    kind: Kind,
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, ValueRef<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        // The octets were checked when the outermost table was parsed, so reading them again cannot fail.
        let (rest, item) = entry(self.kind, self.rest).ok()?;
        self.rest = rest;
        Some(item)
    }
}

/// Checks everything in the outermost table. Tables and arrays inside it take the slower road with the stack.
fn check_table(octets: &[u8]) -> Result<(), Fault> {
    let mut rest = octets;
    while !rest.is_empty() {
        let (after, (_, value)) = entry(Kind::Table, rest)?;
        if let Some(inner) = value.enclosed() {
            check_nested(inner)?;
        }
        rest = after;
    }
    Ok(())
}

/// Checks a table or array of level 2 and everything below it, keeping the unfinished levels on a stack.
fn check_nested(outermost: Level<'_>) -> Result<(), Fault> {
    let mut unfinished = [Level { kind: Kind::Table, rest: &[] }; MAX_DEPTH - 2];
    let mut depth = 0;
    let mut current = outermost;
    loop {
        if current.rest.is_empty() {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            current = unfinished[depth];
            continue;
        }
        let (after, (_, value)) = entry(current.kind, current.rest)?;
        current.rest = after;
        if let Some(inner) = value.enclosed() {
            *unfinished.get_mut(depth).ok_or(Fault::TooDeep)? = current;
            depth += 1;
            current = inner;
        }
    }
}

/// Reads one entry without looking into the table or array it may hold.
#[inline]
fn entry(kind: Kind, input: &[u8]) -> Parsed<'_, (&str, ValueRef<'_>)> {
    let (input, name) = match kind {
        Kind::Table => short_string(input)?,
        Kind::Array => (input, ""),
    };
    let (input, value) = value(input)?;
    Ok((input, (name, value)))
}

/// Reads one value, letter first, without looking into the table or array it may be.
fn value(input: &[u8]) -> Parsed<'_, ValueRef<'_>> {
    use nom::Parser;
    let (input, letter) = be_u8(input)?;
    match letter {
        b'S' => map(long_string, ValueRef::LongString).parse(input),
        b't' => map(be_u8, |octet| ValueRef::Boolean(octet != 0)).parse(input),
        b'b' => map(be_i8, ValueRef::I8).parse(input),
        b'B' => map(be_u8, ValueRef::U8).parse(input),
        b's' => map(be_i16, ValueRef::I16).parse(input),
        b'u' => map(be_u16, ValueRef::U16).parse(input),
        b'I' => map(be_i32, ValueRef::I32).parse(input),
        b'i' => map(be_u32, ValueRef::U32).parse(input),
        b'l' | b'L' => map(be_i64, ValueRef::I64).parse(input),
        b'f' => map(be_f32, ValueRef::F32).parse(input),
        b'd' => map(be_f64, ValueRef::F64).parse(input),
        b'D' => map((be_u8, be_u32), |(scale, value)| ValueRef::Decimal { scale, value }).parse(input),
        b'T' => map(be_u64, ValueRef::Timestamp).parse(input),
        b'A' => map(long_string, |octets| ValueRef::Array(ArrayRef { octets })).parse(input),
        b'F' => map(long_string, |octets| ValueRef::Table(TableRef { octets })).parse(input),
        b'x' => map(long_string, ValueRef::Binary).parse(input),
        b'V' => Ok((input, ValueRef::Void)),
        unknown => Err(nom::Err::Error(Fault::UnknownFieldType(unknown))),
    }
}
