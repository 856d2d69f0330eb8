//! A program in a process group of its own, which ends as a whole: when the program's time is up, or when this one
//! is interrupted or killed.
//!
//! Invariant: only groups that were started here are signalled, and only when their time is up or this program is
//! gone; what a program leaves behind that ends in time is let be.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;

/// How long an interrupted program may take to tidy up before it is killed. It may also be deaf to the interruption,
/// as everything is that a script has started in the background.
const GRACE: Duration = Duration::from_secs(15);

/// What interrupts a group, and kills it when it is still there after `$2` seconds.
const END: &str = r#"kill -s INT -- "-$1"; sleep "$2"; kill -s KILL -- "-$1""#;

/// Runs a program to its end. `None` if its time was up before: then its whole group has been interrupted, so that
/// it can say where it was, and killed if it did not end by that.
pub(crate) fn run(command: &mut Command, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
    run_with(command, deadline, GRACE)
}

fn run_with(command: &mut Command, deadline: Deadline, grace: Duration) -> io::Result<Option<ExitStatus>> {
    let mut leader = command.stdin(Stdio::null()).process_group(0).spawn()?;
    let group = leader.id();
    let _guard = Guard::watch(group, grace)?;
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || tell.send(leader.wait()));
    let in_time = match deadline.left() {
        Some(left) => ended.recv_timeout(left),
        None => ended.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    match in_time {
        Ok(status) => status.map(Some),
        Err(_) => {
            signal(group, "INT");
            let tidied_up = ended.recv_timeout(grace);
            // Also after an orderly end of the leader: what it started may be what hangs.
            signal(group, "KILL");
            if tidied_up.is_err() {
                // Nothing survives this signal, so that the wait is short.
                let _ = ended.recv();
            }
            Ok(None)
        }
    }
}

fn signal(group: u32, name: &str) {
    // Fails if the group is gone, which is what is wanted.
    let _ =
        Command::new("kill").args(["-s", name, "--", &format!("-{group}")]).stderr(Stdio::null()).status();
}

/// Ends a group when this program goes away without having dropped it. The keyboard reaches only this program's own
/// group, and nothing reaches one that is killed: the end of a pipe tells in every case.
struct Guard(Child);

impl Guard {
    fn watch(group: u32, grace: Duration) -> io::Result<Self> {
        let script = format!("read -r _; {END}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "guard", &group.to_string(), &grace.as_secs().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0).spawn().map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Killed before its pipe closes; both fail only if it is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A program whose own child would go on for an hour, and a pipe that ends when both have ended.
    fn hanging(script: &str) -> (Command, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(writer);
        (command, reader)
    }

    #[test]
    fn a_program_that_ends_in_time_tells_how() {
        let status = run(Command::new("sh").args(["-c", "exit 7"]), Deadline::NONE).unwrap();
        assert_eq!(status.unwrap().code(), Some(7));
        let status = run(Command::new("sh").args(["-c", "exit 0"]), Deadline::after(GRACE)).unwrap();
        assert!(status.unwrap().success());
    }

    #[test]
    fn at_the_deadline_the_whole_group_ends() {
        let (mut command, mut pipe) = hanging("sleep 3600 & sleep 3600");
        let deadline = Deadline::after(Duration::from_millis(50));
        assert!(run_with(&mut command, deadline, Duration::ZERO).unwrap().is_none());
        drop(command);
        // Returns once nobody holds the other end.
        assert_eq!(pipe.read_to_end(&mut Vec::new()).unwrap(), 0);
    }

    #[test]
    fn a_guard_whose_owner_is_gone_ends_the_group() {
        let (mut command, mut pipe) = hanging("sleep 3600 & sleep 3600");
        let mut leader = command.process_group(0).spawn().unwrap();
        drop(command);
        let mut guard = Guard::watch(leader.id(), Duration::ZERO).unwrap();
        // What the end of this program would do.
        drop(guard.0.stdin.take());
        assert_eq!(pipe.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert!(!leader.wait().unwrap().success());
    }
}
