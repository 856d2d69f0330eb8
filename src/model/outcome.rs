//! How a delivery may end: what a session says, a vhost passes on and a queue performs.

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done with: the message is gone.
    Ack,
    /// Back to its place in the queue, marked as redelivered: the client has failed with it (`basic.reject`, or the end
    /// of its channel).
    Requeue,
    /// The same, and it does not count as a failure (`basic.nack`, `basic.recover`).
    Return,
    /// Refused for good: the message is gone (dead-lettering comes here).
    Discard,
    /// It never left the broker: back to its place, unmarked.
    Undelivered,
}
