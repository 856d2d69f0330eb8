//! Definitions as stored bytes: twins of the model's types, written by hand.
//!
//! A record is a key and a value. The key is the kind, the vhost and what identifies the object, so that replacing
//! and deleting need no look-up; the value is a version and everything else. Invariant: kinds, versions and tags
//! are stored and never renumbered, and no key is the beginning of another one.

mod binding;
mod exchange;
mod field;
mod policy;
mod queue;

use ferrymq_protocol::DecodeError;
use thiserror::Error;

use self::field::{Reader, put_short};
use crate::model::{Definition, DefinitionChange, Origin, VhostName};

/// First byte of a key: exchanges, queues, bindings and policies, which is also the order of reading.
const EXCHANGE: u8 = 1;
const QUEUE: u8 = 2;
const BINDING: u8 = 3;
const POLICY: u8 = 4;

/// A change of one record, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// The record's identity.
    pub(super) key: Vec<u8>,
    /// What it is from here on; `None` if it is gone.
    pub(super) value: Option<Vec<u8>>,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// They end too early.
    #[error("a stored definition ends too early")]
    Truncated,
    /// They go on after the last field.
    #[error("a stored definition has bytes after its end")]
    TrailingBytes,
    /// A name is not text.
    #[error("a stored name is not UTF-8")]
    NotUtf8,
    /// A later release wrote it.
    #[error("stored version {0} of a definition is not known")]
    UnknownVersion(u8),
    /// A byte that chooses among alternatives chooses none.
    #[error("stored {what} {tag} is not known")]
    UnknownTag {
        /// Which alternatives.
        what: &'static str,
        /// The byte.
        tag: u8,
    },
    /// The arguments are no field table.
    #[error("stored arguments: {0}")]
    Arguments(DecodeError),
    /// Key and value are of different records.
    #[error("a stored definition lies under another one's key")]
    KeyMismatch,
}

impl RecordChange {
    /// Encodes a change. A [`DefinitionChange::Delete`] deletes what was put with the same identity: name, or
    /// source, destination, key and arguments in the same order.
    #[must_use]
    pub fn new(vhost: &VhostName, change: &DefinitionChange) -> Self {
        match change {
            DefinitionChange::Put(definition) => {
                Self { key: key(vhost, definition), value: Some(value(definition)) }
            }
            DefinitionChange::Delete(definition) => Self { key: key(vhost, definition), value: None },
        }
    }

    /// Bytes it takes while it waits for the disk.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

fn key(vhost: &VhostName, definition: &Definition) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    match definition {
        Definition::Exchange(exchange) => {
            key.push(EXCHANGE);
            put_short(vhost.as_str(), &mut key);
            exchange::put_key(exchange, &mut key);
        }
        Definition::Queue(queue) => {
            key.push(QUEUE);
            put_short(vhost.as_str(), &mut key);
            queue::put_key(queue, &mut key);
        }
        Definition::Binding(binding) => {
            key.push(BINDING);
            put_short(vhost.as_str(), &mut key);
            binding::put_key(binding, &mut key);
        }
        Definition::Policy(policy) => {
            key.push(POLICY);
            put_short(vhost.as_str(), &mut key);
            policy::put_key(policy, &mut key);
        }
    }
    key
}

fn value(definition: &Definition) -> Vec<u8> {
    let mut value = Vec::with_capacity(32);
    match definition {
        Definition::Exchange(exchange) => exchange::put_value(exchange, &mut value),
        Definition::Queue(queue) => queue::put_value(queue, &mut value),
        Definition::Binding(binding) => binding::put_value(binding, &mut value),
        Definition::Policy(policy) => policy::put_value(policy, &mut value),
    }
    value
}

/// Decodes one record.
pub(super) fn decode(key_bytes: &[u8], value: &[u8]) -> Result<(VhostName, Definition), RecordError> {
    let mut of_key = Reader::new(key_bytes);
    let mut of_value = Reader::new(value);
    let kind = of_key.byte()?;
    let vhost = VhostName::from(of_key.short()?);
    let definition = match kind {
        EXCHANGE => Definition::Exchange(exchange::read(&mut of_key, &mut of_value)?),
        QUEUE => Definition::Queue(queue::read(&mut of_key, &mut of_value)?),
        BINDING => Definition::Binding(binding::read(&mut of_key, &mut of_value)?),
        POLICY => Definition::Policy(policy::read(&mut of_key, &mut of_value)?),
        tag => return Err(RecordError::UnknownTag { what: "kind of definition", tag }),
    };
    of_value.finish()?;
    // This also finds whatever is left of the key, and arguments that are not those the key was made of.
    if key(&vhost, &definition) != key_bytes {
        return Err(RecordError::KeyMismatch);
    }
    Ok((vhost, definition))
}

fn origin_tag(origin: Origin) -> u8 {
    match origin {
        Origin::System => 1,
        Origin::Client => 2,
        Origin::Config => 3,
    }
}

fn origin(tag: u8) -> Result<Origin, RecordError> {
    match tag {
        1 => Ok(Origin::System),
        2 => Ok(Origin::Client),
        3 => Ok(Origin::Config),
        tag => Err(RecordError::UnknownTag { what: "origin", tag }),
    }
}

/// Checks the version that a value begins with.
fn version(reader: &mut Reader<'_>, known: u8) -> Result<(), RecordError> {
    let found = reader.byte()?;
    if found == known { Ok(()) } else { Err(RecordError::UnknownVersion(found)) }
}

#[cfg(test)]
pub(super) mod tests;
