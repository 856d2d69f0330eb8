"""Headers routing: messages find their queues by what their headers say, not by a routing key.

    python headers_routing.py

x-match decides whether all of a binding's headers must be equal to the message's, or any of them.
"""

import os

import pika

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
EXCHANGE = "examples.documents"
SUBSCRIBERS = {
    "german invoices": {"x-match": "all", "type": "invoice", "country": "de"},
    "invoices or urgent": {"x-match": "any", "type": "invoice", "urgent": True},
}
MESSAGES = [
    ("invoice 1", {"type": "invoice", "country": "de"}),
    ("invoice 2", {"type": "invoice", "country": "fr"}),
    ("letter 3", {"type": "letter", "country": "de"}),
    ("letter 4", {"type": "letter", "country": "de", "urgent": True}),
]


def main():
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, exchange_type="headers", durable=True)
        queues = {name: subscribe(channel, headers) for name, headers in SUBSCRIBERS.items()}
        channel.confirm_delivery()  # what is confirmed is in the queues
        for text, headers in MESSAGES:
            properties = pika.BasicProperties(headers=headers)
            channel.basic_publish(EXCHANGE, routing_key="", body=text.encode(), properties=properties)
        for name, queue in queues.items():
            print(f"{name}:")
            for text in drain(channel, queue):
                print(f"  {text}")


def subscribe(channel, headers):
    """A queue of our own, which goes with the connection. The broker finds it a name."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, EXCHANGE, arguments=headers)
    return queue


def drain(channel, queue):
    """All that is there, for this demonstration. A program that stays would use basic_consume."""
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return
        yield body.decode()


if __name__ == "__main__":
    main()
