//! How a delivery may end: what a session says, a vhost passes on and a queue performs.

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done with: the message is gone.
    Ack,
    /// Back to its place, marked as redelivered: the client has failed with it.
    Requeue,
    /// The same, and not held against it.
    Return,
    /// Refused for good: the message is gone.
    Discard,
    /// It never left the broker: back to its place, unmarked.
    Undelivered,
}
