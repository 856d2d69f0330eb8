"""Routing: exchange types, exchange-to-exchange bindings, alternate exchanges."""

from harness import register, session
from wire import Typed


def routed(s, kind, bindings, messages):
    """Binds one queue per binding to a fresh exchange and shows which queues each message reaches."""
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type=kind)
    for number, (key, arguments) in enumerate(bindings):
        p.call("queue.declare", queue=f"{s.q}.{number}")
        p.call("queue.bind", queue=f"{s.q}.{number}", exchange=s.q, routing_key=key, arguments=arguments)
    p.call("confirm.select")
    for number, (key, headers) in enumerate(messages):
        p.publish(s.q, key, b"%d" % number, headers=headers)
    p.confirms(len(messages))
    for number in range(len(bindings)):
        for _ in range(len(messages) + 1):
            if p.call("basic.get", queue=f"{s.q}.{number}", no_ack=True).name == "basic.get-empty":
                break


PATTERNS = ["a.b.c", "*", "*.*", "#", "a.#", "#.c", "a.#.c", "a.*.c", "*.#", "#.*", "#.#", "a.*.#", "", ".", "*.b.#.c", "a..b", "#.b.#"]
KEYS = ["a.b.c", "a", "", "a.c", "a.x.y.c", ".", "b", "x.b", "a..b", "a.", ".a", "*.b", "#", "a.b.x.c", "a.b.b.c"]
register("exchanges", "topic", lambda s: routed(s, "topic", [(k, {}) for k in PATTERNS], [(k, None) for k in KEYS]))
register("exchanges", "direct", lambda s: routed(
    s, "direct", [("a", {}), ("b", {}), ("", {}), ("a", {"x": 1})], [("a", None), ("b", None), ("", None), ("A", None)]))
register("exchanges", "fanout", lambda s: routed(s, "fanout", [("a", {}), ("b", {})], [("a", None), ("x", None)]))

HEADER_BINDINGS = [
    {}, {"a": 1}, {"a": 1, "b": "x"}, {"x-match": "all", "a": 1, "b": "x"}, {"x-match": "any", "a": 1, "b": "x"},
    {"x-match": "any"}, {"x-match": "all"}, {"a": None}, {"x-match": "any", "a": None, "b": None},
    {"x-match": "all", "a": 1, "x-y": 5}, {"x-match": "all-with-x", "a": 1, "x-y": 5},
    {"x-match": "any-with-x", "x-y": 5}, {"x-match": "any", "x-y": 5}, {"a": Typed("l", 1)}, {"a": Typed("b", 1)},
    {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": {"n": 1}}, {"a": [1, 2]}, {"a": Typed("D", (0, 1))},
]  # fmt: skip
HEADER_MESSAGES = [
    None, {"a": 1}, {"a": Typed("s", 1), "b": "x"}, {"b": "x"}, {"x-y": 5}, {"a": 1, "x-y": 5}, {"a": None}, {"a": 2},
    {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": {"n": 1}}, {"a": [1, 2]}, {"c": 3}, {"a": Typed("D", (0, 1))},
]  # fmt: skip
register("exchanges", "headers", lambda s: routed(
    s, "headers", [("", b) for b in HEADER_BINDINGS], [("", h) for h in HEADER_MESSAGES]))

CLASSES = [1, "1", Typed("x", b"1"), Typed("T", 1), 1.0, Typed("f", 1.0), Typed("D", (0, 1)), True, 1.5, Typed("f", 1.5), {}, []]
register("exchanges", "headers_value_classes", lambda s: routed(
    s, "headers", [("", {"a": v}) for v in CLASSES], [("", {"a": v}) for v in CLASSES]))


@session
def exchange_to_exchange(s):
    p = s.connect()
    p.open()
    for name in "abc":
        p.call("exchange.declare", exchange=s.q + name, type="fanout")
    p.call("queue.declare", queue=s.q)
    p.call("exchange.bind", source=s.q + "a", destination=s.q + "b")
    p.call("exchange.bind", source=s.q + "b", destination=s.q + "c")
    p.call("exchange.bind", source=s.q + "c", destination=s.q + "a")
    p.call("queue.bind", queue=s.q, exchange=s.q + "c")
    p.call("queue.bind", queue=s.q, exchange=s.q + "b")
    p.call("confirm.select")
    p.publish(s.q + "a", "k", b"once")
    p.confirms(1)
    p.call("basic.get", queue=s.q, no_ack=True)
    p.call("basic.get", queue=s.q, no_ack=True)
    p.call("exchange.delete", exchange=s.q + "b")
    p.publish(s.q + "a", "k", b"gone", mandatory=True)
    p.wait("basic.return")


@session
def internal_by_binding(s):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q + "in", type="fanout", internal=True)
    p.call("exchange.declare", exchange=s.q, type="fanout")
    p.call("queue.declare", queue=s.q)
    p.call("exchange.bind", source=s.q, destination=s.q + "in")
    p.call("queue.bind", queue=s.q, exchange=s.q + "in")
    p.call("confirm.select")
    p.publish(s.q, "k", b"through")
    p.confirms(1)
    p.call("basic.get", queue=s.q, no_ack=True)


@session
def alternate(s):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q + "last", type="fanout")
    p.call("exchange.declare", exchange=s.q + "middle", type="direct", arguments={"alternate-exchange": s.q + "last"})
    p.call("exchange.declare", exchange=s.q, type="direct", arguments={"alternate-exchange": s.q + "middle"})
    p.call("queue.declare", queue=s.q)
    p.call("confirm.select")
    p.publish(s.q, "k", b"nowhere", mandatory=True)
    p.wait("basic.return")
    p.confirms(1)
    p.call("queue.bind", queue=s.q, exchange=s.q + "last")
    p.publish(s.q, "k", b"by the alternate", mandatory=True)
    p.confirms(1)
    p.call("basic.get", queue=s.q, no_ack=True)


@session
def alternate_missing_or_itself(s):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type="direct", arguments={"alternate-exchange": "d.none"})
    p.call("exchange.declare", exchange=s.q + "self", type="direct", arguments={"alternate-exchange": s.q + "self"})
    for name in (s.q, s.q + "self"):
        p.publish(name, "k", b"nowhere", mandatory=True)
        p.wait("basic.return")


@session
def auto_delete_chain(s):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q + "up", type="fanout", auto_delete=True)
    p.call("exchange.declare", exchange=s.q, type="fanout")
    p.call("exchange.bind", source=s.q + "up", destination=s.q)
    p.call("exchange.delete", exchange=s.q)
    p.call("exchange.declare", exchange=s.q + "up", passive=True)


@session
def default_exchange(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.call("confirm.select")
    p.publish("", s.q, b"by name")
    p.confirms(1)
    p.call("basic.get", queue=s.q, no_ack=True)
    p.publish("", s.q + "x", b"lost", mandatory=True)
    p.wait("basic.return")
    p.publish("amq.default", s.q, b"no such exchange")
    p.wait("channel.close")


@session
def names_with_line_ends(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.call("queue.bind", queue=s.q, exchange="amq.direct", routing_key=s.q)
    p.call("confirm.select")
    p.publish("amq.di\r\nrect", s.q, b"x")
    p.confirms(1)
    p.call("basic.get", queue=s.q + "\r\n", no_ack=True)
