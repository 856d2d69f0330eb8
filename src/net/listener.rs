//! Accepts connections, within limits, until told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::socket::{self, Socket};
use crate::auth::is_loopback;
use crate::runtime::Broker;
use crate::session::Peer;

/// How sockets are treated.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// Sockets open at a time; further ones are closed at once.
    pub connections_max: usize,
    /// Of these, how many may have no vhost open yet.
    pub strangers_max: usize,
    /// A socket that takes no bytes for so long is closed.
    pub write_timeout: Duration,
}

/// How long to wait when the process has no file descriptor left for a further socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    listener: tokio::net::TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the address; port 0 takes any free port.
    ///
    /// # Errors
    /// What the operating system says: the port is taken, or the address is not of this machine.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM.nonblocking(),
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = tokio::net::TcpListener::from_std(socket.into())?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address it is bound to, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` is cancelled. Each connection is a task of `door.tasks`.
    pub async fn accept(self, door: Door) {
        let strangers = Arc::new(AtomicUsize::new(0));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = door.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => self.admit(stream, address, &strangers, &door),
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, address: SocketAddr, strangers: &Arc<AtomicUsize>, door: &Door) {
        let options = &door.options;
        if door.broker.connections() >= options.connections_max
            || strangers.load(Ordering::Relaxed) >= options.strangers_max
        {
            return warn!("{address}: closed at once, the limit of connections is reached");
        }
        if let Err(error) = socket::prepare(&stream) {
            return debug!("{address}: gone before it was served: {error}");
        }
        let local = stream.local_addr().unwrap_or(self.address);
        let peer = Peer { name: format!("{address} -> {local}"), loopback: is_loopback(address) };
        let stranger = Stranger::arrives(Arc::clone(strangers));
        let socket = Socket::new(stream, door.broker.clone(), peer, options.write_timeout, stranger);
        door.tasks.spawn(socket.run());
    }
}

/// What a listener lets connections in to.
#[derive(Clone, Debug)]
pub struct Door {
    /// The broker they talk to.
    pub broker: Broker,
    /// How their sockets are treated.
    pub options: Arc<NetOptions>,
    /// Where their tasks are counted.
    pub tasks: TaskTracker,
    /// Cancelled when no more are let in.
    pub stop: CancellationToken,
}

/// Connections the kernel may hold for us between two accepts.
const BACKLOG: i32 = 1_024;

/// Counts a connection that has not opened a vhost yet, for as long as it lives.
#[derive(Debug)]
pub(super) struct Stranger(Arc<AtomicUsize>);

impl Stranger {
    fn arrives(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
