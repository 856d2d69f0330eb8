//! Publishes tasks to a durable queue and waits for the broker's confirms.
//!
//!     cargo run --bin producer [COUNT]

use std::error::Error;

use ferrymq_examples::{TASKS, connect};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};

const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(10), |count| count.parse())?;
    let connection = connect("examples: producer").await?;
    let channel = connection.create_channel().await?;
    channel.queue_declare(TASKS.into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;

    // Publish first and wait afterwards: one round trip for many messages instead of one for each.
    let mut confirms = Vec::new();
    for number in 1..=count {
        let task = format!("task {number}");
        let confirm = publish(&channel, &task).await?;
        confirms.push((task, confirm));
    }
    for (task, confirm) in confirms {
        match confirm.await? {
            Confirmation::Ack(None) => println!("confirmed: {task}"),
            Confirmation::Ack(Some(_)) => return Err(format!("{task}: no queue takes it").into()),
            _ => return Err(format!("{task}: refused by the queue; try again later").into()),
        }
    }
    println!("all {count} confirmed");
    connection.close(200, "bye".into()).await?;
    Ok(())
}

async fn publish(channel: &Channel, task: &str) -> lapin::Result<PublisherConfirm> {
    channel
        .basic_publish(
            "".into(), // the default exchange routes to the queue named by the routing key
            TASKS.into(),
            BasicPublishOptions { mandatory: true, ..Default::default() }, // come back if there is no queue
            task.as_bytes(),
            BasicProperties::default().with_content_type("text/plain".into()).with_delivery_mode(PERSISTENT),
        )
        .await
}
