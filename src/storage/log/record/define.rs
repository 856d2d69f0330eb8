//! A definition as it is stored: its identity, and what it is from here on.

use super::field::{Reader, put_bytes};
use super::{DEFINE, Record, RecordError, VERSION};

const GONE: u8 = 0;
const THERE: u8 = 1;

pub(super) fn put(key: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[DEFINE, VERSION, if value.is_some() { THERE } else { GONE }]);
    put_bytes(key, out);
    if let Some(value) = value {
        put_bytes(value, out);
    }
}

pub(super) fn read(reader: &mut Reader<'_>, visitor: &mut dyn FnMut(Record<'_>)) -> Result<(), RecordError> {
    let there = match reader.byte()? {
        GONE => false,
        THERE => true,
        _ => return Err(RecordError::NumberTooLarge),
    };
    let key = reader.bytes()?;
    let value = if there { Some(reader.bytes()?) } else { None };
    visitor(Record::Define { key, value });
    Ok(())
}
