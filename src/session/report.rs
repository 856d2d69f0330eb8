//! Why a connection ended, for one line of the log.

use std::fmt;

/// Who is to blame for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody: the client said goodbye.
    Nobody,
    /// The client broke a rule, was refused, or fell silent.
    Client,
    /// The broker's operator, or a shutdown.
    Broker,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Who is to blame.
    pub blame: Blame,
    /// What happened: `closed by the client`, `NOT_FOUND - no exchange 'x' in vhost '/' (404, basic.publish)`,
    /// `missed heartbeats from client, timeout: 60s`.
    pub text: String,
}

impl CloseReport {
    pub(super) fn nobody(text: impl Into<String>) -> Self {
        Self { blame: Blame::Nobody, text: text.into() }
    }

    pub(super) fn client(text: impl Into<String>) -> Self {
        Self { blame: Blame::Client, text: text.into() }
    }

    pub(super) fn broker(text: impl Into<String>) -> Self {
        Self { blame: Blame::Broker, text: text.into() }
    }
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
