//! The id of the queue in which messages of a delayed message exchange wait, and the exchange's name.

use super::field::{Reader, put_number, put_short, put_vhost};
use super::{CREATE_DELAY, Record, RecordError, VERSION};
use crate::model::{ExchangeName, QueueId};
use crate::storage::log::VhostId;

pub(super) fn put(vhost: VhostId, queue: QueueId, exchange: &ExchangeName, out: &mut Vec<u8>) {
    out.extend_from_slice(&[CREATE_DELAY, VERSION]);
    put_vhost(vhost, out);
    put_number(queue.0, out);
    put_short(exchange.as_str(), out);
}

pub(super) fn read(reader: &mut Reader<'_>, visitor: &mut dyn FnMut(Record<'_>)) -> Result<(), RecordError> {
    let (vhost, queue) = (reader.vhost()?, reader.queue()?);
    let exchange = ExchangeName::from(reader.short()?);
    visitor(Record::CreateDelay { vhost, queue, exchange: &exchange });
    Ok(())
}
