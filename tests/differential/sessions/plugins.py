"""Exchange types that RabbitMQ has from plugins: what is refused, and what is the same whichever binding is chosen."""

from harness import register, session
from wire import Typed


def declared(s, kind, arguments):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type=kind, arguments=arguments)


def bound(s, kind, key):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type=kind)
    p.call("queue.declare", queue=s.q)
    p.call("queue.bind", queue=s.q, exchange=s.q, routing_key=key)


DECLARATIONS = {
    "consistent": ("x-consistent-hash", {}),
    "consistent_header": ("x-consistent-hash", {"hash-header": "customer"}),
    "consistent_empty_header": ("x-consistent-hash", {"hash-header": ""}),
    "consistent_property": ("x-consistent-hash", {"hash-property": "message_id"}),
    "consistent_unknown_property": ("x-consistent-hash", {"hash-property": "app_id"}),
    "consistent_both": ("x-consistent-hash", {"hash-property": "message_id", "hash-header": "customer"}),
    "consistent_header_of_wrong_type": ("x-consistent-hash", {"hash-header": 1}),
    "random": ("x-random", {}),
    "modulus": ("x-modulus-hash", {}),
    "history": ("x-recent-history", {}),
    "history_length": ("x-recent-history", {"x-recent-history-length": 3}),
    "history_length_zero": ("x-recent-history", {"x-recent-history-length": 0}),
    "history_length_negative": ("x-recent-history", {"x-recent-history-length": -7}),
    "history_length_text": ("x-recent-history", {"x-recent-history-length": "5"}),
    "history_length_float": ("x-recent-history", {"x-recent-history-length": 2.5}),
    "history_length_true": ("x-recent-history", {"x-recent-history-length": True}),
    "history_length_unsigned": ("x-recent-history", {"x-recent-history-length": Typed("i", 5)}),
}
for name, (kind, arguments) in DECLARATIONS.items():
    register("plugins", f"declare_{name}", lambda s, kind=kind, arguments=arguments: declared(s, kind, arguments))

WEIGHTS = {
    "1": "1", "plus": "+2", "zeros": "007", "max": "10000", "above_max": "10001", "zero": "0", "negative": "-3",
    "empty_text": " ", "text": "heavy", "float": "1.5", "quotes": 'a"b\\c', "hexadecimal": "0x10", "sign": "+",
}  # fmt: skip
for name, key in WEIGHTS.items():
    register("plugins", f"weight_{name}", lambda s, key=key: bound(s, "x-consistent-hash", key))


@session
def weight_empty(s):
    """An empty key beside a queue's name stays empty."""
    bound(s, "x-consistent-hash", "")


@session
def redeclared(s):
    """Only the type and what all exchanges have is compared."""
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type="x-consistent-hash", arguments={"hash-header": "a"})
    p.call("exchange.declare", exchange=s.q, type="x-consistent-hash", arguments={"hash-header": "b"})
    p.call("exchange.declare", exchange=s.q, type="x-consistent-hash", arguments={"hash-property": "wrong"})
    p.call("exchange.declare", exchange=s.q, type="x-random")


def one_queue(s, kind):
    """With one queue there is no choice; without one the alternate exchange gets the message."""
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q + "alternate", type="fanout")
    p.call("exchange.declare", exchange=s.q, type=kind, arguments={"alternate-exchange": s.q + "alternate"})
    p.call("queue.declare", queue=s.q)
    p.call("queue.declare", queue=s.q + "rest")
    p.call("queue.bind", queue=s.q + "rest", exchange=s.q + "alternate")
    p.call("confirm.select")
    p.publish(s.q, "k", b"rest")
    p.confirms(1)
    p.call("queue.bind", queue=s.q, exchange=s.q, routing_key="1")
    p.publish(s.q, "k", b"own")
    p.publish(s.q, "k", b"copies", headers={"CC": ["l", "m"]})
    p.confirms(2)
    for queue in (s.q, s.q, s.q + "rest"):
        p.call("basic.get", queue=queue, no_ack=True)
    p.call("queue.unbind", queue=s.q, exchange=s.q, routing_key="1")
    p.call("queue.unbind", queue=s.q + "rest", exchange=s.q + "alternate")
    p.publish(s.q, "k", b"nowhere", mandatory=True)
    p.confirms(1)


for kind in ("x-consistent-hash", "x-random", "x-modulus-hash", "x-recent-history"):
    register("plugins", f"one_queue_{kind}", lambda s, kind=kind: one_queue(s, kind))


@session
def history(s):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type="x-recent-history", arguments={"x-recent-history-length": 3})
    p.call("exchange.declare", exchange=s.q + "d", type="direct")
    for queue in "abc":
        p.call("queue.declare", queue=s.q + queue)
    p.call("confirm.select")
    for number in range(5):
        p.publish(s.q, f"k{number}", b"%d" % number, headers={"n": number}, correlation_id="c")
    p.publish(s.q, "k", b"unmarked", headers={"x-recent-history-no-store": "true"})
    p.publish(s.q, "k", b"marked", headers={"x-recent-history-no-store": True})
    p.confirms(7)
    p.call("queue.bind", queue=s.q + "a", exchange=s.q, routing_key="x")
    p.call("queue.bind", queue=s.q + "a", exchange=s.q, routing_key="x")
    for _ in range(4):
        p.call("basic.get", queue=s.q + "a", no_ack=True)
    for key in ("k", "k3", "k4"):
        p.call("queue.bind", queue=s.q + "b", exchange=s.q + "d", routing_key=key)
    p.call("exchange.bind", source=s.q, destination=s.q + "d")
    for _ in range(4):
        p.call("basic.get", queue=s.q + "b", no_ack=True)


@session
def history_to_an_exchange_without_bindings(s):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type="x-recent-history")
    p.call("exchange.declare", exchange=s.q + "d", type="direct")
    p.call("confirm.select")
    p.publish(s.q, "k", b"1")
    p.confirms(1)
    p.call("exchange.bind", source=s.q, destination=s.q + "d")
