//! The command line from arguments to exit code and output.

use std::fs;

use super::*;

fn ferrymq(arguments: &[&str]) -> (Exit, String, String) {
    let arguments = std::iter::once("ferrymq").chain(arguments.iter().copied()).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(arguments, &mut out, &mut err);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn serve_args(arguments: &[&str]) -> ServeArgs {
    let cli = Cli::try_parse_from(std::iter::once("ferrymq").chain(arguments.iter().copied())).unwrap();
    match cli.command {
        None => cli.serve,
        Some(Command::Serve(args)) => args,
        Some(command) => panic!("{command:?}"),
    }
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn serve_may_be_left_out() {
    for prefix in [&[][..], &["serve"]] {
        let flags = ["--config", "f", "--data-dir", "d", "--listen", "127.0.0.1:1", "--listen", "[::1]:2"];
        let args = serve_args(&[prefix, &flags].concat());
        assert_eq!(args.config.unwrap().to_str(), Some("f"));
        assert_eq!(args.data_dir.unwrap().to_str(), Some("d"));
        assert_eq!(args.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let (exit, out, err) = ferrymq(&["--version"]);
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Success, "ferrymq 0.1.0\n", ""));
    let (exit, out, err) = ferrymq(&["--help"]);
    assert_eq!((exit, err.as_str()), (Exit::Success, ""));
    for word in ["serve", "config", "--config <FILE>", "--data-dir <DIR>", "--listen <ADDR:PORT>", "65"] {
        assert!(out.contains(word), "{word} is not in {out}");
    }
}

#[test]
fn nonsense_is_a_usage_error_with_advice() {
    let (exit, out, err) = ferrymq(&["--listen", "localhost:5672"]);
    assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
    assert!(err.contains("write \"127.0.0.1:5672\" or \"[::1]:5672\""), "{err}");
    assert_eq!(ferrymq(&["srve"]).0, Exit::Usage);
    assert_eq!(ferrymq(&["config"]).0, Exit::Usage);
    assert_eq!(ferrymq(&["config", "check"]).0, Exit::Usage);
}

#[test]
fn config_check_says_what_is_declared_or_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let name = file.to_str().unwrap();

    let (exit, out, err) = ferrymq(&["config", "check", name]);
    assert_eq!((exit, out.as_str()), (Exit::NoInput, ""));
    assert!(err.starts_with(&format!("error: cannot read {name}: ")), "{err}");

    fs::write(&file, "[[queue]]\nname = \"orders\"\n").unwrap();
    let ok = format!("{name}: ok: 0 exchanges, 1 queue, 0 bindings, 0 policies\n");
    assert_eq!(ferrymq(&["config", "check", name]), (Exit::Success, ok, String::new()));

    fs::write(&file, "[server]\nlisen = []\ndata_dir = 1\n").unwrap();
    let (exit, out, err) = ferrymq(&["config", "check", name]);
    assert_eq!((exit, out.as_str()), (Exit::BadData, ""));
    assert!(err.contains("unknown key 'lisen' in [server]"), "{err}");
    assert!(err.ends_with(&format!("\n{name}: 2 errors\n")), "{err}");
}

#[test]
fn serving_refuses_a_bad_file_before_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, "nonsense").unwrap();
    let data = directory.path().join("data");
    let arguments = ["serve", "--config", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    assert_eq!(ferrymq(&arguments).0, Exit::BadData);
    assert!(!data.exists());
}

#[test]
fn the_file_is_the_named_one_or_the_default_one_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let default_file = directory.path().join("config.toml");
    let data_dir = |args: &ServeArgs| configuration(args, &default_file).unwrap().data_dir;
    let by_default = Config::default().data_dir;

    assert_eq!(data_dir(&ServeArgs::default()), by_default);
    fs::write(&default_file, "server.data_dir = \"of the default file\"").unwrap();
    assert_eq!(data_dir(&ServeArgs::default()), Path::new("of the default file"));

    let named = directory.path().join("named.toml");
    fs::write(&named, "").unwrap();
    let mut args = ServeArgs { config: Some(named), ..ServeArgs::default() };
    assert_eq!(data_dir(&args), by_default);
    args.data_dir = Some("of the flag".into());
    assert_eq!(data_dir(&args), Path::new("of the flag"));

    let missing = ServeArgs { config: Some(directory.path().join("missing")), ..ServeArgs::default() };
    assert!(matches!(configuration(&missing, &default_file), Err(ConfigError::Unreadable { .. })));
}
