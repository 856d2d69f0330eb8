"""Handshake, tuning, login, heartbeats, channels and closing."""

import socket
import time

import pika
import pytest
import wire
from wire import Client


def test_start_announces_what_clients_look_for(connect):
    client = connect()
    start = client.start
    assert (start["version_major"], start["version_minor"]) == (0, 9)
    assert {"PLAIN", "AMQPLAIN"} <= set(start["mechanisms"].split())
    assert "en_US" in start["locales"].split()
    properties = client.server_properties
    assert {"product", "version", "platform", "capabilities"} <= set(properties)
    wanted = {"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
              "connection.blocked", "consumer_priorities", "authentication_failure_close",
              "per_consumer_qos", "direct_reply_to"}  # fmt: skip
    assert {name for name, value in properties["capabilities"].items() if value is True} >= wanted


def test_tune_offers_rabbitmqs_defaults(connect):
    assert connect().tune == {"channel_max": 2047, "frame_max": 131072, "heartbeat": 60}


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
def test_login(connect, mechanism):
    connect(mechanism=mechanism)


def test_wrong_password_is_told_to_clients_that_understand_it(connect):
    client = connect(raw=True)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.start_ok(password="wrong")
    close = client.wait(0, "connection.close")
    assert close.reply_code == 403
    assert close.reply_text == (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
        "For details see the broker logfile."
    )


def test_wrong_password_closes_the_socket_of_older_clients(connect):
    client = connect(raw=True)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.start_ok(password="wrong", capabilities={})
    assert client.read_until_closed() == []


def test_pika_raises_its_own_error_for_a_wrong_password(pika_connection):
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika_connection(credentials=pika.PlainCredentials("guest", "wrong"))


def test_unknown_vhost(connect):
    client = connect(raw=True)
    with pytest.raises(wire.Refused) as refused:
        client.connect(vhost="nosuch")
    close = refused.value.event
    assert (close.name, close.reply_code) == ("connection.close", 530)
    assert close.reply_text == "NOT_ALLOWED - vhost nosuch not found"
    assert (close.class_id, close.method_id) == (10, 40)


@pytest.mark.parametrize("header", [b"AMQP\x00\x00\x08\x00", b"AMQP\x01\x01\x00\x0a", b"AMQP\x09\x09\x09\x09"])
def test_wrong_protocol_header_is_answered_with_the_servers_own(connect, peer, header):
    client = connect(raw=True)
    client.send_raw(header)
    answer = b""
    try:
        while piece := client.socket.recv(64):
            answer += piece
    except ConnectionResetError:
        pass
    assert answer[:4] == b"AMQP"
    assert len(answer) == 8


@pytest.mark.parametrize(
    "tune, text",
    [
        ({"frame_max": 100}, "negotiated frame_max = 100 is lower than the minimum allowed value (4096)"),
        ({"frame_max": 200_000}, "negotiated frame_max = 200000 is higher than the maximum allowed value (131072)"),
        ({"channel_max": 5000}, "negotiated channel_max = 5000 is higher than the maximum allowed value (2047)"),
        ({"channel_max": 0}, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
    ],
)  # fmt: skip
def test_tune_outside_the_offer_is_refused(connect, peer, tune, text):
    client = connect(raw=True)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.start_ok()
    client.wait(0, "connection.tune")
    values = {"channel_max": 2047, "frame_max": 131072, "heartbeat": 0, **tune}
    client.send(0, "connection.tune-ok", **values)
    if peer.rabbitmq_310:  # it logs the text and resets the socket after 3 s; later versions say it
        assert client.read_until_closed() == []
        return
    close = client.wait(0, "connection.close")
    assert (close.reply_code, close.reply_text) == (530, f"NOT_ALLOWED - {text}")


def test_smallest_frame_max_is_accepted_and_kept(connect, name):
    client = connect(frame_max=4096)
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    body = bytes(range(256)) * 64
    client.publish(1, "", queue, body)
    client.send(1, "basic.get", queue=queue, no_ack=True)
    sizes, received = [], b""
    while len(received) < len(body):
        kind, _channel, payload = client.read_frame()
        sizes.append(len(payload) + 8)
        if kind == wire.FRAME_BODY:
            received += payload
    assert received == body
    assert max(sizes) <= 4096


def test_one_channel_too_many(connect):
    client = connect(channel_max=3, channels=3)
    close = client.refusal(4, "channel.open")
    assert (close.name, close.reply_code) == ("connection.close", 530)
    assert close.reply_text == (
        "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)"
    )


def test_a_channel_number_can_be_used_again_after_an_error(connect, name):
    client = connect(channels=2)
    close = client.refusal(1, "queue.declare", queue=name("missing"), passive=True)
    assert (close.name, close.reply_code) == ("channel.close", 404)
    client.call(2, "queue.declare", queue=name(), exclusive=True)
    client.open_channel(1)
    client.call(1, "queue.declare", queue=name(), exclusive=True)


def test_channel_close_and_open_again(client):
    for _ in range(5):
        client.call(1, "channel.close", reply_code=200, reply_text="done")
        client.open_channel(1)


def test_frames_after_a_channel_close_are_ignored_until_close_ok(connect, name):
    client = connect()
    missing = name("missing")
    for _ in range(3):
        client.send(1, "queue.declare", queue=missing, passive=True)
    first = client.wait(1, "channel.close")
    assert first.reply_code == 404
    client.open_channel(1)
    assert client.take_pending(1, "channel.close") == []


def test_client_closes_connection(connect):
    client = connect(channels=3)
    client.send(0, "connection.close", reply_code=200, reply_text="bye")
    assert client.wait(0, "connection.close-ok")


def test_hundred_channels(connect):
    client = connect(channels=100)
    for number in range(1, 101):
        client.call(number, "channel.close", reply_code=200)


def test_channel_flow_true_is_confirmed(client):
    assert client.call(1, "channel.flow", active=True).active is True


def test_access_request_gets_a_ticket(client):
    assert client.call(1, "access.request", realm="/data", active=True).ticket == 1


def test_heartbeats_are_sent_when_nothing_else_is(connect):
    client = connect(heartbeat=1)
    kind, channel, payload = client.read_frame("heartbeat", timeout=10)
    assert (kind, channel, payload) == (wire.FRAME_HEARTBEAT, 0, b"")


def test_a_silent_client_is_dropped(connect):
    client = connect(heartbeat=1)
    with pytest.raises(wire.Closed):
        client.timeout = 20
        while True:
            client.read_frame("the end of the socket")


def test_without_heartbeats_silence_is_fine(connect, name):
    client = connect(heartbeat=0)
    client.socket.settimeout(2.5)
    with pytest.raises(socket.timeout):
        client.socket.recv(1)
    client.call(1, "queue.declare", queue=name(), exclusive=True)


def test_update_of_handshake_is_sent_as_one_burst(connect, broker, name):
    """A client may send tune-ok, open and channel.open without waiting."""
    client = Client(broker.address)
    client.send_raw(wire.PROTOCOL_HEADER)
    client.start_ok()
    client.wait(0, "connection.tune")
    burst = wire.method_frame(0, "connection.tune-ok", channel_max=10, frame_max=4096, heartbeat=0)
    burst += wire.method_frame(0, "connection.open", virtual_host="/")
    burst += wire.method_frame(1, "channel.open")
    burst += wire.method_frame(1, "queue.declare", queue=name(), exclusive=True)
    client.send_raw(burst)
    assert client.wait(0, "connection.open-ok")
    assert client.wait(1, "channel.open-ok")
    assert client.wait(1, "queue.declare-ok")
    client.close()


def test_handshake_octet_by_octet(connect):
    client = connect(raw=True)
    for octet in wire.PROTOCOL_HEADER:
        client.send_raw(bytes([octet]))
        time.sleep(0.01)
    assert client.wait(0, "connection.start")


def test_pika_and_its_client_properties(pika_connection):
    connection = pika_connection(client_properties={"connection_name": "named by a test"})
    channel = connection.channel()
    assert channel.queue_declare("", exclusive=True).method.queue.startswith("amq.gen-")
