//! Client-supplied strings in log lines.
//!
//! Invariant: what is printed has no control, format or bidirectional character, and is bounded.

use std::fmt::{self, Write};

/// Characters of the string that are shown; the rest is an ellipsis.
const SHOWN_CHARS: usize = 200;

/// A string that prints itself escaped and cut to 200 characters, followed by `…` if it was longer.
#[derive(Clone, Copy)]
pub struct Printable<'a>(&'a [u8]);

/// Makes a client's string safe to log. Bytes that are not UTF-8 show as `\xNN`.
pub fn printable<T: AsRef<[u8]> + ?Sized>(text: &T) -> Printable<'_> {
    Printable(text.as_ref())
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = SHOWN_CHARS;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if room == 0 {
                    return f.write_char('…');
                }
                room -= 1;
                write_char(f, c)?;
            }
            for byte in chunk.invalid() {
                if room == 0 {
                    return f.write_char('…');
                }
                room -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn write_char(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        // Quotes are harmless inside a line and common in what people name things.
        '\'' | '"' => f.write_char(c),
        // `escape_debug` leaves what is printable as it is, and a terminal may act on the rest.
        c => write!(f, "{}", c.escape_debug()),
    }
}

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays() {
        assert_eq!(printable("order's \"queue\" é 漢").to_string(), "order's \"queue\" é 漢");
    }

    #[test]
    fn what_a_terminal_acts_on_is_escaped() {
        let text = printable("a\nb\r\t\u{1b}[31m\0\u{202e}\u{200b}\\").to_string();
        assert_eq!(text, "a\\nb\\r\\t\\u{1b}[31m\\0\\u{202e}\\u{200b}\\\\");
    }

    #[test]
    fn bytes_that_are_no_text_show_as_hex() {
        assert_eq!(printable(&[b'a', 0xff, 0xc3, b'b'][..]).to_string(), "a\\xff\\xc3b");
    }

    #[test]
    fn length_is_bounded() {
        assert_eq!(printable(&"x".repeat(200)).to_string(), "x".repeat(200));
        assert_eq!(printable(&"x".repeat(201)).to_string(), format!("{}…", "x".repeat(200)));
        assert_eq!(printable(&[0xff; 201][..]).to_string().matches("\\xff").count(), 200);
    }
}
