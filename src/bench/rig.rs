//! The queues and exchanges of a run: unique names, and gone when the run is over, however it ends.

use ferrymq_protocol::method::{Method, exchange, queue};

use super::client::{CHANNEL, Connection, Target};
use super::error::{BenchError, Result};

/// What becomes of a queue by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Transient; goes with its last consumer, or when the rig is taken down.
    Consumers,
    /// Transient; goes with the rig's connection. Nobody else may consume from it.
    Connection,
    /// Durable; goes when the rig is taken down.
    Durable,
}

/// Queues and exchanges, and the connection they were made through.
#[derive(Debug)]
pub(super) struct Rig {
    target: Target,
    /// `None` once it is closed.
    control: Option<Connection>,
    /// What all names begin with.
    stem: String,
    queues: Vec<String>,
    exchanges: Vec<String>,
}

impl Rig {
    pub(super) fn new(target: &Target) -> Result<Self> {
        let control = Some(Connection::open(target)?);
        Ok(Self {
            target: target.clone(),
            control,
            stem: unique()?,
            queues: Vec::new(),
            exchanges: Vec::new(),
        })
    }

    /// The connection that makes things.
    pub(super) fn control(&mut self) -> Result<&mut Connection> {
        self.control.as_mut().ok_or(BenchError::Stopped)
    }

    /// A name of this run alone.
    pub(super) fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.stem)
    }

    /// Declares a queue under the run's name with this suffix.
    pub(super) fn queue(&mut self, suffix: &str, lifetime: Lifetime) -> Result<String> {
        let name = self.name(suffix);
        let declare = queue::Declare {
            queue: &name,
            durable: lifetime == Lifetime::Durable,
            exclusive: lifetime == Lifetime::Connection,
            auto_delete: lifetime == Lifetime::Consumers,
            ..queue::Declare::default()
        };
        self.control()?.call(CHANNEL, declare)?;
        self.queues.push(name.clone());
        Ok(name)
    }

    /// Declares an exchange of this type.
    pub(super) fn exchange(&mut self, kind: &str, durable: bool) -> Result<String> {
        let name = self.name("x");
        let declare = exchange::Declare { exchange: &name, kind, durable, ..exchange::Declare::default() };
        self.control()?.call(CHANNEL, declare)?;
        self.exchanges.push(name.clone());
        Ok(name)
    }

    pub(super) fn bind(&mut self, exchange: &str, queue: &str, routing_key: &str) -> Result<()> {
        self.control()?.call(CHANNEL, queue::Bind { queue, exchange, routing_key, ..queue::Bind::default() })
    }

    /// How many messages wait in a queue.
    pub(super) fn waiting(&mut self, queue: &str) -> Result<u32> {
        let control = self.control()?;
        control.send(CHANNEL, queue::Declare { queue, passive: true, ..queue::Declare::default() })?;
        control.answer(CHANNEL, "queue.declare-ok", |method| match method {
            Method::QueueDeclareOk(declared) => Some(declared.message_count),
            _ => None,
        })
    }

    /// Removes everything.
    pub(super) fn take_down(mut self) -> Result<()> {
        self.remove()?;
        self.control.take().map_or(Ok(()), Connection::close)
    }

    /// Deletes from the last to the first.
    fn remove(&mut self) -> Result<()> {
        while let Some(name) = self.queues.pop() {
            self.control()?.call(CHANNEL, queue::Delete { queue: &name, ..queue::Delete::default() })?;
        }
        while let Some(name) = self.exchanges.pop() {
            let delete = exchange::Delete { exchange: &name, ..exchange::Delete::default() };
            self.control()?.call(CHANNEL, delete)?;
        }
        Ok(())
    }
}

/// After a failure the control connection may be the one that failed.
impl Drop for Rig {
    fn drop(&mut self) {
        if self.queues.is_empty() && self.exchanges.is_empty() {
            return;
        }
        if self.remove().is_err() {
            // What a failed call was about is deleted already, or cannot be.
            self.control = Connection::open(&self.target).ok();
            let _ = self.remove();
        }
    }
}

/// Short, since it is part of every message: ten characters.
fn unique() -> Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = [0_u8; 7];
    getrandom::fill(&mut random)
        .map_err(|error| BenchError::Unsuitable(format!("no random bytes for a name: {error}")))?;
    let letters = random.iter().map(|octet| char::from(LETTERS[usize::from(octet % 32)]));
    Ok(std::iter::once("fb-").map(str::to_owned).chain(letters.map(String::from)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_differ() {
        let names: std::collections::HashSet<_> = (0..1_000).map(|_| unique().unwrap()).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().all(|name| name.len() == 10 && name.starts_with("fb-")));
    }
}
