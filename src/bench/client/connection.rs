//! One connection with one open channel.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BytesMut;
use ferrymq_protocol::frame::{self, FrameKind};
use ferrymq_protocol::method::{Method, channel, connection};
use ferrymq_protocol::table::{Table, TableRef, ValueRef};

use super::POLL;
use super::input::{Fill, Input, Notice, notice};
use crate::bench::clock;
use crate::bench::error::{BenchError, Result};
use crate::bench::tally::Tally;
use crate::bench::uri::Uri;

/// The channel that every connection opens.
pub(in crate::bench) const CHANNEL: u16 = 1;

/// What is asked for; a broker may offer less.
const FRAME_MAX: u32 = 131_072;
/// Enough for a handshake and single answers. Consumers take more.
const SMALL_BUFFER: usize = 8 * 1024;

/// A broker whose name has been looked up.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Target {
    pub(in crate::bench) uri: Uri,
    addresses: Vec<SocketAddr>,
    /// How long a connection, and an answer, may take.
    pub(in crate::bench) patience: Duration,
}

impl Target {
    pub(in crate::bench) fn find(uri: &Uri, patience: Duration) -> Result<Self> {
        let unreachable = |source| BenchError::Unreachable { address: uri.address(), source };
        let addresses: Vec<_> =
            (uri.host.as_str(), uri.port).to_socket_addrs().map_err(unreachable)?.collect();
        Ok(Self { uri: uri.clone(), addresses, patience })
    }

    fn connect(&self) -> Result<TcpStream> {
        let mut last = std::io::Error::other("the name has no address");
        for address in &self.addresses {
            match TcpStream::connect_timeout(address, self.patience) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(BenchError::Unreachable { address: self.uri.address(), source: last })
    }
}

/// A connection.
#[derive(Debug)]
pub(in crate::bench) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) input: Input,
    /// Octets of a frame, its overhead included.
    pub(in crate::bench) frame_max: usize,
    /// Product and version, as the broker says.
    pub(in crate::bench) product: String,
    patience: Duration,
}

impl Connection {
    /// Connects, logs in and opens [`CHANNEL`].
    pub(in crate::bench) fn open(target: &Target) -> Result<Self> {
        let mut connection = Self::log_in(target)?;
        connection.open_channel()?;
        Ok(connection)
    }

    /// Connects and logs in.
    pub(in crate::bench) fn log_in(target: &Target) -> Result<Self> {
        let stream = target.connect()?;
        let set_up = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(POLL)))
            .and_then(|()| stream.set_write_timeout(Some(POLL)));
        set_up.map_err(BenchError::io("cannot set up a socket"))?;
        let mut connection = Self {
            stream,
            input: Input::new(SMALL_BUFFER, FRAME_MAX as usize),
            frame_max: FRAME_MAX as usize,
            product: String::new(),
            patience: target.patience,
        };
        connection.shake_hands(&target.uri)?;
        Ok(connection)
    }

    fn shake_hands(&mut self, uri: &Uri) -> Result<()> {
        self.write(&frame::PROTOCOL_HEADER)?;
        self.product = self.answer(0, "connection.start", |method| match method {
            Method::ConnectionStart(start) => Some(product_of(&start.server_properties)),
            _ => None,
        })?;
        let capabilities = Table::new()
            .with("connection.blocked", true)
            .with("authentication_failure_close", true)
            .with("publisher_confirms", true)
            .with("basic.nack", true)
            .with("consumer_cancel_notify", true);
        let mut octets = BytesMut::new();
        Table::new()
            .with("product", "ferrymq bench")
            .with("capabilities", capabilities)
            .encode(&mut octets)?;
        let response = format!("\0{}\0{}", uri.user, uri.password);
        self.send(
            0,
            connection::StartOk {
                client_properties: TableRef::parse(&octets)?,
                mechanism: "PLAIN",
                response: response.as_bytes(),
                locale: "en_US",
            },
        )?;
        let refused = BenchError::Dropped(": it may refuse this user and password");
        let tune = self.answer(0, "connection.tune", |method| match method {
            Method::ConnectionTune(tune) => Some(*tune),
            _ => None,
        });
        let tune = tune.map_err(|error| if let BenchError::Dropped(_) = error { refused } else { error })?;
        let frame_max = if tune.frame_max == 0 { FRAME_MAX } else { tune.frame_max.min(FRAME_MAX) };
        self.frame_max = frame_max as usize;
        self.input.set_frame_max(self.frame_max);
        // Without heartbeats: a load shows by itself that it is alive.
        self.send(0, connection::TuneOk { channel_max: tune.channel_max, frame_max, heartbeat: 0 })?;
        self.call(0, connection::Open { vhost: &uri.vhost })
    }

    pub(in crate::bench) fn open_channel(&mut self) -> Result<()> {
        self.call(CHANNEL, channel::Open {})
    }

    pub(in crate::bench) fn close_channel(&mut self) -> Result<()> {
        self.call(CHANNEL, channel::Close { reply_code: 200, reply_text: "done", class_id: 0, method_id: 0 })
    }

    /// Ends the connection as the protocol wants it, so that the broker has seen everything before.
    pub(in crate::bench) fn close(mut self) -> Result<()> {
        self.call(0, connection::Close { reply_code: 200, reply_text: "done", class_id: 0, method_id: 0 })
    }

    /// Both ends' addresses: the broker's, and this one's.
    pub(in crate::bench) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((self.stream.peer_addr().ok()?, self.stream.local_addr().ok()?))
    }

    /// Room for reading many frames at once.
    pub(super) fn enlarge_input(&mut self) {
        const LARGE_BUFFER: usize = 256 * 1024;
        self.input = Input::new(LARGE_BUFFER, self.frame_max);
    }

    /// Sends a method.
    pub(in crate::bench) fn send<'m>(&mut self, number: u16, method: impl Into<Method<'m>>) -> Result<()> {
        let mut out = BytesMut::new();
        frame::encode_method(number, &method.into(), &mut out)?;
        self.write(&out)
    }

    /// Sends a method and waits for its answer, the method of the same name with `-ok`.
    pub(in crate::bench) fn call<'m>(&mut self, number: u16, method: impl Into<Method<'m>>) -> Result<()> {
        let method = method.into();
        self.send(number, method)?;
        let expected = format!("{}-ok", method.name());
        self.answer(number, &expected, |method| (method.name() == expected).then_some(()))
    }

    /// Waits for a method that `read` knows.
    pub(in crate::bench) fn answer<T>(
        &mut self,
        number: u16,
        expected: &str,
        read: impl Fn(&Method<'_>) -> Option<T>,
    ) -> Result<T> {
        let start = clock::now();
        loop {
            while let Some(frame) = self.input.next()? {
                if frame.kind == FrameKind::Heartbeat {
                    continue;
                }
                if frame.kind != FrameKind::Method {
                    let got = "a content".to_owned();
                    return Err(BenchError::Unexpected { expected: expected.to_owned(), got });
                }
                let method = Method::decode(frame.payload)?;
                match read(&method) {
                    Some(answer) if frame.channel == number => return Ok(answer),
                    _ => notice(&method, expected)?,
                };
            }
            if self.input.fill(&self.stream)? == Fill::Nothing && start.elapsed() > self.patience {
                let what = format!("{expected} did not come");
                return Err(BenchError::Stalled { seconds: self.patience.as_secs(), what });
            }
        }
    }

    /// Writes outside of a run.
    pub(in crate::bench) fn write(&mut self, mut octets: &[u8]) -> Result<()> {
        let start = clock::now();
        while !octets.is_empty() {
            match write_some(&self.stream, octets) {
                Ok(0) if start.elapsed() > self.patience => {
                    let what = "the broker reads nothing".to_owned();
                    return Err(BenchError::Stalled { seconds: self.patience.as_secs(), what });
                }
                Ok(written) => octets = &octets[written..],
                Err(error) => return Err(self.last_words(error)),
            }
        }
        Ok(())
    }

    /// Turns a failed write into what the broker said before it closed the connection, if it said something.
    pub(super) fn last_words(&mut self, error: BenchError) -> BenchError {
        if !matches!(error, BenchError::Dropped(_)) {
            return error;
        }
        loop {
            while let Ok(Some(frame)) = self.input.next() {
                if frame.kind != FrameKind::Method {
                    continue;
                }
                if let Ok(method @ (Method::ConnectionClose(_) | Method::ChannelClose(_))) =
                    Method::decode(frame.payload)
                    && let Err(closed) = notice(&method, "")
                {
                    return closed;
                }
            }
            if !matches!(self.input.fill(&self.stream), Ok(Fill::Some)) {
                return error;
            }
        }
    }

    /// Reads what is there without waiting.
    pub(super) fn poll(&mut self) -> Result<Fill> {
        self.stream.set_nonblocking(true).map_err(BenchError::io("cannot set up a socket"))?;
        let fill = self.input.fill(&self.stream);
        self.stream.set_nonblocking(false).map_err(BenchError::io("cannot set up a socket"))?;
        fill
    }
}

/// Writes what the socket takes within [`POLL`]; 0 is nothing.
#[inline]
pub(super) fn write_some(mut stream: &TcpStream, octets: &[u8]) -> Result<usize> {
    match stream.write(octets) {
        Ok(written) => Ok(written),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(0),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Err(BenchError::Dropped("")),
            _ => Err(BenchError::Io { what: "cannot write to the broker", source: error }),
        },
    }
}

/// Notes what the broker says about blocking.
pub(super) fn note(notice: Notice<'_>, tally: &Tally) {
    match notice {
        Notice::Blocked(reason) => tally.set_blocked(Some(reason)),
        Notice::Unblocked => tally.set_blocked(None),
    }
}

fn product_of(properties: &TableRef<'_>) -> String {
    let text = |name: &str| match properties.get(name) {
        Some(ValueRef::LongString(octets)) => String::from_utf8_lossy(octets).into_owned(),
        _ => String::new(),
    };
    // It is printed on a terminal.
    let printable = format!("{} {}", text("product"), text("version"));
    printable.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}
