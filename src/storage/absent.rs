//! What stands in for the metadata store when there is no space to open it.
//!
//! Invariant: nothing is kept, and nothing was promised to be: the next start finds the store as it was, and asks the
//! log for everything since.

use super::record::RecordChange;
use super::store::{MetadataStore, StoreError};
use crate::model::LogPosition;

/// Keeps nothing.
pub(super) struct Absent;

impl MetadataStore for Absent {
    fn apply(&mut self, _position: LogPosition, _changes: &[RecordChange]) -> Result<(), StoreError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
