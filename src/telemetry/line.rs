//! One event as one line for people: UTC time, level, message, fields.
//!
//! Invariant: exactly one line feed, at the end; other control characters of the event are escaped.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The text format.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextLine;

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write_time(&mut writer, milliseconds_since_epoch())?;
        write_level(&mut writer, *event.metadata().level())?;
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        write_one_line(&mut writer, &text)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
                writer.write_char(' ')?;
                write_one_line(&mut writer, fields)?;
            }
        }
        writer.write_char('\n')
    }
}

#[expect(clippy::disallowed_methods, reason = "a log line carries the time of day")]
fn milliseconds_since_epoch() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn write_level(writer: &mut Writer<'_>, level: Level) -> fmt::Result {
    let colour = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        Level::TRACE => "35",
    };
    if writer.has_ansi_escapes() {
        write!(writer, " \u{1b}[{colour}m{level:<5}\u{1b}[0m ")
    } else {
        write!(writer, " {level:<5} ")
    }
}

fn write_one_line(writer: &mut impl Write, text: &str) -> fmt::Result {
    for c in text.chars() {
        if c.is_control() {
            write!(writer, "{}", c.escape_debug())?;
        } else {
            writer.write_char(c)?;
        }
    }
    Ok(())
}

/// Writes `2026-11-20 12:30:01.123`, in UTC.
fn write_time(writer: &mut impl Write, milliseconds: u64) -> fmt::Result {
    let (days, of_day) = (milliseconds / 86_400_000, milliseconds % 86_400_000);
    let (year, month, day) = civil_date(days);
    let (seconds, millisecond) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(writer, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millisecond:03}")
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day is
/// a year's last day and month lengths follow one linear rule.
fn civil_date(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_0000_TO_1970: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let days = days_since_epoch + DAYS_FROM_MARCH_0000_TO_1970;
    let (era, of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil() {
        let cases = [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (951_868_799_999, "2000-02-29 23:59:59.999"),
            (951_868_800_000, "2000-03-01 00:00:00.000"),
            (1_795_177_801_123, "2026-11-20 12:30:01.123"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000"),
            (4_107_542_399_999, "2100-02-28 23:59:59.999"),
        ];
        for (milliseconds, expected) in cases {
            let mut text = String::new();
            write_time(&mut text, milliseconds).expect("a String takes everything");
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut text = String::new();
        write_one_line(&mut text, "a\nb\u{1b}[0m\u{85}é").expect("a String takes everything");
        assert_eq!(text, "a\\nb\\u{1b}[0m\\u{85}é");
    }
}
