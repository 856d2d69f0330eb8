//! A message and the places it has in queues.

use super::field::{Reader, put_bytes, put_length, put_number, put_short, put_vhost};
use super::{PUBLISH, Record, RecordError, StoredMessage, VERSION};
use crate::model::{MessageParts, QueueId, Seq};
use crate::storage::log::VhostId;

const PERSISTENT: u8 = 1;

pub(super) fn put(vhost: VhostId, queues: &[(QueueId, Seq)], message: &StoredMessage<'_>, out: &mut Vec<u8>) {
    let StoredMessage { parts, body } = message;
    out.extend_from_slice(&[PUBLISH, VERSION, if parts.persistent { PERSISTENT } else { 0 }]);
    put_vhost(vhost, out);
    put_length(queues.len(), out);
    for (queue, seq) in queues {
        put_number(queue.0, out);
        put_number(seq.0, out);
    }
    put_short(parts.exchange, out);
    put_short(parts.routing_key, out);
    put_bytes(parts.properties, out);
    put_bytes(body, out);
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    queues: &mut Vec<(QueueId, Seq)>,
    visitor: &mut dyn FnMut(Record<'_>),
) -> Result<(), RecordError> {
    let persistent = reader.byte()? & PERSISTENT != 0;
    let vhost = reader.vhost()?;
    queues.clear();
    for _ in 0..reader.number()? {
        queues.push((reader.queue()?, reader.seq()?));
    }
    let (exchange, routing_key) = (reader.short()?, reader.short()?);
    let properties = reader.bytes()?;
    let body = reader.bytes()?;
    let message =
        StoredMessage { parts: MessageParts { exchange, routing_key, properties, persistent }, body };
    visitor(Record::Publish { vhost, queues, message });
    Ok(())
}
