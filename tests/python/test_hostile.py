"""What a hostile or broken peer sends: each time one connection ends, the others and the broker live on."""

import socket
import struct
import time

import pytest
import wire
from wire import Closed

FRAME_END = b"\xce"


@pytest.fixture(autouse=True)
def bystander(connect, broker, name):
    """Another connection, which must notice nothing."""
    client = connect()
    queue = name("bystander")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "basic.consume", queue=queue, no_ack=True)
    yield client
    client.publish(1, "", queue, b"still here")
    assert client.wait(1, "basic.deliver").body == b"still here"
    assert broker.alive()


def ends(client, seconds=15):
    """Reads until the server ends the connection; what it said about it, if anything."""
    said = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            said.append(client.next_event(timeout=deadline - time.monotonic()))
            if said[-1].name == "connection.close":
                return said[-1]
        except (Closed, AssertionError, KeyError, ValueError):
            return said[-1] if said else None
        except TimeoutError:
            break
    pytest.fail(f"the connection is still open after {seconds} s; it said {said}")


def pieces(client, *frames):
    try:
        for frame in frames:
            client.send_raw(frame)
    except (BrokenPipeError, ConnectionResetError):
        pass


# --- before a connection is open ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    b"\0" * 8, b"\xff" * 4096, b"AMQP\x00\x01\x00\x00", b"SSH-2.0-OpenSSH_9.0\r\n",
], ids=["http", "tls", "zeros", "ones", "amqp-1.0", "ssh"])  # fmt: skip
def test_another_protocol(connect, data):
    client = connect(raw=True)
    pieces(client, data)
    client.socket.settimeout(15)
    try:
        while client.socket.recv(4096):
            pass
    except ConnectionResetError:
        pass


def test_a_socket_that_says_nothing_and_leaves(connect):
    for _ in range(20):
        connect(raw=True).abort()


def test_a_frame_before_the_protocol_header(connect):
    client = connect(raw=True)
    pieces(client, wire.method_frame(1, "channel.open"))
    ends_silently(client)


def ends_silently(client):
    client.socket.settimeout(15)
    try:
        while client.socket.recv(4096):
            pass
    except ConnectionResetError:
        pass


@pytest.mark.parametrize("frame", [
    wire.method_frame(1, "channel.open"),
    wire.method_frame(0, "connection.open", virtual_host="/"),
    wire.method_frame(0, "connection.tune-ok", channel_max=1, frame_max=4096),
    wire.frame(wire.FRAME_METHOD, 0, b"\0\x0a\0\x0b" + b"\xff" * 8),  # start-ok whose table lies
    wire.frame(wire.FRAME_METHOD, 0, b""),
    wire.frame(wire.FRAME_BODY, 0, b"x"),
    wire.frame(77, 0, b"x"),
    struct.pack(">BHI", 1, 0, 0xFFFFFFFF) + b"x" * 100,
], ids=["channel.open", "open", "tune-ok", "lying table", "empty method", "body", "unknown type", "4 GiB"])  # fmt: skip
def test_the_wrong_thing_instead_of_start_ok(connect, frame):
    client = connect(raw=True)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.wait(0, "connection.start")
    pieces(client, frame)
    ends(client)


def test_a_second_protocol_header(connect):
    client = connect(raw=True)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.wait(0, "connection.start")
    pieces(client, wire.PROTOCOL_HEADER)
    ends(client)


def test_unknown_login_mechanism(connect):
    client = connect(raw=True)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.start_ok(mechanism="NONSENSE")
    ends(client)


@pytest.mark.parametrize("response", [b"", b"\0", b"guest", b"\0guest", b"\0\0", b"\0" * 1000, b"\0\xff\xfe\0\xff"])
def test_malformed_plain_response(connect, response):
    client = connect(raw=True)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.wait(0, "connection.start")
    client.send(0, "connection.start-ok", mechanism="PLAIN", response=response, locale="en_US")
    ends(client)


# --- frames on an open connection --------------------------------------------------------------------------

PUBLISH = wire.method_frame(1, "basic.publish", routing_key="nowhere")


def header(size, properties=None, class_id=60, channel=1):
    return wire.frame(wire.FRAME_HEADER, channel, wire.encode_header(size, properties or {}, class_id))


def body(data, channel=1):
    return wire.frame(wire.FRAME_BODY, channel, data)


FAULTS = {
    "wrong end octet": ([wire.method_frame(1, "basic.qos")[:-1] + b"\0"], 501),
    "unknown frame type": ([wire.frame(6, 1, b"1234567890")], 501),
    "frame larger than agreed": ([struct.pack(">BHI", 3, 1, 200_000) + b"x" * 200_000 + FRAME_END], 501),
    "frame of 4 GiB": ([struct.pack(">BHI", 3, 1, 0xFFFFFFFF) + b"x" * 1000], 501),
    "unknown class": ([wire.frame(1, 1, struct.pack(">HH", 9999, 1))], None),
    "unknown method": ([wire.frame(1, 1, struct.pack(">HH", 50, 999))], None),
    "unknown method on channel 0": ([wire.frame(1, 0, struct.pack(">HH", 10, 999))], None),
    "method cut short": ([wire.frame(1, 1, struct.pack(">HHH", 50, 10, 0))], None),
    "method of two octets": ([wire.frame(1, 1, b"\0\x32")], None),
    "shortstr that lies": ([wire.frame(1, 1, struct.pack(">HHH", 50, 10, 0) + b"\xffabc")], None),
    "table that lies": ([wire.frame(1, 1, struct.pack(">HHHBB", 50, 10, 0, 0, 0) + b"\xff\xff\xff\xff")], None),
    "table with an unknown type": (
        [wire.frame(1, 1, struct.pack(">HHHBB", 50, 10, 0, 0, 0) + wire.longstr(b"\x01aZ"))], None),
    "header of another class": ([PUBLISH, header(1, class_id=50)], 505),
    "method instead of header": ([PUBLISH, wire.method_frame(1, "basic.qos")], 505),
    "body instead of header": ([PUBLISH, body(b"x")], 505),
    "header instead of body": ([PUBLISH, header(5), header(5)], 505),
    "method instead of body": ([PUBLISH, header(5), wire.method_frame(1, "basic.qos")], 505),
    "body longer than announced": ([PUBLISH, header(5), body(b"123456")], None),
    "body in parts longer than announced": ([PUBLISH, header(5), body(b"123"), body(b"456")], None),
    "body of 2^64-1 octets": ([PUBLISH, header(2**64 - 1), body(b"x")], None),
    "body of 2^63 octets": ([PUBLISH, header(2**63), body(b"x")], None),
    "body above 512 MiB": ([PUBLISH, header(2**29 + 1)], 501),
    "header cut short": ([PUBLISH, wire.frame(2, 1, struct.pack(">HHQ", 60, 0, 5))], None),
    "header with properties that lie": (
        [PUBLISH, wire.frame(2, 1, struct.pack(">HHQH", 60, 0, 5, 0xFFFC) + b"\xff"), body(b"12345")], None),
    "header without a publish": ([header(5)], 505),
    "body without a publish": ([body(b"x")], 505),
    "method on a channel never opened": ([wire.method_frame(7, "basic.qos")], 504),
    "close of a channel never opened": ([wire.method_frame(7, "channel.close", reply_code=200)], 504),
    "content on a channel never opened": ([header(5, channel=7)], None),
    "channel method on channel 0": ([wire.method_frame(0, "channel.open")], None),
    "basic method on channel 0": ([wire.method_frame(0, "basic.qos")], None),
    "connection.open again": ([wire.method_frame(0, "connection.open", virtual_host="/")], None),
    "tune-ok again": ([wire.method_frame(0, "connection.tune-ok", channel_max=9, frame_max=4096)], None),
    "start-ok again": ([wire.method_frame(0, "connection.start-ok", mechanism="PLAIN", response="\0guest\0guest")],
                       None),
    "connection.blocked from the client": ([wire.method_frame(0, "connection.blocked", reason="x")], 504),
    "connection.close on channel 1": ([wire.method_frame(1, "connection.close", reply_code=200)], None),
    "a method that only servers send": ([wire.method_frame(1, "queue.declare-ok", queue="q")], None),
    "a delivery from the client": ([wire.method_frame(1, "basic.deliver", consumer_tag="c", delivery_tag=1)], None),
    "heartbeat on channel 1": ([wire.frame(wire.FRAME_HEARTBEAT, 1, b"")], 505),
    "broken UTF-8 in a name": ([wire.method_frame(1, "queue.declare", queue=b"\xff\xfe", exclusive=True)], None),
    "protocol header in the middle": ([wire.PROTOCOL_HEADER], None),
}  # fmt: skip

# What RabbitMQ tolerates or hangs on, so that only FerryMQ is held to it.
ONLY_FERRYMQ = {
    "body above 512 MiB", "body of 2^64-1 octets", "body of 2^63 octets", "frame of 4 GiB", "connection.close on channel 1",
    "content on a channel never opened", "header without a publish", "body without a publish",
    "body longer than announced", "body in parts longer than announced", "header cut short",
    "header with properties that lie", "a delivery from the client",
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(connect, peer, fault):
    frames, code = FAULTS[fault]
    if peer.rabbitmq and fault in ONLY_FERRYMQ:
        pytest.skip("RabbitMQ waits for more or tolerates it")
    client = connect()
    pieces(client, *frames)
    close = ends(client)
    if code and close is not None:
        assert (close.name, close.reply_code) == ("connection.close", code), close
    elif close is not None:
        assert close.reply_code >= 400, close


NO_CONTENT_HEADER = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
NO_CONTENT_BODY = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"
NO_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
WRONG_STATE = "CHANNEL_ERROR - unexpected method in connection state running"
UNIMPLEMENTED = "COMMAND_INVALID - unimplemented method"
TOO_SHORT = "FRAME_ERROR - cannot decode {}: a field reaches past the end"

# What is said: code, text, and the class and method that are to blame.
SAID = {
    "wrong end octet": (
        501, "FRAME_ERROR - type 1, all octets = <<0,60,0,10,0,0,0,0,0,0,0>>: {invalid_frame_end_marker,0}", (0, 0)),
    "unknown frame type": (501, 'FRAME_ERROR - type 6, all octets = <<"1234567890">>: unknown_frame', (0, 0)),
    "frame larger than agreed": (
        501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,200000,131064}", (0, 0)),
    "frame of 4 GiB": (501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4294967295,131064}", (0, 0)),
    "unknown class": (503, UNIMPLEMENTED, (9999, 1)),
    "unknown method": (503, UNIMPLEMENTED, (50, 999)),
    "unknown method on channel 0": (503, UNIMPLEMENTED, (10, 999)),
    "method cut short": (501, TOO_SHORT.format("queue.declare"), (0, 0)),
    "method of two octets": (501, TOO_SHORT.format("method"), (0, 0)),
    "shortstr that lies": (501, TOO_SHORT.format("queue.declare"), (0, 0)),
    "table that lies": (501, TOO_SHORT.format("queue.declare"), (0, 0)),
    "table with an unknown type": (501, "FRAME_ERROR - cannot decode queue.declare: unknown field type 90", (0, 0)),
    "broken UTF-8 in a name": (
        501, "FRAME_ERROR - cannot decode queue.declare: Malformed UTF-8 in shortstr", (0, 0)),
    "header of another class": (
        505, "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead", (60, 40)),
    "method instead of header": (505, NO_CONTENT_HEADER, (60, 40)),
    "body instead of header": (505, NO_CONTENT_HEADER, (60, 40)),
    "header instead of body": (505, NO_CONTENT_BODY, (60, 40)),
    "method instead of body": (505, NO_CONTENT_BODY, (60, 40)),
    "header without a publish": (505, NO_METHOD, (0, 0)),
    "body without a publish": (505, NO_METHOD, (0, 0)),
    "heartbeat on channel 1": (505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", (0, 0)),
    "body longer than announced": (501, "FRAME_ERROR - content body exceeds its announced size by 1 bytes", (60, 40)),
    "body in parts longer than announced": (
        501, "FRAME_ERROR - content body exceeds its announced size by 1 bytes", (60, 40)),
    "body above 512 MiB": (501, "FRAME_ERROR - content body of 536870913 bytes is too large", (60, 40)),
    "method on a channel never opened": (504, "CHANNEL_ERROR - expected 'channel.open'", (60, 10)),
    "close of a channel never opened": (504, "CHANNEL_ERROR - expected 'channel.open'", (20, 40)),
    "channel method on channel 0": (504, WRONG_STATE, (20, 10)),
    "basic method on channel 0": (504, WRONG_STATE, (60, 10)),
    "connection.open again": (504, WRONG_STATE, (10, 40)),
    "tune-ok again": (504, WRONG_STATE, (10, 31)),
    "start-ok again": (504, WRONG_STATE, (10, 11)),
    "connection.blocked from the client": (504, WRONG_STATE, (10, 60)),
    "connection.close on channel 1": (503, UNIMPLEMENTED, (10, 50)),
    "a method that only servers send": (503, UNIMPLEMENTED, (50, 11)),
    "a delivery from the client": (503, UNIMPLEMENTED, (60, 60)),
}  # fmt: skip

# Deliberate differences of docs/compatibility.md, and what came after RabbitMQ 3.10; None is a socket that ends.
SAID_BY_RABBITMQ = {
    "unknown class": None, "unknown method": None, "unknown method on channel 0": None,
    "table with an unknown type": None,
    "method cut short": (501, "FRAME_ERROR - cannot decode <<0,0>>", (50, 10)),
    "method of two octets": (501, "FRAME_ERROR - type 1, all octets = <<0,50>>: unknown_frame", (0, 0)),
    "shortstr that lies": (501, "FRAME_ERROR - cannot decode <<0,0,255,97,98,99>>", (50, 10)),
    "table that lies": (501, "FRAME_ERROR - cannot decode <<0,0,0,0,255,255,255,255>>", (50, 10)),
    "broken UTF-8 in a name": (501, "FRAME_ERROR - Malformed UTF-8 in shortstr", (0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("fault", SAID)
def test_what_is_said_about_a_fault(connect, peer, fault):
    if peer.rabbitmq and fault in ONLY_FERRYMQ:
        pytest.skip("RabbitMQ waits for more or tolerates it")
    client = connect()
    pieces(client, *FAULTS[fault][0])
    close = ends(client)
    said = close and (close.reply_code, close.reply_text, (close.class_id, close.method_id))
    expected = SAID_BY_RABBITMQ.get(fault, SAID[fault]) if peer.rabbitmq else SAID[fault]
    assert said == expected
    assert close is None or close.name == "connection.close"


def test_unknown_frame_type_shows_its_first_octets(connect):
    client = connect()
    pieces(client, wire.frame(0, 1, b"1234567890\x0012345 and more"))
    close = ends(client)
    assert close.reply_code == 501
    assert close.reply_text == (
        "FRAME_ERROR - type 0, first 16 octets = <<49,50,51,52,53,54,55,56,57,48,0,49,50,51,52,53>>: unknown_frame"
    )


# --- values that grow --------------------------------------------------------------------------------------


def nested_table(depth):
    """A table whose only value is a table whose only value is … Built from the inside, without recursion."""
    inner = b""
    for _ in range(depth):
        inner = b"\x01kF" + struct.pack(">I", len(inner)) + inner
    return struct.pack(">I", len(inner)) + inner


def nested_array(depth):
    inner = b""
    for _ in range(depth):
        inner = b"A" + struct.pack(">I", len(inner)) + inner
    inner = b"\x01k" + (inner or b"V")
    return struct.pack(">I", len(inner)) + inner


@pytest.mark.parametrize("make", [nested_table, nested_array])
def test_deep_tables_in_declare(connect, name, make):
    """As deep as one frame can hold."""
    client = connect()
    table = make(16_000 if make is nested_table else 20_000)
    assert len(table) < 131_000
    payload = struct.pack(">HHH", 50, 10, 0) + wire.shortstr(name()) + b"\x04" + table
    pieces(client, wire.frame(1, 1, payload))
    settles(client)


@pytest.mark.parametrize("make", [nested_table, nested_array])
def test_deep_tables_in_properties(connect, make):
    client = connect()
    table = make(16_000)
    pieces(client, PUBLISH, wire.frame(2, 1, struct.pack(">HHQH", 60, 0, 0, 0x2000) + table))
    settles(client)


def test_a_table_100_000_deep_before_login(connect):
    """The frame is larger than what may be sent before tuning, and the table deeper than any stack."""
    client = connect(raw=True)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.wait(0, "connection.start")
    pieces(client, wire.frame(1, 0, struct.pack(">HH", 10, 11) + nested_table(100_000)))
    ends(client)


def settles(client):
    """The server either refuses or goes on; it does not hang or die."""
    try:
        client.call(1, "basic.qos")
    except (wire.Refused, Closed, OSError):
        pass


def test_headers_of_one_frame_full(connect, name):
    """Thousands of headers that fit one frame are stored and come back."""
    client = connect()
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    headers = {f"k{i}": i for i in range(8000)}
    client.publish(1, "", queue, b"x", headers=headers)
    assert client.call(1, "basic.get", queue=queue, no_ack=True).properties["headers"] == headers


def test_a_thousand_small_frames_in_one_write(connect):
    client = connect()
    client.send_raw(wire.frame(wire.FRAME_HEARTBEAT, 0, b"") * 1000 + wire.method_frame(1, "basic.qos"))
    client.wait(1, "basic.qos-ok")


def test_a_publish_octet_by_octet(connect, name):
    client = connect()
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    data = wire.method_frame(1, "basic.publish", routing_key=queue) + wire.content_frames(1, b"slow", {"priority": 1})
    for octet in data:
        client.send_raw(bytes([octet]))
    assert client.call(1, "basic.get", queue=queue, no_ack=True).body == b"slow"


def test_empty_body_frames_inside_a_body(connect, name):
    client = connect()
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    frames = [body(b""), body(b"ab"), body(b""), body(b"c")]
    client.send_raw(wire.method_frame(1, "basic.publish", routing_key=queue) + header(3) + b"".join(frames))
    assert client.call(1, "basic.get", queue=queue, no_ack=True).body == b"abc"


def test_disconnect_in_the_middle_of_everything(connect, name):
    """The socket ends at each octet of a publish; nothing of it is delivered."""
    queue = name()
    owner = connect()
    owner.call(1, "queue.declare", queue=queue, exclusive=False, auto_delete=True)
    data = wire.method_frame(1, "basic.publish", routing_key=queue) + wire.content_frames(1, b"cut")
    for cut in range(1, len(data) - 1, 7):
        client = connect()
        client.send_raw(data[:cut])
        client.abort()
    assert owner.call(1, "basic.get", queue=queue).name == "basic.get-empty"
    owner.call(1, "queue.delete", queue=queue)


def test_many_connections_come_and_go(broker):
    for _ in range(50):
        sockets = [socket.create_connection(broker.address, timeout=10) for _ in range(10)]
        for peer_socket in sockets:
            peer_socket.sendall(wire.PROTOCOL_HEADER[:4])
            peer_socket.close()
