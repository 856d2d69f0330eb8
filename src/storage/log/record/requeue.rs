//! Messages of a queue that are back, and may have been delivered.

use super::field::{Reader, put_number, put_ranges, put_vhost};
use super::{RETURN, Record, RecordError, SeqRange, VERSION};
use crate::model::QueueId;
use crate::storage::log::VhostId;

pub(super) fn put(vhost: VhostId, queue: QueueId, delivery_count: u16, seqs: &[SeqRange], out: &mut Vec<u8>) {
    out.extend_from_slice(&[RETURN, VERSION]);
    put_vhost(vhost, out);
    put_number(queue.0, out);
    put_number(u64::from(delivery_count), out);
    put_ranges(seqs, out);
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    seqs: &mut Vec<SeqRange>,
    visitor: &mut dyn FnMut(Record<'_>),
) -> Result<(), RecordError> {
    let (vhost, queue) = (reader.vhost()?, reader.queue()?);
    let delivery_count = u16::try_from(reader.number()?).map_err(|_| RecordError::NumberTooLarge)?;
    reader.ranges(seqs)?;
    visitor(Record::Return { vhost, queue, delivery_count, seqs });
    Ok(())
}
