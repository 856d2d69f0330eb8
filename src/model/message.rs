//! A published message: immutable, shared by every queue that keeps it.
//!
//! Invariant: the bytes of all living messages, and what queues need to know of them, are counted, exactly and
//! without an atomic per message. Creating and dropping a message changes a counter of the thread;
//! [`settle_message_bytes`] takes what gathered there, once per burst.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// What a message costs beyond its own bytes: its heap cells. Measured with 16-byte bodies, rounded up generously.
const OVERHEAD_BYTES: usize = 160;

thread_local! {
    static UNSETTLED_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Takes the change in bytes of living messages and their queues that this thread has caused since the last call.
#[must_use]
pub fn settle_message_bytes() -> i64 {
    UNSETTLED_BYTES.take()
}

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageParts<'a> {
    /// The exchange it was published to, at most 255 bytes.
    pub exchange: &'a str,
    /// Its routing key, at most 255 bytes.
    pub routing_key: &'a str,
    /// Property flags and properties, as they stand in the content header frame.
    pub properties: &'a [u8],
    /// Delivery mode 2: to be kept across a restart by durable queues.
    pub persistent: bool,
}

/// A published message. Cloning shares it.
#[derive(Clone, PartialEq)]
pub struct Message(Arc<Inner>);

#[derive(PartialEq)]
struct Inner {
    /// Exchange, routing key and properties, one after the other.
    head: Box<[u8]>,
    body: Bytes,
    exchange_len: u8,
    routing_key_len: u8,
    persistent: bool,
}

impl Message {
    /// Accepts a message.
    ///
    /// # Panics
    /// If the exchange or the routing key is longer than 255 bytes: neither came from a short string.
    #[must_use]
    pub fn new(parts: MessageParts<'_>, body: Bytes) -> Self {
        let MessageParts { exchange, routing_key, properties, persistent } = parts;
        let mut head = Vec::with_capacity(exchange.len() + routing_key.len() + properties.len());
        head.extend_from_slice(exchange.as_bytes());
        head.extend_from_slice(routing_key.as_bytes());
        head.extend_from_slice(properties);
        let inner = Inner {
            head: head.into_boxed_slice(),
            body,
            exchange_len: u8::try_from(exchange.len()).expect("an exchange name is a short string"),
            routing_key_len: u8::try_from(routing_key.len()).expect("a routing key is a short string"),
            persistent,
        };
        count_queue_bytes(inner.counted());
        Self(Arc::new(inner))
    }

    /// The exchange it was published to.
    #[must_use]
    pub fn exchange(&self) -> &str {
        text(&self.0.head[..self.0.exchange_end()])
    }

    /// Its routing key.
    #[must_use]
    pub fn routing_key(&self) -> &str {
        text(&self.0.head[self.0.exchange_end()..self.0.key_end()])
    }

    /// Property flags and properties, as they stand in the content header frame.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        &self.0.head[self.0.key_end()..]
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// Whether durable queues keep it across a restart.
    #[must_use]
    pub fn persistent(&self) -> bool {
        self.0.persistent
    }

    /// Bytes of memory it holds, shared by all its clones.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.0.cost()
    }
}

impl Inner {
    fn exchange_end(&self) -> usize {
        usize::from(self.exchange_len)
    }

    fn key_end(&self) -> usize {
        self.exchange_end() + usize::from(self.routing_key_len)
    }

    fn cost(&self) -> usize {
        OVERHEAD_BYTES + self.head.len() + self.body.len()
    }

    fn counted(&self) -> i64 {
        i64::try_from(self.cost()).expect("a message is smaller than 2^63 bytes")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        count_queue_bytes(-self.counted());
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("body_len", &self.body().len())
            .finish_non_exhaustive()
    }
}

/// Counts bytes that queues have taken besides their messages, or given back if it is negative.
pub fn count_queue_bytes(bytes: i64) {
    // A message may outlive its thread's counter during thread shutdown; nothing is counted then.
    let _ = UNSETTLED_BYTES.try_with(|unsettled| unsettled.set(unsettled.get() + bytes));
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("head was built from str")
}
