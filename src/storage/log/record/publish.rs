//! A message and the places it has in queues.

use bytes::Bytes;

use super::field::{Reader, put_bytes, put_length, put_number, put_short, put_vhost};
use super::{PUBLISH, Record, RecordError, VERSION};
use crate::model::{Message, MessageParts, QueueId, Seq};
use crate::storage::log::VhostId;

const PERSISTENT: u8 = 1;

pub(super) fn put(vhost: VhostId, queues: &[(QueueId, Seq)], message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(&[PUBLISH, VERSION, if message.persistent() { PERSISTENT } else { 0 }]);
    put_vhost(vhost, out);
    put_length(queues.len(), out);
    for (queue, seq) in queues {
        put_number(queue.0, out);
        put_number(seq.0, out);
    }
    put_short(message.exchange(), out);
    put_short(message.routing_key(), out);
    put_bytes(message.properties(), out);
    put_bytes(message.body(), out);
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
    // A copy: a slice would keep the whole segment in memory for the sake of one message.
    let body = Bytes::copy_from_slice(reader.bytes()?);
    let message = Message::new(MessageParts { exchange, routing_key, properties, persistent }, body);
    visitor(Record::Publish { vhost, queues, message: &message });
    Ok(())
}
