//! AMQP 0-9-1 with RabbitMQ's extensions: bytes to values and back.
//!
//! The crate owns no socket, no buffer policy and no state: every function takes bytes or values and returns
//! values or bytes. Decoded values borrow from the input. Every length the peer sends is compared with what
//! encloses it before it is used, nothing recurses on the peer's input, and nothing is allocated by a number the
//! peer sent. The encoder refuses what the wire cannot carry; it never cuts a value short.
//!
//! ```
//! use bytes::BytesMut;
//! use ferrymq_protocol::frame::{decode_frame, encode_method};
//! use ferrymq_protocol::method::{Method, basic};
//!
//! let ack = basic::Ack { delivery_tag: 7, multiple: true };
//! let mut out = BytesMut::new();
//! encode_method(1, &ack.into(), &mut out)?;
//!
//! let (frame, consumed) = decode_frame(&out, 131_072)?.expect("the frame is whole");
//! assert_eq!((frame.channel, consumed), (1, out.len()));
//! assert_eq!(Method::decode(frame.payload)?, Method::BasicAck(ack));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
pub mod frame;
mod header;
pub mod method;
pub mod properties;
pub mod table;
mod wire;

pub use error::{DecodeError, EncodeError, ErlangBinary, Fault};
