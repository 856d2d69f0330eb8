//! Asks `rpc_server` for Fibonacci numbers, with replies over direct reply-to.
//!
//!     cargo run --bin rpc_client [NUMBER...]
//!
//! Direct reply-to needs no reply queue: consume from `amq.rabbitmq.reply-to`, publish on the same channel,
//! and the broker sends the answers straight to you.

use std::error::Error;
use std::time::Duration;

use ferrymq_examples::{RPC, connect};
use futures_lite::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Consumer};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const TIMEOUT: Duration = Duration::from_secs(10);

struct RpcClient {
    channel: Channel,
    replies: Consumer,
    calls: u64,
}

impl RpcClient {
    async fn new(channel: Channel) -> lapin::Result<Self> {
        // Consuming comes before publishing, and replies are never acked.
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let replies =
            channel.basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default()).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, replies, calls: 0 })
    }

    async fn call(&mut self, body: &str) -> Result<String, Box<dyn Error>> {
        self.calls += 1;
        let id = self.calls.to_string();
        let properties =
            BasicProperties::default().with_reply_to(REPLY_TO.into()).with_correlation_id(id.as_str().into());
        // No server, no queue: mandatory tells us instead of letting us wait.
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirm =
            self.channel.basic_publish("".into(), RPC.into(), options, body.as_bytes(), properties).await?;
        match confirm.await? {
            Confirmation::Ack(None) => {}
            _ => return Err("no server is running".into()),
        }
        tokio::time::timeout(TIMEOUT, self.reply_to(&id)).await.map_err(|_| "no reply in time")?
    }

    async fn reply_to(&mut self, id: &str) -> Result<String, Box<dyn Error>> {
        while let Some(reply) = self.replies.next().await {
            let reply = reply?;
            // A late reply to a call that has timed out is not ours.
            if reply.properties.correlation_id().as_ref().is_some_and(|of| of.as_str() == id) {
                return Ok(String::from_utf8(reply.data)?);
            }
        }
        Err("the channel was closed".into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers: Vec<String> = std::env::args().skip(1).collect();
    if numbers.is_empty() {
        numbers = ["10", "20", "30"].map(String::from).to_vec();
    }
    let connection = connect("examples: rpc client").await?;
    let mut client = RpcClient::new(connection.create_channel().await?).await?;
    for number in numbers {
        println!("fibonacci({number}) = {}", client.call(&number).await?);
    }
    connection.close(200, "bye".into()).await?;
    Ok(())
}
