//! Topic routing: a log message goes to everybody whose pattern fits its routing key.
//!
//!     cargo run --bin topic_logs
//!
//! In a pattern `*` stands for exactly one word and `#` for any number of words, also none.

use std::error::Error;

use ferrymq_examples::connect;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};

const EXCHANGE: &str = "examples.logs";

const SUBSCRIBERS: [(&str, &[&str]); 4] = [
    ("everything", &["#"]),
    ("errors", &["*.error"]),
    ("kernel", &["kernel.#"]),
    ("operator", &["*.error", "disk.*"]), // two patterns that fit still mean one copy
];

const MESSAGES: [(&str, &str); 5] = [
    ("kernel.info", "up and running"),
    ("kernel.error", "out of memory"),
    ("disk.warning", "90 % full"),
    ("disk.error", "no space left"),
    ("kernel", "a key of one word"),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = connect("examples: topic logs").await?;
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default()).await?;
    let mut queues = Vec::new();
    for (name, patterns) in SUBSCRIBERS {
        queues.push((name, patterns, subscribe(&channel, patterns).await?));
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for (key, text) in MESSAGES {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        // The second await is the confirm: the message is in the queues.
        channel
            .basic_publish(EXCHANGE.into(), key.into(), options, text.as_bytes(), properties)
            .await?
            .await?;
    }
    for (name, patterns, queue) in queues {
        println!("{name} ({}):", patterns.join(", "));
        // All that is there, for this demonstration. A program that stays would use basic_consume.
        while let Some(message) = channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await? {
            println!("  {}: {}", message.routing_key, String::from_utf8_lossy(&message.data));
        }
    }
    connection.close(200, "bye".into()).await?;
    Ok(())
}

/// A queue of our own, which goes with the connection. The broker finds it a name.
async fn subscribe(channel: &Channel, patterns: &[&str]) -> lapin::Result<ShortString> {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?.name().clone();
    for &pattern in patterns {
        let options = QueueBindOptions::default();
        channel
            .queue_bind(queue.clone(), EXCHANGE.into(), pattern.into(), options, FieldTable::default())
            .await?;
    }
    Ok(queue)
}
