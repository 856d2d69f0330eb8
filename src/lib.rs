//! FerryMQ, a message broker that speaks AMQP 0-9-1 with RabbitMQ's extensions.
//!
//! One room per folder, in reading order; a room imports only what `tests/tidy.rs` allows.

pub mod model;
pub mod topology;
pub mod queue;
pub mod vhost;
pub mod session;
pub mod storage;
pub mod auth;
pub mod telemetry;
pub mod config;
