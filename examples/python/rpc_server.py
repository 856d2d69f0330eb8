"""Answers requests: computes Fibonacci numbers for rpc_client.py.

    python rpc_server.py

Run several of them and the broker spreads the requests. Ctrl-C or SIGTERM stops it.
"""

import os
import signal

import pika

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
QUEUE = "examples.rpc"


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def answer(body):
    try:
        n = int(body)
    except ValueError:
        return f"error: {body!r} is not a number"
    return str(fibonacci(n)) if 0 <= n <= 1000 else "error: between 0 and 1000, please"


def on_request(channel, method, properties, body):
    if properties.reply_to:
        # reply_to names the asker's queue; with direct reply-to it is a token made by the broker.
        channel.basic_publish(
            exchange="",
            routing_key=properties.reply_to,
            body=answer(body),
            properties=pika.BasicProperties(correlation_id=properties.correlation_id),
        )
    channel.basic_ack(method.delivery_tag)


def main():
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        # A request is of no use once nobody waits for it: no need to survive a restart.
        channel.queue_declare(QUEUE, auto_delete=True)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(QUEUE, on_request)

        def stop(*_):
            connection.add_callback_threadsafe(channel.stop_consuming)

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        print("waiting for requests", flush=True)
        channel.start_consuming()
    print("stopped")


if __name__ == "__main__":
    main()
