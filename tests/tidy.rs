//! The fence: which room imports which, how long things are, and what shipped code never does.
//!
//! Each check is a function from sources to complaints, so that a test can show that it complains. Exceptions are
//! listed by name, and a list only shrinks: an exception that is not needed any more is a complaint too.

#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::{Source, functions, paths_behind, read_all};

/// Each room and what it may import: rooms, and `protocol` for the whole crate or `protocol-values` for its tables
/// and properties. `cli` is the composition root.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &["protocol-values"]),
    ("topology", &["model", "protocol-values"]),
    ("queue", &["model", "protocol-values"]),
    ("vhost", &["model", "protocol-values", "topology", "queue"]),
    ("session", &["protocol", "model", "topology", "vhost"]),
    ("storage", &["model", "protocol-values"]),
    ("auth", &["model"]),
    (
        "runtime",
        &["protocol", "model", "topology", "queue", "vhost", "session", "storage", "auth", "telemetry"],
    ),
    // `auth` answers whether a peer's address is on this machine.
    ("net", &["session", "runtime", "telemetry", "auth"]),
    ("config", &[]),
    ("telemetry", &[]),
    // A client: of the broker it knows no more than the wire.
    ("bench", &["protocol"]),
    (
        "cli",
        &[
            "protocol",
            "bench",
            "model",
            "topology",
            "queue",
            "vhost",
            "session",
            "storage",
            "auth",
            "runtime",
            "net",
            "config",
            "telemetry",
        ],
    ),
];

/// What `protocol-values` are.
const PROTOCOL_VALUES: &[&str] = &["table", "properties", "DecodeError", "EncodeError"];

/// State machines: commands, bytes and the time go in, values and effects come out.
const PURE_ROOMS: &[&str] = &["protocol", "session", "topology", "queue", "vhost"];

/// What a pure room never names.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "tracing::",
    "std::fs",
    "std::net",
    "std::thread",
    "tokio",
    "parking_lot",
    "Mutex",
    "RwLock",
    "rand::",
    "getrandom",
    "println!",
    "eprintln!",
    "async fn",
    "async move",
    ".await",
];

/// What nothing ever contains, tests included.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "#[ignore", "dbg!("];

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_MODEL_LINES: usize = 540;
const MAX_ARCHITECTURE_LINES: usize = 250;

/// Files that may be longer. Only shrinks.
const LONG_FILES: &[&str] = &[];

/// Functions that may be longer, as `path::name`. Only shrinks.
const LONG_FUNCTIONS: &[&str] = &[];

/// Folders with shipped code.
const SHIPPED: &[&str] = &["src", "protocol/src", "xtask/src"];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> Vec<Source> {
    read_all(workspace(), SHIPPED)
}

fn everything() -> Vec<Source> {
    let mut sources = shipped();
    sources.extend(read_all(workspace(), &["tests", "benches", "examples", "fuzz/fuzz_targets"]));
    sources
}

#[track_caller]
fn clean(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn import_complaints(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let room = source.room();
        match ROOMS.iter().find(|(name, _)| Some(*name) == room) {
            Some((room, allowed)) => complaints.extend(room_complaints(source, room, allowed)),
            // A crate of its own, or a file beside the rooms.
            None => {
                let foreign: &[&str] = match room {
                    Some("protocol") => &["ferrymq"],
                    Some("xtask") => &["ferrymq", "ferrymq_protocol"],
                    Some(_) => {
                        complaints.push(format!("{}: its room is not in the table", source.path));
                        &[]
                    }
                    None => &[],
                };
                let imported = foreign.iter().filter(|name| !paths_behind(&source.shipped, name).is_empty());
                complaints.extend(imported.map(|name| format!("{}: may not import {name}", source.path)));
            }
        }
    }
    complaints
}

fn room_complaints(source: &Source, room: &str, allowed: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |what: &str| complaints.push(format!("{}: {room} may not import {what}", source.path));
    let is_room = |name: &str| ROOMS.iter().any(|(room, _)| *room == name);
    for name in paths_behind(&source.shipped, "crate") {
        if name != room && !allowed.contains(&&*name) {
            complain(&name);
        }
    }
    // The way around `crate::`: a room's own root may climb to the crate's root with `super`.
    if source.path == format!("src/{room}/mod.rs") {
        let siblings = paths_behind(&source.shipped, "super");
        siblings.iter().filter(|name| is_room(name)).for_each(|name| complain(&format!("super::{name}")));
    }
    for name in paths_behind(&source.shipped, "ferrymq_protocol") {
        let is_value = PROTOCOL_VALUES.contains(&&*name);
        if !(allowed.contains(&"protocol") || is_value && allowed.contains(&"protocol-values")) {
            complain(&format!("ferrymq_protocol::{name}"));
        }
    }
    complaints
}

#[test]
fn rooms_import_what_the_table_allows() {
    clean(&import_complaints(&shipped()));
}

#[test]
fn the_import_check_complains() {
    let bad = [
        ("src/queue/a.rs", "use crate::vhost::X;"),
        ("src/queue/a.rs", "use crate::{model::X, vhost::{A, B}};"),
        ("src/queue/a.rs", "fn f() { crate::session::g() }"),
        ("src/queue/mod.rs", "use super::session::X;"),
        ("src/queue/a.rs", "use ferrymq_protocol::frame::X;"),
        ("src/auth/a.rs", "use ferrymq_protocol::table::X;"),
        ("src/session/a.rs", "use crate::storage::X;"),
        ("src/net/a.rs", "use crate::storage::X;"),
        ("src/runtime/a.rs", "use crate::cli::X;"),
        ("src/attic/a.rs", ""),
        ("protocol/src/a.rs", "use ferrymq::model::X;"),
        ("xtask/src/a.rs", "use ferrymq_protocol::table::X;"),
    ];
    for (path, text) in bad {
        assert_eq!(import_complaints(&[Source::new(path, text)]).len(), 1, "{path}: {text}");
    }
    let good = [
        ("src/queue/a.rs", "use crate::model::X; use crate::queue::Y; use ferrymq_protocol::table::Z;"),
        ("src/queue/a.rs", "// crate::vhost::X\nconst A: &str = \"crate::vhost\"; use super::vhost::X;"),
        ("src/queue/a.rs", "#[cfg(test)] mod tests { use crate::vhost::X; }"),
        ("src/queue/tests.rs", "use crate::vhost::X;"),
        ("src/cli/a.rs", "use crate::{storage::X, net::Y};"),
        ("src/lib.rs", "pub mod model;"),
        ("protocol/src/a.rs", "use crate::frame::X;"),
    ];
    for (path, text) in good {
        clean(&import_complaints(&[Source::new(path, text)]));
    }
}

fn first_line_complaints(sources: &[Source]) -> Vec<String> {
    let bad = sources.iter().filter(|source| !source.text.starts_with("//! "));
    bad.map(|source| format!("{}: does not open with what it is for (`//! `)", source.path)).collect()
}

#[test]
fn files_open_with_what_they_are_for() {
    clean(&first_line_complaints(&everything()));
}

#[test]
fn the_first_line_check_complains() {
    assert_eq!(first_line_complaints(&[Source::new("src/queue/a.rs", "use std::fmt;\n//! Late.")]).len(), 1);
    assert_eq!(first_line_complaints(&[Source::new("src/queue/a.rs", "")]).len(), 1);
    clean(&first_line_complaints(&[Source::new("src/queue/a.rs", "//! A file.")]));
}

/// Complains about what is too long and not excepted, and about what is excepted and not too long.
fn length_complaints(lengths: &[(String, usize)], max: usize, exceptions: &[&str]) -> Vec<String> {
    let long: Vec<_> = lengths.iter().filter(|(_, lines)| *lines > max).collect();
    let names: BTreeSet<&str> = long.iter().map(|(name, _)| &**name).collect();
    let unexpected = long.iter().filter(|(name, _)| !exceptions.contains(&&**name));
    let needless = exceptions.iter().filter(|name| !names.contains(*name));
    unexpected
        .map(|(name, lines)| format!("{name}: {lines} lines, {max} are allowed"))
        .chain(needless.map(|name| format!("{name}: needs no exception any more, take it off the list")))
        .collect()
}

fn file_lengths(sources: &[Source]) -> Vec<(String, usize)> {
    sources.iter().map(|source| (source.path.clone(), source.shipped_lines())).collect()
}

fn function_lengths(sources: &[Source]) -> Vec<(String, usize)> {
    let of_file = |source: &Source| {
        let path = source.path.clone();
        functions(&source.shipped).into_iter().map(move |(name, lines)| (format!("{path}::{name}"), lines))
    };
    sources.iter().flat_map(of_file).collect()
}

#[test]
fn files_are_short() {
    clean(&length_complaints(&file_lengths(&shipped()), MAX_FILE_LINES, LONG_FILES));
}

#[test]
fn functions_fit_a_screen() {
    clean(&length_complaints(&function_lengths(&shipped()), MAX_FUNCTION_LINES, LONG_FUNCTIONS));
}

#[test]
fn the_length_checks_complain() {
    let file = |lines: usize| Source::new("src/queue/a.rs", &"//! x\n".repeat(lines));
    assert_eq!(length_complaints(&file_lengths(&[file(501)]), 500, &[]).len(), 1);
    clean(&length_complaints(&file_lengths(&[file(500)]), 500, &[]));
    clean(&length_complaints(&file_lengths(&[file(501)]), 500, &["src/queue/a.rs"]));
    assert_eq!(length_complaints(&file_lengths(&[file(500)]), 500, &["src/queue/a.rs"]).len(), 1);

    let with_tests = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(600));
    clean(&length_complaints(&file_lengths(&[Source::new("src/queue/a.rs", &with_tests)]), 500, &[]));

    let function = |lines: usize| {
        let body = "    // }\n".repeat(lines - 2);
        Source::new("src/queue/a.rs", &format!("fn f(x: [u8; 2]) -> &'static str {{\n{body}}}\nfn g();\n"))
    };
    assert_eq!(function_lengths(&[function(71)]), [("src/queue/a.rs::f".to_owned(), 71)]);
    assert_eq!(length_complaints(&function_lengths(&[function(71)]), 70, &[]).len(), 1);
    clean(&length_complaints(&function_lengths(&[function(70)]), 70, &[]));
}

fn model_complaints(sources: &[Source]) -> Vec<String> {
    let model = sources.iter().filter(|source| source.room() == Some("model"));
    let lines: usize = model.map(Source::shipped_lines).sum();
    if lines <= MAX_MODEL_LINES {
        return Vec::new();
    }
    vec![format!("model: {lines} lines, {MAX_MODEL_LINES} are allowed: it holds names, not behaviour")]
}

#[test]
fn the_model_stays_small() {
    let sources = shipped();
    assert!(sources.iter().any(|source| source.room() == Some("model")), "there is a model");
    clean(&model_complaints(&sources));
}

#[test]
fn the_model_check_complains() {
    let half = |name: &str, lines| Source::new(&format!("src/model/{name}.rs"), &"//! x\n".repeat(lines));
    assert_eq!(model_complaints(&[half("a", 270), half("b", 271)]).len(), 1);
    clean(&model_complaints(&[half("a", 270), half("b", 270)]));
}

/// Complains about each needle that stands in the code at the start of a word.
fn word_complaints(path: &str, code: &str, needles: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        for needle in needles {
            let starts_word = |at: usize| {
                let needle_is_word = needle.starts_with(|c: char| c.is_alphabetic());
                let before = line[..at].chars().next_back();
                !(needle_is_word && before.is_some_and(|c| c.is_alphanumeric() || c == '_'))
            };
            if line.match_indices(needle).any(|(at, _)| starts_word(at)) {
                complaints.push(format!("{path}: `{needle}` (line {number} without tests)"));
            }
        }
    }
    complaints
}

fn purity_complaints(sources: &[Source]) -> Vec<String> {
    let pure = sources.iter().filter(|source| source.room().is_some_and(|room| PURE_ROOMS.contains(&room)));
    pure.flat_map(|source| word_complaints(&source.path, &source.shipped, IMPURE)).collect()
}

#[test]
fn pure_rooms_are_pure() {
    clean(&purity_complaints(&shipped()));
}

#[test]
fn the_purity_check_complains() {
    for needle in IMPURE {
        let source = Source::new("src/vhost/a.rs", &format!("fn f() {{ {needle} }}"));
        assert!(!purity_complaints(&[source]).is_empty(), "{needle}");
    }
    assert_eq!(purity_complaints(&[Source::new("protocol/src/a.rs", "use std::fs;")]).len(), 1);
    clean(&purity_complaints(&[Source::new("src/runtime/a.rs", "use std::fs;")]));
    clean(&purity_complaints(&[Source::new("src/queue/a.rs", "/// Not tokio. \nfn operand::x() {}")]));
}

fn unwrap_complaints(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(|source| word_complaints(&source.path, &source.shipped, &[".unwrap()"])).collect()
}

#[test]
fn shipped_code_does_not_unwrap() {
    clean(&unwrap_complaints(&shipped()));
}

#[test]
fn the_unwrap_check_complains() {
    assert_eq!(unwrap_complaints(&[Source::new("src/queue/a.rs", "fn f() { g().unwrap() }")]).len(), 1);
    clean(&unwrap_complaints(&[Source::new(
        "src/queue/a.rs",
        "#[cfg(test)] mod t { fn f() { g().unwrap() } }",
    )]));
    clean(&unwrap_complaints(&[Source::new("src/queue/a.rs", "fn f() { g().unwrap_or(1) } // .unwrap()")]));
}

fn unfinished_complaints(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(|source| word_complaints(&source.path, &source.code, UNFINISHED)).collect()
}

#[test]
fn nothing_is_left_unfinished() {
    clean(&unfinished_complaints(&everything()));
}

#[test]
fn the_unfinished_check_complains() {
    for needle in UNFINISHED {
        let source = Source::new("tests/a.rs", &format!("fn f() {{ {needle} }}"));
        assert_eq!(unfinished_complaints(&[source]).len(), 1, "{needle}");
    }
    clean(&unfinished_complaints(&[Source::new("src/queue/a.rs", "// todo!()\nfn f() { \"todo!()\" }")]));
}

fn architecture_complaints(text: &str, rooms: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_ARCHITECTURE_LINES {
        complaints.push(format!("ARCHITECTURE.md: {lines} lines, {MAX_ARCHITECTURE_LINES} are allowed"));
    }
    let named =
        |room: &&&str| !["src/", ""].iter().any(|prefix| text.contains(&format!("`{prefix}{room}/`")));
    complaints
        .extend(rooms.iter().filter(named).map(|room| format!("ARCHITECTURE.md: `{room}/` is missing")));
    complaints
}

#[test]
fn the_architecture_names_every_room() {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md exists");
    let rooms: Vec<_> = ROOMS.iter().map(|(room, _)| *room).chain(["protocol"]).collect();
    clean(&architecture_complaints(&text, &rooms));
}

#[test]
fn the_architecture_check_complains() {
    assert_eq!(architecture_complaints("`queue/` is a room", &["queue", "vhost"]).len(), 1);
    assert_eq!(architecture_complaints(&"`queue/`\n".repeat(251), &["queue"]).len(), 1);
    clean(&architecture_complaints("`src/queue/` and `vhost/`", &["queue", "vhost"]));
}

#[test]
fn every_folder_is_a_room_and_every_room_a_folder() {
    let folders: BTreeSet<_> = fs::read_dir(workspace().join("src"))
        .expect("src exists")
        .map(|entry| entry.expect("a readable entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let rooms: BTreeSet<_> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(folders, rooms);
}
