"""A link on this tree's own codec."""

import contextlib

import wire
from links import PATIENCE, Blocked, Confirm, Delivery, Gone, Refused, Return, Silent

CHANNEL = 1


@contextlib.contextmanager
def _in_terms_of_links():
    try:
        yield
    except wire.Refused as refusal:
        raise Refused(refusal.event.reply_code, refusal.event.reply_text) from refusal
    except TimeoutError as error:
        raise Silent(str(error)) from error
    except (wire.Closed, OSError) as error:
        raise Gone(repr(error)) from error


class WireLink:
    """See `links.py`."""

    kind = "wire"

    def __init__(self, address):
        with _in_terms_of_links():
            self.client = wire.Client(address, timeout=PATIENCE).connect()
            self.client.open_channel(CHANNEL)

    def poll(self, seconds):
        """Everything that has arrived; waits up to `seconds` for the first of it."""
        found, self.client.pending = self.client.pending, []
        try:
            with _in_terms_of_links():
                while True:
                    found.append(self.client.next_event(timeout=0 if found else seconds))
                    if found[-1].name in ("channel.close", "connection.close"):
                        raise wire.Refused(found[-1])
        except Silent:
            return [self._translate(event) for event in found]

    @staticmethod
    def _translate(event):
        match event.name:
            case "basic.deliver":
                return Delivery(event.delivery_tag, event.consumer_tag, event.redelivered, event.exchange,
                                event.routing_key, event.properties, event.body)  # fmt: skip
            case "basic.ack" | "basic.nack":
                return Confirm(event.delivery_tag, event.multiple, event.name == "basic.ack")
            case "basic.return":
                return Return(event.properties)
            case "connection.blocked" | "connection.unblocked":
                return Blocked(event.name == "connection.blocked")
        raise AssertionError(f"nobody waits for {event!r}")

    def _send(self, data):
        with _in_terms_of_links():
            # A wait may have left less time than a long body needs.
            self.client.socket.settimeout(PATIENCE)
            self.client.send_raw(data)

    def _call(self, name, **arguments):
        with _in_terms_of_links():
            self.client.socket.settimeout(PATIENCE)
            return self.client.call(CHANNEL, name, **arguments)

    def publish(self, exchange, key, body, properties, mandatory):
        method = wire.method_frame(CHANNEL, "basic.publish", exchange=exchange, routing_key=key, mandatory=mandatory)
        self._send(method + wire.content_frames(CHANNEL, body, properties, self.client.frame_max))

    def ack(self, tag, multiple=False):
        self._send(wire.method_frame(CHANNEL, "basic.ack", delivery_tag=tag, multiple=multiple))

    def nack(self, tag, multiple, requeue):
        self._send(wire.method_frame(CHANNEL, "basic.nack", delivery_tag=tag, multiple=multiple, requeue=requeue))

    def reject(self, tag, requeue):
        self._send(wire.method_frame(CHANNEL, "basic.reject", delivery_tag=tag, requeue=requeue))

    def get(self, queue, no_ack=False):
        event = self._call("basic.get", queue=queue, no_ack=no_ack)
        if event.name == "basic.get-empty":
            return None
        return Delivery(event.delivery_tag, None, event.redelivered, event.exchange, event.routing_key,
                        event.properties, event.body)  # fmt: skip

    def qos(self, prefetch):
        self._call("basic.qos", prefetch_count=prefetch)

    def consume(self, queue, tag, no_ack=False):
        self._call("basic.consume", queue=queue, consumer_tag=tag, no_ack=no_ack)

    def confirm_select(self):
        self._call("confirm.select")

    def tx_select(self):
        self._call("tx.select")

    def commit(self):
        self._call("tx.commit")

    def rollback(self):
        self._call("tx.rollback")

    def declare_queue(self, queue, passive=False, durable=True, exclusive=False):
        """(ready messages, consumers)"""
        answer = self._call("queue.declare", queue=queue, passive=passive, durable=durable, exclusive=exclusive)
        return answer.message_count, answer.consumer_count

    def delete_queue(self, queue):
        self._call("queue.delete", queue=queue)

    def purge(self, queue):
        return self._call("queue.purge", queue=queue).message_count

    def declare_exchange(self, exchange, type, passive=False, durable=True):
        self._call("exchange.declare", exchange=exchange, type=type, passive=passive, durable=durable)

    def delete_exchange(self, exchange):
        self._call("exchange.delete", exchange=exchange)

    def bind(self, queue, exchange, key):
        self._call("queue.bind", queue=queue, exchange=exchange, routing_key=key)

    def unbind(self, queue, exchange, key):
        self._call("queue.unbind", queue=queue, exchange=exchange, routing_key=key)

    def reopen_channel(self):
        """A fresh channel after a refusal that cost the last one."""
        with _in_terms_of_links():
            self.client.open_channel(CHANNEL)

    def close(self):
        """Closes in order; raises if the broker does not answer."""
        with _in_terms_of_links():
            self.client.socket.settimeout(PATIENCE)
            self.client.send(0, "connection.close", reply_code=200, reply_text="bye")
            while self.client.next_event().name != "connection.close-ok":
                pass
        self.release()

    def release(self):
        """Gives back what belongs to an ended connection."""
        self.client.abort()

    def cut(self):
        """Ends the socket without a word."""
        self.client.abort()
