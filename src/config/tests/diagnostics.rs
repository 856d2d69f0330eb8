//! What is said about bad files, to the letter: `bad/NAME.toml` and what is said about it, `bad/NAME.txt`.

use std::fs;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[test]
fn bad_files_are_explained_to_the_letter() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/bad");
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 12, "only {} bad files", files.len());
    for file in files {
        let name = Path::new(file.file_name().unwrap());
        let errors = Config::from_bytes(name, &fs::read(&file).unwrap(), &Overrides::default())
            .expect_err(&format!("{} is good", file.display()));
        let expected = fs::read_to_string(file.with_extension("txt")).unwrap();
        assert_eq!(format!("{errors}\n"), expected, "\n{}", file.display());
        assert!(errors.0.iter().all(|error| error.help.is_some()), "no help in {}", file.display());
    }
}

#[test]
fn what_the_broker_refuses_is_shown_at_its_line() {
    let config = load("[log]\n\n  [[queue]]  # here\nname = \"work\"").unwrap();
    let line = config.queues[0].line;
    let refusal = config.source.refusal(line, "inequivalent arg 'durable'", Some("delete the queue".into()));
    let expected = "\
error: inequivalent arg 'durable'
 --> config.toml:3:1
  |
3 |   [[queue]]  # here
  | ^^^^^^^^^^^^^^^^^^^
help: delete the queue";
    assert_eq!(refusal.to_string(), expected);
    let nowhere = config.source.refusal(99, "gone", None).to_string();
    assert_eq!(nowhere, "error: gone\n --> config.toml:4:14\n  |\n4 | name = \"work\"\n  |              ^");
}

#[test]
fn a_diagnostic_fits_a_line_of_the_log() {
    let errors = load("[server]\n  lisen = [ # here\n\"127.0.0.1:5672\"]").unwrap_err();
    let expected =
        "config.toml:2:3: unknown key 'lisen' in [server]: `lisen = [ # here`: did you mean 'listen'?";
    assert_eq!(errors.0[0].one_line(), expected);
    let refusal = Source::default().refusal(1, "no queue 'q'", None);
    assert_eq!(refusal.one_line(), ":1:1: no queue 'q'");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("no/such/file.toml"), &Overrides::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such/file.toml: "), "{error}");
}

/// Holds for every file: an answer that a terminal shows as it is, with marks on what it quotes.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Err(errors) = Config::from_bytes(Path::new("f"), bytes, &Overrides::default()) else {
        return Ok(());
    };
    prop_assert!(!errors.0.is_empty());
    for error in &errors.0 {
        let place = &error.place;
        prop_assert!(place.line >= 1 && place.column >= 1);
        prop_assert!(place.excerpt.chars().count() <= 120);
        prop_assert!(place.marked.start <= place.marked.end && place.marked.end <= 120);
    }
    let text = errors.to_string();
    prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    Ok(())
}

/// Pieces of files, so that many of their sequences get past the parser.
const PIECES: &[&str] = &[
    "[server]\n",
    "[limits]\n",
    "[log]\n",
    "[identity]\n",
    "[[exchange]]\n",
    "[[queue]]\n",
    "[[binding]]\n",
    "[queue]\n",
    "[queue.x]\n",
    "[[queue.arguments]]\n",
    "[server",
    "name = ",
    "listen = ",
    "type = ",
    "headers = ",
    "arguments = ",
    "source = ",
    "memory_watermark = ",
    "frame_max = ",
    "message_ttl = ",
    "exchange.name = ",
    "\"q\"",
    "\"amq.x\"",
    "\"\"",
    "'1 s'",
    "'",
    "\"\"\"",
    "1",
    "-9223372036854775808",
    "1e400",
    "nan",
    "0xff",
    "true",
    "1979-05-27",
    "[",
    "]",
    "{",
    "}",
    "{ x-match = 1 }",
    "{ a.b.c = [1] }",
    ", ",
    "=",
    ".",
    "\n",
    "\r\n",
    "\t",
    "# é\n",
    "\u{1b}",
    "\u{85}",
    "\u{feff}",
    "☃",
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        check(text.as_bytes())?;
    }

    #[test]
    fn no_near_miss_panics(pieces in prop::collection::vec(select(PIECES), 0..60)) {
        check(pieces.concat().as_bytes())?;
    }

    #[test]
    fn no_broken_copy_of_a_bad_file_panics(at in 0_usize..2000, cut in 0_usize..40) {
        let text = concat!(
            include_str!("bad/bindings.toml"), include_str!("bad/queue-arguments.toml"), include_str!("bad/not-toml.toml"),
        );
        let at = at.min(text.len());
        let cut = (at + cut).min(text.len());
        check(&[&text.as_bytes()[..at], &text.as_bytes()[cut..]].concat())?;
    }
}
