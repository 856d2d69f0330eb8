"""Publishing: bodies and properties, confirms, returns, transactions."""

import pika
import pytest
from wire import Typed


@pytest.fixture
def inbox(client, name):
    """A queue whose consumer is on channel 2."""
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(2, "basic.consume", queue=queue, no_ack=True)
    return queue


def confirmed(client, channel, count):
    """The outcome of delivery tags 1…count; `multiple` is unfolded."""
    outcome, order = {}, []
    while len(outcome) < count:
        event = client.wait(channel, "basic.ack", "basic.nack")
        first = min(set(range(1, count + 1)) - set(outcome)) if event.multiple else event.delivery_tag
        for tag in range(first, event.delivery_tag + 1):
            outcome.setdefault(tag, event.name)
        order.append(event)
    return outcome


ALL_PROPERTIES = {
    "content_type": "text/plain", "content_encoding": "gzip", "delivery_mode": 2, "priority": 7,
    "correlation_id": "c-1", "reply_to": "somewhere", "expiration": "600000", "message_id": "m-1",
    "timestamp": 1_700_000_000, "type": "t", "user_id": "guest", "app_id": "app", "cluster_id": "cl",
    "headers": {
        "string": "s", "int": 5, "long": 2**40, "negative": -5, "true": True, "void": None, "double": 1.5,
        "list": ["a", 1, {"deep": [True]}], "table": {"k": {"k": "v"}}, "bytes": Typed("x", b"\0\xff"),
        "byte": Typed("b", -1), "short": Typed("s", -300), "float": Typed("f", 0.5), "time": Typed("T", 1),
        "decimal": Typed("D", (2, 314)),
    },
}  # fmt: skip


def test_properties_come_back_as_they_went(client, inbox):
    client.publish(1, "", inbox, b"body", **ALL_PROPERTIES)
    message = client.wait(2, "basic.deliver")
    assert message.properties == ALL_PROPERTIES
    assert message.body == b"body"


def test_no_properties_at_all(client, inbox):
    client.publish(1, "", inbox, b"")
    message = client.wait(2, "basic.deliver")
    assert (message.properties, message.body) == ({}, b"")


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 262128, 1_000_000])
def test_bodies_of_all_sizes(client, inbox, size):
    body = bytes(i * 7 & 255 for i in range(size))
    client.publish(1, "", inbox, body)
    assert client.wait(2, "basic.deliver").body == body


def test_delivery_mode_other_than_1_and_2_is_tolerated(client, inbox, peer):
    if peer.rabbitmq_310:  # refused before 3.13
        client.publish(1, "", inbox, b"x", delivery_mode=9)
        assert client.closing(1).reply_text == "PRECONDITION_FAILED - invalid message: {delivery_mode_unknown,9}"
        return
    client.publish(1, "", inbox, b"x", delivery_mode=9)
    assert client.wait(2, "basic.deliver").properties["delivery_mode"] == 9


def test_interleaved_contents_of_two_channels(connect, name):
    import wire

    client = connect(channels=3)
    queue = name()
    client.call(3, "queue.declare", queue=queue, exclusive=True)
    parts = {}
    for channel in (1, 2):
        body = bytes([channel]) * 1000
        parts[channel] = [
            wire.method_frame(channel, "basic.publish", routing_key=queue),
            wire.frame(wire.FRAME_HEADER, channel, wire.encode_header(1000, {})),
            wire.frame(wire.FRAME_BODY, channel, body[:400]),
            wire.frame(wire.FRAME_BODY, channel, body[400:]),
        ]
    for pair in zip(parts[1], parts[2]):
        for frame in pair:
            client.send_raw(frame)
    client.call(1, "basic.qos")
    client.call(2, "basic.qos")
    bodies = {client.call(3, "basic.get", queue=queue, no_ack=True).body for _ in range(2)}
    assert bodies == {b"\1" * 1000, b"\2" * 1000}


def test_every_message_is_confirmed_once(client, inbox):
    client.call(1, "confirm.select")
    for i in range(500):
        client.publish(1, "", inbox, str(i), delivery_mode=2)
    assert set(confirmed(client, 1, 500).values()) == {"basic.ack"}
    assert [client.wait(2, "basic.deliver").body for _ in range(500)] == [str(i).encode() for i in range(500)]


def test_confirm_tags_count_from_select(client, inbox):
    client.publish(1, "", inbox, b"before")
    client.call(1, "confirm.select")
    client.publish(1, "", inbox, b"after")
    assert client.wait(1, "basic.ack").delivery_tag == 1


def test_confirm_select_twice_keeps_counting(client, inbox):
    client.call(1, "confirm.select")
    client.publish(1, "", inbox, b"1")
    assert client.wait(1, "basic.ack").delivery_tag == 1
    client.call(1, "confirm.select")
    client.publish(1, "", inbox, b"2")
    assert client.wait(1, "basic.ack").delivery_tag == 2


def test_confirm_select_nowait(client, inbox):
    client.send(1, "confirm.select", nowait=True)
    client.publish(1, "", inbox, b"1")
    assert client.wait(1).name == "basic.ack"


def test_confirms_of_durable_queues(connect, name):
    client = connect(channels=2)
    queue = name()
    client.call(1, "queue.declare", queue=queue, durable=True)
    client.call(1, "confirm.select")
    for i in range(100):
        client.publish(1, "", queue, b"x", delivery_mode=2 if i % 2 else 1)
    assert set(confirmed(client, 1, 100).values()) == {"basic.ack"}
    assert client.call(2, "queue.delete", queue=queue).message_count == 100


def test_unroutable_messages_are_confirmed_too(client):
    client.call(1, "confirm.select")
    client.publish(1, "amq.direct", "nobody", b"x")
    assert client.wait(1, "basic.ack").delivery_tag == 1


def test_a_return_comes_before_its_confirm(client, inbox):
    client.call(1, "confirm.select")
    client.publish(1, "amq.direct", "nobody", b"body", mandatory=True, message_id="m", headers={"k": 1})
    events = [client.wait(1), client.wait(1)]
    assert [e.name for e in events] == ["basic.return", "basic.ack"]
    returned = events[0]
    assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")
    assert (returned.exchange, returned.routing_key) == ("amq.direct", "nobody")
    assert (returned.body, returned.properties) == (b"body", {"message_id": "m", "headers": {"k": 1}})


def test_mandatory_and_routable_is_not_returned(client, inbox):
    client.call(1, "confirm.select")
    client.publish(1, "", inbox, b"x", mandatory=True)
    assert client.wait(1).name == "basic.ack"


def test_returns_without_confirms(client):
    for i in range(3):
        client.publish(1, "", f"missing-{i}", str(i), mandatory=True)
    assert [client.wait(1, "basic.return").routing_key for _ in range(3)] == [f"missing-{i}" for i in range(3)]


def test_an_alternate_exchange_satisfies_mandatory(client, inbox, name):
    exchange = name("exchange")
    client.call(1, "exchange.declare", exchange=exchange, type="direct", arguments={"alternate-exchange": "amq.fanout"})
    client.call(1, "queue.bind", queue=inbox, exchange="amq.fanout")
    client.call(1, "confirm.select")
    client.publish(1, exchange, "nobody", b"x", mandatory=True)
    assert client.wait(1).name == "basic.ack"
    client.call(1, "exchange.delete", exchange=exchange)
    client.call(1, "queue.unbind", queue=inbox, exchange="amq.fanout")


def test_a_refused_publish_leaves_later_ones_unanswered(client, name):
    client.call(1, "confirm.select")
    client.publish(1, name("missing"), "k", b"x")
    client.publish(1, "", "nobody", b"y")
    assert client.wait(1).name == "channel.close"
    client.open_channel(1)
    assert client.pending == []


def test_pika_confirms_and_unroutable_error(channel, queue):
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"x", mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", "nobody at all", b"x", mandatory=True)


def test_user_id_of_the_login_is_accepted(client, inbox):
    client.publish(1, "", inbox, b"x", user_id="guest")
    assert client.wait(2, "basic.deliver").properties == {"user_id": "guest"}


# --- transactions ------------------------------------------------------------------------------------------


def count(client, queue):
    return client.call(2, "queue.declare", queue=queue, passive=True).message_count


@pytest.fixture
def store(client, name):
    """A queue without a consumer."""
    queue = name()
    client.call(2, "queue.declare", queue=queue, exclusive=True)
    return queue


def test_tx_publishes_appear_at_commit(client, store):
    client.call(1, "tx.select")
    for i in range(3):
        client.publish(1, "", store, str(i))
    client.call(1, "basic.qos")
    assert count(client, store) == 0
    client.call(1, "tx.commit")
    assert count(client, store) == 3
    client.publish(1, "", store, b"4")
    client.call(1, "tx.commit")
    assert count(client, store) == 4


def test_tx_rollback_forgets_publishes(client, store):
    client.call(1, "tx.select")
    client.publish(1, "", store, b"x")
    client.call(1, "tx.rollback")
    client.call(1, "tx.commit")
    assert count(client, store) == 0


def test_tx_select_twice_is_fine(client, store):
    client.call(1, "tx.select")
    client.publish(1, "", store, b"x")
    client.call(1, "tx.select")
    client.call(1, "tx.commit")
    assert count(client, store) == 1


def test_tx_acks_take_effect_at_commit(client, connect, name):
    queue = name()
    owner = connect(channels=2)
    owner.call(2, "queue.declare", queue=queue, exclusive=True)
    owner.publish(2, "", queue, b"1")
    owner.publish(2, "", queue, b"2")
    owner.call(1, "tx.select")
    first, second = (owner.call(1, "basic.get", queue=queue) for _ in range(2))
    owner.send(1, "basic.ack", delivery_tag=first.delivery_tag)
    owner.call(1, "tx.commit")
    owner.send(1, "basic.ack", delivery_tag=second.delivery_tag)
    owner.call(1, "channel.close", reply_code=200)  # the second ack was not committed
    message = owner.call(2, "basic.get", queue=queue, no_ack=True)
    assert (message.body, message.redelivered, message.message_count) == (b"2", True, 0)


def test_tx_rollback_restores_acks_without_requeue(client, store):
    client.publish(2, "", store, b"1")
    client.call(2, "queue.declare", queue=store, passive=True)
    client.call(1, "tx.select")
    message = client.call(1, "basic.get", queue=store)
    client.send(1, "basic.ack", delivery_tag=message.delivery_tag)
    client.call(1, "tx.rollback")
    assert client.call(1, "basic.get", queue=store).name == "basic.get-empty"  # still unacked here
    client.send(1, "basic.ack", delivery_tag=message.delivery_tag)  # and may be acked again
    client.call(1, "tx.commit")
    client.call(1, "channel.close", reply_code=200)
    assert count(client, store) == 0


def test_tx_returns_come_at_commit(client):
    client.call(1, "tx.select")
    client.publish(1, "amq.direct", "nobody", b"x", mandatory=True)
    client.call(1, "basic.qos")
    assert client.pending == []
    client.send(1, "tx.commit")
    assert {client.wait(1).name, client.wait(1).name} == {"basic.return", "tx.commit-ok"}
