//! A durable queue's id and its name.

use super::field::{Reader, put_number, put_short, put_vhost};
use super::{CREATE_QUEUE, Record, RecordError, VERSION};
use crate::model::{QueueId, QueueName};
use crate::storage::log::VhostId;

pub(super) fn put(vhost: VhostId, queue: QueueId, name: &QueueName, out: &mut Vec<u8>) {
    out.extend_from_slice(&[CREATE_QUEUE, VERSION]);
    put_vhost(vhost, out);
    put_number(queue.0, out);
    put_short(name.as_str(), out);
}

pub(super) fn read(reader: &mut Reader<'_>, visitor: &mut dyn FnMut(Record<'_>)) -> Result<(), RecordError> {
    let (vhost, queue) = (reader.vhost()?, reader.queue()?);
    let name = QueueName::from(reader.short()?);
    visitor(Record::CreateQueue { vhost, queue, name: &name });
    Ok(())
}
