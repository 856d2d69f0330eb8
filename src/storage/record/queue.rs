//! A queue, stored.
//!
//! Key: name. Value: version 1, flags (durable, exclusive, auto-delete), origin, arguments.

use super::field::{Reader, put_flags, put_short, put_table};
use super::{RecordError, origin, origin_tag, version};
use crate::model::{QueueDefinition, QueueName};

const VERSION: u8 = 1;

pub(super) fn put_key(queue: &QueueDefinition, out: &mut Vec<u8>) {
    put_short(queue.name.as_str(), out);
}

pub(super) fn put_value(queue: &QueueDefinition, out: &mut Vec<u8>) {
    out.push(VERSION);
    put_flags([queue.durable, queue.exclusive, queue.auto_delete], out);
    out.push(origin_tag(queue.origin));
    put_table(&queue.arguments, out);
}

pub(super) fn read(key: &mut Reader<'_>, value: &mut Reader<'_>) -> Result<QueueDefinition, RecordError> {
    let name = QueueName::from(key.short()?);
    version(value, VERSION)?;
    let [durable, exclusive, auto_delete] = value.flags()?;
    let origin = origin(value.byte()?)?;
    let arguments = value.table()?;
    Ok(QueueDefinition { name, durable, exclusive, auto_delete, arguments, origin })
}
