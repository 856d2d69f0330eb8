//! Rust source as the fence sees it: code without comments, strings and tests.
//!
//! A scanner, not a parser: it knows just enough to find braces, names and test modules, and keeps line breaks so
//! that lines can be counted.

use std::fs;
use std::path::Path;

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The same with comments, strings and character literals blanked.
    pub(crate) code: String,
    /// The same without what is compiled for tests only.
    pub(crate) shipped: String,
}

impl Source {
    /// Scans a file's text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank_comments_and_literals(text);
        let file_is_test =
            path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/");
        let shipped = if file_is_test { String::new() } else { cut_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// The room: the folder below `src`, or the crate.
    pub(crate) fn room(&self) -> Option<&str> {
        match self.path.strip_prefix("src/") {
            Some(rest) => rest.split_once('/').map(|(room, _)| room),
            None => self.path.split_once('/').map(|(krate, _)| krate),
        }
    }

    /// Lines that are shipped. Blank lines and comments count; test modules do not.
    pub(crate) fn shipped_lines(&self) -> usize {
        if self.shipped.is_empty() {
            return 0;
        }
        let cut = self.code.lines().count().saturating_sub(self.shipped.lines().count());
        self.text.lines().count() - cut
    }
}

/// All `.rs` files below the folders, in order.
pub(crate) fn read_all(workspace: &Path, folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<_> = folders.iter().map(|folder| workspace.join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a readable folder");
            open.extend(entries.map(|entry| entry.expect("a readable entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a readable file");
            let relative = path.strip_prefix(workspace).expect("below the workspace");
            found.push(Source::new(&relative.to_string_lossy().replace('\\', "/"), &text));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Replaces comments and the inside of literals by spaces.
fn blank_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins here ends, if one does.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let before = at.checked_sub(1).map(|before| chars[before]);
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match rest {
        ['/', '/', ..] => Some(at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => Some(at + block_comment_length(rest)),
        ['r', '"' | '#', ..] if !in_word => raw_string_length(rest).map(|length| at + length),
        ['b', 'r', '"' | '#', ..] if !in_word => raw_string_length(&rest[1..]).map(|length| at + 1 + length),
        ['"', ..] => Some(at + quoted_length(rest, '"')),
        ['\'', '\\', ..] => Some(at + quoted_length(rest, '\'')),
        // A quote that is not closed two characters later is a lifetime.
        ['\'', _, '\'', ..] => Some(at + 3),
        _ => None,
    }
}

fn block_comment_length(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_length(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string_length(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        // `r#name` is a raw identifier.
        return None;
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let body = 2 + hashes;
    let found = rest[body..].windows(end.len()).position(|window| *window == end);
    Some(found.map_or(rest.len(), |found| body + found + end.len()))
}

/// Cuts every item behind `#[cfg(test)]`.
fn cut_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(found) = rest.find(MARK) {
        out.push_str(&rest[..found]);
        let item = &rest[found + MARK.len()..];
        let end = match item.find(['{', ';']) {
            Some(open) if item[open..].starts_with('{') => open + block_length(&item[open..]),
            Some(semicolon) => semicolon + 1,
            None => item.len(),
        };
        rest = &item[end..];
    }
    out.push_str(rest);
    out
}

/// Bytes up to and with the brace that closes the one at the beginning.
fn block_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    code.len()
}

/// Name and number of lines of each function with a body.
pub(crate) fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let in_word = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let rest = &code[at + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if in_word || name.is_empty() {
            continue;
        }
        if let Some(open) = body_start(rest) {
            let length = open + block_length(&rest[open..]);
            found.push((name, rest[..length].lines().count()));
        }
    }
    found
}

/// Where a function's body opens; `None` if it has none. `;` and `{` inside brackets belong to types.
fn body_start(signature: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in signature.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// First segments of all paths behind `prefix::`, grouped imports included.
pub(crate) fn paths_behind(code: &str, prefix: &str) -> Vec<String> {
    let needle = format!("{prefix}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&needle) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = code[at + needle.len()..].trim_start();
        if rest.starts_with('{') {
            found.extend(group_members(&rest[1..block_length(rest) - 1]));
        } else {
            found.extend(first_word(rest));
        }
    }
    found
}

fn group_members(group: &str) -> Vec<String> {
    let mut depth = 0;
    group
        .split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        })
        .filter_map(|member| first_word(member.trim()))
        .collect()
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}
