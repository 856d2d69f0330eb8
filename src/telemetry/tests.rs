//! What ends up on standard output.

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, colours: bool, directives: Option<&str>, events: impl FnOnce()) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let filter = filter(LevelFilter::INFO, directives.map(str::to_owned)).expect("a valid filter");
    let subscriber = subscriber(format, filter, colours, move || writer.clone());
    tracing::subscriber::with_default(subscriber, events);
    let bytes = captured.0.lock().clone();
    String::from_utf8(bytes).expect("the log is UTF-8")
}

#[test]
fn a_text_line_is_time_level_and_message() {
    let text = logged(LogFormat::Text, false, None, || {
        tracing::info!("listening on {}", "127.0.0.1:5672");
        tracing::warn!(connection = 7, "slow");
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let (time, rest) = lines[0].split_at(23);
    assert!(time.starts_with("20") && time.as_bytes()[10] == b' ' && time.as_bytes()[19] == b'.', "{time}");
    assert_eq!(rest, " INFO  listening on 127.0.0.1:5672");
    assert_eq!(&lines[1][23..], " WARN  slow connection=7");
}

#[test]
fn an_event_is_one_line_whatever_it_carries() {
    let text = logged(LogFormat::Text, true, None, || {
        tracing::error!(user = "a\nb", "bad \u{1b}[2J\r\n2026-01-01 INFO forged");
    });
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    assert!(!text.contains("\u{1b}[2J") && !text.contains('\r'), "{text:?}");
}

#[test]
fn colours_appear_only_when_asked_for() {
    let event = || tracing::error!("x");
    assert!(logged(LogFormat::Text, true, None, event).contains('\u{1b}'));
    assert!(!logged(LogFormat::Text, false, None, event).contains('\u{1b}'));
}

#[test]
fn json_lines_parse_by_shape() {
    let text = logged(LogFormat::Json, false, None, || tracing::info!(port = 5672, "say \"hi\"\n"));
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    for part in [r#""level":"INFO""#, r#""message":"say \"hi\"\n""#, r#""port":5672"#, r#""timestamp":"2"#] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_level_hides_and_the_environment_overrides() {
    let events = || {
        tracing::debug!("detail");
        tracing::info!("event");
    };
    assert!(!logged(LogFormat::Text, false, None, events).contains("detail"));
    assert!(logged(LogFormat::Text, false, Some("debug"), events).contains("detail"));
    assert_eq!(logged(LogFormat::Text, false, Some("error"), events), "");
    assert!(logged(LogFormat::Text, false, Some("  "), events).contains("event"));
}

#[test]
fn a_bad_filter_names_the_variable() {
    let error = filter(LevelFilter::INFO, Some("a=b=c".to_owned())).expect_err("not a filter");
    assert!(error.to_string().starts_with("FERRYMQ_LOG='a=b=c' is not a log filter"), "{error}");
}

#[test]
fn reply_to_tokens_are_hidden_in_messages_and_fields() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let text = logged(format, false, None, || {
            let address = "amq.rabbitmq.reply-to.AAECAwQFBgcICQoLDA0ODw";
            tracing::warn!(queue = address, "no queue '{address}' in vhost '/'");
        });
        assert!(!text.contains("AAEC"), "{text}");
        assert_eq!(text.matches("amq.rabbitmq.reply-to.<hidden>").count(), 2, "{text}");
        assert!(text.ends_with('\n') && text.contains("in vhost '/'"), "{text}");
    }
}
