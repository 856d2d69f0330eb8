//! Builds the broker and runs it for a command: on a free port of 127.0.0.1, with its data in a temporary
//! folder.
//!
//! Invariant: the process is ended through the handle that started it, also when the command fails.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::{process, workspace};

/// The cargo profile of everything that tests run.
pub(crate) const PROFILE: &str = "ci";

/// How long a broker may take to start on no data.
const START: Duration = Duration::from_secs(60);

/// The broker binary that the workspace's tests use, built unless it is there; or that of `FERRYMQ_BIN`.
pub(crate) fn build(deadline: Deadline) -> Result<PathBuf, String> {
    if let Some(binary) = std::env::var_os("FERRYMQ_BIN") {
        return Ok(PathBuf::from(binary));
    }
    process::run(
        process::cargo()
            .args(["build", "--profile", PROFILE, "--locked", "--package", "ferrymq", "--bin", "ferrymq"])
            // With one of the tests, because without any the dependencies would have fewer features than the tests
            // give them, and be built a second time.
            .args(["--test", "fsck"])
            .current_dir(workspace::root()),
        deadline,
    )?;
    Ok(workspace::target().join(PROFILE).join(format!("ferrymq{}", std::env::consts::EXE_SUFFIX)))
}

/// A running broker; dropping it ends the process and removes its data.
pub(crate) struct Broker {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Broker {
    /// Starts the binary and waits until it accepts connections.
    pub(crate) fn start(binary: &std::path::Path) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("ferrymq-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let config = folder.join("config.toml");
        fs::write(&config, "").map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config).arg("--data-dir").arg(folder.join("data"));
        command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("the broker did not start: {error}"))?;
        let output = process.stdout.take();
        let mut broker = Self { process, folder, port: 0 };
        broker.port =
            output.and_then(wait_for_start).ok_or("the broker's startup did not become complete")?;
        Ok(broker)
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Waits for the startup line. A thread reads that and the rest, so that the broker never blocks on it.
fn wait_for_start(output: ChildStdout) -> Option<u16> {
    let (tell, started) = mpsc::channel();
    std::thread::spawn(move || {
        let mut port = None;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                port = digits.parse().ok();
            }
            if line.contains("Server startup complete") {
                // Nobody listens any more if it took too long.
                let _ = tell.send(port);
            }
        }
    });
    started.recv_timeout(START).ok().flatten()
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both may fail only because the process or the folder is gone already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
