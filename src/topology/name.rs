//! Rules about names: what is stripped, what is reserved, and what a reply-to address says.
//!
//! Invariant: text in, answer out; whether a name is taken is decided elsewhere.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What the broker keeps for its own names.
const RESERVED_PREFIX: &str = "amq.";

/// What a server-named queue's name begins with.
const GENERATED_PREFIX: &str = "amq.gen-";

/// What a direct reply-to address begins with, before its token.
const REPLY_TO_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// The pseudo-queue through which a requester consumes its replies.
pub const REPLY_TO_QUEUE: &str = "amq.rabbitmq.reply-to";

/// 16 bytes in base64 without padding.
const TOKEN_TEXT_LEN: usize = 22;

/// A queue's or exchange's name without the carriage returns and line feeds that `RabbitMQ` drops from it.
#[must_use]
pub fn strip_name(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) { Cow::Owned(name.replace(['\r', '\n'], "")) } else { Cow::Borrowed(name) }
}

/// Whether clients may not create objects of this name.
#[must_use]
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

/// The name of a server-named queue made of 16 random bytes: `amq.gen-` and 22 characters.
#[must_use]
pub fn generated_queue_name(random: [u8; 16]) -> String {
    let mut name = String::from(GENERATED_PREFIX);
    URL_SAFE_NO_PAD.encode_string(random, &mut name);
    name
}

/// Whether the broker could have made this name up for a queue.
#[must_use]
pub fn is_generated_queue_name(name: &str) -> bool {
    name.strip_prefix(GENERATED_PREFIX).and_then(decode_token).is_some()
}

/// Whether the name is the direct reply-to pseudo-queue or one requester's address.
#[must_use]
pub fn is_reply_to(name: &str) -> bool {
    name == REPLY_TO_QUEUE || name.starts_with(REPLY_TO_PREFIX)
}

/// The address responders publish to, through the default exchange.
#[must_use]
pub fn reply_to_address(token: [u8; 16]) -> String {
    let mut address = String::from(REPLY_TO_PREFIX);
    URL_SAFE_NO_PAD.encode_string(token, &mut address);
    address
}

/// The token in a reply-to address, if the name is a well-formed one.
#[must_use]
pub fn reply_to_token(name: &str) -> Option<[u8; 16]> {
    name.strip_prefix(REPLY_TO_PREFIX).and_then(decode_token)
}

fn decode_token(text: &str) -> Option<[u8; 16]> {
    if text.len() != TOKEN_TEXT_LEN {
        return None;
    }
    // The decoder asks for room by its own estimate, which is a little above the 16 bytes.
    let mut room = [0; 18];
    let len = URL_SAFE_NO_PAD.decode_slice(text, &mut room).ok()?;
    room.get(..len)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriage_returns_and_line_feeds_are_stripped() {
        assert_eq!(strip_name("a\r\nb\n"), "ab");
        assert!(matches!(strip_name("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn reply_to_addresses_round_trip() {
        for token in [[0; 16], [255; 16], *b"0123456789abcdef"] {
            let address = reply_to_address(token);
            assert_eq!(reply_to_token(&address), Some(token));
            assert!(is_reply_to(&address));
        }
    }

    #[test]
    fn malformed_addresses_have_no_token() {
        for name in [
            "amq.rabbitmq.reply-to",
            "amq.rabbitmq.reply-to.",
            "amq.rabbitmq.reply-to.short",
            "amq.rabbitmq.reply-to.!!!!!!!!!!!!!!!!!!!!!!",
            "amq.rabbitmq.reply-to.AAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(reply_to_token(name), None, "{name}");
        }
    }

    #[test]
    fn only_the_brokers_own_shape_counts_as_generated() {
        assert!(is_generated_queue_name(&generated_queue_name([7; 16])));
        assert!(!is_generated_queue_name("amq.gen-mine"));
        assert!(is_reserved("amq.gen-mine"));
        assert!(!is_reserved("amqp"));
    }
}
