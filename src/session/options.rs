//! What a session is told at its birth.

use std::time::Duration;

/// The smallest `frame_max` a client may ask for, in bytes (AMQP 0-9-1, `frame-min-size`). RabbitMQ 4.1 raised its
/// own minimum to 8192 and thereby locked out clients that still ask for 4096.
pub(super) const FRAME_MAX_MIN: u32 = 4_096;

/// What every session of a broker needs to know.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// `product` of the server properties. Clients branch on it: `RabbitMQ` turns on what they know of it.
    pub product: String,
    /// `version` of the server properties. Celery reads it to choose how it limits its prefetch.
    pub version: String,
    /// `platform` of the server properties.
    pub platform: String,
    /// `information` of the server properties.
    pub information: String,
    /// `copyright` of the server properties.
    pub copyright: String,
    /// `cluster_name` of the server properties.
    pub cluster_name: String,
    /// Channels open at a time on one connection, at most. 0 is no limit of ours.
    pub channel_max: u16,
    /// Bytes of the largest frame, at most. 0 is no limit of ours.
    pub frame_max: u32,
    /// The heartbeat interval that clients are asked to use, in seconds. 0 asks for none.
    pub heartbeat_seconds: u16,
    /// Bytes of the largest message body.
    pub max_message_size: u64,
    /// Consumers on one channel, at most. 0 is no limit.
    pub consumers_per_channel_max: u32,
    /// A message that comes back by `basic.nack` or `basic.recover` has been failed with, as one that comes back by
    /// `basic.reject` or the end of its channel has.
    pub nack_counts_as_failure: bool,
    /// Bytes of frames of one connection that may wait behind replies that wait for the disk. Beyond that its
    /// socket is not read.
    pub parked_bytes_max: usize,
    /// Bytes that one transaction may hold before it is committed.
    pub transaction_bytes_max: usize,
    /// From the first byte to an open vhost, at most.
    pub handshake_timeout: Duration,
    /// How long a peer may take to answer `connection.close`.
    pub close_timeout: Duration,
    /// How long a peer that failed to log in waits for the end of its socket: makes guessing slow.
    pub silent_close_delay: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            product: "FerryMQ".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            platform: "Rust".into(),
            information: "AMQP 0-9-1 broker".into(),
            copyright: String::new(),
            cluster_name: "ferrymq".into(),
            channel_max: 2_047,
            frame_max: 131_072,
            heartbeat_seconds: 60,
            max_message_size: 128 * 1024 * 1024,
            consumers_per_channel_max: 0,
            nack_counts_as_failure: false,
            parked_bytes_max: 1024 * 1024,
            transaction_bytes_max: 128 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(30),
            silent_close_delay: Duration::from_secs(3),
        }
    }
}

/// Who is at the other end of the socket.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whether the connection comes from this machine.
    pub loopback: bool,
    /// `ip:port -> ip:port`, the connection's name in logs.
    pub name: String,
}
