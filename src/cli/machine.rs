//! What the machine has: memory within its control group, and who holds a port.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

/// Bytes of memory this process may use: the machine's, or its control group's limit if that is less.
///
/// # Errors
/// If `/proc/meminfo` cannot be read: the watermark must then be given in bytes.
pub(super) fn memory_bytes() -> Result<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo")
        .context("cannot tell the machine's memory; set memory_watermark in bytes")?;
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .context("/proc/meminfo has no MemTotal; set memory_watermark in bytes")?
        * 1024;
    Ok(control_group_limits().into_iter().fold(total, u64::min))
}

/// Free bytes for this process, and all bytes, of the file system that holds a path.
///
/// # Errors
/// If the operating system does not tell.
pub(super) fn disk_bytes(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    Ok((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

/// Limits of the control groups this process is in, from its own up to the root.
fn control_group_limits() -> Vec<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unified = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut limits = Vec::new();
    let mut group = std::path::Path::new(unified);
    loop {
        let relative = group.strip_prefix("/").unwrap_or(group);
        let file = std::path::Path::new("/sys/fs/cgroup").join(relative).join("memory.max");
        limits.extend(std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok()));
        match group.parent() {
            Some(parent) => group = parent,
            None => break,
        }
    }
    let version_1 = own.lines().find_map(|line| line.split_once(":memory:")).map_or("/", |(_, group)| group);
    // In a container the path is the host's, and what the container sees as the root is its own group.
    for group in [version_1.trim_start_matches('/'), ""] {
        let file = std::path::Path::new("/sys/fs/cgroup/memory").join(group).join("memory.limit_in_bytes");
        limits.extend(std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok()));
    }
    limits
}

/// What to say when an address cannot be listened on: why, and what to do about it.
pub(super) fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => "another broker may be running there: stop it, or choose another port",
        ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose another port",
        ErrorKind::AddrNotAvailable => "this machine does not have that address: choose another one",
        _ => "choose another address",
    };
    format!("cannot listen on {address}: {error}; {advice} with --listen or in [server]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_listened_on_comes_with_fitting_advice() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let said = |kind: ErrorKind| cannot_listen(address, &io::Error::from(kind));
        assert_eq!(
            said(ErrorKind::AddrInUse),
            "cannot listen on 127.0.0.1:80: address in use; another broker may be running there: \
             stop it, or choose another port with --listen or in [server]"
        );
        assert!(said(ErrorKind::PermissionDenied).contains("need a privilege"));
        assert!(said(ErrorKind::AddrNotAvailable).contains("does not have that address"));
        assert!(!said(ErrorKind::PermissionDenied).contains("another broker"));
    }
}
