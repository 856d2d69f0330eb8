// amqplib against the broker at AMQP_URL. NODE_PACKAGES is the node_modules folder that holds it.

const assert = require('node:assert');
const path = require('node:path');
const { after, before, test } = require('node:test');

const amqp = require(path.join(process.env.NODE_PACKAGES || 'node_modules', 'amqplib'));

let connection;

before(async () => {
  connection = await amqp.connect(process.env.AMQP_URL);
});

after(() => connection.close());

async function take(channel, queue, count) {
  const messages = [];
  for (let tries = 0; messages.length < count; tries++) {
    assert.ok(tries < 500, `${messages.length} of ${count} messages arrived`);
    const message = await channel.get(queue, { noAck: true });
    if (message) messages.push(message);
  }
  return messages;
}

test('declare, publish, get', async () => {
  const channel = await connection.createChannel();
  const { queue, messageCount } = await channel.assertQueue('', { exclusive: true });
  assert.strictEqual(messageCount, 0);
  const headers = { text: 'ü', number: 5, big: 2 ** 40, yes: true, list: [1, { deep: null }] };
  channel.sendToQueue(queue, Buffer.from('hello'), { headers, contentType: 'text/plain', priority: 3 });
  const [message] = await take(channel, queue, 1);
  assert.strictEqual(message.content.toString(), 'hello');
  assert.deepStrictEqual(message.properties.headers, headers);
  assert.strictEqual(message.properties.contentType, 'text/plain');
  assert.strictEqual(message.fields.redelivered, false);
  await channel.close();
});

test('a thousand confirmed messages in order', async () => {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (let i = 0; i < 1000; i++) channel.sendToQueue(queue, Buffer.from(String(i)));
  await channel.waitForConfirms();
  const received = [];
  await new Promise((resolve) => {
    channel.consume(queue, (message) => {
      received.push(Number(message.content));
      if (received.length === 1000) resolve();
    }, { noAck: true });
  });
  assert.deepStrictEqual(received, [...received].sort((a, b) => a - b));
  await channel.close();
});

test('unroutable mandatory messages come back', async () => {
  const channel = await connection.createConfirmChannel();
  const returned = new Promise((resolve) => channel.once('return', resolve));
  channel.publish('amq.direct', 'nobody', Buffer.from('x'), { mandatory: true });
  const message = await returned;
  assert.strictEqual(message.fields.replyCode, 312);
  assert.strictEqual(message.fields.replyText, 'NO_ROUTE');
  await channel.waitForConfirms();
  await channel.close();
});

test('topic routing, binding and unbinding', async () => {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await channel.assertExchange('node.topic', 'topic', { autoDelete: true });
  await channel.bindQueue(queue, 'node.topic', 'a.#');
  channel.publish('node.topic', 'a.b', Buffer.from('1'));
  channel.publish('node.topic', 'b.b', Buffer.from('2'));
  await channel.waitForConfirms();
  const [message] = await take(channel, queue, 1);
  assert.strictEqual(message.fields.routingKey, 'a.b');
  assert.strictEqual(await channel.get(queue), false);
  await channel.unbindQueue(queue, 'node.topic', 'a.#');
  await channel.close();
});

test('nack requeues, prefetch limits, cancel is told', async () => {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { autoDelete: false });
  await channel.prefetch(1);
  for (const body of ['1', '2']) channel.sendToQueue(queue, Buffer.from(body));
  const seen = [];
  let cancelled;
  const cancel = new Promise((resolve) => { cancelled = resolve; });
  await new Promise((resolve) => {
    channel.consume(queue, (message) => {
      if (message === null) return cancelled();
      seen.push(`${message.content} ${message.fields.redelivered}`);
      if (seen.length === 1) channel.nack(message);
      else channel.ack(message);
      if (seen.length === 3) resolve();
    });
  });
  assert.deepStrictEqual(seen, ['1 false', '1 true', '2 false']);
  await channel.deleteQueue(queue);
  await cancel;
  await channel.close();
});

test('a channel error names its code and leaves the connection alone', async () => {
  const channel = await connection.createChannel();
  const failed = new Promise((resolve) => channel.once('error', resolve));
  await assert.rejects(channel.checkQueue('no such queue'), /NOT_FOUND - no queue 'no such queue' in vhost '\/'/);
  assert.strictEqual((await failed).code, 404);
  const other = await connection.createChannel();
  await other.assertQueue('', { exclusive: true });
  await other.close();
});

test('a wrong password is refused', async () => {
  const url = new URL(process.env.AMQP_URL);
  url.password = 'wrong';
  await assert.rejects(amqp.connect(url.toString()), /ACCESS_REFUSED|403/);
});

test('a large message', async () => {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  const body = Buffer.alloc(2_000_000, 'ferry');
  channel.sendToQueue(queue, body);
  const [message] = await take(channel, queue, 1);
  assert.ok(message.content.equals(body));
  await channel.close();
});
