//! `[[policy]]` and `[[operator_policy]]`: settings for all queues and exchanges whose names match.
//!
//! Invariant: every setting is one that a policy of its kind can have, with a value that it can have. Whether a pattern
//! is a regular expression is left to the broker, which has to compile it.

use toml::Spanned;
use toml::de::DeTable;

use super::Config;
use super::diagnostic::{Problem, shown};
use super::objects::{
    Known, LONGEST_NAME, Seen, Takes, argument, each, known, located, on_the_wire, readable, short,
};
use super::read::{Report, Section, listed, similar};
use super::topology::{Arguments, Located, Policy};

const OBJECTS: [(&str, &str); 6] = [
    ("all", "all"),
    ("queues", "queues"),
    ("classic_queues", "classic_queues"),
    ("quorum_queues", "quorum_queues"),
    ("streams", "streams"),
    ("exchanges", "exchanges"),
];

/// Settings with a readable name, for policies of both kinds.
const FOR_BOTH: &[Known] = &[
    known("message_ttl", "message-ttl", Takes::Duration(0)),
    known("expires", "expires", Takes::Duration(1)),
    known("max_length", "max-length", Takes::Integer(0, i64::MAX)),
    known("max_length_bytes", "max-length-bytes", Takes::Size),
    known("overflow", "overflow", Takes::Word(&["drop-head", "reject-publish", "reject-publish-dlx"])),
    known("delivery_limit", "delivery-limit", Takes::Integer(-1, i64::MAX)),
];

/// The same, for users' policies only.
const FOR_USERS: &[Known] = &[
    known("dead_letter_exchange", "dead-letter-exchange", Takes::Name),
    known("dead_letter_routing_key", "dead-letter-routing-key", Takes::Name),
    known("alternate_exchange", "alternate-exchange", Takes::Name),
];

/// Settings without a readable name, because a single broker has little to do for them.
const OTHERS_FOR_BOTH: &[Known] = &[
    plain("max-in-memory-length", Takes::Integer(0, i64::MAX)),
    plain("max-in-memory-bytes", Takes::Integer(0, i64::MAX)),
    plain("queue-version", Takes::Integer(1, 2)),
    plain("target-group-size", Takes::Integer(1, i64::MAX)),
    plain("delayed-retry-type", Takes::Word(&["disabled", "all", "failed", "returned"])),
    plain("delayed-retry-min", Takes::Integer(0, i64::MAX)),
    plain("delayed-retry-max", Takes::Integer(0, i64::MAX)),
];

const OTHERS_FOR_USERS: &[Known] = &[
    plain("dead-letter-strategy", Takes::Word(&["at-most-once", "at-least-once"])),
    plain("consumer-timeout", Takes::Integer(0, i64::MAX)),
    plain("consumer-disconnected-timeout", Takes::Integer(0, i64::MAX)),
    plain("queue-mode", Takes::Word(&["default", "lazy"])),
    plain("queue-leader-locator", Takes::Word(&["client-local", "balanced", "random", "least-leaders"])),
    plain("initial-cluster-size", Takes::Integer(0, i64::MAX)),
    plain("max-age", Takes::Name),
    plain("stream-max-segment-size-bytes", Takes::Integer(0, i64::MAX)),
    plain("stream-filter-size-bytes", Takes::Integer(16, 255)),
];

/// What mirrored queues had. Nothing depends on these.
const MIRRORING: &[&str] = &[
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-sync-batch-size",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
];

const fn plain(name: &'static str, takes: Takes) -> Known {
    known(name, name, takes)
}

/// The settings that a policy can have.
struct Settings {
    /// Those with a readable name.
    readable: Vec<&'static Known>,
    others: Vec<&'static Known>,
}

impl Settings {
    fn of(operator: bool) -> Self {
        let (for_users, others): (&[Known], &[Known]) =
            if operator { (&[], &[]) } else { (FOR_USERS, OTHERS_FOR_USERS) };
        Self {
            readable: FOR_BOTH.iter().chain(for_users).collect(),
            others: OTHERS_FOR_BOTH.iter().chain(others).collect(),
        }
    }

    fn find(&self, name: &str) -> Option<&'static Known> {
        self.readable.iter().chain(&self.others).find(|known| known.argument == name).copied()
    }
}

/// Reads all policies into the config.
pub(super) fn read<'a>(document: &'a DeTable<'a>, report: &mut Report<'_>, config: &mut Config) {
    for (key, shown, operator) in
        [("policy", "[[policy]]", false), ("operator_policy", "[[operator_policy]]", true)]
    {
        let (settings, mut seen) = (Settings::of(operator), Seen::new());
        each(document, key, shown, report, |section| {
            config.policies.extend(policy(section, operator, &settings, &mut seen));
        });
    }
}

fn policy(
    section: &mut Section<'_, '_, '_>,
    operator: bool,
    settings: &Settings,
    seen: &mut Seen,
) -> Option<Located<Policy>> {
    let name = name(section, operator, seen);
    if !section.has("pattern") {
        section.missing("pattern", "add pattern = \"^orders\\\\.\", or pattern = \".*\" for every name");
    }
    let pattern = section.text("pattern");
    let pattern = pattern.map(|pattern| Located {
        line: section.report.line(pattern.span().start),
        value: pattern.into_inner().to_owned(),
    });
    let apply_to = section.choice("apply_to", &OBJECTS).unwrap_or("all");
    let priority = section.integer("priority", i64::MIN..=i64::MAX).unwrap_or(0);
    let mut definition = Arguments::new();
    for known in &settings.readable {
        let Some(value) = section.value(known.key) else { continue };
        let value = readable(section.report, known, value);
        definition.extend(value.map(|value| (known.argument.to_owned(), value)));
    }
    further(section, settings, &mut definition);
    let has_any = section.has("definition") || settings.readable.iter().any(|known| section.has(known.key));
    if !has_any {
        let problem = Problem::Impossible("a policy without settings does nothing".to_owned());
        section.report.error(section.span(), problem, Some("add one, such as max_length = 1000".to_owned()));
    }
    Some(located(
        section,
        Policy { name: name?, operator, pattern: pattern?, apply_to, priority, definition },
    ))
}

/// The settings in `definition = { … }`, by the names that RabbitMQ gives them.
fn further(section: &mut Section<'_, '_, '_>, settings: &Settings, definition: &mut Arguments) {
    let Some(value) = section.value("definition") else { return };
    let Some(table) = value.get_ref().as_table() else {
        let help = "write definition = { \"max-length\" = 1000 }".to_owned();
        section.report.wrong_type("definition", value, "a table", Some(help));
        return;
    };
    for (name, value) in table {
        let text = name.get_ref();
        let known = settings.find(text);
        if let Some(known) = known.filter(|known| section.has(known.key)) {
            let problem = Problem::GivenTwice { key: known.key.to_owned(), other: text.to_string() };
            section.report.error(name.span(), problem, Some("leave one of them out".into()));
        }
        let value = match known {
            Some(known) => on_the_wire(section.report, known, value),
            None if MIRRORING.contains(&&**text) => argument(section.report, text, value, 0),
            None => {
                let problem = Problem::UnknownKey { key: text.to_string(), section: "definition" };
                section.report.error(name.span(), problem, Some(advice(settings, text)));
                None
            }
        };
        definition.extend(value.map(|value| (text.to_string(), value)));
    }
}

fn advice(settings: &Settings, name: &str) -> String {
    let names: Vec<_> =
        settings.readable.iter().chain(&settings.others).map(|known| known.argument).collect();
    match similar(name, names.iter().copied()) {
        Some(similar) => format!("did you mean '{similar}'?"),
        None => format!("settings are {}", listed(&names)),
    }
}

fn name(section: &mut Section<'_, '_, '_>, operator: bool, seen: &mut Seen) -> Option<String> {
    if !section.has("name") {
        section.missing("name", "add name = \"…\"");
    }
    let name: Spanned<&str> = section.text("name")?;
    let text = *name.get_ref();
    let trouble = match text {
        "" => Some(("cannot be empty", format!("write a name of 1 to {LONGEST_NAME} bytes"))),
        text if text.contains(char::is_control) => {
            Some(("cannot contain control characters", "remove line breaks and tabs".to_owned()))
        }
        _ => None,
    };
    if let Some((reason, help)) = trouble {
        section.report.error(name.span(), Problem::BadName { key: "name".into(), reason }, Some(help));
        return None;
    }
    match seen.get(text) {
        Some(first_line) => {
            let kind = if operator { "operator policy" } else { "policy" };
            let what = format!("{kind} '{}'", shown(text));
            let problem = Problem::Duplicate { what, first_line: *first_line };
            section.report.error(name.span(), problem, Some("leave one of them out".into()));
        }
        None => drop(seen.insert(text.to_owned(), section.report.line(name.span().start))),
    }
    Some(short(section.report, "name", &name))
}
