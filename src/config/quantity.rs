//! Sizes and durations as an operator writes them: a whole number and its unit, `"64 MiB"`, `"30 s"`.
//!
//! Invariant: what [`Unit::format`] writes, [`Unit::parse`] reads back as the same number.

/// What a quantity counts; its number is in bytes or in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Bytes.
    Size,
    /// Milliseconds.
    Duration,
}

/// Units with their factors, the largest first.
const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Units with their factors, the largest first.
const DURATIONS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl Unit {
    /// The word for it in a message.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Duration => "duration",
        }
    }

    /// What to write, for a message.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Size => "write a whole number and B, KiB, MiB or GiB (or kB, MB, GB), such as \"64 MiB\"",
            Self::Duration => "write a whole number and ms, s, min, h or d, such as \"30 s\"",
        }
    }

    fn factors(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Size => SIZES,
            Self::Duration => DURATIONS,
        }
    }

    /// Reads digits, optional blanks and a unit. `None` if the text is anything else or overflows.
    pub(super) fn parse(self, text: &str) -> Option<u64> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start_matches(' ');
        let (_, factor) = self.factors().iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*factor)
    }

    /// Writes it in the largest binary or clock unit that leaves no remainder.
    pub(super) fn format(self, amount: u64) -> String {
        let decimal = |name: &str| matches!(name, "GB" | "MB" | "kB");
        let fits =
            |(name, factor): &&(&str, u64)| amount != 0 && amount.is_multiple_of(*factor) && !decimal(name);
        match self.factors().iter().find(fits) {
            Some((name, factor)) => format!("{} {name}", amount / factor),
            None if self == Self::Size => "0 B".to_owned(),
            None => "0 s".to_owned(),
        }
    }
}
