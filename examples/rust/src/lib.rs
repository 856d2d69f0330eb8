//! What the examples share: where the broker is, how to reach it, and when to stop.

use lapin::{Connection, ConnectionProperties, Result};
use tokio::signal::unix::{SignalKind, signal};

/// The queue of the producers and the workers, the same for the examples in all languages.
pub const TASKS: &str = "examples.tasks";

/// The queue of the RPC servers.
pub const RPC: &str = "examples.rpc";

/// Connects to the broker at `AMQP_URL`, or to one on this machine.
///
/// The name shows up wherever the broker lists connections. For a program that should outlive a restart of
/// the broker see `enable_auto_recover` of [`ConnectionProperties`], which the worker uses.
///
/// # Errors
/// If there is no broker or it refuses the login.
pub async fn connect(name: &str) -> Result<Connection> {
    connect_with(ConnectionProperties::default().with_connection_name(name.into())).await
}

/// [`connect`] with other properties.
///
/// # Errors
/// If there is no broker or it refuses the login.
pub async fn connect_with(properties: ConnectionProperties) -> Result<Connection> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".into());
    Connection::connect(&url, properties).await
}

/// Returns when the program is told to stop: Ctrl-C or SIGTERM.
///
/// # Errors
/// If the operating system gives no signals.
pub async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => result,
    }
}
