//! Everything that a queue keeps, in places that ascend.
//!
//! A place is written as its distance from the one before: of its number, of its segment, of its location in units of
//! eight bytes; then its bytes with four bits, which say whether it is marked and whether its delivery count, its
//! priority and its deadline follow; those, and the octets of its body.

use super::field::{Reader, put_length, put_number, put_vhost};
use super::{QUEUE_STATE, Record, RecordError, StoredPlace, VERSION};
use crate::model::{QueueId, Seq};
use crate::storage::log::{Location, SegmentNumber, VhostId};

const MARKED: u64 = 1;
const COUNTED: u64 = 2;
const PRIORITISED: u64 = 4;
const EXPIRES: u64 = 8;
const FLAG_BITS: u32 = 4;

/// Locations are multiples of this.
const UNIT_BYTES: u64 = 8;

pub(super) fn put(vhost: VhostId, queue: QueueId, next: Seq, places: &[StoredPlace], out: &mut Vec<u8>) {
    out.extend_from_slice(&[QUEUE_STATE, VERSION]);
    put_vhost(vhost, out);
    put_number(queue.0, out);
    put_number(next.0, out);
    put_length(places.len(), out);
    let (mut seq, mut segment, mut unit) = (0, 0, 0);
    for place in places {
        let its_unit = place.location.offset / UNIT_BYTES;
        put_number(place.seq.0.wrapping_sub(seq), out);
        put_number(zigzag(place.location.segment.0.wrapping_sub(segment)), out);
        put_number(zigzag(its_unit.wrapping_sub(unit)), out);
        let further = [
            (COUNTED, u64::from(place.delivery_count)),
            (PRIORITISED, u64::from(place.priority)),
            (EXPIRES, place.deadline.wrapping_add(1)),
        ];
        let flags = further.iter().filter(|(_, number)| *number > 0).map(|(flag, _)| flag).sum::<u64>();
        let flags = flags + u64::from(place.redelivered) * MARKED;
        put_number(u64::from(place.bytes) << FLAG_BITS | flags, out);
        further.iter().filter(|(_, number)| *number > 0).for_each(|(_, number)| put_number(*number, out));
        put_number(u64::from(place.body_bytes), out);
        (seq, segment, unit) = (place.seq.0, place.location.segment.0, its_unit);
    }
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    places: &mut Vec<StoredPlace>,
    visitor: &mut dyn FnMut(Record<'_>),
) -> Result<(), RecordError> {
    let (vhost, queue, next) = (reader.vhost()?, reader.queue()?, reader.seq()?);
    places.clear();
    let (mut seq, mut segment, mut unit) = (0_u64, 0_u64, 0_u64);
    for _ in 0..reader.number()? {
        seq = seq.wrapping_add(reader.number()?);
        segment = segment.wrapping_add(unzigzag(reader.number()?));
        unit = unit.wrapping_add(unzigzag(reader.number()?));
        let bytes = reader.number()?;
        let mut further = |flag| if bytes & flag == 0 { Ok(0) } else { reader.number() };
        let [delivery_count, priority, deadline] =
            [further(COUNTED)?, further(PRIORITISED)?, further(EXPIRES)?.wrapping_sub(1)];
        let offset = unit.checked_mul(UNIT_BYTES).ok_or(RecordError::NumberTooLarge)?;
        places.push(StoredPlace {
            seq: Seq(seq),
            location: Location { segment: SegmentNumber(segment), offset },
            bytes: within(bytes >> FLAG_BITS)?,
            redelivered: bytes & MARKED != 0,
            delivery_count: within(delivery_count)?,
            priority: within(priority)?,
            body_bytes: within(reader.number()?)?,
            deadline,
        });
    }
    visitor(Record::QueueState { vhost, queue, next, places });
    Ok(())
}

/// The number in its field.
fn within<T: TryFrom<u64>>(number: u64) -> Result<T, RecordError> {
    T::try_from(number).map_err(|_| RecordError::NumberTooLarge)
}

/// Small distances in either direction as small numbers.
fn zigzag(distance: u64) -> u64 {
    distance << 1 ^ 0_u64.wrapping_sub(distance >> 63)
}

fn unzigzag(number: u64) -> u64 {
    number >> 1 ^ 0_u64.wrapping_sub(number & 1)
}
