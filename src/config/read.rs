//! Reads the values of one section and gathers what is wrong with them.
//!
//! Invariant: every key that a section is asked for counts as known; whatever else the section contains is
//! reported, so that no key of the file is silently without effect.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, Lines, Problem, Source, shown};
use super::quantity::Unit;

/// Longest unknown word for which a similar known one is sought, in bytes.
const LONGEST_TYPO: usize = 64;

/// The section of keys that stand above all sections.
pub(super) const OUTSIDE: &str = "the part above all sections";

/// Everything found wrong with one file, and the keys it might have used.
pub(super) struct Report<'s> {
    source: &'s Source,
    lines: Lines,
    found: Vec<(Range<usize>, Problem, Option<String>)>,
    unknown: Vec<(Range<usize>, String, &'static str)>,
    known: BTreeMap<&'static str, Vec<&'static str>>,
}

impl<'s> Report<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        let lines = Lines::of(&source.text);
        Self { source, lines, found: Vec::new(), unknown: Vec::new(), known: BTreeMap::new() }
    }

    /// Notes an error at these bytes of the file.
    pub(super) fn error(&mut self, span: Range<usize>, problem: Problem, help: Option<String>) {
        self.found.push((span, problem, help));
    }

    /// Notes a key that its section does not have.
    pub(super) fn unknown_key(&mut self, span: Range<usize>, key: &str, section: &'static str) {
        self.unknown.push((span, key.to_owned(), section));
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> u32 {
        self.lines.number_of(offset)
    }

    /// The sections read and the keys each was asked for.
    #[cfg(test)]
    pub(super) fn known(&self) -> &BTreeMap<&'static str, Vec<&'static str>> {
        &self.known
    }

    /// All errors in the order of the file; `Ok` if there are none.
    ///
    /// A line that is not TOML, and what its absence makes incomplete, is reported for that alone.
    pub(super) fn finish(mut self) -> Result<(), Diagnostics> {
        for (span, key, section) in std::mem::take(&mut self.unknown) {
            let help = self.advice_for(&key, section);
            self.found.push((span, Problem::UnknownKey { key, section }, Some(help)));
        }
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(span, ..)| span.start);
        let broken = self.broken_lines();
        let stands = |(span, problem, _): &(Range<usize>, Problem, Option<String>)| match problem {
            Problem::Syntax(_) => true,
            Problem::MissingKey { .. } => broken.is_empty(),
            _ => !broken.contains(&self.lines.number_of(span.start)),
        };
        let (source, lines) = (self.source, &self.lines);
        let diagnostic =
            |(span, problem, help)| Diagnostic { problem, help, place: source.place(lines, span) };
        Err(Diagnostics(self.found.into_iter().filter(stands).map(diagnostic).collect()))
    }

    /// The lines that are not TOML. A broken heading takes its section with it.
    fn broken_lines(&self) -> BTreeSet<u32> {
        let text = &self.source.text;
        let is_heading = |line: &&str| line.trim_start().starts_with('[');
        let syntax = |(span, problem, _): &(Range<usize>, Problem, Option<String>)| {
            let Problem::Syntax(_) = problem else { return None };
            let first = self.lines.number_of(span.start);
            let mut following = text.get(self.lines.span_of(first, text).start..)?.lines();
            let is_broken_heading = following.next().as_ref().is_some_and(is_heading);
            let section = following.take_while(|line| !is_heading(line)).count();
            let more = if is_broken_heading { u32::try_from(section).unwrap_or(u32::MAX) } else { 0 };
            Some(first..first.saturating_add(1).saturating_add(more))
        };
        self.found.iter().filter_map(syntax).flatten().collect()
    }

    fn advice_for(&self, key: &str, section: &str) -> String {
        let valid = self.known.get(section).map(Vec::as_slice).unwrap_or_default();
        if let Some(similar) = similar(key, valid.iter().copied()) {
            return format!("did you mean '{similar}'?");
        }
        let elsewhere = |(_, keys): &(&&str, &Vec<&str>)| keys.contains(&key);
        if let Some((other, _)) = self.known.iter().find(elsewhere) {
            return format!("'{key}' belongs in {other}");
        }
        match valid {
            [] => "write it below the heading of its section, such as [server]".to_owned(),
            valid => format!("valid keys are {}", listed(valid)),
        }
    }
}

/// The known word that somebody who wrote `word` most likely meant.
pub(super) fn similar<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > LONGEST_TYPO {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    let word = word.strip_prefix("x_").unwrap_or(&word);
    let distance = |known: &'k str| {
        let distance = strsim::damerau_levenshtein(word, &plain(known));
        (distance <= known.len().max(3) / 3).then_some((distance, known))
    };
    known.filter_map(distance).min().map(|(_, known)| known)
}

/// `a, b or c` for a message.
pub(super) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The type of a value, with an article.
pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The number, if 64 bits hold it.
pub(super) fn integer_of(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The bounds of a quantity and an example of it.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) unit: Unit,
    pub(super) min: u64,
    pub(super) max: u64,
}

/// One section of the file, present or not.
pub(super) struct Section<'r, 's, 'a> {
    pub(super) report: &'r mut Report<'s>,
    name: &'static str,
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'r, 's, 'a> Section<'r, 's, 'a> {
    /// A section with the name messages give it, such as `[limits]`; `span` is its heading.
    pub(super) fn new(
        report: &'r mut Report<'s>,
        name: &'static str,
        table: Option<&'a DeTable<'a>>,
        span: Range<usize>,
    ) -> Self {
        Self { report, name, table, span, asked: Vec::new() }
    }

    /// Where it begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The value of a key, of whatever type.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.table?.get(key)
    }

    /// The key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Where the value of a key is; the section's heading without one.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table.and_then(|table| table.get(key)).map_or(self.span(), Spanned::span)
    }

    /// The key is needed and not there.
    pub(super) fn missing(&mut self, key: &'static str, help: &str) {
        let problem = Problem::MissingKey { key, section: self.name };
        self.report.error(self.span(), problem, Some(help.to_owned()));
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        self.report.flag(key, value)
    }

    /// An integer within bounds.
    pub(super) fn integer(&mut self, key: &'static str, bounds: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        self.report.integer(key, value, &bounds)
    }

    /// A string.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Spanned<&'a str>> {
        let value = self.value(key)?;
        self.report.text(key, value)
    }

    /// A size or duration within bounds, in bytes or milliseconds.
    pub(super) fn quantity(&mut self, key: &'static str, bounds: Bounds) -> Option<u64> {
        let value = self.value(key)?;
        self.report.quantity(key, value, bounds)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let value = self.value(key)?;
        self.report.choice(key, value, choices)
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(&mut self) {
        let Self { report, name, table, .. } = self;
        let asked = std::mem::take(&mut self.asked);
        let unasked = |key: &str| !asked.contains(&key);
        for (key, _) in table.iter().flat_map(|table| table.iter()).filter(|(key, _)| unasked(key.get_ref()))
        {
            report.unknown_key(key.span(), key.get_ref(), name);
        }
        report.known.entry(*name).or_insert(asked);
    }
}

impl Report<'_> {
    /// Notes that the value is of another type than the key takes.
    pub(super) fn wrong_type(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &'static str,
        help: Option<String>,
    ) {
        let problem = Problem::WrongType { key: key.to_owned(), expected, found: type_of(value.get_ref()) };
        self.error(value.span(), problem, help);
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(
                key,
                value,
                "true or false",
                Some(format!("write {key} = true or {key} = false")),
            );
        }
        flag
    }

    /// A string.
    pub(super) fn text<'a>(
        &mut self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Option<Spanned<&'a str>> {
        let Some(text) = value.get_ref().as_str() else {
            let help = match value.get_ref() {
                DeValue::Array(_) | DeValue::Table(_) => "write a text in double quotes".to_owned(),
                _ => {
                    format!("write \"{}\"", self.source.text.get(value.span()).map(shown).unwrap_or_default())
                }
            };
            self.wrong_type(key, value, "a string", Some(help));
            return None;
        };
        Some(Spanned::new(value.span(), text))
    }

    /// An integer within bounds.
    pub(super) fn integer(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        bounds: &RangeInclusive<i64>,
    ) -> Option<i64> {
        let Some(written) = value.get_ref().as_integer() else {
            let help = match value.get_ref().as_str().map(str::parse::<i64>) {
                Some(Ok(integer)) => format!("write {integer} without quotes"),
                _ => "write a whole number".to_owned(),
            };
            self.wrong_type(key, value, "an integer", Some(help));
            return None;
        };
        let integer = integer_of(written).filter(|integer| bounds.contains(integer));
        if integer.is_none() {
            let problem = Problem::OutOfBounds { key: key.to_owned(), value: written.to_string() };
            let help = match *bounds.end() {
                i64::MAX => format!("write an integer from {} on", bounds.start()),
                end => format!("write an integer from {} to {end}", bounds.start()),
            };
            self.error(value.span(), problem, Some(help));
        }
        integer
    }

    /// A size or duration within bounds, in bytes or milliseconds.
    pub(super) fn quantity(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        bounds: Bounds,
    ) -> Option<u64> {
        let Bounds { unit, min, max } = bounds;
        let Some(text) = value.get_ref().as_str() else {
            let expected = match unit {
                Unit::Size => "a size with its unit",
                Unit::Duration => "a duration with its unit",
            };
            let bytes = value.get_ref().as_integer().and_then(integer_of).map(u64::try_from);
            let help = match (unit, bytes) {
                (Unit::Size, Some(Ok(bytes))) => format!("write {key} = \"{}\"", unit.format(bytes)),
                _ => unit.advice().to_owned(),
            };
            self.wrong_type(key, value, expected, Some(help));
            return None;
        };
        let key = key.to_owned();
        let Some(amount) = unit.parse(text) else {
            let problem = Problem::NotAQuantity { key, value: text.to_owned(), expected: unit.name() };
            self.error(value.span(), problem, Some(unit.advice().to_owned()));
            return None;
        };
        if (min..=max).contains(&amount) {
            return Some(amount);
        }
        let problem = Problem::OutOfBounds { key, value: text.to_owned() };
        let help =
            format!("write a {} from \"{}\" to \"{}\"", unit.name(), unit.format(min), unit.format(max));
        self.error(value.span(), problem, Some(help));
        None
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(key, value)?;
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| word == text.get_ref()) {
            return Some(*chosen);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = match similar(text.get_ref(), words.iter().copied()) {
            Some(similar) => format!("did you mean '{similar}'?"),
            None => format!("write {}", listed(&words)),
        };
        let problem = Problem::NotOneOf { key: key.to_owned(), value: text.get_ref().to_string() };
        self.error(text.span(), problem, Some(help));
        None
    }
}
