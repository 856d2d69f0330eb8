"""A link on pika's asynchronous connection, driven one turn at a time.

Invariant: its event loop turns only inside a call, so a single thread sees everything in order.
"""

import time
from collections import deque

import pika
from links import PATIENCE, Blocked, Confirm, Delivery, Gone, Refused, Return, Silent
from pika.exceptions import AMQPError

GOODBYE_TURNS = 20


class PikaLink:
    """See `links.py`."""

    kind = "pika"

    def __init__(self, address):
        self.arrived, self.ended, self.channel, self.connection = deque(), None, None, None
        host, port = address
        parameters = pika.ConnectionParameters(
            host=host, port=port, heartbeat=0, connection_attempts=1, socket_timeout=PATIENCE,
            stack_timeout=PATIENCE, blocked_connection_timeout=None,
        )  # fmt: skip
        self.connection = pika.SelectConnection(
            parameters, on_open_callback=lambda _: None, on_open_error_callback=self._on_end,
            on_close_callback=self._on_end,
        )  # fmt: skip
        self.connection.add_on_connection_blocked_callback(lambda *_: self.arrived.append(Blocked(True)))
        self.connection.add_on_connection_unblocked_callback(lambda *_: self.arrived.append(Blocked(False)))
        self.loop = self.connection.ioloop
        self.loop.activate_poller()
        self._turn_until(lambda: self.connection.is_open, "connection.open-ok")
        self.reopen_channel()

    # --- the loop ----------------------------------------------------------------------------------

    def _turn(self, seconds):
        timer = self.loop.call_later(max(0.0, seconds), lambda: None)
        try:
            self.loop.poll()
            self.loop.process_timeouts()
        finally:
            self.loop.remove_timeout(timer)

    def _turn_until(self, done, what):
        deadline = time.monotonic() + PATIENCE
        while not done():
            self._raise_if_ended()
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silent(f"no {what} within {PATIENCE} s")
            self._turn(left)

    def _on_end(self, _connection, reason):
        self.ended = self.ended or reason

    def _on_channel_end(self, _channel, reason):
        self.ended = self.ended or reason

    def _raise_if_ended(self):
        if self.ended is None:
            return
        if isinstance(self.ended, (pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ChannelClosedByBroker)):
            raise Refused(self.ended.reply_code, self.ended.reply_text)
        raise Gone(repr(self.ended))

    def poll(self, seconds):
        """Everything that has arrived; waits up to `seconds` for the first of it."""
        self._raise_if_ended()
        deadline, left = time.monotonic() + seconds, 0 if self.arrived else seconds
        while True:
            # A turn also ends when something was written, or for no reason at all.
            self._turn(left)
            left = deadline - time.monotonic()
            if self.arrived or self.ended or left <= 0:
                break
        if not self.arrived:
            self._raise_if_ended()
        found = list(self.arrived)
        self.arrived.clear()
        return found

    def _call(self, function, *arguments, **named):
        answers = []
        self._say(function, *arguments, callback=answers.append, **named)
        self._turn_until(lambda: answers, function.__name__)
        return answers[0].method

    def _say(self, function, *arguments, **named):
        self._raise_if_ended()
        try:
            return function(*arguments, **named)
        except AMQPError as error:
            self._raise_if_ended()
            raise Gone(repr(error)) from error

    # --- what arrives ------------------------------------------------------------------------------

    def _on_message(self, _channel, method, properties, body):
        self.arrived.append(self._delivery(method, properties, body))

    @staticmethod
    def _delivery(method, properties, body):
        return Delivery(method.delivery_tag, getattr(method, "consumer_tag", None), method.redelivered,
                        method.exchange, method.routing_key, _plain(properties), body)  # fmt: skip

    def _on_confirm(self, frame):
        self.arrived.append(Confirm(frame.method.delivery_tag, frame.method.multiple, frame.method.NAME == "Basic.Ack"))

    def _on_return(self, _channel, _method, properties, _body):
        self.arrived.append(Return(_plain(properties)))

    # --- what is sent ------------------------------------------------------------------------------

    def publish(self, exchange, key, body, properties, mandatory):
        self._say(self.channel.basic_publish, exchange, key, body, pika.BasicProperties(**properties), mandatory)

    def ack(self, tag, multiple=False):
        self._say(self.channel.basic_ack, tag, multiple)

    def nack(self, tag, multiple, requeue):
        self._say(self.channel.basic_nack, tag, multiple, requeue)

    def reject(self, tag, requeue):
        self._say(self.channel.basic_reject, tag, requeue)

    def get(self, queue, no_ack=False):
        answers, channel = [], self.channel
        # pika takes a callback for messages only; emptiness is told to whoever asks for the method.
        empty = pika.spec.Basic.GetEmpty
        channel.add_callback(lambda _: answers.append(None), [empty], one_shot=True)
        self._say(channel.basic_get, queue, lambda _, *message: answers.append(self._delivery(*message)), no_ack)
        self._turn_until(lambda: answers, "basic.get-ok")
        channel.callbacks.remove(str(channel.channel_number), empty)
        return answers[0]

    def qos(self, prefetch):
        self._call(self.channel.basic_qos, prefetch_count=prefetch)

    def consume(self, queue, tag, no_ack=False):
        self._call(self.channel.basic_consume, queue, self._on_message, auto_ack=no_ack, consumer_tag=tag)

    def confirm_select(self):
        self._call(self.channel.confirm_delivery, self._on_confirm)

    def tx_select(self):
        self._call(self.channel.tx_select)

    def commit(self):
        self._call(self.channel.tx_commit)

    def rollback(self):
        self._call(self.channel.tx_rollback)

    def declare_queue(self, queue, passive=False, durable=True, exclusive=False):
        """(ready messages, consumers)"""
        answer = self._call(self.channel.queue_declare, queue, passive=passive, durable=durable, exclusive=exclusive)
        return answer.message_count, answer.consumer_count

    def delete_queue(self, queue):
        self._call(self.channel.queue_delete, queue)

    def purge(self, queue):
        return self._call(self.channel.queue_purge, queue).message_count

    def declare_exchange(self, exchange, type, passive=False, durable=True):
        self._call(self.channel.exchange_declare, exchange, type, passive=passive, durable=durable)

    def delete_exchange(self, exchange):
        self._call(self.channel.exchange_delete, exchange)

    def bind(self, queue, exchange, key):
        self._call(self.channel.queue_bind, queue, exchange, key)

    def unbind(self, queue, exchange, key):
        self._call(self.channel.queue_unbind, queue, exchange, key)

    def reopen_channel(self):
        """A fresh channel, also after a refusal that cost the last one."""
        self.ended, opened = None, []
        self.channel = self._say(self.connection.channel, on_open_callback=opened.append)
        self.channel.add_on_close_callback(self._on_channel_end)
        self._turn_until(lambda: opened, "channel.open-ok")
        self.channel.add_on_return_callback(self._on_return)

    def close(self):
        """Closes in order; raises if the broker does not answer."""
        self._say(self.connection.close)
        try:
            self._turn_until(lambda: False, "connection.close-ok")
        except Gone:
            closed_by_us = (pika.exceptions.ConnectionClosedByClient, pika.exceptions.ChannelClosedByClient)
            if not isinstance(self.ended, closed_by_us):
                raise
        self.release()

    def release(self):
        """Gives back what belongs to an ended connection, once pika has let go of its socket."""
        for _ in range(GOODBYE_TURNS):
            if self.connection.is_closed or self.loop is None:
                break
            self._turn(0.01)
        self.loop.deactivate_poller()
        self.loop.close()


def _plain(properties):
    return {name: value for name, value in vars(properties).items() if value is not None}
