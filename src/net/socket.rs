//! One socket's task: reads bursts, writes what came of them, waits.
//!
//! Invariant: an idle socket holds no read buffer. Bursts are read into the worker thread's one buffer and only
//! an incomplete frame is kept, which is never longer than the peer may send in one frame.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read as _};
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tracing::{debug, error, info, warn};

use super::listener::Stranger;
use crate::runtime::{Broker, Connection, Next};
use crate::session::{Blame, Peer};

/// One burst: what is read with one system call and applied in one turn.
const BURST_BYTES: usize = 128 * 1024;
/// What a peer without an open vhost may send at a time.
const STRANGER_BURST_BYTES: usize = 8 * 1024;
/// Turns with something to read that a task takes before others get theirs, if it has read all there was each time.
const DRAINED_TURNS: u32 = 4;
/// What is written before others get their turn.
const WRITE_TURN_BYTES: usize = 512 * 1024;
/// Slices handed to one vectored write.
const WRITE_SLICES: usize = 32;
/// How long after the last word of a closed connection its peer may take to read it.
const LINGER: Duration = Duration::from_secs(5);
/// Probes of an idle TCP connection: first after a minute, then each ten seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unacknowledged bytes for this long end a TCP connection that has no heartbeats.
const USER_TIMEOUT: Duration = Duration::from_secs(90);

thread_local! {
    static BURST: RefCell<Vec<u8>> = RefCell::new(vec![0; BURST_BYTES + BURST_BYTES]);
}

/// Options every socket gets before its first byte.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Without heartbeats only TCP itself can tell that the peer is gone.
fn end_when_unacknowledged(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// A socket and the connection that speaks through it.
pub(super) struct Socket {
    stream: TcpStream,
    connection: Connection,
    broker: Broker,
    name: String,
    /// The beginning of a frame whose rest has not arrived.
    partial: Vec<u8>,
    write_timeout: Duration,
    /// Since when the peer has taken no bytes, while there are some for it.
    blocked_since: Option<Instant>,
    /// Held until the vhost is open.
    stranger: Option<Stranger>,
}

/// Why the task ends.
enum End {
    /// The protocol has come to its end, one way or the other.
    Closed,
    /// The peer hung up without a word.
    HungUp,
    /// The peer did not read for the whole write time-out.
    NeverReads,
    /// The socket failed.
    Failed(io::Error),
}

impl Socket {
    pub(super) fn new(
        stream: TcpStream,
        broker: Broker,
        peer: Peer,
        write_timeout: Duration,
        stranger: Stranger,
    ) -> Self {
        let name = peer.name.clone();
        let connection = broker.connect(peer, now());
        Self {
            stream,
            connection,
            broker,
            name,
            partial: Vec::new(),
            write_timeout,
            blocked_since: None,
            stranger: Some(stranger),
        }
    }

    /// Serves the socket to its end. A panic ends this connection only, and is counted.
    pub(super) async fn run(mut self) {
        self.broker.counters().connections_opened.add(1);
        let end = self.serve().await;
        self.report(&end);
    }

    async fn serve(&mut self) -> End {
        let mut timer: Pin<Box<Sleep>> = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut drained = 0;
        loop {
            let moved = match self.turn() {
                Ok(moved) => moved,
                Err(end) => return end,
            };
            let next = match moved {
                Moved::Something(next) | Moved::Everything(next) => next,
                Moved::Nothing => match self.wait(&mut timer).await {
                    Ok(next) => next,
                    Err(end) => return end,
                },
            };
            if next == Next::Close {
                return self.finish().await;
            }
            drained += u32::from(matches!(moved, Moved::Everything(_)));
            // To yield takes longer than to answer a request. But whom this task has woken may run only then, so that
            // a peer that always has a little more must not keep it from that.
            if matches!(moved, Moved::Something(_)) || drained >= DRAINED_TURNS {
                drained = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Looks at the bell and the clock, writes, reads one burst: a socket that is always ready in one direction
    /// must not keep the others waiting.
    fn turn(&mut self) -> Result<Moved, End> {
        if self.write_deadline().is_some_and(|deadline| deadline <= now()) {
            return Err(End::NeverReads);
        }
        if self.attend() == Next::Close {
            return Ok(Moved::Something(Next::Close));
        }
        let written = self.write().map_err(End::Failed)?;
        if matches!(written, Moved::Something(Next::Close)) {
            return Ok(written);
        }
        match self.read().map_err(End::Failed)? {
            Read::Part(next) => Ok(Moved::Something(next)),
            Read::Everything(next) => Ok(Moved::Everything(next)),
            Read::Nothing => Ok(written),
            Read::Ended => Err(End::HungUp),
        }
    }

    /// Writes until there is nothing left, the socket is full, or others should have their turn.
    fn write(&mut self) -> io::Result<Moved> {
        let mut turn_bytes = 0;
        while !self.connection.output().is_empty() {
            if turn_bytes >= WRITE_TURN_BYTES {
                return Ok(Moved::Something(Next::Continue));
            }
            let written = {
                let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
                let count = self.connection.output().fill(&mut slices);
                self.stream.try_write_vectored(&slices[..count])
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.blocked_since = None;
                    self.connection.output().advance(bytes);
                    turn_bytes += bytes;
                    if self.connection.written(now()) == Next::Close {
                        return Ok(Moved::Something(Next::Close));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked_since.get_or_insert_with(now);
                    return Ok(Moved::Nothing);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Moved::Nothing)
    }

    /// Reads one burst and applies it.
    fn read(&mut self) -> io::Result<Read> {
        if self.connection.reads_paused() {
            return Ok(Read::Nothing);
        }
        BURST.with_borrow_mut(|burst| {
            let kept = self.partial.len();
            let room = if self.connection.is_open() { BURST_BYTES } else { STRANGER_BURST_BYTES };
            if burst.len() < kept + room {
                burst.resize(kept + room, 0);
            }
            let read = match read_some(&self.stream, &mut burst[kept..kept + room]) {
                Ok(0) => return Ok(Read::Ended),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Read::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    return Ok(Read::Part(Next::Continue));
                }
                Err(error) => return Err(error),
            };
            burst[..kept].copy_from_slice(&self.partial);
            let next = self.apply(&burst[..kept + read]);
            Ok(if read < room { Read::Everything(next) } else { Read::Part(next) })
        })
    }

    fn apply(&mut self, input: &[u8]) -> Next {
        let (consumed, next) = self.connection.receive(input, now());
        let rest = &input[consumed..];
        self.partial.clear();
        if rest.is_empty() {
            self.partial.shrink_to(0);
        } else {
            self.partial.extend_from_slice(rest);
        }
        if self.stranger.is_some() && self.connection.is_open() {
            self.stranger = None;
            self.trust_tcp_alone();
        }
        next
    }

    fn trust_tcp_alone(&self) {
        if self.connection.heartbeats_off()
            && let Err(error) = end_when_unacknowledged(&self.stream)
        {
            debug!("{}: cannot set TCP_USER_TIMEOUT: {error}", self.name);
        }
    }

    /// Looks at the bell and the clock.
    fn attend(&mut self) -> Next {
        let now = now();
        if self.connection.mailbox().take() && self.connection.woken(now) == Next::Close {
            return Next::Close;
        }
        if self.connection.deadline().is_some_and(|deadline| deadline <= now) {
            return self.connection.tick(now);
        }
        Next::Continue
    }

    /// When a peer that takes no bytes has had its time.
    fn write_deadline(&self) -> Option<Instant> {
        self.blocked_since.map(|since| since + self.write_timeout)
    }

    /// Waits for the socket, the bell or the deadline.
    async fn wait(&mut self, timer: &mut Pin<Box<Sleep>>) -> Result<Next, End> {
        let deadline = [self.connection.deadline(), self.write_deadline()].into_iter().flatten().min();
        if let Some(deadline) = deadline
            && timer.deadline().into_std() != deadline
        {
            timer.as_mut().reset(deadline.into());
        }
        let wants_read = !self.connection.reads_paused();
        let wants_write = !self.connection.output().is_empty();
        let interest = match (wants_read, wants_write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            // Nothing to read or write: only a socket that fails is of interest.
            (false, false) => Interest::ERROR,
        };
        tokio::select! {
            biased;
            ready = self.stream.ready(interest) => match ready {
                // Nobody is going to read or write and find out, and an error stays ready.
                Ok(ready) if !wants_read && ready.is_error() => {
                    let error = self.stream.take_error().ok().flatten();
                    Err(End::Failed(error.unwrap_or_else(|| ErrorKind::ConnectionReset.into())))
                }
                Ok(_) => Ok(Next::Continue),
                Err(error) => Err(End::Failed(error)),
            },
            () = self.connection.mailbox().rung() => Ok(self.connection.woken(now())),
            () = timer.as_mut(), if deadline.is_some() => Ok(self.connection.tick(now())),
        }
    }

    /// Writes the last words and closes; a peer that does not take them has [`LINGER`].
    async fn finish(&mut self) -> End {
        let last_words = async {
            loop {
                match self.write() {
                    Err(error) => return End::Failed(error),
                    Ok(_) if self.connection.output().is_empty() => return End::Closed,
                    Ok(_) => {}
                }
                if let Err(error) = self.stream.ready(Interest::WRITABLE).await {
                    return End::Failed(error);
                }
            }
        };
        tokio::time::timeout(LINGER, last_words).await.unwrap_or(End::NeverReads)
    }

    fn report(&self, end: &End) {
        let name = &self.name;
        match (self.connection.close_report(), end) {
            (Some(report), _) => match report.blame {
                Blame::Nobody => debug!("{name}: {report}"),
                Blame::Client => warn!("{name}: {report}"),
                Blame::Broker => info!("{name}: {report}"),
            },
            (None, End::Closed) => debug!("{name}: closed"),
            (None, End::HungUp) if self.stranger.is_some() => debug!("{name}: hung up before it logged in"),
            (None, End::HungUp) => info!("{name}: client unexpectedly closed TCP connection"),
            (None, End::NeverReads) => {
                warn!("{name}: closed, the client read nothing for {} s", self.write_timeout.as_secs());
            }
            (None, End::Failed(error)) => info!("{name}: {error}"),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.broker.counters().panics.add(1);
            error!("{}: closed after an internal error of the broker", self.name);
        }
        self.broker.counters().connections_closed.add(1);
    }
}

/// Reads what there is, as far as there is room for it. When less came, there is no more: the system calls that would
/// only say so are saved, until the socket becomes readable again.
fn read_some(stream: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let mut read = None;
    let outcome = stream.try_io(Interest::READABLE, || {
        let count = (&*socket2::SockRef::from(stream)).read(room)?;
        read = Some(count);
        // So tokio itself learns that a socket is not readable any more. A peer that has hung up stays readable.
        if count > 0 && count < room.len() { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    read.map_or_else(|| outcome.map(|()| 0), Ok)
}

/// What came of one attempt to move bytes.
#[derive(Clone, Copy)]
enum Moved {
    /// There may be more to do at once.
    Something(Next),
    /// All there was to read, and what came of it may have to be written.
    Everything(Next),
    /// The socket, the bell or the clock has to say when.
    Nothing,
}

/// What came of one attempt to read.
enum Read {
    Nothing,
    /// There may be more.
    Part(Next),
    /// There was no more.
    Everything(Next),
    Ended,
}

#[expect(clippy::disallowed_methods, reason = "the edge of the broker is where the clock is read")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_do_not_wait_for_more_and_notice_peers_that_are_gone() -> io::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let stream = TcpStream::connect(listener.local_addr()?).await?;
        prepare(&stream)?;
        end_when_unacknowledged(&stream)?;
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.tcp_nodelay()? && socket.keepalive()?);
        assert_eq!(socket.tcp_keepalive_time()?, KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_user_timeout()?, Some(USER_TIMEOUT));
        Ok(())
    }
}
