//! What is wrong with a configuration file, said so that a person can mend it.
//!
//! Invariant: a diagnostic is plain text without colour or control characters, whatever bytes the file
//! holds, and its excerpt is one line of bounded width.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Widest excerpt of a line, in characters; longer lines are cut around the offending text.
const EXCERPT_WIDTH: usize = 120;

/// Longest part of a name or value that a message repeats, in characters.
const SHOWN_WIDTH: usize = 60;

/// What is wrong, one variant per cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The text is not TOML; what the parser says.
    Syntax(String),
    /// The file is not UTF-8 text.
    NotUtf8,
    /// A key or section that the file has already.
    Repeated,
    /// A section that does not exist.
    UnknownSection {
        /// As written.
        name: String,
    },
    /// A key that does not exist in its section.
    UnknownKey {
        /// As written.
        key: String,
        /// The section, in its brackets.
        section: &'static str,
    },
    /// A key that its section cannot do without.
    MissingKey {
        /// The key.
        key: &'static str,
        /// The section, in its brackets.
        section: &'static str,
    },
    /// A value of another type than the key takes.
    WrongType {
        /// The key.
        key: String,
        /// What it takes, with an article.
        expected: &'static str,
        /// What was written, with an article.
        found: &'static str,
    },
    /// A number, size or duration below or above what is possible.
    OutOfBounds {
        /// The key.
        key: String,
        /// As written.
        value: String,
    },
    /// A text that is no size or duration.
    NotAQuantity {
        /// The key.
        key: String,
        /// As written.
        value: String,
        /// `size` or `duration`.
        expected: &'static str,
    },
    /// A text that is none of those the key takes.
    NotOneOf {
        /// The key.
        key: String,
        /// As written.
        value: String,
    },
    /// A text that is no `ADDR:PORT`.
    NotAnAddress {
        /// As written.
        value: String,
    },
    /// A name or routing key that AMQP cannot carry or that may not be declared.
    BadName {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The same thing a second time.
    Duplicate {
        /// What, by kind and name.
        what: String,
        /// Where it was first, as a line number from 1.
        first_line: u32,
    },
    /// A setting given twice, by two names.
    GivenTwice {
        /// The one that may stay.
        key: String,
        /// The other.
        other: String,
    },
    /// Settings that cannot be had together, or that ask for what can never be.
    Impossible(String),
    /// The broker refused to make the object so; its own words.
    Refused(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(message) | Self::Refused(message) => f.write_str(message),
            Self::Syntax(message) => write!(f, "this is not TOML: {message}"),
            Self::Repeated => f.write_str("this is in the file already"),
            Self::NotUtf8 => f.write_str("the file is not UTF-8 text"),
            Self::UnknownSection { name } => write!(f, "unknown section '{}'", shown(name)),
            Self::UnknownKey { key, section } => write!(f, "unknown key '{}' in {section}", shown(key)),
            Self::MissingKey { key, section } => write!(f, "missing key '{key}' in {section}"),
            Self::WrongType { key, expected, found } => {
                write!(f, "'{}' takes {expected}, not {found}", shown(key))
            }
            Self::OutOfBounds { key, value } => {
                write!(f, "'{}' cannot be {}", shown(key), shown(value))
            }
            Self::NotAQuantity { key, value, expected } => {
                write!(f, "'{}' takes a {expected}, which '{}' is not", shown(key), shown(value))
            }
            Self::NotOneOf { key, value } => {
                write!(f, "'{}' cannot be '{}'", shown(key), shown(value))
            }
            Self::NotAnAddress { value } => write!(f, "'{}' is not an address and port", shown(value)),
            Self::BadName { key, reason } => write!(f, "'{}' {reason}", shown(key)),
            Self::Duplicate { what, first_line } => {
                write!(f, "{what} is declared twice, first in line {first_line}")
            }
            Self::GivenTwice { key, other } => {
                write!(f, "'{}' and '{}' are the same setting", shown(key), shown(other))
            }
        }
    }
}

/// One error in a configuration file.
///
/// Displays over several lines, without a line break at the end:
///
/// ```text
/// error: unknown key 'lisen' in [server]
///  --> config.toml:14:1
///    |
/// 14 | lisen = ["127.0.0.1:5672"]
///    | ^^^^^
/// help: did you mean 'listen'?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub problem: Problem,
    /// What to do about it, if that can be said.
    pub help: Option<String>,
    /// Where.
    pub place: Place,
}

/// The place of a diagnostic, with the text found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// The line, or the part of it around the offending text; empty if the file has no such line.
    pub excerpt: String,
    /// The offending characters of `excerpt`.
    pub marked: Range<usize>,
}

impl Diagnostic {
    /// All of it in one line, for the log:
    ///
    /// ```text
    /// config.toml:14:1: unknown key 'lisen' in [server]: `lisen = ["127.0.0.1:5672"]`: did you mean 'listen'?
    /// ```
    #[must_use]
    pub fn one_line(&self) -> String {
        let Place { file, line, column, excerpt, .. } = &self.place;
        let mut text = format!("{}:{line}:{column}: {}", file.display(), self.problem);
        for part in [(!excerpt.is_empty()).then(|| format!("`{}`", excerpt.trim())), self.help.clone()] {
            text.extend(part.into_iter().flat_map(|part| [": ".to_owned(), part]));
        }
        text
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, line, column, excerpt, marked } = &self.place;
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "error: {}", self.problem)?;
        write!(f, "{gutter}--> {}:{line}:{column}", file.display())?;
        if !excerpt.is_empty() {
            let indent = " ".repeat(marked.start);
            let carets = "^".repeat(marked.len().max(1));
            write!(f, "\n{gutter} |\n{number} | {excerpt}\n{gutter} | {indent}{carets}")?;
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

/// All errors of one file, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            write!(f, "{diagnostic}\n\n")?;
        }
        let file = self.0.first().map(|first| first.place.file.display().to_string()).unwrap_or_default();
        match self.0.len() {
            1 => write!(f, "{file}: 1 error"),
            count => write!(f, "{file}: {count} errors"),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// A configuration file as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// As the operator named it; `None` if there is no file and the defaults hold.
    pub path: Option<PathBuf>,
    /// What it contained.
    pub text: Arc<str>,
}

impl Source {
    /// An error that showed only when the broker applied what is declared in this line (from 1), such as
    /// an argument that differs from the existing queue's.
    #[must_use]
    pub fn refusal(&self, line: u32, message: impl fmt::Display, help: Option<String>) -> Diagnostic {
        let lines = Lines::of(&self.text);
        let span = lines.span_of(line, &self.text);
        let problem = Problem::Refused(message.to_string());
        Diagnostic { problem, help, place: self.place(&lines, span) }
    }

    pub(super) fn place(&self, lines: &Lines, span: Range<usize>) -> Place {
        let start = span.start.min(self.text.len());
        let line = lines.number_of(start);
        let whole = lines.span_of(line, &self.text);
        // A mark among the blanks at a line's end stands where the text ends.
        let start = start.min(whole.end);
        let before = sanitised(self.text.get(whole.start..start).unwrap_or_default());
        let end = span.end.clamp(start, whole.end.max(start));
        let marked = sanitised(self.text.get(start..end).unwrap_or_default()).chars().count();
        let text = sanitised(self.text.get(whole).unwrap_or_default());
        let column = before.chars().count();
        let (excerpt, marked) = cut(&text, column..column + marked);
        let file = self.path.clone().unwrap_or_default();
        Place { file, line, column: u32::try_from(column + 1).unwrap_or(u32::MAX), excerpt, marked }
    }
}

/// Where the lines of a text begin.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line of a byte offset, from 1.
    pub(super) fn number_of(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }

    /// The bytes of a line (from 1) without its line break and the blanks at its end.
    pub(super) fn span_of(&self, line: u32, text: &str) -> Range<usize> {
        let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
        let start = self.0.get(index).copied().unwrap_or(text.len());
        let end = self.0.get(index + 1).copied().unwrap_or(text.len());
        start..start + text.get(start..end).unwrap_or_default().trim_end().len()
    }
}

/// The text with blanks for tabs and replacement characters for whatever a terminal might obey.
fn sanitised(text: &str) -> String {
    let harmless = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// A name or value as messages repeat it.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = sanitised(text).chars().take(SHOWN_WIDTH).collect();
    if text.chars().nth(SHOWN_WIDTH).is_some() {
        shown.push('…');
    }
    shown
}

/// The window of a line that shows its marked characters, and where they are in it.
fn cut(line: &str, marked: Range<usize>) -> (String, Range<usize>) {
    let length = line.chars().count();
    if length <= EXCERPT_WIDTH {
        return (line.to_owned(), marked);
    }
    let start = marked.start.saturating_sub(EXCERPT_WIDTH / 2).min(length - EXCERPT_WIDTH);
    let window = line.chars().skip(start).take(EXCERPT_WIDTH).collect();
    let end = (marked.end - start).min(EXCERPT_WIDTH);
    (window, (marked.start - start).min(end)..end)
}
