//! From the text of a file to a [`Config`]: the document, and the sections that hold settings.
//!
//! Invariant: reading goes on after an error, so that one pass finds all of them.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, Lines, Problem, Source};
use super::quantity::Unit;
use super::read::{Bounds, OUTSIDE, Report, Section, listed, similar};
use super::{
    Config, Durability, Identity, Limits, Log, LogFormat, LogLevel, MemoryWatermark, QueueDefaults, Storage,
    parse_address,
};
use super::{objects, policy};

/// The sections that hold settings, by name and by what messages call them.
const SETTINGS: &[(&str, &str)] = &[
    ("server", "[server]"),
    ("log", "[log]"),
    ("limits", "[limits]"),
    ("storage", "[storage]"),
    ("queues", "[queues]"),
    ("identity", "[identity]"),
];

/// The sections that declare objects, likewise.
const OBJECTS: &[(&str, &str)] = &[
    ("exchange", "[[exchange]]"),
    ("queue", "[[queue]]"),
    ("binding", "[[binding]]"),
    ("policy", "[[policy]]"),
    ("operator_policy", "[[operator_policy]]"),
];

/// What every line of TOML looks like.
const SYNTAX_HELP: &str = "write key = value, with texts in double quotes, or [section]";

/// Largest count that a limit may have.
const COUNT_MAX: i64 = u32::MAX as i64;

/// Longest text in `[identity]`, in bytes.
const LONGEST_IDENTITY: usize = 255;

/// Reads a file's content.
pub(super) fn document(path: &Path, bytes: &[u8]) -> Result<Config, Diagnostics> {
    let mut source = Source { path: Some(path.to_path_buf()), text: "".into() };
    match str::from_utf8(bytes) {
        Ok(text) => source.text = text.into(),
        Err(error) => {
            source.text = String::from_utf8_lossy(bytes).into();
            return Err(not_utf8(&source, error.valid_up_to()));
        }
    }
    let mut report = Report::new(&source);
    let config = read(&source, &mut report);
    report.finish()?;
    Ok(Config { source, ..config })
}

fn not_utf8(source: &Source, offset: usize) -> Diagnostics {
    let place = source.place(&Lines::of(&source.text), offset..offset + 1);
    let help = Some("save the file as UTF-8".to_owned());
    Diagnostics(vec![Diagnostic { problem: Problem::NotUtf8, help, place }])
}

/// Reads the text into a config and notes in the report what is wrong; the config is good if nothing is.
pub(super) fn read(source: &Source, report: &mut Report<'_>) -> Config {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let mut broken = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // The parser has this one message for a key and for a section that is there already, and goes on.
        if error.message() == "duplicate key" {
            report.error(span, Problem::Repeated, Some("leave one of them out".to_owned()));
        } else {
            broken.push(span.start);
            report.error(span, Problem::Syntax(error.message().to_owned()), Some(SYNTAX_HELP.to_owned()));
        }
    }
    broken.sort_unstable();
    // The parser stops building the document at some errors: what follows them is read without their lines.
    let mended = mended(&source.text, &broken);
    let document = if broken.is_empty() { document } else { DeTable::parse_recoverable(&mended).0 };
    let document = document.get_ref();
    unknown_sections(document, report);
    let mut config = Config::default();
    server(settings(document, "server", report), &mut config);
    config.log = log(settings(document, "log", report));
    config.limits = limits(settings(document, "limits", report));
    config.storage = storage(settings(document, "storage", report));
    config.queues_default = queues(settings(document, "queues", report));
    config.identity = identity(settings(document, "identity", report));
    objects::read(document, report, &mut config);
    policy::read(document, report, &mut config);
    config
}

/// The text with blanks, byte for byte, for the lines at these offsets, which ascend.
fn mended(text: &str, broken: &[usize]) -> String {
    let mut mended = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let here = mended.len()..=mended.len() + line.trim_end_matches('\n').len();
        let next = broken.get(broken.partition_point(|offset| offset < here.start()));
        if next.is_some_and(|offset| here.contains(offset)) {
            mended.extend(line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            mended.push_str(line);
        }
    }
    mended
}

fn unknown_sections(document: &DeTable<'_>, report: &mut Report<'_>) {
    let known = || SETTINGS.iter().chain(OBJECTS);
    for (key, value) in document {
        let name = key.get_ref();
        if known().any(|(known, _)| known == name) {
            continue;
        }
        let is_section = match value.get_ref() {
            DeValue::Table(_) => true,
            DeValue::Array(entries) => entries.iter().any(|entry| entry.get_ref().is_table()),
            _ => false,
        };
        if !is_section {
            report.unknown_key(key.span(), name, OUTSIDE);
            continue;
        }
        let bracketed = |name| known().find(|(known, _)| *known == name).map(|(_, shown)| *shown);
        let help = match similar(name, known().map(|(known, _)| *known)).and_then(bracketed) {
            Some(similar) => format!("did you mean {similar}?"),
            None => {
                let sections: Vec<&str> = known().map(|(_, shown)| *shown).collect();
                format!("sections are {}", listed(&sections))
            }
        };
        let problem = Problem::UnknownSection { name: name.to_string() };
        report.error(key.span(), problem, Some(help));
    }
}

/// The section of this name, absent or not.
fn settings<'r, 's, 'a>(
    document: &'a DeTable<'a>,
    name: &'static str,
    report: &'r mut Report<'s>,
) -> Section<'r, 's, 'a> {
    let shown = SETTINGS.iter().find(|(known, _)| *known == name).map_or(name, |(_, shown)| *shown);
    let value = document.get(name);
    let table = value.and_then(|value| value.get_ref().as_table());
    if let (Some(value), None) = (value, table) {
        report.wrong_type(name, value, "a table", Some(format!("write {shown} on a line of its own")));
    }
    Section::new(report, shown, table, value.map_or(0..0, Spanned::span))
}

fn server(mut section: Section<'_, '_, '_>, config: &mut Config) {
    if let Some(listen) = section.value("listen").and_then(|value| addresses(section.report, value)) {
        config.listen = listen;
    }
    if let Some(data_dir) = section.text("data_dir") {
        if data_dir.get_ref().is_empty() {
            let problem = Problem::BadName { key: "data_dir".into(), reason: "cannot be empty" };
            section.report.error(data_dir.span(), problem, Some("write the path of a directory".into()));
        }
        config.data_dir = data_dir.into_inner().into();
    }
    section.finish();
}

fn addresses(report: &mut Report<'_>, value: &Spanned<DeValue<'_>>) -> Option<Vec<SocketAddr>> {
    let Some(elements) = value.get_ref().as_array() else {
        let help = match value.get_ref().as_str().map(parse_address) {
            Some(Ok(address)) => format!("write listen = [\"{address}\"]"),
            _ => "write listen = [\"127.0.0.1:5672\"]".to_owned(),
        };
        report.wrong_type("listen", value, "an array of addresses", Some(help));
        return None;
    };
    if elements.is_empty() {
        let problem = Problem::BadName { key: "listen".into(), reason: "cannot be empty" };
        report.error(value.span(), problem, Some("write listen = [\"127.0.0.1:5672\"]".into()));
    }
    let mut addresses: Vec<(SocketAddr, u32)> = Vec::new();
    for element in elements.iter() {
        let Some(address) = address(report, element) else { continue };
        let same = |(other, _): &&(SocketAddr, u32)| *other == address && address.port() != 0;
        if let Some((_, first_line)) = addresses.iter().find(same) {
            let problem = Problem::Duplicate { what: format!("address {address}"), first_line: *first_line };
            report.error(element.span(), problem, Some("leave one of them out".into()));
        }
        addresses.push((address, report.line(element.span().start)));
    }
    Some(addresses.into_iter().map(|(address, _)| address).collect())
}

fn address(report: &mut Report<'_>, value: &Spanned<DeValue<'_>>) -> Option<SocketAddr> {
    let Some(text) = value.get_ref().as_str() else {
        report.wrong_type("listen", value, "addresses as strings", Some(address_advice("")));
        return None;
    };
    match parse_address(text) {
        Ok(address) => Some(address),
        Err(advice) => {
            report.error(value.span(), Problem::NotAnAddress { value: text.to_owned() }, Some(advice));
            None
        }
    }
}

/// What to write instead of a text that is no address and port.
pub(super) fn address_advice(text: &str) -> String {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let (host, port) = match (host.parse::<u16>(), port) {
        (Ok(_), "") => ("", host),
        _ => (host, port),
    };
    let port = if port.parse::<u16>().is_ok() { port } else { "5672" };
    match host {
        "" | "*" => {
            format!("write \"0.0.0.0:{port}\" for all interfaces or \"127.0.0.1:{port}\" for this machine")
        }
        "localhost" => format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
        host if host.parse::<std::net::Ipv4Addr>().is_ok() => format!("write \"{host}:{port}\""),
        _ => match text.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("write \"[{address}]:5672\""),
            Err(_) => "write an IP address and a port, such as \"127.0.0.1:5672\" or \"[::1]:5672\"".into(),
        },
    }
}

fn log(mut section: Section<'_, '_, '_>) -> Log {
    const LEVELS: [LogLevel; 5] =
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let Log { level, format } = Config::default().log;
    let level = section.choice("level", &LEVELS.map(|level| (level.as_str(), level))).unwrap_or(level);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.choice("format", &formats).unwrap_or(format);
    section.finish();
    Log { level, format }
}

fn limits(mut section: Section<'_, '_, '_>) -> Limits {
    let default = Limits::default();
    let size = |min, max| Bounds { unit: Unit::Size, min, max };
    let time = |min, max| Bounds { unit: Unit::Duration, min, max };
    let section = &mut section;
    let limits = Limits {
        frame_max: quantity(section, "frame_max", size(4 << 10, 16 << 20)).unwrap_or(default.frame_max),
        channel_max: integer(section, "channel_max", 1..=65_535).unwrap_or(default.channel_max),
        heartbeat_seconds: heartbeat(section).unwrap_or(default.heartbeat_seconds),
        max_message_size_bytes: quantity(section, "max_message_size", size(1, 512 << 20))
            .unwrap_or(default.max_message_size_bytes),
        handshake_timeout: duration(section, "handshake_timeout", time(1_000, 3_600_000))
            .unwrap_or(default.handshake_timeout),
        max_connections: count(section, "max_connections").unwrap_or(default.max_connections),
        max_unauthenticated_connections: integer(section, "max_unauthenticated_connections", 1..=COUNT_MAX)
            .unwrap_or(default.max_unauthenticated_connections),
        memory_watermark: memory_watermark(section).unwrap_or(default.memory_watermark),
        outbox_bytes: quantity(section, "outbox", size(64 << 10, 1 << 30)).unwrap_or(default.outbox_bytes),
        write_timeout: duration(section, "write_timeout", time(1_000, 3_600_000))
            .unwrap_or(default.write_timeout),
        max_consumers_per_channel: count(section, "max_consumers_per_channel")
            .unwrap_or(default.max_consumers_per_channel),
    };
    section.finish();
    limits
}

fn storage(mut section: Section<'_, '_, '_>) -> Storage {
    let default = Storage::default();
    let size = |min, max| Bounds { unit: Unit::Size, min, max };
    let levels = [("fsync", Durability::Fsync), ("write", Durability::Write), ("memory", Durability::Memory)];
    let section = &mut section;
    let storage = Storage {
        durability: section.choice("durability", &levels).unwrap_or(default.durability),
        log_budget_bytes: quantity(section, "log_budget", size(64 << 20, 1 << 50))
            .unwrap_or(default.log_budget_bytes),
        max_unwritten_bytes: quantity(section, "max_unwritten", size(1 << 20, 64 << 30))
            .unwrap_or(default.max_unwritten_bytes),
        message_cache_bytes: quantity(section, "message_cache", size(0, 1 << 40))
            .unwrap_or(default.message_cache_bytes),
        disk_free_limit_bytes: quantity(section, "disk_free_limit", size(0, 1 << 50))
            .unwrap_or(default.disk_free_limit_bytes),
    };
    section.finish();
    storage
}

fn queues(mut section: Section<'_, '_, '_>) -> QueueDefaults {
    let default = QueueDefaults::default();
    let limit = section.integer("default_delivery_limit", -1..=i64::MAX);
    let queues = QueueDefaults {
        delivery_limit: limit.map_or(default.delivery_limit, |limit| u64::try_from(limit).ok()),
        nack_counts_as_failure: section
            .flag("nack_counts_as_failure")
            .unwrap_or(default.nack_counts_as_failure),
    };
    section.finish();
    queues
}

fn quantity<T: TryFrom<u64>>(
    section: &mut Section<'_, '_, '_>,
    key: &'static str,
    bounds: Bounds,
) -> Option<T> {
    T::try_from(section.quantity(key, bounds)?).ok()
}

fn integer<T: TryFrom<i64>>(
    section: &mut Section<'_, '_, '_>,
    key: &'static str,
    bounds: RangeInclusive<i64>,
) -> Option<T> {
    T::try_from(section.integer(key, bounds)?).ok()
}

fn duration(section: &mut Section<'_, '_, '_>, key: &'static str, bounds: Bounds) -> Option<Duration> {
    section.quantity(key, bounds).map(Duration::from_millis)
}

/// A limit that 0 lifts.
fn count(section: &mut Section<'_, '_, '_>, key: &'static str) -> Option<Option<u32>> {
    integer(section, key, 0..=COUNT_MAX).map(|count: u32| (count != 0).then_some(count))
}

/// Whole seconds, because AMQP negotiates nothing finer.
fn heartbeat(section: &mut Section<'_, '_, '_>) -> Option<u16> {
    let key = "heartbeat";
    let bounds = Bounds { unit: Unit::Duration, min: 0, max: 65_535_000 };
    let value = section.value(key)?;
    let milliseconds = section.report.quantity(key, value, bounds)?;
    if milliseconds % 1_000 != 0 {
        let problem = Problem::OutOfBounds { key: key.into(), value: Unit::Duration.format(milliseconds) };
        section.report.error(value.span(), problem, Some("write whole seconds, such as \"60 s\"".into()));
    }
    u16::try_from(milliseconds / 1_000).ok()
}

fn memory_watermark(section: &mut Section<'_, '_, '_>) -> Option<MemoryWatermark> {
    let key = "memory_watermark";
    let value = section.value(key)?;
    let advice = "write a fraction of the memory, such as 0.6, or a size, such as \"400 MiB\"";
    match value.get_ref() {
        DeValue::String(_) => {
            let bounds = Bounds { unit: Unit::Size, min: 16 << 20, max: 1 << 50 };
            section.report.quantity(key, value, bounds).map(MemoryWatermark::Bytes)
        }
        DeValue::Float(float) => {
            let fraction = float.as_str().parse().ok().filter(|fraction| *fraction > 0.0 && *fraction <= 1.0);
            if fraction.is_none() {
                let problem = Problem::OutOfBounds { key: key.into(), value: float.to_string() };
                let help = "write a fraction above 0.0 and at most 1.0, or a size, such as \"400 MiB\"";
                section.report.error(value.span(), problem, Some(help.into()));
            }
            fraction.map(MemoryWatermark::Fraction)
        }
        _ => {
            section.report.wrong_type(key, value, "a fraction or a size", Some(advice.into()));
            None
        }
    }
}

fn identity(mut section: Section<'_, '_, '_>) -> Identity {
    let Identity { product, version, platform, information, cluster_name } = Identity::default();
    let mut text = |key, default| {
        let Some(text) = section.text(key) else { return default };
        if !(1..=LONGEST_IDENTITY).contains(&text.get_ref().len()) {
            let problem = Problem::BadName { key: key.into(), reason: "must have 1 to 255 bytes" };
            section.report.error(
                text.span(),
                problem,
                Some(format!("write {key} = \"{default}\", the default")),
            );
        }
        text.into_inner().to_owned()
    };
    let product = text("product", product);
    let version = text("version", version);
    let platform = text("platform", platform);
    let information = text("information", information);
    let cluster_name = text("cluster_name", cluster_name);
    section.finish();
    Identity { product, version, platform, information, cluster_name }
}
