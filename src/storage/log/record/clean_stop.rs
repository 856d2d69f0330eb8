//! The last record of a log that was closed in order. It has no fields.

use super::{CLEAN_STOP, VERSION};

pub(super) fn put(out: &mut Vec<u8>) {
    out.extend_from_slice(&[CLEAN_STOP, VERSION]);
}
