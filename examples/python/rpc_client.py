"""Asks rpc_server.py for Fibonacci numbers, with replies over direct reply-to.

    python rpc_client.py [NUMBER...]

Direct reply-to needs no reply queue: consume from amq.rabbitmq.reply-to, publish on the same channel, and
the broker sends the answers straight to you.
"""

import os
import sys
import time
import uuid

import pika

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
QUEUE = "examples.rpc"
REPLY_TO = "amq.rabbitmq.reply-to"
TIMEOUT = 10


class RpcClient:
    def __init__(self, connection):
        self.connection = connection
        self.channel = connection.channel()
        self.replies = {}
        # Consuming comes before publishing, and replies are never acked.
        self.channel.basic_consume(REPLY_TO, self._on_reply, auto_ack=True)
        self.channel.add_on_return_callback(self._on_return)

    def call(self, body):
        call_id = str(uuid.uuid4())
        self.channel.basic_publish(
            exchange="",
            routing_key=QUEUE,
            body=body,
            properties=pika.BasicProperties(reply_to=REPLY_TO, correlation_id=call_id),
            mandatory=True,  # no server, no queue: be told instead of waiting
        )
        deadline = time.monotonic() + TIMEOUT
        while call_id not in self.replies:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no reply within {TIMEOUT} s")
            self.connection.process_data_events(time_limit=left)
        return self.replies.pop(call_id)

    def _on_reply(self, channel, method, properties, body):
        self.replies[properties.correlation_id] = body.decode()

    def _on_return(self, channel, method, properties, body):
        self.replies[properties.correlation_id] = "error: no server is running"


def main():
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        client = RpcClient(connection)
        for number in sys.argv[1:] or ["10", "20", "30"]:
            print(f"fibonacci({number}) = {client.call(number)}")


if __name__ == "__main__":
    main()
