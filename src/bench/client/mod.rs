//! An AMQP client for loads: blocking sockets, large reads and writes, one channel.
//!
//! Invariant: nothing waits longer than [`POLL`] without looking whether the run is to end, and what the broker says
//! when it closes something reaches the person who runs the benchmark.

mod connection;
mod consumer;
mod input;
mod paced;
mod publisher;
mod template;

use std::time::Duration;

pub(super) use connection::{CHANNEL, Connection, Target};
pub use consumer::Acks;
pub(super) use consumer::{Consumer, Received, Subscription};
pub(super) use paced::{Confirms, Pace, publish_paced};
pub(super) use publisher::{Publisher, Window};
pub(super) use template::{Content, Template};

/// How long a read or write blocks before the run is asked whether it goes on.
const POLL: Duration = Duration::from_millis(100);
