//! Keeps direct reply-to addresses out of the log: whoever knows one can answer in the responder's place.
//!
//! Invariant: nothing reaches the log's writer but through here, so no room needs to think of it.

use std::io;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// What stands before the token of every direct reply-to address.
const PREFIX: &str = "amq.rabbitmq.reply-to.";
/// What the log shows in a token's place.
const HIDDEN: &str = "<hidden>";

/// Makes writers that hide the tokens of reply-to addresses.
pub(super) struct Hiding<M>(pub(super) M);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for Hiding<M> {
    type Writer = HidingWriter<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        HidingWriter(self.0.make_writer())
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        HidingWriter(self.0.make_writer_for(metadata))
    }
}

/// A writer of whole lines that hides the tokens of reply-to addresses.
pub(super) struct HidingWriter<W>(W);

impl<W: io::Write> io::Write for HidingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // All of the line at once: the rest of a partial write could begin inside a token.
        let text = String::from_utf8_lossy(line);
        if text.contains(PREFIX) {
            self.0.write_all(without_tokens(&text).as_bytes())?;
        } else {
            self.0.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The text with each token replaced, also where it was cut short.
fn without_tokens(text: &str) -> String {
    let mut pieces = text.split(PREFIX);
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        shown.push_str(PREFIX);
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if rest.len() < piece.len() {
            shown.push_str(HIDDEN);
        }
        shown.push_str(rest);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_and_nothing_else() {
        for (text, shown) in [
            (
                "no queue 'amq.rabbitmq.reply-to.A-b_9' in '/'",
                "no queue 'amq.rabbitmq.reply-to.<hidden>' in '/'",
            ),
            ("amq.rabbitmq.reply-to.cut...", "amq.rabbitmq.reply-to.<hidden>..."),
            ("amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to."),
            ("queue 'amq.rabbitmq.reply-to'", "queue 'amq.rabbitmq.reply-to'"),
            (
                "amq.rabbitmq.reply-to.a,amq.rabbitmq.reply-to.b é",
                "amq.rabbitmq.reply-to.<hidden>,amq.rabbitmq.reply-to.<hidden> é",
            ),
            (
                "amq.rabbitmq.reply-to.amq.rabbitmq.reply-to.a",
                "amq.rabbitmq.reply-to.amq.rabbitmq.reply-to.<hidden>",
            ),
        ] {
            assert_eq!(without_tokens(text), shown);
            assert_eq!(without_tokens(shown), shown);
        }
    }
}
