//! AMQP for one connection: handshake, channel phases, content assembly, delivery tags, confirms, transactions.
//!
//! In: bytes from the socket and the time; [`crate::vhost::Event`]s; answers to what was asked of the runtime.
//! Out: [`crate::vhost::Command`]s for the vhost, in order; bytes for the socket; [`Step`]s for the runtime.
//! Pure: it routes through the snapshot it is handed, and never waits.

mod channel;
mod confirms;
mod consume;
mod content;
mod counters;
mod declare;
mod deliver;
mod ending;
mod errors;
mod handshake;
mod heartbeat;
mod inspect;
mod link;
mod options;
mod output;
mod patience;
mod publish;
mod quorum;
mod replies;
mod report;
// The room's main type, in a file of its own like every other.
#[allow(clippy::module_inception)]
mod session;
mod tags;
mod tx;

pub use counters::ChannelCounters;
pub use handshake::{Client, Credentials, LoginRefusal, Mechanism, OpenRefusal};
pub use link::Context;
pub use options::{Peer, SessionOptions};
pub use output::Output;
pub use patience::Shortage;
pub use report::{Blame, CloseReport};
pub use session::{Session, Step};

#[cfg(test)]
mod tests;
