//! An exchange, stored.
//!
//! Key: name. Value: version 1, kind, flags (durable, auto-delete, internal), origin, arguments.

use super::field::{Reader, put_flags, put_short, put_table};
use super::{RecordError, origin, origin_tag, version};
use crate::model::{ExchangeDefinition, ExchangeKind, ExchangeName};

const VERSION: u8 = 1;

pub(super) fn put_key(exchange: &ExchangeDefinition, out: &mut Vec<u8>) {
    put_short(exchange.name.as_str(), out);
}

pub(super) fn put_value(exchange: &ExchangeDefinition, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(kind_tag(exchange.kind));
    put_flags([exchange.durable, exchange.auto_delete, exchange.internal], out);
    out.push(origin_tag(exchange.origin));
    put_table(&exchange.arguments, out);
}

pub(super) fn read(key: &mut Reader<'_>, value: &mut Reader<'_>) -> Result<ExchangeDefinition, RecordError> {
    let name = ExchangeName::from(key.short()?);
    version(value, VERSION)?;
    let kind = kind(value.byte()?)?;
    let [durable, auto_delete, internal] = value.flags()?;
    let origin = origin(value.byte()?)?;
    let arguments = value.table()?;
    Ok(ExchangeDefinition { name, kind, durable, auto_delete, internal, arguments, origin })
}

fn kind_tag(kind: ExchangeKind) -> u8 {
    match kind {
        ExchangeKind::Direct => 1,
        ExchangeKind::Fanout => 2,
        ExchangeKind::Topic => 3,
        ExchangeKind::Headers => 4,
        ExchangeKind::ConsistentHash => 5,
        ExchangeKind::Random => 6,
        ExchangeKind::ModulusHash => 7,
        ExchangeKind::RecentHistory => 8,
        ExchangeKind::Delayed => 9,
    }
}

fn kind(tag: u8) -> Result<ExchangeKind, RecordError> {
    match tag {
        1 => Ok(ExchangeKind::Direct),
        2 => Ok(ExchangeKind::Fanout),
        3 => Ok(ExchangeKind::Topic),
        4 => Ok(ExchangeKind::Headers),
        5 => Ok(ExchangeKind::ConsistentHash),
        6 => Ok(ExchangeKind::Random),
        7 => Ok(ExchangeKind::ModulusHash),
        8 => Ok(ExchangeKind::RecentHistory),
        9 => Ok(ExchangeKind::Delayed),
        tag => Err(RecordError::UnknownTag { what: "exchange type", tag }),
    }
}
