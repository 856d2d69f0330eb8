//! Why a benchmark did not come to an end.

use std::io;

use ferrymq_protocol::frame::FrameError;
use ferrymq_protocol::{DecodeError, EncodeError};

/// Why a benchmark did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Nobody answers at the address, or the name of the host means nothing.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The broker closed a channel or the connection, for a reason it gave.
    #[error("the broker closed the {what}: {code} {text}")]
    Closed {
        /// `channel` or `connection`.
        what: &'static str,
        /// AMQP's reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// The broker ended the connection without a word.
    #[error("the broker ended the connection without saying why{0}")]
    Dropped(
        /// What it may mean, or nothing.
        &'static str,
    ),
    /// The broker sent something that nothing asked for.
    #[error("the broker sent {got} instead of {expected}")]
    Unexpected {
        /// What would have been right.
        expected: String,
        /// What came.
        got: String,
    },
    /// What the broker delivered or confirmed is not what was published.
    #[error("the broker is wrong: {0}")]
    Wrong(String),
    /// Nothing moved for as long as `--timeout` says.
    #[error("nothing moved for {seconds} s: {what}")]
    Stalled {
        /// The patience, in seconds.
        seconds: u64,
        /// What was waited for.
        what: String,
    },
    /// What was asked for cannot be done.
    #[error("{0}")]
    Unsuitable(String),
    /// The person at the terminal wants it to end.
    #[error("interrupted")]
    Interrupted,
    /// Another thread has failed, and tells why.
    #[error("stopped because something else failed")]
    Stopped,
    /// Bytes that are no frames.
    #[error("the broker sent bytes that are no frame: {0}")]
    Frame(#[from] FrameError),
    /// Frames that are no methods.
    #[error("the broker sent what cannot be decoded: {0:?}")]
    Decode(#[from] DecodeError),
    /// A name too long for the wire.
    #[error("cannot be sent: {0:?}")]
    Encode(#[from] EncodeError),
    /// A socket or a file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
}

impl BenchError {
    /// For `map_err`.
    pub(super) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Runs of a benchmark and its parts.
pub(super) type Result<T> = std::result::Result<T, BenchError>;
