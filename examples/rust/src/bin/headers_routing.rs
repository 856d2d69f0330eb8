//! Headers routing: messages find their queues by what their headers say, not by a routing key.
//!
//!     cargo run --bin headers_routing
//!
//! `x-match` decides whether all of a binding's headers must be equal to the message's, or any of them.

use std::error::Error;

use ferrymq_examples::connect;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};

const EXCHANGE: &str = "examples.documents";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let subscribers = [
        (
            "german invoices",
            table([("x-match", "all".into()), ("type", "invoice".into()), ("country", "de".into())]),
        ),
        (
            "invoices or urgent",
            table([("x-match", "any".into()), ("type", "invoice".into()), ("urgent", true.into())]),
        ),
    ];
    let messages = [
        ("invoice 1", table([("type", "invoice".into()), ("country", "de".into())])),
        ("invoice 2", table([("type", "invoice".into()), ("country", "fr".into())])),
        ("letter 3", table([("type", "letter".into()), ("country", "de".into())])),
        ("letter 4", table([("type", "letter".into()), ("country", "de".into()), ("urgent", true.into())])),
    ];

    let connection = connect("examples: headers routing").await?;
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Headers, options, FieldTable::default()).await?;
    let mut queues = Vec::new();
    for (name, headers) in subscribers {
        queues.push((name, subscribe(&channel, headers).await?));
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for (text, headers) in messages {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default().with_headers(headers);
        // The second await is the confirm: the message is in the queues.
        channel
            .basic_publish(EXCHANGE.into(), "".into(), options, text.as_bytes(), properties)
            .await?
            .await?;
    }
    for (name, queue) in queues {
        println!("{name}:");
        // All that is there, for this demonstration. A program that stays would use basic_consume.
        while let Some(message) = channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await? {
            println!("  {}", String::from_utf8_lossy(&message.data));
        }
    }
    connection.close(200, "bye".into()).await?;
    Ok(())
}

/// A queue of our own, which goes with the connection. The broker finds it a name.
async fn subscribe(channel: &Channel, headers: FieldTable) -> lapin::Result<ShortString> {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?.name().clone();
    channel
        .queue_bind(queue.clone(), EXCHANGE.into(), "".into(), QueueBindOptions::default(), headers)
        .await?;
    Ok(queue)
}

/// A header's value: a text or a truth value.
enum Header {
    Text(&'static str),
    Truth(bool),
}

impl From<&'static str> for Header {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Header {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

fn table<const N: usize>(headers: [(&str, Header); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        let value = match value {
            Header::Text(text) => AMQPValue::LongString(text.into()),
            Header::Truth(truth) => AMQPValue::Boolean(truth),
        };
        table.insert(name.into(), value);
    }
    table
}
