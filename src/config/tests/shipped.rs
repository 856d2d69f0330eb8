//! The shipped `config.toml` says what the code does.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeTable;

use super::*;
use crate::config::parse;
use crate::config::quantity::Unit;
use crate::config::read::Report;

const SHIPPED: &str = include_str!("../../../config.toml");

/// The file with every option in force: `#key = value` is an option, `# Words` are a comment.
fn uncommented() -> String {
    let option = |line: &'static str| match line.strip_prefix('#') {
        Some(option) if !option.starts_with(' ') => option,
        _ => line,
    };
    SHIPPED.lines().map(option).collect::<Vec<_>>().join("\n")
}

fn without_topology(config: Config) -> Config {
    let (exchanges, queues, bindings, policies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    Config { exchanges, queues, bindings, policies, source: Source::default(), ..config }
}

#[test]
fn as_shipped_it_sets_nothing() {
    let config = load(SHIPPED).unwrap();
    assert_eq!(Config { source: Source::default(), ..config }, Config::default());
}

#[test]
fn every_option_shows_its_default() {
    let config = load(&uncommented()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        config.topology_counts(),
        TopologyCounts { exchanges: 1, queues: 2, bindings: 3, policies: 2 }
    );
    assert_eq!(without_topology(config), Config::default());
}

#[test]
fn it_has_every_option_of_the_code_and_no_other() {
    let text = uncommented();
    let source = Source { path: None, text: text.as_str().into() };
    let mut report = Report::new(&source);
    parse::read(&source, &mut report);
    let of_the_code: BTreeMap<&str, BTreeSet<&str>> =
        report.known().iter().map(|(section, keys)| (*section, keys.iter().copied().collect())).collect();

    let document = DeTable::parse(&text).unwrap().into_inner();
    let keys = |table: &DeTable<'_>| table.keys().map(|key| key.get_ref().to_string()).collect::<Vec<_>>();
    let mut of_the_file: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in &document {
        let name = name.get_ref();
        if let Some(table) = value.get_ref().as_table() {
            of_the_file.entry(format!("[{name}]")).or_default().extend(keys(table));
        }
        for entry in value.get_ref().as_array().into_iter().flat_map(|entries| entries.iter()) {
            let table = entry.get_ref().as_table().unwrap();
            of_the_file.entry(format!("[[{name}]]")).or_default().extend(keys(table));
        }
    }
    let of_the_file: BTreeMap<&str, BTreeSet<&str>> = of_the_file
        .iter()
        .map(|(section, keys)| (section.as_str(), keys.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(of_the_file, of_the_code);
}

#[test]
fn the_words_it_calls_defaults_of_objects_are() {
    let explicit = load(&uncommented()).unwrap();
    let implicit = load("[[exchange]]\nname = \"orders\"\n[[queue]]\nname = \"orders\"").unwrap();
    let (Exchange { kind, durable, auto_delete, internal, .. }, given) =
        (&explicit.exchanges[0].value, &implicit.exchanges[0].value);
    assert_eq!(
        (kind, durable, auto_delete, internal),
        (&given.kind, &given.durable, &given.auto_delete, &given.internal)
    );
    let (Queue { durable, auto_delete, .. }, given) = (&explicit.queues[0].value, &implicit.queues[0].value);
    assert_eq!((durable, auto_delete), (&given.durable, &given.auto_delete));
}

/// The lower and the upper bound that a comment names: `"1 s" to "1 h"` or `1 to 65535`.
fn bounds(comment: &str) -> Option<(&str, &str)> {
    comment
        .match_indices(" to ")
        .find_map(|(at, to)| bounds_around(&comment[..at], &comment[at + to.len()..]))
}

fn bounds_around<'c>(before: &'c str, after: &'c str) -> Option<(&'c str, &'c str)> {
    let quoted = |text: &str| text.starts_with('"') && text.len() > 1;
    let end = |text: &str| text[1..].find('"').map(|at| at + 2);
    if before.ends_with('"') && quoted(after) {
        let start = before[..before.len() - 1].rfind('"')?;
        return Some((&before[start..], &after[..end(after)?]));
    }
    let lower = before.rsplit([' ', ',']).next()?;
    let upper = after.split(|c: char| !c.is_ascii_digit()).next()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(lower) && is_number(upper)).then_some((lower, upper))
}

/// The value next to a bound; `None` below zero.
fn beyond(bound: &str, step: i64) -> Option<String> {
    let (amount, unit) = match bound.strip_prefix('"').and_then(|bound| bound.strip_suffix('"')) {
        None => (bound.parse().ok()?, None),
        Some(text) => match Unit::Size.parse(text) {
            Some(bytes) => (bytes, Some("B")),
            None => (Unit::Duration.parse(text)?, Some("ms")),
        },
    };
    let amount = amount.checked_add_signed(step)?;
    Some(unit.map_or(amount.to_string(), |unit| format!("\"{amount} {unit}\"")))
}

#[test]
fn the_bounds_it_names_hold_exactly() {
    let (mut section, mut comment, mut checked) = (String::new(), String::new(), 0);
    for line in SHIPPED.lines() {
        if let Some(words) = line.strip_prefix("# ") {
            comment = format!("{comment} {words}");
            continue;
        }
        let option = line.trim_start_matches('#');
        if option.starts_with("[[") {
            section = format!("{option}\nname = \"a\"");
        } else if option.starts_with('[') {
            section = option.to_owned();
        } else if let (Some((key, _)), Some((lower, upper))) = (option.split_once(" = "), bounds(&comment)) {
            let good = |value: &str| load(&format!("{section}\n{key} = {value}")).is_ok();
            assert!(good(lower) && good(upper), "{key} cannot be {lower} or {upper}");
            for outside in [beyond(lower, -1), beyond(upper, 1)].into_iter().flatten() {
                assert!(!good(&outside), "{key} can be {outside}");
            }
            checked += 1;
        }
        comment.clear();
    }
    assert_eq!(checked, 14, "options with bounds");
}

#[test]
fn its_lines_are_not_too_wide() {
    for line in SHIPPED.lines() {
        assert!(line.chars().count() <= 110, "{line}");
    }
}
