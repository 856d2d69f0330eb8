"""What breaks the framing, the content sequence or the channel life cycle, and how the connection ends."""

import struct

import wire
from harness import register, session

PUBLISH = wire.method_frame(1, "basic.publish", routing_key="nowhere")


def method(class_id, method_id, channel=1, rest=b""):
    return wire.frame(wire.FRAME_METHOD, channel, struct.pack(">HH", class_id, method_id) + rest)


def header(size, class_id=60, properties=None):
    return wire.frame(wire.FRAME_HEADER, 1, wire.encode_header(size, properties or {}, class_id))


def sends(octets):
    def run(s):
        p = s.connect()
        p.open()
        p.raw(octets)
        p.until_closed(limit=2)

    return run


for name, octets in {
    "unknown_frame_type": wire.frame(0, 1, b"1234567890123456"),
    "unknown_frame_type_empty": wire.frame(4, 1, b""),
    "unknown_frame_type_on_channel_0": wire.frame(5, 0, b"abc"),
    "bad_frame_end": wire.method_frame(1, "basic.qos")[:-1] + b"\0",
    "frame_too_large": struct.pack(">BHI", 3, 1, 200000),
    "frame_at_the_limit_with_slack": PUBLISH + header(131072) + wire.frame(3, 1, b"x" * 131072)
    + wire.method_frame(1, "basic.qos", prefetch_size=1),
    "heartbeat_on_channel": wire.frame(8, 1, b""),
    "heartbeat_with_payload": wire.frame(8, 0, b"x") + wire.method_frame(1, "basic.qos", prefetch_size=1),
    "header_without_method": header(1),
    "body_without_method": wire.frame(3, 1, b"x"),
    "header_on_channel_0": wire.frame(2, 0, wire.encode_header(0, {})),
    "method_instead_of_header": PUBLISH + wire.method_frame(1, "basic.qos"),
    "body_instead_of_header": PUBLISH + wire.frame(3, 1, b"x"),
    "header_instead_of_body": PUBLISH + header(5) + header(5),
    "method_instead_of_body": PUBLISH + header(5) + wire.method_frame(1, "basic.qos"),
    "header_of_other_class": PUBLISH + header(5, class_id=50),
    "more_body_than_announced": PUBLISH + header(2) + wire.frame(3, 1, b"xxxxx"),
    "body_far_too_big": PUBLISH + header(2**40),
    "unknown_class": method(99, 1),
    "unknown_method": method(60, 99),
    "unknown_method_on_channel_0": method(10, 99, channel=0),
    "channel_method_on_channel_0": wire.method_frame(0, "queue.declare", queue="x"),
    "connection_method_on_channel_1": wire.method_frame(1, "connection.open", virtual_host="/"),
    "server_method": wire.method_frame(1, "queue.declare-ok", queue="x"),
    "deliver_from_client": wire.method_frame(1, "basic.deliver", consumer_tag="x"),
    "method_truncated": method(50, 10, rest=b"\0"),
    "method_payload_empty": wire.frame(1, 1, b""),
    "shortstr_not_utf8": method(50, 10, rest=b"\0\0\x02\xff\xfe\0" + b"\0\0\0\0"),
    "bad_table_type": method(50, 10, rest=b"\0\0\x01q\0" + wire.longstr(b"\x01aZ")),
    "second_channel_open": wire.method_frame(1, "channel.open"),
    "method_on_unopened_channel": wire.method_frame(7, "queue.declare", queue="x"),
    "close_of_unopened_channel": wire.method_frame(7, "channel.close", reply_code=200),
    "close_ok_of_unopened_channel": wire.method_frame(7, "channel.close-ok"),
    "publish_on_unopened_channel": wire.method_frame(7, "basic.publish", routing_key="x") + wire.content_frames(7, b"x"),
}.items():
    register("framing", name, sends(octets))


@session
def channel_error_leaves_others(s):
    p = s.connect()
    p.open(1)
    p.open(2)
    p.call("queue.declare", 1, queue="d.no-such-queue", passive=True)
    p.call("exchange.declare", 2, exchange="amq.direct", passive=True)
    p.open(1)
    p.call("exchange.declare", 1, exchange="amq.direct", passive=True)


@session
def methods_after_a_channel_error_are_ignored(s):
    p = s.connect()
    p.open()
    p.open(2)
    p.raw(wire.method_frame(1, "queue.declare", queue="d.no-such-queue", passive=True)
          + wire.method_frame(1, "queue.declare", queue=s.q)
          + wire.method_frame(1, "basic.publish", routing_key="x") + wire.content_frames(1, b"x"))  # fmt: skip
    p.wait("channel.close")
    p.quiet()
    p.call("queue.declare", 2, queue=s.q, passive=True)


@session
def both_sides_close_a_channel(s):
    p = s.connect()
    p.open()
    p.raw(wire.method_frame(1, "queue.declare", queue="d.no-such-queue", passive=True)
          + wire.method_frame(1, "channel.close", reply_code=200))  # fmt: skip
    p.wait("channel.close-ok")
    p.quiet()


@session
def many_channels(s):
    p = s.connect()
    for channel in range(1, 201):
        p.client.send(channel, "channel.open")
    for channel in range(1, 201):
        p.wait("channel.open-ok", ch=channel)
    p.call("queue.declare", 200, queue=s.q)
    for channel in range(1, 201):
        p.publish("", s.q, b"%d" % channel, ch=channel)
        p.settle(ch=channel)
    p.call("basic.consume", 7, queue=s.q, consumer_tag="c", no_ack=True)
    p.wait("basic.deliver", ch=7, count=200)


@session
def interleaved_contents(s):
    p = s.connect()
    p.open(1)
    p.open(2)
    # RabbitMQ does not order what two channels publish, so each has a queue of its own.
    p.call("queue.declare", queue=s.q + "1")
    p.call("queue.declare", queue=s.q + "2")
    one = wire.method_frame(1, "basic.publish", routing_key=s.q + "1"), wire.content_frames(1, b"one", {})
    two = wire.method_frame(2, "basic.publish", routing_key=s.q + "2"), wire.content_frames(2, b"two", {})
    p.raw(one[0] + two[0] + two[1][:30] + two[1][30:] + one[1])
    p.settle(1)
    p.settle(2)
    p.call("basic.get", queue=s.q + "1", no_ack=True)
    p.call("basic.get", queue=s.q + "2", no_ack=True)


@session
def channel_reused(s):
    p = s.connect()
    for _ in range(3):
        p.call("channel.open")
        p.call("channel.close", reply_code=200)
