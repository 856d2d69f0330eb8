//! A message and the places it has in queues.

use super::field::{Reader, put_bytes, put_length, put_number, put_short, put_vhost};
use super::{PUBLISH, Record, RecordError, StoredMessage, VERSION};
use crate::model::{MessageParts, QueueId, Seq};
use crate::storage::log::VhostId;

const PERSISTENT: u8 = 1;
/// Behind each place stands its deadline, counted from one; 0 is none.
const EXPIRES: u8 = 2;
/// It survives a restart though it is not persistent.
const KEPT: u8 = 4;

pub(super) fn put(
    vhost: VhostId,
    queues: &[(QueueId, Seq)],
    deadlines: &[u64],
    message: &StoredMessage<'_>,
    out: &mut Vec<u8>,
) {
    let StoredMessage { parts, body, survives } = message;
    let kept = u8::from(*survives && !parts.persistent) * KEPT;
    let flags = u8::from(parts.persistent) * PERSISTENT + u8::from(!deadlines.is_empty()) * EXPIRES + kept;
    out.extend_from_slice(&[PUBLISH, VERSION, flags]);
    put_vhost(vhost, out);
    put_length(queues.len(), out);
    for (index, (queue, seq)) in queues.iter().enumerate() {
        put_number(queue.0, out);
        put_number(seq.0, out);
        if let Some(deadline) = deadlines.get(index) {
            put_number(deadline.wrapping_add(1), out);
        }
    }
    put_short(parts.exchange, out);
    put_short(parts.routing_key, out);
    put_bytes(parts.properties, out);
    put_bytes(body, out);
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    queues: &mut Vec<(QueueId, Seq)>,
    deadlines: &mut Vec<u64>,
    visitor: &mut dyn FnMut(Record<'_>),
) -> Result<(), RecordError> {
    let flags = reader.byte()?;
    if flags > PERSISTENT + EXPIRES + KEPT {
        return Err(RecordError::Unknown { kind: PUBLISH, version: VERSION });
    }
    let vhost = reader.vhost()?;
    queues.clear();
    deadlines.clear();
    for _ in 0..reader.number()? {
        queues.push((reader.queue()?, reader.seq()?));
        if flags & EXPIRES != 0 {
            deadlines.push(reader.number()?.wrapping_sub(1));
        }
    }
    let (exchange, routing_key) = (reader.short()?, reader.short()?);
    let properties = reader.bytes()?;
    let body = reader.bytes()?;
    let persistent = flags & PERSISTENT != 0;
    let survives = persistent || flags & KEPT != 0;
    let parts = MessageParts { exchange, routing_key, properties, persistent };
    let message = StoredMessage { parts, body, survives };
    visitor(Record::Publish { vhost, queues, deadlines, message });
    Ok(())
}
