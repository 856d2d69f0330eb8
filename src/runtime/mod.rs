//! Runs vhosts and sessions: feeds commands, performs effects, wakes who must look, holds the alarms.
//!
//! In: bytes and time from `net`. Out: bytes for the socket, and the next deadline.
//! It is the only room that holds locks; none of them is held across an await.

mod broker;
mod clock;
mod connection;
mod disk;
mod durability;
mod journal;
mod ledger;
mod mailbox;
mod memory;
mod policies;
mod reading;
mod reclaim;
mod recovery;
mod summary;
mod vhost_handle;

pub use broker::{Broker, BrokerOptions, Found};
pub use clock::Clock;
pub use connection::{Connection, Next};
pub use disk::DiskOptions;
pub use durability::Durability;
pub use mailbox::Mailbox;
pub use memory::{AlarmChange, Memory};
pub use policies::EffectivePolicy;
pub use recovery::{Replay, Replayed};
pub use vhost_handle::VhostHandle;

#[cfg(test)]
mod tests;
