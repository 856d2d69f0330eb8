//! A binding, stored.
//!
//! Key: source, kind and name of the destination, routing key, arguments. Value: version 1, origin, arguments.
//! Arguments are part of a binding's identity. Up to 1 KiB they stand in the key as they are; of longer ones the
//! key holds two independent sums, so that keys stay far below the size of the store's pages.

use super::field::{Reader, put_short, put_table, table_bytes};
use super::{RecordError, origin, origin_tag, version};
use crate::model::{BindingDefinition, Destination, ExchangeName, QueueName, RoutingKey};
use crate::storage::checksum::{Checksum, checksum};

const VERSION: u8 = 1;

const QUEUE: u8 = 1;
const EXCHANGE: u8 = 2;

const ARGUMENTS_IN_KEY: u8 = 1;
const ARGUMENTS_AS_SUMS: u8 = 2;

/// Longest encoded arguments that stand in a key.
const MAX_ARGUMENTS_IN_KEY: usize = 1024;

pub(super) fn put_key(binding: &BindingDefinition, out: &mut Vec<u8>) {
    put_short(binding.source.as_str(), out);
    match &binding.destination {
        Destination::Queue(name) => {
            out.push(QUEUE);
            put_short(name.as_str(), out);
        }
        Destination::Exchange(name) => {
            out.push(EXCHANGE);
            put_short(name.as_str(), out);
        }
    }
    put_short(binding.routing_key.as_str(), out);
    let arguments = table_bytes(&binding.arguments);
    if arguments.len() <= MAX_ARGUMENTS_IN_KEY {
        out.push(ARGUMENTS_IN_KEY);
        out.extend_from_slice(&arguments);
    } else {
        out.push(ARGUMENTS_AS_SUMS);
        out.extend_from_slice(&checksum(&arguments).to_be_bytes());
        out.extend_from_slice(&Checksum::new().part(b"again").part(&arguments).finish().to_be_bytes());
    }
}

pub(super) fn put_value(binding: &BindingDefinition, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(origin_tag(binding.origin));
    put_table(&binding.arguments, out);
}

/// What the key says about arguments is not read: the caller compares keys.
pub(super) fn read(key: &mut Reader<'_>, value: &mut Reader<'_>) -> Result<BindingDefinition, RecordError> {
    let source = ExchangeName::from(key.short()?);
    let destination = match key.byte()? {
        QUEUE => Destination::Queue(QueueName::from(key.short()?)),
        EXCHANGE => Destination::Exchange(ExchangeName::from(key.short()?)),
        tag => return Err(RecordError::UnknownTag { what: "destination", tag }),
    };
    let routing_key = RoutingKey::from(key.short()?);
    version(value, VERSION)?;
    let origin = origin(value.byte()?)?;
    let arguments = value.table()?;
    Ok(BindingDefinition { source, destination, routing_key, arguments, origin })
}
