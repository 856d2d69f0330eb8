//! Who a user is and what they may do.
//!
//! In: the user name and password that a session took out of a SASL response, and whether the peer is on this
//! machine. Out: the user's name, or a typed refusal whose text belongs in the log and never on the wire.
//! Invariant: pure. A failed look-up denies, and an unknown user costs the same work as a wrong password.

use std::fmt;
use std::hint::black_box;
use std::net::SocketAddr;

use thiserror::Error;

use crate::model::{UserName, VhostName};

/// Name and password of the only user, as a fresh RabbitMQ has it.
const GUEST: &str = "guest";

/// Characters of a claimed user name that a refusal repeats.
const SHOWN_USER_CHARS: usize = 64;

/// Decides about logins and access. The only user is `guest`, with the password `guest`, from this machine.
#[derive(Clone, Debug, Default)]
pub struct Authenticator {}

/// Why a login was refused. For the log: `PLAIN login refused: <this text>`. The peer learns nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoginRefusal {
    /// There is no such user, or it has another password.
    #[error("user '{}' - invalid credentials", Shown(user))]
    InvalidCredentials {
        /// As the client sent it; the text shows it escaped and cut.
        user: String,
    },
    /// The credentials are right, but the peer is not on this machine.
    #[error("user '{}' can only connect via localhost", Shown(user))]
    NotLoopback {
        /// As the client sent it; the text shows it escaped and cut.
        user: String,
    },
}

/// The user may not enter the vhost: 530 on the wire, with this text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("access to vhost '{vhost}' refused for user '{user}'")]
pub struct VhostRefusal {
    /// Who asked.
    pub user: UserName,
    /// For what.
    pub vhost: VhostName,
}

impl Authenticator {
    /// An authenticator that knows `guest` only.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }

    /// Checks the credentials of PLAIN or AMQPLAIN. `peer_is_loopback` is [`is_loopback`] of the peer's
    /// address, never of the listener's.
    ///
    /// # Errors
    /// A refusal for the log.
    pub fn check(
        &self,
        user: &str,
        password: &[u8],
        peer_is_loopback: bool,
    ) -> Result<UserName, LoginRefusal> {
        let known = same(GUEST.as_bytes(), user.as_bytes());
        let right = same(GUEST.as_bytes(), password);
        if !(known & right) {
            return Err(LoginRefusal::InvalidCredentials { user: user.to_owned() });
        }
        if !peer_is_loopback {
            return Err(LoginRefusal::NotLoopback { user: user.to_owned() });
        }
        Ok(UserName::from(user))
    }

    /// Whether the user may open the vhost. Whether the vhost exists is the caller's question.
    ///
    /// # Errors
    /// A user who is not known may open nothing.
    pub fn may_open_vhost(&self, user: &UserName, vhost: &VhostName) -> Result<(), VhostRefusal> {
        if user.as_str() == GUEST {
            Ok(())
        } else {
            Err(VhostRefusal { user: user.clone(), vhost: vhost.clone() })
        }
    }
}

/// Whether the peer is on this machine. An IPv4 peer of a dual-stack listener (`::ffff:127.0.0.1`) counts as
/// what it is.
#[must_use]
pub fn is_loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Compares in a time that depends on the length of `given` only.
fn same(expected: &[u8], given: &[u8]) -> bool {
    let mut difference = u8::from(expected.len() != given.len());
    for (at, byte) in given.iter().enumerate() {
        // `given` may be longer; what it is compared with there does not matter, its length already differs.
        difference |= byte ^ expected[at % expected.len()];
        difference = black_box(difference);
    }
    difference == 0
}

/// A claimed user name, safe to print.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(SHOWN_USER_CHARS) {
            write!(f, "{}", c.escape_debug())?;
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(user: &str, password: &[u8], loopback: bool) -> String {
        Authenticator::new().check(user, password, loopback).expect_err("must be refused").to_string()
    }

    #[test]
    fn guest_logs_in_from_this_machine() {
        let user = Authenticator::new().check("guest", b"guest", true);
        assert_eq!(user, Ok(UserName::from("guest")));
    }

    #[test]
    fn guest_is_refused_from_elsewhere() {
        assert_eq!(refusal("guest", b"guest", false), "user 'guest' can only connect via localhost");
    }

    #[test]
    fn everything_else_is_invalid_credentials() {
        let cases: [(&str, &[u8]); 10] = [
            ("guest", b""),
            ("guest", b"gues"),
            ("guest", b"guestg"),
            ("guest", b"guestguest"),
            ("guest", b"Guest"),
            ("guest", b"\0guest"),
            ("Guest", b"guest"),
            ("", b"guest"),
            ("", b""),
            ("guestguest", b"guest"),
        ];
        for (user, password) in cases {
            for loopback in [true, false] {
                assert_eq!(
                    Authenticator::new().check(user, password, loopback),
                    Err(LoginRefusal::InvalidCredentials { user: user.to_owned() })
                );
            }
        }
        assert_eq!(refusal("nobody", b"x", true), "user 'nobody' - invalid credentials");
    }

    #[test]
    fn a_claimed_name_cannot_forge_a_log_line() {
        let text = refusal(&format!("a\n\u{1b}[2J'{}", "x".repeat(300)), b"x", true);
        assert!(!text.contains(['\n', '\u{1b}']), "{text}");
        assert!(text.chars().count() < 150 && text.contains('…'), "{text}");
    }

    #[test]
    fn loopback_is_judged_by_the_canonical_peer_address() {
        let cases = [
            ("127.0.0.1:5", true),
            ("127.8.9.1:5", true),
            ("[::1]:5", true),
            ("[::ffff:127.0.0.1]:5", true),
            ("[::ffff:10.0.0.1]:5", false),
            ("10.0.0.1:5", false),
            ("0.0.0.0:5", false),
            ("[::]:5", false),
            ("[fe80::1]:5", false),
        ];
        for (peer, expected) in cases {
            assert_eq!(is_loopback(peer.parse().expect("an address")), expected, "{peer}");
        }
    }

    #[test]
    fn only_a_known_user_opens_a_vhost() {
        let vhost = VhostName::from("/");
        let authenticator = Authenticator::new();
        assert_eq!(authenticator.may_open_vhost(&UserName::from("guest"), &vhost), Ok(()));
        let refusal =
            authenticator.may_open_vhost(&UserName::from("eve"), &vhost).expect_err("eve is unknown");
        assert_eq!(refusal.to_string(), "access to vhost '/' refused for user 'eve'");
    }
}
