"""Publishes tasks to a durable queue and waits for the broker's confirm of each.

    python producer.py [COUNT]

Start worker.py beside it to see the tasks done. The Rust and Node examples use the same queue.
"""

import os
import sys

import pika
from pika.exceptions import NackError, UnroutableError

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
QUEUE = "examples.tasks"


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True)
        # From here on basic_publish returns only once the broker has taken the message.
        channel.confirm_delivery()
        for number in range(1, count + 1):
            publish(channel, f"task {number}")
    print(f"all {count} confirmed")


def publish(channel, task):
    try:
        channel.basic_publish(
            exchange="",  # the default exchange routes to the queue named by the routing key
            routing_key=QUEUE,
            body=task.encode(),
            properties=pika.BasicProperties(
                content_type="text/plain",
                delivery_mode=pika.DeliveryMode.Persistent.value,
            ),
            mandatory=True,  # come back instead of vanishing if there is no such queue
        )
    except UnroutableError:
        sys.exit(f"{task}: no queue takes it")
    except NackError:
        sys.exit(f"{task}: refused by the queue; try again later")
    print(f"confirmed: {task}")


if __name__ == "__main__":
    main()
