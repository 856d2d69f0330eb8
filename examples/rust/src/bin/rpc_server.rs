//! Answers requests: computes Fibonacci numbers for `rpc_client`.
//!
//!     cargo run --bin rpc_server
//!
//! Run several of them and the broker spreads the requests. Ctrl-C or SIGTERM stops it.

use std::error::Error;

use ferrymq_examples::{RPC, connect, stop_signal};
use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = connect("examples: rpc server").await?;
    let channel = connection.create_channel().await?;
    // A request is of no use once nobody waits for it: no need to survive a restart.
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    channel.queue_declare(RPC.into(), options, FieldTable::default()).await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let consumer = channel
        .basic_consume(RPC.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    println!("waiting for requests");
    tokio::select! {
        result = serve(&channel, consumer) => result?,
        result = stop_signal() => result?,
    }
    connection.close(200, "bye".into()).await?;
    println!("stopped");
    Ok(())
}

async fn serve(channel: &Channel, mut consumer: Consumer) -> lapin::Result<()> {
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        reply(channel, &delivery).await?;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// Sends the answer to the asker's queue; with direct reply-to that is a token made by the broker.
async fn reply(channel: &Channel, request: &Delivery) -> lapin::Result<()> {
    let Some(reply_to) = request.properties.reply_to() else { return Ok(()) };
    let mut properties = BasicProperties::default();
    if let Some(id) = request.properties.correlation_id() {
        properties = properties.with_correlation_id(id.clone());
    }
    let body = answer(&String::from_utf8_lossy(&request.data));
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), reply_to.clone(), options, body.as_bytes(), properties).await?;
    Ok(())
}

fn answer(request: &str) -> String {
    match request.parse() {
        Ok(n @ 0..=186) => fibonacci(n).to_string(),
        Ok(_) => "error: between 0 and 186, please".into(),
        Err(_) => format!("error: {request:?} is not a number"),
    }
}

/// The n-th Fibonacci number; 186 is the last that fits.
fn fibonacci(n: u32) -> u128 {
    (0..n).fold((0_u128, 1_u128), |(a, b), _| (b, a.saturating_add(b))).0
}
