//! Listeners and sockets: moves bytes between a socket and its connection, and knows nothing of what they mean.
//!
//! In: sockets. Out: calls into [`crate::runtime::Connection`] and one line of the log per connection that ends badly.

mod listener;
mod socket;

pub use listener::{Door, Listener, NetOptions};
