"""Topic routing: a log message goes to everybody whose pattern fits its routing key.

    python topic_logs.py

In a pattern * stands for exactly one word and # for any number of words, also none.
"""

import os

import pika

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
EXCHANGE = "examples.logs"
SUBSCRIBERS = {
    "everything": ["#"],
    "errors": ["*.error"],
    "kernel": ["kernel.#"],
    "operator": ["*.error", "disk.*"],  # two patterns that fit still mean one copy
}
MESSAGES = [
    ("kernel.info", "up and running"),
    ("kernel.error", "out of memory"),
    ("disk.warning", "90 % full"),
    ("disk.error", "no space left"),
    ("kernel", "a key of one word"),
]


def main():
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
        queues = {name: subscribe(channel, patterns) for name, patterns in SUBSCRIBERS.items()}
        channel.confirm_delivery()  # what is confirmed is in the queues
        for key, text in MESSAGES:
            channel.basic_publish(EXCHANGE, key, text.encode())
        for name, queue in queues.items():
            print(f"{name} ({', '.join(SUBSCRIBERS[name])}):")
            for key, text in drain(channel, queue):
                print(f"  {key}: {text}")


def subscribe(channel, patterns):
    """A queue of our own, which goes with the connection. The broker finds it a name."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    for pattern in patterns:
        channel.queue_bind(queue, EXCHANGE, routing_key=pattern)
    return queue


def drain(channel, queue):
    """All that is there, for this demonstration. A program that stays would use basic_consume."""
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return
        yield method.routing_key, body.decode()


if __name__ == "__main__":
    main()
