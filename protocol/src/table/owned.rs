//! Field tables that own their content: what is declared, configured or kept longer than a frame.
//!
//! Invariant: a [`Table`] is never nested deeper than [`MAX_DEPTH`] and its names fit a short string, because every
//! way to put an entry in checks both. So whatever recurses over an owned table, its `Drop`, `Clone` and `Debug`
//! among them, is bounded.

use bytes::{BufMut, BytesMut};

use super::{Level, MAX_DEPTH, TableRef, ValueRef, entry};
use crate::error::EncodeError;
use crate::wire::{put_long_string, put_short_string, put_sized};

/// A field table. Keeps the order of its entries; names may repeat if they came so from the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    entries: Vec<(Box<str>, Value)>,
}

/// One value of a [`Table`] or of an array in it. The variants mean what they mean in [`ValueRef`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `t`.
    Boolean(bool),
    /// `b`.
    I8(i8),
    /// `B`.
    U8(u8),
    /// `s`.
    I16(i16),
    /// `u`.
    U16(u16),
    /// `I`.
    I32(i32),
    /// `i`.
    U32(u32),
    /// `l`.
    I64(i64),
    /// `f`.
    F32(f32),
    /// `d`.
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// The number of decimal places.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`.
    LongString(Vec<u8>),
    /// `A`.
    Array(Vec<Value>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`.
    Table(Table),
    /// `V`.
    Void,
    /// `x`.
    Binary(Vec<u8>),
}

impl Table {
    /// A table without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// A table of these entries; a later entry replaces an earlier one of the same name.
    ///
    /// # Errors
    /// Those of [`Table::insert`].
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, EncodeError>
    where
        N: AsRef<str>,
        V: Into<Value>,
    {
        let mut table = Self::new();
        for (name, value) in pairs {
            table.insert(name, value)?;
        }
        Ok(table)
    }

    /// The table with one entry more, for tables written out in code.
    ///
    /// # Panics
    /// If [`Table::insert`] refuses the entry, which for a constant name and a value of constant shape is a
    /// mistake of the program.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        let inserted = self.insert(name, value);
        assert!(inserted.is_ok(), "the entry {name:?} does not fit a table: {inserted:?}");
        self
    }

    /// Sets an entry: replaces the first one of that name, or appends.
    ///
    /// # Errors
    /// [`EncodeError::ShortStringTooLong`] for a name of more than 255 octets, [`EncodeError::TooDeep`] for a value
    /// that would nest deeper than [`MAX_DEPTH`]. The table is unchanged then.
    pub fn insert(&mut self, name: impl AsRef<str>, value: impl Into<Value>) -> Result<(), EncodeError> {
        let (name, value) = (name.as_ref(), value.into());
        if name.len() > usize::from(u8::MAX) {
            return Err(EncodeError::ShortStringTooLong { length: name.len() });
        }
        value.check_depth(MAX_DEPTH - 1)?;
        match self.entries.iter_mut().find(|(candidate, _)| **candidate == *name) {
            Some((_, present)) => *present = value,
            None => self.entries.push((name.into(), value)),
        }
        Ok(())
    }

    /// Takes every entry of that name out and returns the first one's value.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let index = self.entries.iter().position(|(candidate, _)| **candidate == *name)?;
        let (_, value) = self.entries.remove(index);
        self.entries.retain(|(candidate, _)| **candidate != *name);
        Some(value)
    }

    /// The first entry of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends the content as on the wire, without the four octets of length: what [`TableRef::parse`] reads.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] for a value of 4 GiB and more. `out` is unchanged then.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        put_table(self, MAX_DEPTH, out).inspect_err(|_| out.truncate(start))
    }

    /// Appends the table as a field of a method or of a table: its length, then its content.
    ///
    /// # Errors
    /// Those of [`Table::encode`].
    pub fn encode_with_length(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        put_sized(out, |out| put_table(self, MAX_DEPTH, out)).inspect_err(|_| out.truncate(start))
    }
}

impl Value {
    /// The type's name in RabbitMQ's error texts.
    pub fn type_name(&self) -> &'static str {
        self.shallow().type_name()
    }

    /// The value of any of the seven integer types. A timestamp is not an integer.
    pub fn as_integer(&self) -> Option<i64> {
        self.shallow().as_integer()
    }

    /// The value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The text of a long string that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::LongString(octets) => std::str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&Table> {
        match self {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The values of an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The same value borrowed, except that tables and arrays seem empty: enough for everything but what they hold.
    fn shallow(&self) -> ValueRef<'_> {
        match self {
            Value::Boolean(value) => ValueRef::Boolean(*value),
            Value::I8(value) => ValueRef::I8(*value),
            Value::U8(value) => ValueRef::U8(*value),
            Value::I16(value) => ValueRef::I16(*value),
            Value::U16(value) => ValueRef::U16(*value),
            Value::I32(value) => ValueRef::I32(*value),
            Value::U32(value) => ValueRef::U32(*value),
            Value::I64(value) => ValueRef::I64(*value),
            Value::F32(value) => ValueRef::F32(*value),
            Value::F64(value) => ValueRef::F64(*value),
            Value::Decimal { scale, value } => ValueRef::Decimal { scale: *scale, value: *value },
            Value::LongString(octets) => ValueRef::LongString(octets),
            Value::Array(_) => ValueRef::Array(super::ArrayRef::default()),
            Value::Timestamp(seconds) => ValueRef::Timestamp(*seconds),
            Value::Table(_) => ValueRef::Table(TableRef::default()),
            Value::Void => ValueRef::Void,
            Value::Binary(octets) => ValueRef::Binary(octets),
        }
    }

    /// Refuses a value that takes more than `levels` levels. The recursion ends with the levels.
    fn check_depth(&self, levels: usize) -> Result<(), EncodeError> {
        match self {
            Value::Array(values) => {
                let levels = levels.checked_sub(1).ok_or(EncodeError::TooDeep)?;
                values.iter().try_for_each(|value| value.check_depth(levels))
            }
            Value::Table(table) => {
                let levels = levels.checked_sub(1).ok_or(EncodeError::TooDeep)?;
                table.entries.iter().try_for_each(|(_, value)| value.check_depth(levels))
            }
            _ => Ok(()),
        }
    }
}

/// Writes the content of a table that may take `levels` levels.
fn put_table(table: &Table, levels: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
    let levels = levels.checked_sub(1).ok_or(EncodeError::TooDeep)?;
    table.entries.iter().try_for_each(|(name, value)| {
        put_short_string(name, out)?;
        put_value(value, levels, out)
    })
}

/// Writes one value, letter first; tables and arrays in it may take `levels` levels.
fn put_value(value: &Value, levels: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u8(letter(value));
    match value {
        Value::Boolean(value) => out.put_u8(u8::from(*value)),
        Value::I8(value) => out.put_i8(*value),
        Value::U8(value) => out.put_u8(*value),
        Value::I16(value) => out.put_i16(*value),
        Value::U16(value) => out.put_u16(*value),
        Value::I32(value) => out.put_i32(*value),
        Value::U32(value) => out.put_u32(*value),
        Value::I64(value) => out.put_i64(*value),
        Value::F32(value) => out.put_f32(*value),
        Value::F64(value) => out.put_f64(*value),
        Value::Timestamp(seconds) => out.put_u64(*seconds),
        Value::Decimal { scale, value } => {
            out.put_u8(*scale);
            out.put_u32(*value);
        }
        Value::LongString(octets) | Value::Binary(octets) => put_long_string(octets, out)?,
        Value::Table(table) => put_sized(out, |out| put_table(table, levels, out))?,
        Value::Array(values) => {
            let levels = levels.checked_sub(1).ok_or(EncodeError::TooDeep)?;
            put_sized(out, |out| values.iter().try_for_each(|value| put_value(value, levels, out)))?;
        }
        Value::Void => {}
    }
    Ok(())
}

/// The octet that announces the value's type.
fn letter(value: &Value) -> u8 {
    match value {
        Value::Boolean(_) => b't',
        Value::I8(_) => b'b',
        Value::U8(_) => b'B',
        Value::I16(_) => b's',
        Value::U16(_) => b'u',
        Value::I32(_) => b'I',
        Value::U32(_) => b'i',
        Value::I64(_) => b'l',
        Value::F32(_) => b'f',
        Value::F64(_) => b'd',
        Value::Decimal { .. } => b'D',
        Value::LongString(_) => b'S',
        Value::Array(_) => b'A',
        Value::Timestamp(_) => b'T',
        Value::Table(_) => b'F',
        Value::Void => b'V',
        Value::Binary(_) => b'x',
    }
}

/// A table or array that is being copied: what is left of the source and what has been copied so far.
struct Copying<'a> {
    source: Level<'a>,
    /// Where the finished copy goes in the level above.
    name: &'a str,
    copied: Copied,
}

enum Copied {
    Table(Table),
    Array(Vec<Value>),
}

impl Copied {
    fn push(&mut self, name: &str, value: Value) {
        match self {
            Copied::Table(table) => table.entries.push((name.into(), value)),
            Copied::Array(values) => values.push(value),
        }
    }

    fn finish(self) -> Value {
        match self {
            Copied::Table(table) => Value::Table(table),
            Copied::Array(values) => Value::Array(values),
        }
    }
}

/// Copies a checked table, level by level, without recursion.
pub(super) fn copy_table(source: TableRef<'_>) -> Table {
    match copy_value(ValueRef::Table(source)) {
        Value::Table(table) => table,
        _ => Table::default(),
    }
}

/// Copies a checked value, level by level, without recursion.
pub(super) fn copy_value(source: ValueRef<'_>) -> Value {
    let mut current = match open("", source) {
        Ok(level) => level,
        Err(value) => return value,
    };
    let mut unfinished = Vec::new();
    loop {
        // The source was checked, so an entry that cannot be read does not occur; the loop ends there all the same.
        let next = entry(current.source.kind, current.source.rest);
        match next {
            Ok((rest, (name, value))) => {
                current.source.rest = rest;
                match open(name, value) {
                    Ok(inner) => unfinished.push(std::mem::replace(&mut current, inner)),
                    Err(value) => current.copied.push(name, value),
                }
            }
            Err(_) => match unfinished.pop() {
                Some(outer) => {
                    let inner = std::mem::replace(&mut current, outer);
                    current.copied.push(inner.name, inner.copied.finish());
                }
                None => return current.copied.finish(),
            },
        }
    }
}

/// Starts copying a table or array, or copies any other value at once.
fn open<'a>(name: &'a str, value: ValueRef<'a>) -> Result<Copying<'a>, Value> {
    let copied = match value {
        ValueRef::Table(_) => Copied::Table(Table::default()),
        ValueRef::Array(_) => Copied::Array(Vec::new()),
        ValueRef::Boolean(value) => return Err(Value::Boolean(value)),
        ValueRef::I8(value) => return Err(Value::I8(value)),
        ValueRef::U8(value) => return Err(Value::U8(value)),
        ValueRef::I16(value) => return Err(Value::I16(value)),
        ValueRef::U16(value) => return Err(Value::U16(value)),
        ValueRef::I32(value) => return Err(Value::I32(value)),
        ValueRef::U32(value) => return Err(Value::U32(value)),
        ValueRef::I64(value) => return Err(Value::I64(value)),
        ValueRef::F32(value) => return Err(Value::F32(value)),
        ValueRef::F64(value) => return Err(Value::F64(value)),
        ValueRef::Decimal { scale, value } => return Err(Value::Decimal { scale, value }),
        ValueRef::LongString(octets) => return Err(Value::LongString(octets.to_vec())),
        ValueRef::Timestamp(seconds) => return Err(Value::Timestamp(seconds)),
        ValueRef::Void => return Err(Value::Void),
        ValueRef::Binary(octets) => return Err(Value::Binary(octets.to_vec())),
    };
    let source = value.enclosed().unwrap_or(Level { kind: super::Kind::Table, rest: &[] });
    Ok(Copying { source, name, copied })
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Value::$variant(value.into())
            }
        }
    )*};
}

value_from! {
    bool => Boolean, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64,
    f32 => F32, f64 => F64, &str => LongString, String => LongString, Table => Table, Vec<Value> => Array,
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        Value::Array(values.into_iter().collect())
    }
}
