//! The end of all messages of a queue below a place.

use super::field::{Reader, put_number, put_vhost};
use super::{PURGE, Record, RecordError, VERSION};
use crate::model::{QueueId, Seq, VhostId};

pub(super) fn put(vhost: VhostId, queue: QueueId, below: Seq, out: &mut Vec<u8>) {
    out.extend_from_slice(&[PURGE, VERSION]);
    put_vhost(vhost, out);
    put_number(queue.0, out);
    put_number(below.0, out);
}

pub(super) fn read(reader: &mut Reader<'_>, visitor: &mut dyn FnMut(Record<'_>)) -> Result<(), RecordError> {
    let (vhost, queue, below) = (reader.vhost()?, reader.queue()?, reader.seq()?);
    visitor(Record::Purge { vhost, queue, below });
    Ok(())
}
