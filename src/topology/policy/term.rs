//! Values as Erlang prints them, which is how `RabbitMQ` repeats what a policy may not be.
//!
//! Invariant: the text is one line and of bounded length, whatever the value.

use ferrymq_protocol::table::{Table, Value};

/// Longest text, in characters, and deepest nesting that is spelt out.
const CHARACTERS_MAX: usize = 200;
const DEPTH_MAX: usize = 8;

/// A value in Erlang's notation.
pub(super) fn term(value: &Value) -> String {
    let text = spelt(value, 0);
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn spelt(value: &Value, depth: usize) -> String {
    if depth > DEPTH_MAX {
        return "...".to_owned();
    }
    match value {
        Value::LongString(octets) | Value::Binary(octets) => binary(octets),
        Value::Boolean(flag) => flag.to_string(),
        Value::F32(number) => format!("{number:?}"),
        Value::F64(number) => format!("{number:?}"),
        Value::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "null".to_owned(),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(|value| spelt(value, depth + 1)).collect();
            format!("[{}]", values.join(","))
        }
        Value::Table(table) => map(table, depth),
        integer => integer.as_integer().map(|integer| integer.to_string()).unwrap_or_default(),
    }
}

fn map(table: &Table, depth: usize) -> String {
    let entry =
        |(name, value): (&str, &Value)| format!("{} => {}", binary(name.as_bytes()), spelt(value, depth + 1));
    let entries: Vec<_> = table.iter().map(entry).collect();
    format!("#{{{}}}", entries.join(","))
}

/// Text in quotes, anything else as numbers.
fn binary(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) if !text.contains(char::is_control) => {
            let kind = if text.is_ascii() { "" } else { "/utf8" };
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            format!("<<\"{quoted}\"{kind}>>")
        }
        _ => {
            let numbers: Vec<_> = octets.iter().map(u8::to_string).collect();
            format!("<<{}>>", numbers.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_spelt_as_erlang_spells_them() {
        let nested = Table::new().with("a", Value::Array(vec![Value::I32(1), Value::F64(2.0)]));
        for (value, text) in [
            (Value::from("bar"), "<<\"bar\">>"),
            (Value::from("a\"b\\"), "<<\"a\\\"b\\\\\">>"),
            (Value::from("é"), "<<\"é\"/utf8>>"),
            (Value::Binary(vec![0, 255]), "<<0,255>>"),
            (Value::I64(-5), "-5"),
            (Value::Boolean(true), "true"),
            (Value::F64(1.5), "1.5"),
            (Value::Void, "null"),
            (Value::Table(nested), "#{<<\"a\">> => [1,2.0]}"),
        ] {
            assert_eq!(term(&value), text);
        }
        assert_eq!(term(&Value::from("x".repeat(5_000).as_str())).len(), 203);
    }
}
