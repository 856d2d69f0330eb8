"""The record of a run: what every client was about to do, and what it was told.

Whatever a client does is recorded before it is sent, whatever it learns is recorded after it was read. So the
order of the events is an order in which things can have happened: an effect never stands before its cause.

Every event is `(time, kind, fields…)`:

    epoch number                          the broker was started; everything after this met that process
    fault how                             "kill" or "term" is about to be sent
    open channel mode                     "plain", "confirm" or "tx"; a channel's name is used once in a run
    closing channel                       an orderly close is about to be sent
    closed channel                        …and was answered: all that was sent before has been worked on
    abort channel                         its socket is about to be cut
    publish channel message               a `Message`
    return channel id                     basic.return
    confirm channel tag multiple ok       basic.ack or basic.nack from the broker
    attach channel queue mode prefetch    basic.consume or the first basic.get: "push", "get" or "no-ack"
    deliver channel tag queue id redelivered digest exchange key
    settle channel tag multiple how       "ack", "requeue" or "drop"
    ask channel number                    a request with an answer, unlike the settlements before it
    answered channel number
    commit channel / committed channel / rollback channel / rolled-back channel
    purge channel queue / purged channel queue
    define what / defined what            `what` is a change of `definitions.py`
    observe thing present                 found, or found missing
    count queue ready                     of a queue without consumers, before anybody publishes or consumes
    drained queue ready consumers         after the end of the run's drain
    broken invariant text                 judged on the spot
    trouble text                          something a client must never meet
"""

import random
import threading
import time
import zlib

SHORTEST, LONGEST = 16, 64 * 1024
_NOISE = random.Random(20_000).randbytes(2 * LONGEST)


class Message:
    """One publish: who sent it, where it must arrive, and what it looks like.

    `queues` are the durable queues that must get it, `maybe` further queues that may. `lane` names the route;
    a queue that lives no longer than its connection carries the lane's name and may get it too.
    `unroutable` is None where the publisher cannot know.
    """

    __slots__ = ("id", "lane", "exchange", "key", "persistent", "mandatory", "queues", "maybe", "unroutable", "digest")

    def __init__(self, id, lane="", exchange="", key="", persistent=True, mandatory=False, queues=(), maybe=(),
                 unroutable=False, digest=0):  # fmt: skip
        self.id, self.lane, self.exchange, self.key = id, lane, exchange, key
        self.persistent, self.mandatory, self.queues, self.maybe = persistent, mandatory, tuple(queues), tuple(maybe)
        self.unroutable, self.digest = unroutable, digest

    def __repr__(self):
        kind = ("persistent" if self.persistent else "transient") + (" mandatory" if self.mandatory else "")
        return f"<{self.id} {kind} to {self.exchange!r}/{self.key!r} for {','.join(self.queues) or 'nobody'}>"


def body_of(random_numbers):
    """A body of a random length: mostly short, sometimes up to 64 KiB."""
    dice = random_numbers.random()
    largest = 256 if dice < 0.65 else 4096 if dice < 0.97 else LONGEST
    size = random_numbers.randint(SHORTEST, largest)
    start = random_numbers.randrange(LONGEST)
    return _NOISE[start : start + size]


def properties_of(id, body, persistent, random_numbers):
    """Properties that carry the id and the body's checksum, with values of several types beside them."""
    properties = {
        "message_id": id, "delivery_mode": 2 if persistent else 1,
        "headers": {"crc": zlib.crc32(body), "length": len(body), "flag": random_numbers.random() < 0.5},
    }  # fmt: skip
    if random_numbers.random() < 0.3:
        properties["content_type"] = "application/octet-stream"
        properties["headers"]["nested"] = {"text": "grün", "list": [1, "two", False], "big": 2**40}
    if random_numbers.random() < 0.3:
        properties["timestamp"] = random_numbers.randrange(2**33)
        properties["type"] = "t" * random_numbers.randrange(40)
    return properties


def digest_of(properties, body):
    """One number for all that must arrive as it was sent."""
    return zlib.crc32(body, zlib.crc32(_flat(properties).encode()))


def _flat(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_flat(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_flat(item) for item in value) + "]"
    # pika has an integer of its own, which prints itself otherwise.
    return str(int(value)) if type(value) is not bool and isinstance(value, int) else repr(value)


# What may prove that a settlement was worked on, and whether it does.
PROOFS = {"ask": False, "answered": True, "commit": False, "committed": True, "rolled-back": True,
          "closing": False, "closed": True, "abort": True}  # fmt: skip


class History:
    """Collects events from all threads; `faulted` is set from the moment a fault is about to be sent."""

    def __init__(self, clock=time.monotonic):
        self.events, self.clock, self.faulted = [], clock, threading.Event()
        # While the disk is bad, a connection that ends or is refused is no surprise.
        self.tolerant = False

    def add(self, kind, *fields):
        self.events.append((self.clock(), kind, *fields))

    def epoch(self, number):
        self.faulted.clear()
        self.add("epoch", number)

    def fault(self, how):
        self.faulted.set()
        self.add("fault", how)

    def about(self, *words, limit=60):
        """The last events that concern one of the words: what to read first after a violation."""
        wanted, found, held, unproven = set(words), [], {}, set()
        for event in self.events:
            _, kind, *fields = event
            hit = kind in ("epoch", "fault") or any(_names(field) in wanted for field in fields)
            if kind == "deliver" and hit:
                held.setdefault(fields[0], []).append(fields[1])
            elif kind == "settle" and fields[0] in held:
                tags = [tag for tag in held[fields[0]] if tag == fields[1] or fields[2] and tag < fields[1]]
                held[fields[0]] = [tag for tag in held[fields[0]] if tag not in tags]
                hit = hit or bool(tags)
                unproven |= {fields[0]} if tags else set()
            elif kind in PROOFS:
                hit = hit or fields[0] in unproven or (kind in ("closing", "abort") and bool(held.get(fields[0])))
                unproven -= {fields[0]} if PROOFS[kind] else set()
            if hit:
                found.append(event)
        return [describe(event, self.events[0][0]) for event in found[-limit:]]


def _names(field):
    return field.id if isinstance(field, Message) else field if isinstance(field, (str, tuple)) else None


def describe(event, start):
    """One event as a line."""
    at, kind, *fields = event
    return f"{at - start:9.3f} {kind:10} " + " ".join(str(field) for field in fields)
