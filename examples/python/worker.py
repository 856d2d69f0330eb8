"""A pool of workers on one queue: prefetch, acks after the work, a clean stop, and reconnecting.

    python worker.py [WORKERS]

pika's connection belongs to one thread. That thread only moves messages; the work happens in a pool of
threads, so that heartbeats go on however long a task takes. Ctrl-C or SIGTERM stops after the tasks at hand.
"""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pika
from pika.exceptions import AMQPConnectionError

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
QUEUE = "examples.tasks"
LONGEST_PAUSE = 30


def say(text):
    """One write for the whole line, so that the threads' lines don't mix."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def work(task):
    """Your work goes here. An exception means that the task can't be done."""
    if not task:
        raise ValueError("an empty task")
    time.sleep(0.05)


class Worker:
    def __init__(self, workers):
        self.workers = workers
        self.stopping = threading.Event()
        self.connection = self.channel = None
        self.at_hand = 0  # tasks that were taken and not answered yet

    def run(self):
        pause = 1
        while not self.stopping.is_set():
            try:
                self.consume()
                pause = 1
            except AMQPConnectionError as error:
                # The broker restarts or the network fails: what was not acked comes again.
                say(f"connection lost ({error!r}); again in {pause} s")
                self.stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def consume(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(URL))
        with self.connection, ThreadPoolExecutor(self.workers) as pool:
            self.channel = self.connection.channel()
            self.channel.queue_declare(QUEUE, durable=True)
            # At most this many unacked tasks at a time; the others stay in the queue for other workers.
            self.channel.basic_qos(prefetch_count=self.workers)
            self.at_hand = 0

            def take(channel, method, properties, body):
                self.at_hand += 1
                pool.submit(self.handle, method.delivery_tag, body)

            tag = self.channel.basic_consume(QUEUE, take)
            self.channel.add_on_cancel_callback(self.stop)  # the queue was deleted
            say(f"{self.workers} workers are waiting for tasks")
            while not self.stopping.is_set():
                self.connection.process_data_events(time_limit=1)
            self.channel.basic_cancel(tag)
            while self.at_hand:  # they are finished, and their acks sent
                self.connection.process_data_events(time_limit=1)
        say("stopped")

    def handle(self, delivery_tag, body):
        """Runs in a thread of the pool, so it hands its answer to the connection's thread."""
        task = body.decode(errors="replace")
        try:
            work(task)
        except Exception as error:
            say(f"failed: {task!r}: {error}")
            self.answer(self.channel.basic_nack, delivery_tag, requeue=False)
        else:
            say(f"done: {task}")
            self.answer(self.channel.basic_ack, delivery_tag)

    def answer(self, method, delivery_tag, **arguments):
        def in_the_connections_thread():
            method(delivery_tag, **arguments)
            self.at_hand -= 1

        try:
            self.connection.add_callback_threadsafe(in_the_connections_thread)
        except AMQPConnectionError:
            pass  # the connection is gone: the broker gives the task to somebody else

    def stop(self, *_):
        self.stopping.set()


if __name__ == "__main__":
    worker = Worker(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
    signal.signal(signal.SIGINT, worker.stop)
    signal.signal(signal.SIGTERM, worker.stop)
    worker.run()
