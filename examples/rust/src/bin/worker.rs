//! A pool of workers on one queue: prefetch, acks after the work, a clean stop, and reconnecting.
//!
//!     cargo run --bin worker [WORKERS]
//!
//! Ctrl-C or SIGTERM stops after the tasks at hand.

use std::error::Error;
use std::time::Duration;

use ferrymq_examples::{TASKS, connect_with, stop_signal};
use futures_lite::{Stream, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, ConnectionProperties, Consumer, Event};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let workers: u16 = std::env::args().nth(1).map_or(Ok(4), |workers| workers.parse())?;
    let properties = ConnectionProperties::default()
        .with_connection_name("examples: worker".into())
        // After a lost connection lapin connects again and consumes again; unacked tasks come again.
        .enable_auto_recover();
    let connection = connect_with(properties).await?;
    tokio::spawn(say_what_happens(connection.events_listener()));
    let channel = connection.create_channel().await?;
    channel.queue_declare(TASKS.into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    // At most this many unacked tasks at a time; the others stay in the queue for other workers.
    channel.basic_qos(workers, BasicQosOptions::default()).await?;
    let mut consumer = channel
        .basic_consume(TASKS.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    println!("{workers} workers are waiting for tasks");

    let mut pool = JoinSet::new();
    tokio::select! {
        result = take_tasks(&channel, &mut consumer, &mut pool) => result?,
        result = stop_signal() => result?,
    }
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    while pool.join_next().await.is_some() {}
    connection.close(200, "bye".into()).await?;
    println!("stopped");
    Ok(())
}

/// Says when lapin has connected again, which is silent otherwise, and when it has given up.
async fn say_what_happens(mut events: impl Stream<Item = Event> + Unpin) {
    while let Some(event) = events.next().await {
        match event {
            Event::Connected => println!("connected again"),
            Event::Error(error) => println!("connection lost: {error}"),
            _ => {}
        }
    }
}

/// Spawns a task of the pool for each delivery. The prefetch bounds how many there are.
async fn take_tasks(channel: &Channel, consumer: &mut Consumer, pool: &mut JoinSet<()>) -> lapin::Result<()> {
    while let Some(delivery) = consumer.next().await {
        match delivery {
            Ok(delivery) => {
                pool.spawn(handle(delivery));
            }
            Err(error) => channel.wait_for_recovery(error).await?,
        }
        while pool.try_join_next().is_some() {}
    }
    Ok(())
}

async fn handle(delivery: Delivery) {
    let task = String::from_utf8_lossy(&delivery.data);
    let answered = match work(&task).await {
        Ok(()) => {
            println!("done: {task}");
            delivery.ack(BasicAckOptions::default()).await
        }
        Err(reason) => {
            println!("failed: {task:?}: {reason}");
            delivery.nack(BasicNackOptions { requeue: false, ..Default::default() }).await
        }
    };
    if let Err(error) = answered {
        println!("not acked, so it comes again: {task}: {error}");
    }
}

/// Your work goes here. An error means that the task can't be done.
async fn work(task: &str) -> Result<(), &'static str> {
    if task.is_empty() {
        return Err("an empty task");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}
