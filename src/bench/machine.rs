//! What a broker on this machine costs: its process, CPU time and memory, from Linux's `/proc`.
//!
//! Elsewhere, and for a broker on another machine, there is nothing to tell, and nothing is made up.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A process whose costs can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pid: u32,
}

impl Process {
    /// A process by its id, if there is such a process.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let process = Self { pid };
        process.cpu().map(|_| process)
    }

    /// Whoever listens where `peer` answers us at `local`, if both are on this machine and we may look.
    pub(super) fn behind(peer: SocketAddr, local: SocketAddr) -> Option<Self> {
        if !(peer.ip().is_loopback() || peer.ip() == local.ip()) {
            return None;
        }
        let mut sockets = HashSet::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = fs::read_to_string(table).unwrap_or_default();
            sockets.extend(text.lines().filter_map(|line| listening(line, peer)));
        }
        let entries = fs::read_dir("/proc").ok()?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.into_iter().find(|pid| holds(*pid, &sockets)).and_then(Self::of)
    }

    pub(super) fn pid(self) -> u32 {
        self.pid
    }

    /// The name of its program, cut to 15 characters by the kernel.
    pub(super) fn name(self) -> Option<String> {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).ok()?;
        Some(name.trim_end().to_owned())
    }

    /// User and system time so far, in steps of 10 ms.
    pub(super) fn cpu(self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        ticks(&stat).map(|ticks| Duration::from_millis(ticks * 10))
    }

    /// Resident memory in bytes.
    pub(super) fn resident(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
    }
}

/// `utime` and `stime`, the 14th and 15th fields of proc(5)'s `stat`; the name in parentheses may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The inode of a listening socket that answers at this address, from a line of `/proc/net/tcp` or `tcp6`.
fn listening(line: &str, peer: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let answers = *fields.get(3)? == LISTEN && u16::from_str_radix(port, 16).ok()? == peer.port();
    let address = parse_address(address)?;
    (answers && (address.is_unspecified() || address == peer.ip().to_canonical()))
        .then(|| fields.get(9)?.parse().ok())?
}

/// Addresses are written as 32-bit words in the machine's order of bytes.
fn parse_address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(digits.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if digits.len() == 8 {
        return Some(IpAddr::from(word(0)?));
    }
    let octets: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
    Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical())
}

fn holds(pid: u32, sockets: &HashSet<u64>) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        let target = fs::read_link(entry.path()).ok();
        let name = target.as_ref().and_then(|target| target.to_str());
        let inode = name.and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode| sockets.contains(&inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_a_name_with_anything_in_it() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 100 1000 1";
        assert_eq!(ticks(stat), Some(168));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_listening_socket_is_found_by_its_address() {
        let peer: SocketAddr = "127.0.0.1:5672".parse().unwrap();
        let line = |address: &str, state: &str| {
            format!(
                "   0: {address}:1628 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000 0 777 1"
            )
        };
        for address in
            ["0100007F", "00000000", "00000000000000000000000000000000", "0000000000000000FFFF00000100007F"]
        {
            assert_eq!(listening(&line(address, "0A"), peer), Some(777), "{address}");
        }
        assert_eq!(listening(&line("0200007F", "0A"), peer), None, "another address");
        assert_eq!(listening(&line("0100007F", "01"), peer), None, "a connection");
        assert_eq!(listening(&line("0100007F", "0A"), "127.0.0.1:5673".parse().unwrap()), None);
        assert_eq!(listening("  sl  local_address rem_address", peer), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_behind_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        let process = Process::behind(peer, peer).unwrap();
        assert_eq!(process.pid(), std::process::id());
        assert!(process.resident().unwrap() > 1024);
        assert_eq!(Process::behind("192.0.2.1:80".parse().unwrap(), "192.0.2.2:1".parse().unwrap()), None);
    }
}
