//! FerryMQ, a message broker that speaks AMQP 0-9-1 with RabbitMQ's extensions.
//!
//! One room per folder, in reading order; a room imports only what `tests/tidy.rs` allows.

pub mod auth;
pub mod bench;
pub mod cli;
pub mod config;
pub mod model;
pub mod net;
pub mod queue;
pub mod runtime;
pub mod session;
pub mod storage;
pub mod telemetry;
pub mod topology;
pub mod vhost;
