"""The queues and exchanges that exist through a whole run, and the routes into them.

A lane is a route whose outcome is known in advance. A queue that lives no longer than its connection or the broker
is bound to one lane and carries its name: `x.<epoch>.<client>.<lane>`.
"""

from collections import namedtuple

Lane = namedtuple("Lane", "name exchange key queues weight")

EXCHANGES = {"t.direct": "direct", "t.fanout": "fanout", "t.topic": "topic"}
BINDINGS = [
    ("t.direct", "pair", "t.pair1"), ("t.direct", "pair", "t.pair2"),
    ("t.direct", "tri", "t.pair1"), ("t.direct", "tri", "t.tri"),
    ("t.direct", "parked", "t.parked"),
    ("t.fanout", "", "t.fan1"), ("t.fanout", "", "t.fan2"),
    ("t.topic", "a.*", "t.top1"), ("t.topic", "#.x", "t.top2"),
]  # fmt: skip
LANES = [
    Lane("solo", "", "t.solo", ["t.solo"], 6),
    Lane("pair", "t.direct", "pair", ["t.pair1", "t.pair2"], 3),
    Lane("tri", "t.direct", "tri", ["t.pair1", "t.tri"], 2),
    Lane("fan", "t.fanout", "", ["t.fan1", "t.fan2"], 3),
    Lane("both", "t.topic", "a.x", ["t.top1", "t.top2"], 2),
    Lane("deep", "t.topic", "b.c.x", ["t.top2"], 1),
    Lane("gets", "", "t.gets", ["t.gets"], 1),
    Lane("one", "", "t.one", ["t.one"], 1),
    Lane("noack", "", "t.noack", ["t.noack"], 1),
    Lane("in", "", "t.in", ["t.in"], 1),
    Lane("parked", "t.direct", "parked", ["t.parked"], 0.3),
    Lane("volatile", "t.direct", "volatile", [], 0.5),
    Lane("void", "t.direct", "void", [], 0.5),
]
# Published by transactions: lanes whose queues lose nothing on the way to a consumer.
TX_LANES = [lane for lane in LANES if lane.name in ("pair", "tri", "fan", "both")]
# Taken by the forwarder, and what it publishes.
FORWARD_FROM, FORWARD_TO = "t.in", Lane("out", "", "t.out", ["t.out"], 0)
# Where queues that do not last may be bound.
VOLATILE_LANES = [lane for lane in LANES if lane.name in ("tri", "fan", "both", "volatile")]

QUEUES = sorted({queue for lane in [*LANES, FORWARD_TO] for queue in lane.queues})
# For consumers that compete, requeue and drop; the other queues have consumers of their own.
CONTESTED = ["t.solo", "t.pair1", "t.pair2", "t.tri", "t.top1", "t.out"]
STRICT = ["t.fan1", "t.fan2", "t.top2"]


def define(link, history):
    """Declares everything, recorded."""
    for queue in QUEUES:
        _defined(history, ("queue", queue), lambda queue=queue: link.declare_queue(queue))
    for exchange, type in EXCHANGES.items():
        _defined(history, ("exchange", exchange), lambda e=exchange, t=type: link.declare_exchange(e, t))
    for exchange, key, queue in BINDINGS:
        thing = ("binding", exchange, key, queue)
        _defined(history, thing, lambda q=queue, e=exchange, k=key: link.bind(q, e, k))


def _defined(history, thing, act):
    history.add("define", ("add", thing))
    act()
    history.add("defined", ("add", thing))


def verify(link, history):
    """Looks for everything; its bindings show in what arrives. Returns the ready messages by queue."""
    from clients.base import found

    ready = {}
    for queue in QUEUES:
        counts = found(link, lambda queue=queue: link.declare_queue(queue, passive=True))
        history.add("observe", ("queue", queue), counts is not None)
        if counts is not None:
            ready[queue] = counts[0]
    for exchange, type in EXCHANGES.items():
        there = found(link, lambda e=exchange, t=type: link.declare_exchange(e, t, passive=True))
        history.add("observe", ("exchange", exchange), there is not None)
    return ready
