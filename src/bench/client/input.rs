//! What has been read of a connection, and the frames in it.

use std::io::{ErrorKind, Read};

use ferrymq_protocol::frame::{self, Frame};
use ferrymq_protocol::method::Method;

use crate::bench::error::{BenchError, Result};

/// Unread octets of a connection, in a buffer that grows only for a frame that does not fit.
#[derive(Debug)]
pub(in crate::bench) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    frame_max: usize,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Fill {
    Some,
    /// Nothing came in time.
    Nothing,
}

impl Input {
    pub(super) fn new(capacity: usize, frame_max: usize) -> Self {
        Self { buffer: vec![0; capacity], start: 0, end: 0, frame_max }
    }

    pub(super) fn set_frame_max(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    /// Reads as much as there is room for.
    pub(super) fn fill(&mut self, mut source: impl Read) -> Result<Fill> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.buffer.len() {
                self.buffer.resize(2 * self.end, 0);
            }
        }
        match source.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(BenchError::Dropped("")),
            Ok(read) => {
                self.end += read;
                Ok(Fill::Some)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(Fill::Nothing),
                ErrorKind::ConnectionReset => Err(BenchError::Dropped("")),
                _ => Err(BenchError::Io { what: "cannot read from the broker", source: error }),
            },
        }
    }

    /// The next whole frame.
    #[inline]
    pub(in crate::bench) fn next(&mut self) -> Result<Option<Frame<'_>>> {
        match frame::decode_frame(&self.buffer[self.start..self.end], self.frame_max)? {
            Some((frame, taken)) => {
                self.start += taken;
                Ok(Some(frame))
            }
            None => Ok(None),
        }
    }
}

/// What a method says that nobody waits for: an error if it ends something, and the reason why publishers are
/// blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Notice<'a> {
    Blocked(&'a str),
    Unblocked,
}

/// Reads a method that is no answer.
///
/// # Errors
/// If it closes something, or means nothing here.
pub(in crate::bench) fn notice<'a>(method: &Method<'a>, expected: &str) -> Result<Notice<'a>> {
    match method {
        Method::ConnectionBlocked(blocked) => Ok(Notice::Blocked(blocked.reason)),
        Method::ConnectionUnblocked(_) => Ok(Notice::Unblocked),
        Method::ConnectionClose(close) => Err(BenchError::Closed {
            what: "connection",
            code: close.reply_code,
            text: close.reply_text.to_owned(),
        }),
        Method::ChannelClose(close) => Err(BenchError::Closed {
            what: "channel",
            code: close.reply_code,
            text: close.reply_text.to_owned(),
        }),
        Method::BasicCancel(_) => {
            Err(BenchError::Wrong("it cancelled a consumer whose queue should still exist".into()))
        }
        other => Err(BenchError::Unexpected { expected: expected.to_owned(), got: other.name().to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ferrymq_protocol::frame::{FrameKind, encode_body};
    use ferrymq_protocol::method::{basic, connection};

    use super::*;

    /// Gives at most so much at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(to.len());
            to[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn frames_come_out_whole_however_they_are_read() {
        let bodies: Vec<Vec<u8>> = (0..50_u8).map(|number| vec![number; usize::from(number) * 3]).collect();
        let mut wire = BytesMut::new();
        bodies.iter().for_each(|body| encode_body(1, body, &mut wire));
        for step in [1, 7, 64, 10_000] {
            let (mut input, mut source) = (Input::new(32, 4096), Trickle(&wire, step));
            for body in &bodies {
                loop {
                    if let Some(frame) = input.next().unwrap() {
                        assert_eq!((frame.kind, frame.payload), (FrameKind::Body, &body[..]));
                        break;
                    }
                    assert_eq!(input.fill(&mut source).unwrap(), Fill::Some);
                }
            }
            assert!(matches!(input.fill(&mut source), Err(BenchError::Dropped(_))));
        }
    }

    #[test]
    fn a_close_becomes_an_error_with_the_brokers_words() {
        let close =
            connection::Close { reply_code: 320, reply_text: "CONNECTION_FORCED", ..Default::default() };
        let error = notice(&close.into(), "anything").unwrap_err().to_string();
        assert_eq!(error, "the broker closed the connection: 320 CONNECTION_FORCED");
        let blocked = connection::Blocked { reason: "low on disk" };
        assert_eq!(notice(&blocked.into(), "").unwrap(), Notice::Blocked("low on disk"));
        let error = notice(&basic::GetEmpty {}.into(), "a confirm").unwrap_err().to_string();
        assert_eq!(error, "the broker sent basic.get-empty instead of a confirm");
    }
}
