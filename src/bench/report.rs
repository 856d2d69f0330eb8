//! What a benchmark has found, as a table for people, and as JSON and CSV for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::figures::{Figure, Spread, Unit};

/// What becomes of the messages of a scenario when the broker's machine loses power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They are gone.
    Transient,
    /// Persistent in a durable queue; what is confirmed is as safe as the broker makes it.
    Confirmed,
    /// Persistent in a durable queue; nobody knows how far the broker is.
    Unconfirmed,
    /// There are none.
    NoMessages,
}

impl Durability {
    fn text(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Confirmed => "persistent + confirms",
            Self::Unconfirmed => "persistent, not confirmed",
            Self::NoMessages => "no messages",
        }
    }
}

/// What a figure cannot be read without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) scenario: &'static str,
    /// Names and values, as they were asked for.
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) durability: Durability,
    /// `none`, or how.
    pub(super) confirms: String,
    /// `automatic`, or how.
    pub(super) acks: String,
}

/// One broker, or this machine alone, and its runs.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// Product and version.
    pub(super) name: String,
    /// Where it is; nothing if there is no broker.
    pub(super) uri: String,
    /// Its process, if that is known.
    pub(super) pid: Option<u32>,
    /// And the name of its program: a broker may call itself RabbitMQ so that clients feel at home.
    pub(super) program: Option<String>,
    pub(super) runs: Vec<Vec<Figure>>,
}

/// What a benchmark has found.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) about: About,
    pub(super) sides: Vec<Side>,
}

impl Side {
    /// Every figure of the runs in its order, with its unit and spread.
    fn spreads(&self) -> Vec<(&str, Unit, Spread)> {
        let Some(first) = self.runs.first() else { return Vec::new() };
        let spread = |figure: &Figure| {
            let same =
                |run: &Vec<Figure>| run.iter().find(|other| other.name == figure.name).map(|f| f.value);
            Spread::of(self.runs.iter().filter_map(same).collect())
        };
        first.iter().filter_map(|figure| Some((&*figure.name, figure.unit, spread(figure)?))).collect()
    }

    fn json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("broker".into(), json!(self.name));
        object.insert("uri".into(), json!(self.uri));
        object.insert("pid".into(), json!(self.pid));
        object.insert("program".into(), json!(self.program));
        let mut spreads = Map::new();
        for (name, unit, spread) in self.spreads() {
            object.insert(name.to_owned(), number(unit, spread.median));
            spreads
                .insert(name.to_owned(), json!([number(unit, spread.least), number(unit, spread.greatest)]));
        }
        let run = |figures: &Vec<Figure>| {
            let entries =
                figures.iter().map(|figure| (figure.name.clone(), number(figure.unit, figure.value)));
            Value::Object(entries.collect())
        };
        object.insert("spread".into(), Value::Object(spreads));
        object.insert("runs".into(), self.runs.iter().map(run).collect());
        object
    }
}

/// Whole where only whole numbers make sense.
fn number(unit: Unit, value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "counts and bytes are far below 2^53")]
    let whole = value.round() as i64;
    if unit.is_whole() { json!(whole) } else { json!(value) }
}

impl Report {
    /// For people: what was done, and a column for each broker.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let settings: Vec<String> =
            self.about.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}: {}", self.about.scenario, settings.join(", "));
        let About { durability, confirms, acks, .. } = &self.about;
        let _ = writeln!(text, "durability: {}; confirms: {confirms}; acks: {acks}", durability.text());
        let mut rows = vec![vec![String::new()]];
        rows.extend(self.names().iter().map(|(name, _)| vec![label(name)]));
        for (side, letter) in self.sides.iter().zip(["A", "B"]) {
            let program = side.program.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
            let pid = side.pid.map(|pid| format!("{program}, pid {pid}")).unwrap_or_default();
            if !side.uri.is_empty() {
                let _ = writeln!(text, "{letter}: {} at {}{pid}", side.name, side.uri);
            }
            rows[0].push(letter.to_owned());
            let spreads = side.spreads();
            for (row, (name, unit)) in rows[1..].iter_mut().zip(self.names()) {
                let spread = spreads.iter().find(|(other, _, _)| *other == name);
                row.push(spread.map_or_else(|| "-".to_owned(), |(_, _, spread)| self.cell(unit, *spread)));
            }
        }
        let runs = self.sides.iter().map(|side| side.runs.len()).max().unwrap_or(0);
        if runs > 1 {
            let _ = writeln!(text, "medians of {runs} runs (least - greatest)");
        }
        text.push_str(&aligned(&rows));
        text
    }

    fn cell(&self, unit: Unit, spread: Spread) -> String {
        let median = unit.show(spread.median);
        if self.sides.iter().all(|side| side.runs.len() < 2) {
            return median;
        }
        format!("{median} ({} - {})", unit.show(spread.least), unit.show(spread.greatest))
    }

    /// The names of all figures, the first broker's first.
    fn names(&self) -> Vec<(&str, Unit)> {
        let mut names: Vec<(&str, Unit)> = Vec::new();
        for figure in self.sides.iter().flat_map(|side| side.runs.iter().flatten()) {
            if !names.iter().any(|(name, _)| *name == figure.name) {
                names.push((&figure.name, figure.unit));
            }
        }
        names
    }

    /// One object on one line: medians by name, `spread` with least and greatest, every run in `runs`, and the other
    /// broker's the same way in `compared`.
    pub fn json(&self) -> String {
        let mut object = self.sides.first().map(Side::json).unwrap_or_default();
        let settings = self.about.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        object.insert("scenario".into(), json!(self.about.scenario));
        object.insert("settings".into(), Value::Object(settings.collect()));
        object.insert("durability".into(), json!(self.about.durability.text()));
        object.insert("confirms".into(), json!(self.about.confirms));
        object.insert("acks".into(), json!(self.about.acks));
        if let Some(other) = self.sides.get(1) {
            object.insert("compared".into(), Value::Object(other.json()));
        }
        format!("{}\n", Value::Object(object))
    }

    /// A line of names, and one for each run.
    pub fn csv(&self) -> String {
        let names = self.names();
        let mut fixed =
            vec!["scenario", "broker", "uri", "run", "settings", "durability", "confirms", "acks"];
        fixed.extend(names.iter().map(|(name, _)| *name));
        let mut text = fixed.join(",") + "\n";
        let settings: Vec<String> =
            self.about.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for side in &self.sides {
            for (run, figures) in (1..).zip(&side.runs) {
                let mut cells = vec![
                    self.about.scenario.to_owned(),
                    side.name.clone(),
                    side.uri.clone(),
                    format!("{run}"),
                    settings.join(" "),
                    self.about.durability.text().to_owned(),
                    self.about.confirms.clone(),
                    self.about.acks.clone(),
                ];
                cells.extend(names.iter().map(|(name, unit)| {
                    let figure = figures.iter().find(|figure| figure.name == *name);
                    figure.map(|figure| number(*unit, figure.value).to_string()).unwrap_or_default()
                }));
                let quoted: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
                text.push_str(&(quoted.join(",") + "\n"));
            }
        }
        text
    }
}

/// The name of a figure in words; its unit stands with the number.
fn label(name: &str) -> String {
    let words = name.strip_suffix("_us").or_else(|| name.strip_suffix("_bytes")).unwrap_or(name);
    let words = words.replace("_us_per_", "_per_").replace("p99_9", "p99.9");
    words.replace("_per_s", "/s").replace('_', " ")
}

/// As RFC 4180 has it.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// Columns: the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(a: &[u64], b: &[u64]) -> Report {
        let side = |name: &str, runs: &[u64]| Side {
            name: name.into(),
            uri: format!("amqp://{name}:5672"),
            pid: Some(7),
            program: Some("broker".into()),
            runs: runs
                .iter()
                .map(|rate| {
                    vec![
                        Figure::count("published", 10),
                        Figure::new("published_per_s", Unit::PerSecond, *rate as f64),
                    ]
                })
                .collect(),
        };
        let mut sides = vec![side("one", a)];
        if !b.is_empty() {
            sides.push(side("two, the other", b));
        }
        let about = About {
            scenario: "throughput",
            settings: vec![("size", "16 B".into()), ("publishers", "1".into())],
            durability: Durability::Transient,
            confirms: "none".into(),
            acks: "automatic".into(),
        };
        Report { about, sides }
    }

    #[test]
    fn a_table_says_how_it_was_measured() {
        assert_eq!(
            report(&[1_500], &[]).table(),
            "throughput: size 16 B, publishers 1\n\
             durability: transient; confirms: none; acks: automatic\n\
             A: one at amqp://one:5672, broker, pid 7\n\
             \x20                A\n\
             published       10\n\
             published/s  1,500\n"
        );
        let table = report(&[1_500, 1_000, 4_000], &[1, 2, 3]).table();
        assert!(table.contains("medians of 3 runs (least - greatest)\n"), "{table}");
        assert!(table.contains("1,500 (1,000 - 4,000)"), "{table}");
        assert!(table.contains("B: two, the other at"), "{table}");
    }

    #[test]
    fn json_is_one_object_with_medians_spread_and_runs() {
        let text = report(&[1_500, 1_000, 4_000], &[2]).json();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(value["published"], json!(10));
        assert_eq!(value["published_per_s"], json!(1_500.0));
        assert_eq!(value["spread"]["published_per_s"], json!([1_000.0, 4_000.0]));
        assert_eq!(value["runs"][2]["published_per_s"], json!(4_000.0));
        assert_eq!(value["compared"]["published_per_s"], json!(2.0));
        assert_eq!(value["durability"], json!("transient"));
        assert_eq!(value["settings"]["size"], json!("16 B"));
    }

    #[test]
    fn csv_has_a_line_for_each_run() {
        let text = report(&[1, 2], &[3]).csv();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].ends_with(",acks,published,published_per_s"), "{text}");
        assert!(lines[2].starts_with("throughput,one,amqp://one:5672,2,size=16 B publishers=1,"), "{text}");
        assert!(lines[3].starts_with("throughput,\"two, the other\","), "{text}");
        assert!(lines[3].ends_with(",10,3.0"), "{text}");
    }
}
