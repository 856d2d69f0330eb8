"""What all clients share: their thread, their recorded calls, and what counts as trouble.

Invariant: a client ends only because the broker was brought down, because it was told to, or with a `trouble`
event that says why.
"""

import threading
import traceback
import zlib

import links
from history import Message, body_of, digest_of, properties_of


def found(link, look):
    """What a passive declare says, or None when there is no such thing."""
    try:
        return look() or True
    except links.Refused as refusal:
        if refusal.code != 404:
            raise
        link.reopen_channel()
        return None


def _where(error):
    """The lines of this folder that led to an error, the innermost last."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "torture" in f.filename]
    return " at " + " > ".join(f"{f.name}:{f.lineno}" for f in frames)


class Load:
    """How many copies this epoch has added to the broker, roughly, so that publishers do not run away."""

    LIMIT = 4000

    def __init__(self):
        self.copies = 0

    @property
    def full(self):
        return self.copies > self.LIMIT


class Shared:
    """What the clients of one epoch have in common."""

    def __init__(self, history, load, address, epoch):
        self.history, self.load, self.address, self.epoch = history, load, address, epoch
        self.stop = threading.Event()


class Numbers:
    """The publishers' numbers, which go on from epoch to epoch."""

    def __init__(self):
        self.next = {}

    def id(self, publisher):
        number = self.next[publisher] = self.next.get(publisher, 0) + 1
        return f"{publisher}-{number}"


class Client(threading.Thread):
    """One link, one channel and one name: `<role><number>`."""

    mode = "plain"

    def __init__(self, name, shared, kind, random_numbers, numbers):
        super().__init__(name=name, daemon=True)
        self.shared, self.kind, self.random, self.numbers = shared, kind, random_numbers, numbers
        self.history, self.link, self.channel = shared.history, None, None
        self.opened = self.questions = 0
        self.end = None

    # --- life --------------------------------------------------------------------------------------

    def run(self):
        try:
            self.open()
            while not self.stopped:
                self.work()
            self.leave()
        except (links.Gone, links.Refused, links.Silent) as end:
            self.end = end
            forgiven = self.history.tolerant and not isinstance(end, links.Silent)
            if not forgiven and not self.history.faulted.is_set():
                self.history.add("trouble", f"{self.name} on {self.kind}: {type(end).__name__}: {end}{_where(end)}")
        except Exception:
            self.history.add("trouble", f"{self.name} on {self.kind}:\n{traceback.format_exc()}")
        finally:
            if self.link is not None:
                self.link.release()

    @property
    def stopped(self):
        return self.shared.stop.is_set() or self.history.faulted.is_set()

    def open(self):
        self.link = links.connect(self.kind, self.shared.address)
        self.opened += 1
        self.channel = f"{self.name}.{self.shared.epoch}.{self.opened}.{self.kind}"
        self.history.add("open", self.channel, self.mode)
        self.prepare()

    def close(self):
        self.history.add("closing", self.channel)
        self.link.close()
        self.history.add("closed", self.channel)

    def cut(self):
        """Only the wire link can: pika insists on an orderly end."""
        self.history.add("abort", self.channel)
        self.link.cut()

    def prepare(self):
        """What a fresh channel needs."""

    def work(self):
        """A short piece of work; called again and again."""
        raise NotImplementedError

    def leave(self):
        """After the last piece of work, when the broker is still there."""
        if not self.history.faulted.is_set():
            self.close()

    # --- what most of them do ----------------------------------------------------------------------

    def question(self, ask):
        """A request whose answer proves that everything before it has been worked on."""
        self.questions += 1
        self.history.add("ask", self.channel, self.questions)
        ask()
        self.history.add("answered", self.channel, self.questions)

    def attach(self, queue, mode, prefetch=0):
        self.history.add("attach", self.channel, queue, mode, prefetch)

    def publish(self, lane, persistent=True, mandatory=False, maybe=(), unroutable=False):
        """Records and sends one message; the caller takes care of confirms."""
        id = self.numbers.id(self.name)
        body = body_of(self.random)
        properties = properties_of(id, body, persistent, self.random)
        message = Message(id, lane.name, lane.exchange, lane.key, persistent, mandatory, lane.queues, maybe,
                          unroutable, digest_of(properties, body))  # fmt: skip
        self.history.add("publish", self.channel, message)
        self.shared.load.copies += len(lane.queues)
        self.link.publish(lane.exchange, lane.key, body, properties, mandatory)
        return message

    def record_return(self, event):
        self.history.add("return", self.channel, event.properties.get("message_id"))

    def record_delivery(self, queue, delivery):
        properties = delivery.properties
        headers = properties.get("headers") or {}
        id = properties.get("message_id", "?-0")
        if headers.get("crc") != zlib.crc32(delivery.body) or headers.get("length") != len(delivery.body):
            self.history.add("trouble", f"{queue} delivered {id} with a body that is not its own")
        self.history.add("deliver", self.channel, delivery.tag, queue, id, delivery.redelivered,
                         digest_of(properties, delivery.body), delivery.exchange, delivery.key)  # fmt: skip

    def settle(self, tag, multiple=False, how="ack", by_reject=False):
        """Records and sends one settlement."""
        self.history.add("settle", self.channel, tag, multiple, how)
        if how == "ack":
            self.link.ack(tag, multiple)
        elif by_reject and not multiple:
            self.link.reject(tag, how == "requeue")
        else:
            self.link.nack(tag, multiple, how == "requeue")
