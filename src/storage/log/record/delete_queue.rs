//! The end of a durable queue.

use super::field::{Reader, put_number, put_vhost};
use super::{DELETE_QUEUE, Record, RecordError, VERSION};
use crate::model::QueueId;
use crate::storage::log::VhostId;

pub(super) fn put(vhost: VhostId, queue: QueueId, out: &mut Vec<u8>) {
    out.extend_from_slice(&[DELETE_QUEUE, VERSION]);
    put_vhost(vhost, out);
    put_number(queue.0, out);
}

pub(super) fn read(reader: &mut Reader<'_>, visitor: &mut dyn FnMut(Record<'_>)) -> Result<(), RecordError> {
    let (vhost, queue) = (reader.vhost()?, reader.queue()?);
    visitor(Record::DeleteQueue { vhost, queue });
    Ok(())
}
