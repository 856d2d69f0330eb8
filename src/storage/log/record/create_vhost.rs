//! A vhost's id and its name.

use super::field::{Reader, put_short, put_vhost};
use super::{CREATE_VHOST, Record, RecordError, VERSION};
use crate::model::VhostName;
use crate::storage::log::VhostId;

pub(super) fn put(vhost: VhostId, name: &VhostName, out: &mut Vec<u8>) {
    out.extend_from_slice(&[CREATE_VHOST, VERSION]);
    put_vhost(vhost, out);
    put_short(name.as_str(), out);
}

pub(super) fn read(reader: &mut Reader<'_>, visitor: &mut dyn FnMut(Record<'_>)) -> Result<(), RecordError> {
    let vhost = reader.vhost()?;
    let name = VhostName::from(reader.short()?);
    visitor(Record::CreateVhost { vhost, name: &name });
    Ok(())
}
