"""Protocol header, start, tune, open and close."""

import wire
from harness import register, scripted, session


def header(octets):
    def run(s):
        peer = s.raw()
        peer.raw(octets)
        peer.octets()
        peer.octets()

    return run


for name, octets in {
    "header_http": b"GET / HT",
    "header_0_8": b"AMQP\x01\x01\x08\x00",
    "header_0_9": b"AMQP\x00\x00\x09\x00",
    "header_0_10": b"AMQP\x01\x01\x00\x0a",
    "header_0_9_2": b"AMQP\x00\x00\x09\x02",
    "header_garbage": b"NONSENSE",
    "header_1_0": b"AMQP\x00\x01\x00\x00",
}.items():
    register("handshake", name, header(octets))


@session
def header_0_9_spelled_1_1(s):
    p = s.raw()
    p.raw(b"AMQP\x01\x01\x00\x09")
    p.wait("connection.start", ch=0)


def start(s):
    p = s.raw()
    p.raw(wire.PROTOCOL_HEADER)
    p.wait("connection.start", ch=0)
    return p


def answer(p, response="\0guest\0guest", mechanism="PLAIN", capabilities=None):
    properties = {"capabilities": wire.CAPABILITIES if capabilities is None else capabilities}
    p.tell("connection.start-ok", 0, client_properties=properties, mechanism=mechanism, response=response,
           locale="en_US")  # fmt: skip


def tune(s, **values):
    p = start(s)
    answer(p)
    p.wait("connection.tune", ch=0)
    p.tell("connection.tune-ok", 0, **values)
    return p


@session
def whole(s):
    p = tune(s, channel_max=2047, frame_max=131072, heartbeat=0)
    p.call("connection.open", 0, virtual_host="/")
    p.call("channel.open")
    p.call("channel.close", reply_code=200)
    p.tell("connection.close", 0, reply_code=200)
    p.wait("connection.close-ok", ch=0)
    p.until_closed(limit=1)


def refused_password(**options):
    def run(s):
        p = start(s)
        answer(p, **options)
        p.until_closed()

    return run


for name, options in {
    "wrong_password": {"response": "\0guest\0wrong"},
    "unknown_user": {"response": "\0nobody\0guest"},
    "wrong_password_without_capability": {"response": "\0guest\0wrong", "capabilities": {}},
    "wrong_password_amqplain": {"mechanism": "AMQPLAIN",
                                "response": wire.encode_table({"LOGIN": "guest", "PASSWORD": "wrong"})[4:]},
    "malformed_plain": {"response": "guest"},
    "plain_with_authorisation_id": {"response": "guest\0guest\0guest"},
    "amqplain_without_password": {"mechanism": "AMQPLAIN", "response": wire.encode_table({"LOGIN": "guest"})[4:]},
    "unknown_mechanism": {"mechanism": "NONSENSE"},
}.items():  # fmt: skip
    register("handshake", name, refused_password(**options))


@session
def amqplain(s):
    p = start(s)
    answer(p, mechanism="AMQPLAIN", response=wire.encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:])
    p.wait("connection.tune", ch=0)


def tuned(**values):
    def run(s):
        p = tune(s, **{"channel_max": 2047, "frame_max": 131072, "heartbeat": 0, **values})
        p.tell("connection.open", 0, virtual_host="/")
        p.wait("connection.open-ok", ch=0)

    return run


for name, values in {
    "tune_frame_max_too_low": {"frame_max": 100},
    "tune_frame_max_4095": {"frame_max": 4095},
    "tune_frame_max_4096": {"frame_max": 4096},
    "tune_frame_max_too_high": {"frame_max": 131073},
    "tune_frame_max_unlimited": {"frame_max": 0},
    "tune_channel_max_too_high": {"channel_max": 2048},
    "tune_channel_max_unlimited": {"channel_max": 0},
    "tune_channel_max_one": {"channel_max": 1},
    "tune_heartbeat_other": {"heartbeat": 7000},
}.items():
    register("handshake", name, tuned(**values))


@session
def channel_max_reached(s):
    p = s.connect(channel_max=2)
    p.open(1)
    p.open(2)
    p.tell("channel.open", 3)
    p.until_closed()


@session
def channel_number_above_channel_max(s):
    p = s.connect(channel_max=2)
    p.call("channel.open", 500)


@session
def unknown_vhost(s):
    p = tune(s, channel_max=2047, frame_max=131072)
    p.call("connection.open", 0, virtual_host="nosuch")


@session
def method_before_open(s):
    p = tune(s, channel_max=2047, frame_max=131072)
    p.tell("channel.open", 1)
    p.until_closed()


@session
def open_twice(s):
    p = s.connect()
    p.tell("connection.open", 0, virtual_host="/")
    p.until_closed()


@session
def tune_ok_twice(s):
    p = s.connect()
    p.tell("connection.tune-ok", 0, channel_max=2047, frame_max=131072)
    p.until_closed()


@session
def close_with_open_channels(s):
    p = s.connect()
    p.open(1)
    p.open(2)
    p.call("connection.close", 0, reply_code=200, reply_text="done")
    p.until_closed(limit=1)


scripted("handshake", {
    "access_request": [("access.request", {"realm": "/data", "active": True})],
    "update_secret": [lambda p: p.call("connection.update-secret", 0, new_secret="guest", reason="renewed")],
})  # fmt: skip
