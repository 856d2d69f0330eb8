//! The regular expression of a policy, found in linear time whatever it is and whatever the name.
//!
//! Expressions have no look-around and no back references, because those cost time without bound. One use of
//! look-around is everywhere, and costs nothing: `^(?!amq\.).*`, a look-ahead at the very beginning, is an expression of
//! its own that the name must not match, or must match if it is `(?=…)`.

use regex::{Regex, RegexBuilder};

/// What a compiled expression may take, in bytes: some thousand states, so that no name takes longer than a millisecond.
const COMPILED_BYTES_MAX: usize = 64 << 10;

/// A pattern for names.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// What has to match besides, and what must not.
    ahead: Vec<(bool, Regex)>,
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Why it is none, in a few words.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let Some((ahead, rest)) = look_aheads(text) else {
            return Ok(Self { regex: compile(text)?, ahead: Vec::new() });
        };
        let anchored = |text: &str| compile(&format!("^(?:{text})"));
        let ahead = ahead.into_iter().map(|(wanted, text)| Ok((wanted, anchored(text)?)));
        Ok(Self { regex: anchored(rest)?, ahead: ahead.collect::<Result<_, String>>()? })
    }

    /// Whether it is found in a name.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name) && self.ahead.iter().all(|(wanted, regex)| regex.is_match(name) == *wanted)
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| match &error {
        regex::Error::CompiledTooBig(_) => "it takes too many states".to_owned(),
        // Several lines that show the place; the last one says what is wrong.
        _ => {
            let text = error.to_string();
            let last = text.rsplit("error: ").next().unwrap_or_default();
            last.lines().next().unwrap_or_default().to_owned()
        }
    })
}

/// Whether it is to match, and the expression.
type LookAhead<'t> = (bool, &'t str);

/// The look-aheads at the beginning of an anchored expression, and what follows them.
/// None if there are none, or if they are not for the whole of what follows.
fn look_aheads(text: &str) -> Option<(Vec<LookAhead<'_>>, &str)> {
    let mut rest = text.strip_prefix('^')?;
    let mut found = Vec::new();
    loop {
        let (wanted, behind) = match (rest.strip_prefix("(?!"), rest.strip_prefix("(?=")) {
            (Some(behind), _) => (false, behind),
            (_, Some(behind)) => (true, behind),
            _ => break,
        };
        let (end, _) = outside_groups(behind).find(|(_, character)| *character == ')')?;
        found.push((wanted, &behind[..end]));
        rest = &behind[end + 1..];
    }
    let divided = outside_groups(rest).any(|(_, character)| character == '|');
    (!found.is_empty() && !divided).then_some((found, rest))
}

/// The characters of an expression that stand in none of its groups and classes and are not escaped, with their
/// offsets. A `)` that closes nothing is one of them.
fn outside_groups(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut depth = 0_usize;
    let mut characters = text.char_indices();
    std::iter::from_fn(move || {
        loop {
            let (offset, character) = characters.next()?;
            let outside = depth == 0;
            match character {
                '\\' => drop(characters.next()),
                '[' => skip_class(&mut characters),
                '(' => depth += 1,
                ')' if !outside => depth -= 1,
                _ if outside => return Some((offset, character)),
                _ => {}
            }
        }
    })
}

/// Goes to the end of a class whose `[` was read. A `]` at its beginning is one of its members.
fn skip_class(characters: &mut std::str::CharIndices<'_>) {
    let mut first = true;
    let mut inner = 0_usize;
    while let Some((_, character)) = characters.next() {
        match character {
            '^' if first => continue,
            '\\' => drop(characters.next()),
            '[' => inner += 1,
            ']' if first => {}
            ']' if inner > 0 => inner -= 1,
            ']' => return,
            _ => {}
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere() {
        for (pattern, matching, others) in [
            (".*", &["", "q", "amq.gen-1"][..], &[][..]),
            ("", &["", "q"], &[]),
            ("orders", &["orders", "my.orders.eu"], &["order", "Orders"]),
            ("^orders\\.", &["orders.eu"], &["orders", "my.orders.eu"]),
            ("^(a|b)$", &["a", "b"], &["ab", "c"]),
            ("^[[:alpha:]_-]+\\d{2}$", &["x-y_12"], &["x12y", "é12"]),
            ("(?i)^ORDERS", &["orders", "Orders"], &["my.orders"]),
            ("^Fähre$", &["Fähre"], &["Fahre"]),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            assert!(matching.iter().all(|name| compiled.matches(name)), "{pattern}");
            assert!(!others.iter().any(|name| compiled.matches(name)), "{pattern}");
        }
    }

    #[test]
    fn look_aheads_at_the_beginning_are_honoured() {
        for (pattern, matching, others) in [
            ("^(?!amq\\.).*", &["", "q", "xamq.y", "amqp"][..], &["amq.gen-1", "amq."][..]),
            ("^(?!amq\\.)", &["q"], &["amq.direct"]),
            ("^(?!amq\\.)(?!(tmp|test)[.)]).+$", &["q", "tmp"], &["", "amq.x", "tmp.x", "test)"]),
            ("^(?=.*eu$)orders", &["orders.eu"], &["orders.us", "my.orders.eu"]),
            ("^(?![]a-c])", &["q"], &["]x", "b"]),
            ("^(?!a\\))(b|a)", &["b", "ax"], &["a)", "c"]),
        ] {
            let compiled = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(matching.iter().all(|name| compiled.matches(name)), "{pattern}");
            assert!(!others.iter().any(|name| compiled.matches(name)), "{pattern}");
        }
    }

    #[test]
    fn what_cannot_be_linear_is_refused() {
        let look = "look-around, including look-ahead and look-behind, is not supported";
        for (pattern, reason) in [
            ("(?!amq\\.).*", look),
            ("orders(?!\\.eu)", look),
            ("(?<=a)b", look),
            // The look-ahead is for the first alternative only.
            ("^(?!a)b|c", look),
            ("^(?!(?!a)b)c", look),
            ("(a)\\1", "backreferences are not supported"),
            ("(", "unclosed group"),
            ("^(?!a", look),
            ("[a", "unclosed character class"),
            ("*", "repetition operator missing expression"),
            ("(a{255}){255}", "it takes too many states"),
        ] {
            assert_eq!(Pattern::new(pattern).map(drop), Err(reason.to_owned()), "{pattern}");
        }
    }
}
