"""Bodies and properties come back as they were sent."""

import struct

import wire
from harness import register, session
from wire import Typed

ALL = {
    "content_type": "text/plain", "content_encoding": "gzip", "headers": {"a": 1}, "delivery_mode": 2, "priority": 5,
    "correlation_id": "corr", "reply_to": "reply", "expiration": "600000", "message_id": "id",
    "timestamp": 2**40, "type": "t", "user_id": "guest", "app_id": "app", "cluster_id": "cluster",
}  # fmt: skip
TYPES = {
    "S": "text", "S0": "", "x": Typed("x", b"\0\xff"), "t": True, "f": False, "V": None, "b": Typed("b", -128),
    "B": Typed("B", 255), "s": Typed("s", -32768), "u": Typed("u", 65535), "I": -(2**31), "i": Typed("i", 2**32 - 1),
    "l": -(2**63), "float": Typed("f", 1.5), "d": 0.1, "D": Typed("D", (2, -314)),
    "T": Typed("T", 2**40), "F": {"n": {"n": [1, "x", None]}}, "F0": {}, "A": [1, [2, []], {"k": "v"}, True],
}  # fmt: skip


def raw_header(s, header, body=b"x"):
    """Publishes with exactly these header octets and shows the octets the delivery's header has."""
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.call("confirm.select")
    p.raw(wire.method_frame(1, "basic.publish", routing_key=s.q) + wire.frame(2, 1, header) + wire.frame(3, 1, body))
    p.confirms(1)
    p.tell("basic.get", queue=s.q, no_ack=True)
    while True:
        kind, _channel, payload = p.client.read_frame()
        s.note(f"frame {kind} {payload.hex()}")
        if kind == 3:
            return


for name, properties in {
    "all_properties": ALL,
    "no_properties": {},
    "every_table_type": {"headers": TYPES},
    "empty_table": {"headers": {}},
    "empty_strings": {"content_type": "", "message_id": "", "type": ""},
    "not_utf8_longstr": {"headers": {"a": b"\xff\xfe"}},
    "duplicate_order": {"headers": {"z": 1, "a": 2, "m": 3}},
    **{f"only_{key}": {key: value} for key, value in ALL.items()},
}.items():
    register("content", name, lambda s, properties=properties: raw_header(s, wire.encode_header(1, properties)))

for name, table in {
    "duplicate_keys": b"\x01aI\0\0\0\x01\x01aI\0\0\0\x02",
    "unsigned_long_l": b"\x01aL" + b"\xff" * 8,
    "bool_of_two": b"\x01at\x02",
    "empty_key": b"\x00I\0\0\0\x01",
}.items():
    header = struct.pack(">HHQH", 60, 0, 1, 1 << 13) + wire.longstr(table)
    register("content", f"table_{name}", lambda s, header=header: raw_header(s, header))


@session
def weight_ignored(s):
    raw_header(s, struct.pack(">HHQH", 60, 5, 1, 0))


@session
def bad_property(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    header = struct.pack(">HHQH", 60, 0, 1, 1 << 15) + b"\x09abc"
    p.raw(wire.method_frame(1, "basic.publish", routing_key=s.q) + wire.frame(2, 1, header) + wire.frame(3, 1, b"x"))
    p.settle()


@session
def bad_header_table(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    header = struct.pack(">HHQH", 60, 0, 1, 1 << 13) + wire.longstr(b"\x01aZ")
    p.raw(wire.method_frame(1, "basic.publish", routing_key=s.q) + wire.frame(2, 1, header) + wire.frame(3, 1, b"x"))
    p.settle()


def big(size, frame_max=131072):
    def run(s):
        p = s.connect(frame_max=frame_max)
        p.open()
        p.call("queue.declare", queue=s.q)
        body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
        p.fill(s.q, body)
        p.tell("basic.get", queue=s.q, no_ack=True)
        sizes, received = [], 0
        p.client.read_frame()
        p.client.read_frame()
        while received < size:
            kind, _channel, payload = p.client.read_frame()
            sizes.append(len(payload))
            received += len(payload)
        s.note(f"body frames {sizes if len(sizes) < 10 else (len(sizes), sizes[0], sizes[-1])}")
        s.note(f"ends with {payload[-4:]!r}")

    return run


for name, run in {
    "big_body": big(1_000_000), "body_of_one_frame": big(131064), "body_of_one_frame_and_one_octet": big(131065),
    "small_frames": big(10_000, frame_max=4096),
}.items():  # fmt: skip
    register("content", name, run)


@session
def empty_body(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.fill(s.q, b"")
    p.call("basic.get", queue=s.q, no_ack=True)


@session
def body_in_many_frames(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    pieces = b"".join(wire.frame(3, 1, piece) for piece in (b"a", b"", b"bc", b"d" * 100))
    p.call("confirm.select")
    p.raw(wire.method_frame(1, "basic.publish", routing_key=s.q) + wire.frame(2, 1, wire.encode_header(103, {})) + pieces)
    p.confirms(1)
    p.call("basic.get", queue=s.q, no_ack=True)
