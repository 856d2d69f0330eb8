// Takes tasks from the queue, several at a time: prefetch, acks after the work, a clean stop, reconnecting.
//
//     node consumer.js [AT_A_TIME]
//
// Ctrl-C or SIGTERM stops after the tasks at hand.

import { connect } from "amqplib";

const url = process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/%2f";
const queue = "examples.tasks";
const atATime = Number(process.argv[2] ?? 4);
const atHand = new Set();
let channel, consumerTag;

// Your work goes here. An error means that the task can't be done.
async function work(task) {
  if (!task) throw new Error("an empty task");
  await new Promise((resolve) => setTimeout(resolve, 50));
}

async function handle(channel, message) {
  const task = message.content.toString();
  try {
    await work(task);
    console.log(`done: ${task}`);
    channel.ack(message);
  } catch (error) {
    console.log(`failed: "${task}": ${error.message}`);
    channel.nack(message, false, false);
  }
}

// Runs at the start and after each lost connection; what was not acked then comes again.
async function setup(connection) {
  channel = await connection.createChannel();
  await channel.assertQueue(queue, { durable: true });
  // At most this many unacked tasks at a time; the others stay in the queue for other consumers.
  await channel.prefetch(atATime);
  const consumer = await channel.consume(queue, (message) => {
    // Null says that the queue was deleted.
    if (message === null) return stop();
    const task = handle(channel, message)
      .catch((error) => console.log(`not acked, so it comes again: ${error.message}`))
      .finally(() => atHand.delete(task));
    atHand.add(task);
  });
  consumerTag = consumer.consumerTag;
  console.log(`${atATime} at a time, waiting for tasks`);
}

async function stop() {
  await channel.cancel(consumerTag);
  await Promise.all(atHand);
  await channel.close(); // what was written before, the acks, is with the broker then
  await connection.close();
  console.log("stopped");
}

const connection = await connect(url, { recovery: { initialMaxRetries: 0, maxRetries: Infinity, setup } });
connection.on("disconnect", (error) => console.log(`connection lost: ${error?.message}`));
connection.on("error", (error) => console.log(error.message));
process.once("SIGINT", stop);
process.once("SIGTERM", stop);
