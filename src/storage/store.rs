//! What the definition writer asks of a metadata store.
//!
//! Invariant: a batch is applied as a whole or not at all, and the position it carries is stored with it.

use std::io;

use thiserror::Error;

use super::record::RecordChange;
use crate::model::LogPosition;

/// A store of definitions. After an error it is not used any more.
pub trait MetadataStore: Send {
    /// Applies the changes in order, all or none, and stores the position of the last of them.
    ///
    /// # Errors
    /// If the store refuses.
    fn apply(&mut self, position: LogPosition, changes: &[RecordChange]) -> Result<(), StoreError>;

    /// Returns once everything applied would survive a power cut.
    ///
    /// # Errors
    /// If that is not so, or not known to be so. Trying again proves nothing.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// Called once, after the last flush, if nothing failed.
    ///
    /// # Errors
    /// If what the store keeps besides the durable definitions cannot be written.
    fn close(&mut self) -> Result<(), StoreError>;
}

/// Why a store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// sled refused.
    #[error("the metadata store failed: {0}")]
    Sled(#[from] sled::Error),
    /// The disk refused.
    #[error("cannot sync the metadata store: {0}")]
    Sync(io::Error),
    /// What was read is not what was written.
    #[error("the metadata store is damaged: {0}")]
    Damaged(String),
    /// A bug, ours or sled's.
    #[error("the metadata store panicked: {0}")]
    Panicked(String),
}

/// Runs what may panic inside the store and makes the panic an error.
pub(super) fn guarded<T>(step: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // After an error nothing of the store is used again, so that a half-done step is never observed.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(StoreError::Panicked(text.to_owned()))
    })
}
