//! Named numbers, what they are in, and what several runs of them amount to.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What a figure is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Whole numbers.
    Count,
    PerSecond,
    Seconds,
    Microseconds,
    Bytes,
}

impl Unit {
    /// For people.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Count | Self::PerSecond => grouped(value),
            Self::Seconds => format!("{value:.2} s"),
            Self::Microseconds if value >= 1_000_000.0 => format!("{:.3} s", value / 1e6),
            Self::Microseconds if value >= 10_000.0 => format!("{:.2} ms", value / 1e3),
            Self::Microseconds => format!("{value:.3} us"),
            Self::Bytes if value.abs() >= 1_048_576.0 => format!("{:.1} MiB", value / 1_048_576.0),
            Self::Bytes => format!("{:.1} KiB", value / 1_024.0),
        }
    }

    /// Whether there are no fractions of it.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Self::Count | Self::Bytes)
    }
}

/// Rounded, in groups of three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number that was measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// Its name in JSON and CSV.
    pub(super) name: String,
    pub(super) unit: Unit,
    pub(super) value: f64,
}

impl Figure {
    pub(super) fn count(name: &str, value: u64) -> Self {
        Self::new(name, Unit::Count, value as f64)
    }

    /// `count` within `time`; 0 if there was no time.
    pub(super) fn rate(name: &str, count: u64, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        Self::new(name, Unit::PerSecond, if seconds > 0.0 { count as f64 / seconds } else { 0.0 })
    }

    /// Time for each of `count`; 0 if there were none.
    pub(super) fn share(name: &str, time: Duration, count: u64) -> Self {
        let value = if count > 0 { time.as_secs_f64() * 1e6 / count as f64 } else { 0.0 };
        Self::new(name, Unit::Microseconds, value)
    }

    pub(super) fn seconds(name: &str, time: Duration) -> Self {
        Self::new(name, Unit::Seconds, time.as_secs_f64())
    }

    pub(super) fn bytes(name: &str, bytes: u64) -> Self {
        Self::new(name, Unit::Bytes, bytes as f64)
    }

    /// By how much memory has grown; it may have shrunk. For each of `count`.
    pub(super) fn growth(name: &str, before: u64, after: u64, count: u64) -> Self {
        Self::new(name, Unit::Bytes, (after as f64 - before as f64) / count.max(1) as f64)
    }

    /// The percentiles of nanoseconds that people ask for, as `<name>_p50_us` and so on.
    pub(super) fn percentiles(name: &str, histogram: &Histogram<u64>) -> Vec<Self> {
        let figure = |suffix: &str, nanos: u64| {
            Self::new(&format!("{name}_{suffix}_us"), Unit::Microseconds, nanos as f64 / 1e3)
        };
        let at = |suffix: &str, quantile: f64| figure(suffix, histogram.value_at_quantile(quantile));
        vec![
            at("p50", 0.5),
            at("p90", 0.9),
            at("p99", 0.99),
            at("p99_9", 0.999),
            at("p99_99", 0.9999),
            figure("max", histogram.max()),
        ]
    }

    pub(super) fn new(name: &str, unit: Unit, value: f64) -> Self {
        Self { name: name.to_owned(), unit, value }
    }
}

/// Several runs of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) greatest: f64,
}

impl Spread {
    /// The median of an even number is the mean of the middle two. `None` without a run.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { least, median, greatest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_least_median_and_greatest() {
        let spread = |values: &[f64]| Spread::of(values.to_vec()).map(|s| (s.least, s.median, s.greatest));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 100.0]), Some((1.0, 3.0, 100.0)));
        assert_eq!(spread(&[7.0]), Some((7.0, 7.0, 7.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn figures_are_for_people() {
        assert_eq!(Unit::Count.show(1_234_567.0), "1,234,567");
        assert_eq!(Unit::PerSecond.show(999.6), "1,000");
        assert_eq!(Unit::Count.show(-1_000.0), "-1,000");
        assert_eq!(Unit::Microseconds.show(0.5), "0.500 us");
        assert_eq!(Unit::Microseconds.show(12_345.0), "12.35 ms");
        assert_eq!(Unit::Bytes.show(1536.0), "1.5 KiB");
        assert_eq!(Unit::Bytes.show(12_582_912.0), "12.0 MiB");
    }

    #[test]
    fn rates_and_shares_of_nothing_are_zero() {
        assert_eq!(Figure::rate("r", 5, Duration::ZERO).value, 0.0);
        assert_eq!(Figure::share("s", Duration::from_secs(1), 0).value, 0.0);
        assert_eq!(Figure::share("s", Duration::from_secs(1), 4).value, 250_000.0);
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1_000_u64).for_each(|micros| histogram.record(micros * 1_000).unwrap());
        let figures = Figure::percentiles("deliver", &histogram);
        assert_eq!(figures[0].name, "deliver_p50_us");
        assert!((figures[0].value - 500.0).abs() < 1.0, "{figures:?}");
        assert!((figures[2].value - 990.0).abs() < 2.0, "{figures:?}");
    }
}
