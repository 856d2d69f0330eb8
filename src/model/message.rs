//! A published message: immutable, shared by every queue that keeps it.
//!
//! Invariant: the bytes of all living messages, and what queues need to know of them, are counted, exactly and
//! without an atomic per message. Creating and dropping a message changes a counter of the thread;
//! [`settle_message_bytes`] takes what gathered there, once per burst.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use triomphe::ThinArc;

/// What a message costs beyond its own bytes: its heap cells. Measured with 16-byte bodies, rounded up generously.
const OVERHEAD_BYTES: usize = 160;
/// A body up to this size lies in one piece of memory with the rest of its message; a longer one on its own, so that
/// it is neither moved nor copied when its message is made.
const TOGETHER_BYTES: usize = 2 * 1024;

thread_local! {
    static UNSETTLED_BYTES: Cell<i64> = const { Cell::new(0) };
    /// Where the octets of a message come together before they get memory of their own, at once and of their size.
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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

/// A body of which a message is made.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// It stays where it is, and is copied.
    Borrowed(&'a [u8]),
    /// It is taken over.
    Owned(Bytes),
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(body: &'a [u8]) -> Self {
        Self::Borrowed(body)
    }
}

impl From<Bytes> for Body<'_> {
    fn from(body: Bytes) -> Self {
        Self::Owned(body)
    }
}

/// A published message. Cloning shares it.
#[derive(Clone, PartialEq)]
pub struct Message(ThinArc<Head, u8>);

/// What stands before the octets: exchange, routing key, properties, and the body if it is short.
#[derive(PartialEq)]
struct Head {
    /// A body that is too long to stand with the others.
    long_body: Option<Bytes>,
    cost: usize,
    properties_end: usize,
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
    pub fn new<'a>(parts: MessageParts<'_>, body: impl Into<Body<'a>>) -> Self {
        match body.into() {
            Body::Borrowed(body) if body.len() <= TOGETHER_BYTES => Self::make(parts, body, None),
            Body::Borrowed(body) => Self::make(parts, &[], Some(Bytes::copy_from_slice(body))),
            Body::Owned(body) if body.len() <= TOGETHER_BYTES => Self::make(parts, &body, None),
            Body::Owned(body) => Self::make(parts, &[], Some(body)),
        }
    }

    /// A message with other parts and the same body, which is shared if it is long.
    ///
    /// # Panics
    /// As in [`Self::new`].
    #[must_use]
    pub fn with_parts(&self, parts: MessageParts<'_>) -> Self {
        match &self.0.header.header.long_body {
            Some(body) => Self::make(parts, &[], Some(body.clone())),
            None => Self::make(parts, self.body(), None),
        }
    }

    fn make(parts: MessageParts<'_>, body: &[u8], long_body: Option<Bytes>) -> Self {
        let MessageParts { exchange, routing_key, properties, persistent } = parts;
        let properties_end = exchange.len() + routing_key.len() + properties.len();
        let body_len = long_body.as_ref().map_or(body.len(), Bytes::len);
        let head = Head {
            long_body,
            cost: OVERHEAD_BYTES + properties_end + body_len,
            properties_end,
            exchange_len: u8::try_from(exchange.len()).expect("an exchange name is a short string"),
            routing_key_len: u8::try_from(routing_key.len()).expect("a routing key is a short string"),
            persistent,
        };
        count_queue_bytes(head.counted());
        GATHERED.with_borrow_mut(|gathered| {
            gathered.clear();
            for part in [exchange.as_bytes(), routing_key.as_bytes(), properties, body] {
                gathered.extend_from_slice(part);
            }
            let message = Self(ThinArc::from_header_and_slice(head, gathered));
            // Properties may be as long as a frame.
            gathered.shrink_to(2 * TOGETHER_BYTES);
            message
        })
    }

    /// The exchange it was published to.
    #[must_use]
    pub fn exchange(&self) -> &str {
        text(self.names().0)
    }

    /// Its routing key.
    #[must_use]
    pub fn routing_key(&self) -> &str {
        text(self.names().1)
    }

    /// The octets of its exchange and its routing key, for who has no need to see that they are UTF-8.
    #[must_use]
    pub fn names(&self) -> (&[u8], &[u8]) {
        let Head { exchange_len, routing_key_len, .. } = self.0.header.header;
        let (exchange, rest) = self.0.slice.split_at(usize::from(exchange_len));
        (exchange, &rest[..usize::from(routing_key_len)])
    }

    /// Property flags and properties, as they stand in the content header frame.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        let Head { exchange_len, routing_key_len, properties_end, .. } = self.0.header.header;
        &self.0.slice[usize::from(exchange_len) + usize::from(routing_key_len)..properties_end]
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match &self.0.header.header.long_body {
            Some(body) => body,
            None => &self.0.slice[self.0.header.header.properties_end..],
        }
    }

    /// A part of the body for who keeps it: of a long body it is shared.
    ///
    /// # Panics
    /// If the body has no such part.
    #[must_use]
    pub fn part_of_body(&self, part: Range<usize>) -> Bytes {
        match &self.0.header.header.long_body {
            Some(body) => body.slice(part),
            None => Bytes::copy_from_slice(&self.body()[part]),
        }
    }

    /// Whether the other one is a clone of it.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        std::ptr::eq(&raw const self.0.header, &raw const other.0.header)
    }

    /// Whether durable queues keep it across a restart.
    #[must_use]
    pub fn persistent(&self) -> bool {
        self.0.header.header.persistent
    }

    /// Bytes of memory it holds, shared by all its clones.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.0.header.header.cost
    }
}

impl Head {
    fn counted(&self) -> i64 {
        i64::try_from(self.cost).expect("a message is smaller than 2^63 bytes")
    }
}

impl Drop for Head {
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
    std::str::from_utf8(bytes).expect("it was made from str")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: MessageParts<'static> =
        MessageParts { exchange: "e", routing_key: "key", properties: &[1, 2, 3], persistent: true };

    #[test]
    fn a_message_is_what_it_was_made_of_wherever_its_body_lies() {
        for length in [0, 1, TOGETHER_BYTES, TOGETHER_BYTES + 1, 5 * TOGETHER_BYTES] {
            let body: Vec<u8> = (0..=250).cycle().take(length).collect();
            let messages = [Message::new(PARTS, &body[..]), Message::new(PARTS, Bytes::from(body.clone()))];
            for message in messages {
                assert_eq!((message.exchange(), message.routing_key()), ("e", "key"));
                assert_eq!(
                    (message.names(), message.properties()),
                    ((&b"e"[..], &b"key"[..]), &[1, 2, 3][..])
                );
                assert_eq!((message.body(), message.persistent()), (&body[..], true));
                assert_eq!(message.part_of_body(length / 2..length), body[length / 2..]);
                assert_eq!(message.cost(), OVERHEAD_BYTES + 7 + length);
                let other = message.with_parts(MessageParts { exchange: "", ..PARTS });
                assert_eq!((other.exchange(), other.routing_key(), other.body()), ("", "key", &body[..]));
                assert!(message.is(&message.clone()) && !message.is(&other));
                assert!(message == message.with_parts(PARTS) && !message.is(&message.with_parts(PARTS)));
            }
        }
    }

    #[test]
    fn the_bytes_of_a_message_are_counted_until_its_last_clone_goes() {
        let before = settle_message_bytes();
        let message = Message::new(PARTS, Bytes::from(vec![0; 3 * TOGETHER_BYTES]));
        let clone = message.clone();
        drop(message);
        let other = clone.with_parts(PARTS);
        assert_eq!(settle_message_bytes(), 2 * i64::try_from(clone.cost()).unwrap(), "besides {before}");
        drop((clone, other));
        assert_eq!(
            settle_message_bytes(),
            -2 * i64::try_from(OVERHEAD_BYTES + 7 + 3 * TOGETHER_BYTES).unwrap()
        );
    }
}
