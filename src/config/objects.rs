//! `[[exchange]]`, `[[queue]]` and `[[binding]]`: what the file declares, checked as far as the file alone
//! can tell.
//!
//! Invariant: what is refused here could never be applied, whatever clients have declared; everything else
//! is left to the broker.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::diagnostic::{Problem, shown};
use super::quantity::Unit;
use super::read::{Bounds, Report, Section, integer_of, listed, similar};
use super::topology::{Argument, Arguments, Binding, Destination, Exchange, ExchangeType, Located, Queue};

/// Longest name, routing key and argument name, in bytes: a short string of AMQP.
pub(super) const LONGEST_NAME: usize = 255;

/// Deepest nesting of argument tables and arrays.
const DEEPEST_ARGUMENT: usize = 16;

/// Ten years, the longest duration RabbitMQ takes in an argument, in milliseconds.
const TEN_YEARS_MS: u64 = 315_360_000_000;

/// The exchanges that every vhost has.
const PREDECLARED: [(&str, ExchangeType); 6] = [
    ("amq.direct", ExchangeType::Direct),
    ("amq.fanout", ExchangeType::Fanout),
    ("amq.topic", ExchangeType::Topic),
    ("amq.headers", ExchangeType::Headers),
    ("amq.match", ExchangeType::Headers),
    ("amq.rabbitmq.trace", ExchangeType::Topic),
];

const MATCHES: &[&str] = &["all", "any", "all-with-x", "any-with-x"];

/// What an argument takes.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// A duration; on the wire milliseconds, at least so many.
    Duration(u64),
    /// A size; on the wire bytes.
    Size,
    /// An integer from here to there.
    Integer(i64, i64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A name of at most 255 bytes.
    Name,
    /// True or false.
    Flag,
}

/// An argument with a readable name.
pub(super) struct Known {
    pub(super) key: &'static str,
    pub(super) argument: &'static str,
    takes: Takes,
}

pub(super) const fn known(key: &'static str, argument: &'static str, takes: Takes) -> Known {
    Known { key, argument, takes }
}

const EXCHANGE_ARGUMENTS: &[Known] = &[known("alternate_exchange", "alternate-exchange", Takes::Name)];

const QUEUE_ARGUMENTS: &[Known] = &[
    known("type", "x-queue-type", Takes::Word(&["classic", "quorum"])),
    known("message_ttl", "x-message-ttl", Takes::Duration(0)),
    known("expires", "x-expires", Takes::Duration(1)),
    known("max_length", "x-max-length", Takes::Integer(0, i64::MAX)),
    known("max_length_bytes", "x-max-length-bytes", Takes::Size),
    known("overflow", "x-overflow", Takes::Word(&["drop-head", "reject-publish", "reject-publish-dlx"])),
    known("dead_letter_exchange", "x-dead-letter-exchange", Takes::Name),
    known("dead_letter_routing_key", "x-dead-letter-routing-key", Takes::Name),
    known("max_priority", "x-max-priority", Takes::Integer(0, 255)),
    known("single_active_consumer", "x-single-active-consumer", Takes::Flag),
    known("delivery_limit", "x-delivery-limit", Takes::Integer(-1, i64::MAX)),
];

const BINDING_ARGUMENTS: &[Known] = &[known("match", "x-match", Takes::Word(MATCHES))];

/// The names declared so far, with their lines.
pub(super) type Seen = HashMap<String, u32>;

/// Reads all objects into the config.
pub(super) fn read<'a>(document: &'a DeTable<'a>, report: &mut Report<'_>, config: &mut Config) {
    let mut seen = Seen::new();
    each(document, "exchange", "[[exchange]]", report, |section| {
        config.exchanges.extend(exchange(section, &mut seen));
    });
    seen.clear();
    each(document, "queue", "[[queue]]", report, |section| {
        config.queues.extend(queue(section, &mut seen));
    });
    let types: HashMap<&str, ExchangeType> = config
        .exchanges
        .iter()
        .map(|exchange| (exchange.value.name.as_str(), exchange.value.kind))
        .chain(PREDECLARED.iter().copied())
        .collect();
    seen.clear();
    each(document, "binding", "[[binding]]", report, |section| {
        config.bindings.extend(binding(section, &types, &mut seen));
    });
}

/// Hands every entry of one kind to `read_one`.
pub(super) fn each<'a>(
    document: &'a DeTable<'a>,
    key: &'static str,
    shown: &'static str,
    report: &mut Report<'_>,
    mut read_one: impl FnMut(&mut Section<'_, '_, 'a>),
) {
    let Some(value) = document.get(key) else { return };
    let help = || Some(format!("begin each with {shown} on a line of its own"));
    let Some(entries) = value.get_ref().as_array() else {
        report.wrong_type(key, value, "an array of tables", help());
        return;
    };
    for entry in entries.iter() {
        match entry.get_ref().as_table() {
            Some(table) => {
                let mut section = Section::new(report, shown, Some(table), entry.span());
                read_one(&mut section);
                section.finish();
            }
            None => report.wrong_type(key, entry, "tables", help()),
        }
    }
}

pub(super) fn located<T>(section: &Section<'_, '_, '_>, value: T) -> Located<T> {
    Located { line: section.report.line(section.span().start), value }
}

fn exchange(section: &mut Section<'_, '_, '_>, seen: &mut Seen) -> Option<Located<Exchange>> {
    let name = declared_name(section, "exchange", seen);
    let kinds = ExchangeType::ALL.map(|kind| (kind.as_str(), kind));
    let kind = section.choice("type", &kinds).unwrap_or(ExchangeType::Direct);
    let durable = section.flag("durable").unwrap_or(true);
    let auto_delete = section.flag("auto_delete").unwrap_or(false);
    let internal = section.flag("internal").unwrap_or(false);
    let arguments = arguments(section, EXCHANGE_ARGUMENTS);
    Some(located(section, Exchange { name: name?, kind, durable, auto_delete, internal, arguments }))
}

fn queue(section: &mut Section<'_, '_, '_>, seen: &mut Seen) -> Option<Located<Queue>> {
    let name = declared_name(section, "queue", seen);
    let durable = section.flag("durable").unwrap_or(true);
    let auto_delete = section.flag("auto_delete").unwrap_or(false);
    let arguments = arguments(section, QUEUE_ARGUMENTS);
    contradictions(section, &arguments, durable, auto_delete);
    Some(located(section, Queue { name: name?, durable, auto_delete, arguments }))
}

/// Reports what no broker would declare.
fn contradictions(
    section: &mut Section<'_, '_, '_>,
    arguments: &Arguments,
    durable: bool,
    auto_delete: bool,
) {
    let word = |argument: &str| match arguments.get(argument) {
        Some(Argument::Text(word)) => Some(word.as_str()),
        _ => None,
    };
    let given = |argument: &str| arguments.contains_key(argument);
    let quorum = word("x-queue-type") == Some("quorum");
    let mut refuse = |key: &str, message: &str, help: &str| {
        let span = section.span_of(key);
        section.report.error(span, Problem::Impossible(message.to_owned()), Some(help.to_owned()));
    };
    if given("x-dead-letter-routing-key") && !given("x-dead-letter-exchange") {
        let help = "add dead_letter_exchange; \"\" is the default exchange, which routes to the queue named by the key";
        refuse("dead_letter_routing_key", "a dead-letter routing key needs a dead-letter exchange", help);
    }
    if quorum && !durable {
        refuse("durable", "a quorum queue is always durable", "remove durable, or write type = \"classic\"");
    }
    if quorum && auto_delete {
        let help = "write expires = \"10 min\" instead, or type = \"classic\"";
        refuse("auto_delete", "a quorum queue cannot delete itself", help);
    }
    if quorum && given("x-max-priority") {
        refuse(
            "max_priority",
            "a quorum queue takes no max_priority",
            "remove it, or write type = \"classic\"",
        );
    }
    if quorum && word("x-overflow") == Some("reject-publish-dlx") {
        let help = "write \"reject-publish\" or \"drop-head\"";
        refuse("overflow", "a quorum queue cannot overflow by 'reject-publish-dlx'", help);
    }
}

fn binding(
    section: &mut Section<'_, '_, '_>,
    types: &HashMap<&str, ExchangeType>,
    seen: &mut Seen,
) -> Option<Located<Binding>> {
    let source = bound_exchange(section, "source");
    let destination = destination(section);
    let routing_key = section.text("routing_key").map(|key| short(section.report, "routing_key", &key));
    let mut arguments = arguments(section, BINDING_ARGUMENTS);
    headers(section, &mut arguments);
    if !section.has("source") {
        section.missing("source", "add source = \"…\", the name of an exchange");
    }
    let (source, destination) = (source?, destination?);
    if let Some(kind) = types.get(source.as_str()).filter(|kind| **kind != ExchangeType::Headers) {
        for key in ["headers", "match"] {
            if !section.has(key) {
                continue;
            }
            let message = format!(
                "'{key}' is for a headers exchange; '{}' is of type {}",
                shown(&source),
                kind.as_str()
            );
            let help =
                "bind to an exchange of type headers, such as amq.headers, or write routing_key".to_owned();
            section.report.error(section.span_of(key), Problem::Impossible(message), Some(help));
        }
    }
    let binding = Binding { source, destination, routing_key: routing_key.unwrap_or_default(), arguments };
    let binding = located(section, binding);
    let identity = format!("{:?}", binding.value);
    match seen.get(&identity) {
        Some(first_line) => {
            let Binding { source, destination, .. } = &binding.value;
            let what = format!("the binding from '{}' to {destination}", shown(source));
            let problem = Problem::Duplicate { what, first_line: *first_line };
            section.report.error(section.span(), problem, Some("leave one of them out".into()));
        }
        None => drop(seen.insert(identity, binding.line)),
    }
    Some(binding)
}

fn destination(section: &mut Section<'_, '_, '_>) -> Option<Destination> {
    let exchange = bound_exchange(section, "exchange");
    let queue = section.text("queue");
    if section.has("queue") && section.has("exchange") {
        let message = "a binding leads to a queue or to an exchange, not to both".to_owned();
        let help = Some("write one [[binding]] for each".to_owned());
        section.report.error(section.span_of("exchange"), Problem::Impossible(message), help);
    }
    if !section.has("queue") && !section.has("exchange") {
        section.missing("queue", "add queue = \"…\", or exchange = \"…\"");
    }
    match queue {
        Some(queue) if queue.get_ref().is_empty() => {
            let problem = Problem::BadName { key: "queue".into(), reason: "cannot be empty" };
            section.report.error(queue.span(), problem, Some("write the name of a queue".into()));
            None
        }
        Some(queue) => Some(Destination::Queue(short(section.report, "queue", &queue))),
        None => exchange.map(Destination::Exchange),
    }
}

/// The name of an exchange at one end of a binding.
fn bound_exchange(section: &mut Section<'_, '_, '_>, key: &'static str) -> Option<String> {
    let name = section.text(key)?;
    let text = *name.get_ref();
    let predeclared = || PREDECLARED.iter().map(|(name, _)| *name);
    if text.is_empty() {
        let problem = Problem::BadName { key: key.into(), reason: "cannot be the default exchange" };
        let help = "every queue is bound to it already, by its own name";
        section.report.error(name.span(), problem, Some(help.into()));
        return None;
    }
    if text.starts_with("amq.") && !predeclared().any(|known| known == text) {
        let problem = Problem::BadName { key: key.into(), reason: "names an exchange that cannot exist" };
        let help = match similar(text, predeclared()) {
            Some(similar) => format!("did you mean '{similar}'?"),
            None => format!("the exchanges of the broker are {}", listed(&predeclared().collect::<Vec<_>>())),
        };
        section.report.error(name.span(), problem, Some(help));
        return None;
    }
    Some(short(section.report, key, &name))
}

/// The name of an object that this entry declares.
fn declared_name(section: &mut Section<'_, '_, '_>, kind: &'static str, seen: &mut Seen) -> Option<String> {
    if !section.has("name") {
        section.missing("name", "add name = \"…\"");
    }
    let name = section.text("name")?;
    let text = *name.get_ref();
    let trouble = if text.is_empty() {
        Some(("cannot be empty", "write a name of 1 to 255 bytes"))
    } else if text.starts_with("amq.") {
        Some((
            "cannot begin with 'amq.', which is the broker's own",
            "choose another name; amq.direct and its like need no declaration",
        ))
    } else if text.contains(char::is_control) {
        Some(("cannot contain control characters", "remove line breaks and tabs"))
    } else {
        None
    };
    if let Some((reason, help)) = trouble {
        section.report.error(name.span(), Problem::BadName { key: "name".into(), reason }, Some(help.into()));
        return None;
    }
    match seen.get(text) {
        Some(first_line) => {
            let what = format!("{kind} '{}'", shown(text));
            let problem = Problem::Duplicate { what, first_line: *first_line };
            section.report.error(name.span(), problem, Some("leave one of them out".into()));
        }
        None => drop(seen.insert(text.to_owned(), section.report.line(name.span().start))),
    }
    Some(short(section.report, "name", &name))
}

/// A text that travels as a short string.
pub(super) fn short(report: &mut Report<'_>, key: &str, text: &Spanned<&str>) -> String {
    if text.get_ref().len() > LONGEST_NAME {
        let problem = Problem::BadName { key: key.to_owned(), reason: "is longer than 255 bytes" };
        report.error(
            text.span(),
            problem,
            Some(format!("it has {} bytes; shorten it", text.get_ref().len())),
        );
    }
    text.get_ref().to_string()
}

/// The arguments of an object: the readable ones and those in `arguments = { … }`.
fn arguments(section: &mut Section<'_, '_, '_>, known: &[Known]) -> Arguments {
    let mut arguments = Arguments::new();
    for known in known {
        let Some(value) = section.value(known.key) else { continue };
        let argument = readable(section.report, known, value);
        arguments.extend(argument.map(|argument| (known.argument.to_owned(), argument)));
    }
    fold(section, "arguments", known, &mut arguments);
    arguments
}

/// The headers of a binding.
fn headers(section: &mut Section<'_, '_, '_>, arguments: &mut Arguments) {
    fold(section, "headers", BINDING_ARGUMENTS, arguments);
}

/// Adds what a table of AMQP names holds.
fn fold(section: &mut Section<'_, '_, '_>, key: &'static str, known: &[Known], arguments: &mut Arguments) {
    let Some(value) = section.value(key) else { return };
    let Some(table) = value.get_ref().as_table() else {
        let help = format!("write {key} = {{ \"name\" = \"value\" }}");
        section.report.wrong_type(key, value, "a table", Some(help));
        return;
    };
    for (name, value) in table {
        let text =
            short(section.report, "the name of an argument", &Spanned::new(name.span(), &**name.get_ref()));
        let known = known.iter().find(|known| known.argument == text);
        let other = match known.filter(|known| section.has(known.key)) {
            Some(known) => Some(known.key),
            None => arguments.contains_key(&text).then_some("arguments"),
        };
        if let Some(other) = other {
            let problem = Problem::GivenTwice { key: other.to_owned(), other: text.clone() };
            section.report.error(name.span(), problem, Some("leave one of them out".into()));
        }
        let argument = match known {
            Some(known) => on_the_wire(section.report, known, value),
            None => argument(section.report, &text, value, 0),
        };
        arguments.extend(argument.map(|argument| (text, argument)));
    }
}

/// An argument as its readable key takes it.
pub(super) fn readable(
    report: &mut Report<'_>,
    known: &Known,
    value: &Spanned<DeValue<'_>>,
) -> Option<Argument> {
    let bounds = match known.takes {
        Takes::Duration(min) => Bounds { unit: Unit::Duration, min, max: TEN_YEARS_MS },
        Takes::Size => Bounds { unit: Unit::Size, min: 0, max: i64::MAX.unsigned_abs() },
        _ => return plain(report, known.key, known.takes, value),
    };
    let amount = report.quantity(known.key, value, bounds)?;
    i64::try_from(amount).ok().map(Argument::Integer)
}

/// An argument as AMQP clients send it.
pub(super) fn on_the_wire(
    report: &mut Report<'_>,
    known: &Known,
    value: &Spanned<DeValue<'_>>,
) -> Option<Argument> {
    if let (Takes::Duration(_) | Takes::Size, DeValue::String(text)) = (known.takes, value.get_ref()) {
        let help = format!("write it as {} = \"{}\" instead", known.key, shown(text));
        report.wrong_type(known.argument, value, "an integer", Some(help));
        return None;
    }
    let takes = match known.takes {
        Takes::Duration(min) => Takes::Integer(min.cast_signed(), TEN_YEARS_MS.cast_signed()),
        Takes::Size => Takes::Integer(0, i64::MAX),
        takes => takes,
    };
    plain(report, known.argument, takes, value)
}

/// An argument that reads the same under either of its names.
fn plain(report: &mut Report<'_>, key: &str, takes: Takes, value: &Spanned<DeValue<'_>>) -> Option<Argument> {
    match takes {
        Takes::Duration(_) | Takes::Size => None,
        Takes::Integer(min, max) => report.integer(key, value, &(min..=max)).map(Argument::Integer),
        Takes::Word(words) => {
            let words: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
            report.choice(key, value, &words).map(|word| Argument::Text(word.to_owned()))
        }
        Takes::Name => {
            let text = report.text(key, value)?;
            Some(Argument::Text(short(report, key, &text)))
        }
        Takes::Flag => report.flag(key, value).map(Argument::Bool),
    }
}

/// An argument whose meaning the broker may or may not know.
pub(super) fn argument(
    report: &mut Report<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    depth: usize,
) -> Option<Argument> {
    if depth > DEEPEST_ARGUMENT {
        let message = format!("'{}' nests deeper than {DEEPEST_ARGUMENT} levels", shown(key));
        report.error(value.span(), Problem::Impossible(message), Some("flatten it".into()));
        return None;
    }
    let number = |report: &mut Report<'_>, text: &str| {
        let problem = Problem::OutOfBounds { key: key.to_owned(), value: text.to_owned() };
        report.error(value.span(), problem, Some("write a number that 64 bits can hold".into()));
    };
    match value.get_ref() {
        DeValue::Boolean(flag) => Some(Argument::Bool(*flag)),
        DeValue::String(text) => Some(Argument::Text(text.to_string())),
        DeValue::Integer(integer) => {
            let parsed = integer_of(integer);
            if parsed.is_none() {
                number(report, &integer.to_string());
            }
            parsed.map(Argument::Integer)
        }
        DeValue::Float(float) => {
            let parsed = float.as_str().parse().ok().filter(|number: &f64| number.is_finite());
            if parsed.is_none() {
                number(report, float.as_str());
            }
            parsed.map(Argument::Float)
        }
        DeValue::Array(elements) => {
            let elements = elements.iter().filter_map(|element| argument(report, key, element, depth + 1));
            Some(Argument::List(elements.collect()))
        }
        DeValue::Table(table) => {
            let mut arguments = Arguments::new();
            for (name, value) in table {
                let name = Spanned::new(name.span(), &**name.get_ref());
                let name = short(report, "the name of an argument", &name);
                let argument = argument(report, &name, value, depth + 1);
                arguments.extend(argument.map(|argument| (name, argument)));
            }
            Some(Argument::Table(arguments))
        }
        DeValue::Datetime(_) => {
            report.wrong_type(
                key,
                value,
                "a string, number, boolean, array or table",
                Some("write it as a string".into()),
            );
            None
        }
    }
}
