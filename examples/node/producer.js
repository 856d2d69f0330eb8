// Publishes tasks to a durable queue and waits for the broker's confirms.
//
//     node producer.js [COUNT]

import { connect } from "amqplib";

const url = process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/%2f";
const queue = "examples.tasks";
const count = Number(process.argv[2] ?? 10);

const connection = await connect(url);
const channel = await connection.createConfirmChannel();
await channel.assertQueue(queue, { durable: true });

// A message that no queue takes comes back, and is confirmed all the same.
channel.on("return", (message) => {
  console.error(`${message.content}: no queue takes it`);
  process.exitCode = 1;
});

for (let number = 1; number <= count; number++) {
  const task = `task ${number}`;
  const options = { persistent: true, mandatory: true, contentType: "text/plain" };
  const roomLeft = channel.sendToQueue(queue, Buffer.from(task), options, (refused) => {
    if (refused) {
      console.error(`${task}: refused by the queue; try again later`);
      process.exitCode = 1;
    } else {
      console.log(`confirmed: ${task}`);
    }
  });
  if (!roomLeft) {
    // The broker or the network is slower than we are.
    await new Promise((resolve) => channel.once("drain", resolve));
  }
}
await channel.waitForConfirms();
if (!process.exitCode) console.log(`all ${count} confirmed`);
await connection.close();
