"""Refusals that need a queue type, an option, or a name of their own: the rest of RabbitMQ's reply codes.

What any client provokes on a classic queue stands in `test_errors.py`, broken frames in `test_hostile.py`.
"""

import struct

import pytest
import wire
from wire import Client, Typed

REPLY_TO = "amq.rabbitmq.reply-to"
FORGED = REPLY_TO + ".AAECAwQFBgcICQoLDA0ODw"


def quorum(**more):
    return {"x-queue-type": "quorum", **{key.replace("_", "-"): value for key, value in more.items()}}


def said(close):
    return close.name.split(".")[0], close.reply_code, close.reply_text


@pytest.fixture
def quorum_queue(client, name):
    """Declares a quorum queue, which is deleted at the end of the test: `quorum_queue(x_max_length=5)`."""
    names = []

    def make(**arguments):
        names.append(name("quorum"))
        client.call(1, "queue.declare", queue=names[-1], durable=True, arguments=quorum(**arguments))
        return names[-1]

    yield make
    for queue in names:
        client.open_channel(99)
        client.call(99, "queue.delete", queue=queue)
        client.call(99, "channel.close", reply_code=200)


# --- quorum and stream queues ------------------------------------------------------------------------------


@pytest.mark.parametrize("flags, blamed", [
    ({"exclusive": True, "durable": True}, "exclusive-owner"),
    ({}, "non-durable"),
    ({"durable": True, "auto_delete": True}, "auto-delete"),
    ({"exclusive": True}, "exclusive-owner"),
    ({"exclusive": True, "auto_delete": True}, "auto-delete"),
    ({"auto_delete": True}, "auto-delete"),
], ids=str)  # fmt: skip
def test_what_a_quorum_queue_cannot_be(client, name, flags, blamed):
    queue = name()
    close = client.refusal(1, "queue.declare", queue=queue, arguments=quorum(), **flags)
    text = f"PRECONDITION_FAILED - invalid property '{blamed}' for queue '{queue}' in vhost '/'"
    assert said(close) == ("channel", 406, text)
    assert (close.class_id, close.method_id) == wire.METHODS["queue.declare"][:2]


@pytest.mark.parametrize("kind", ["quorum", "stream"])
@pytest.mark.parametrize("more", [
    {"durable": True}, {}, {"exclusive": True}, {"durable": True, "arguments": {"x-max-length": -1}},
], ids=str)  # fmt: skip
def test_only_classic_queues_are_server_named(client, kind, more):
    """Whatever else is wrong with the declaration."""
    arguments = {"x-queue-type": kind, **more.get("arguments", {})}
    close = client.refusal(1, "queue.declare", **{**more, "arguments": arguments})
    text = f"PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_{kind}_queue"
    assert said(close) == ("channel", 406, text)


@pytest.mark.parametrize("kind, argument, value", [
    ("classic", "x-consumer-timeout", 5), ("classic", "x-quorum-initial-group-size", 3),
    ("classic", "x-max-age", "1D"), ("quorum", "x-max-priority", 5), ("quorum", "x-max-age", "1D"),
])  # fmt: skip
def test_arguments_of_another_queue_type(client, name, kind, argument, value):
    queue = name()
    arguments = {"x-queue-type": kind, argument: value}
    close = client.refusal(1, "queue.declare", queue=queue, durable=True, arguments=arguments)
    assert said(close) == (
        "channel", 406, f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/' of queue type "
        f"rabbit_{kind}_queue",
    )  # fmt: skip


def test_streams_are_not_there_yet(client, name, peer):
    if peer.rabbitmq:
        pytest.skip("RabbitMQ has them")
    close = client.refusal(1, "queue.declare", queue=name(), durable=True, arguments={"x-queue-type": "stream"})
    assert said(close) == ("connection", 540, "NOT_IMPLEMENTED - queue type 'stream' is not supported yet")


@pytest.mark.parametrize("conditions, blamed", [
    ({"if_unused": True}, "if-unused"), ({"if_empty": True}, "if-empty"),
    ({"if_unused": True, "if_empty": True}, "if-unused"),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "last declared"])
def test_a_quorum_queue_is_not_deleted_on_a_condition(connect, name, conditions, blamed, by_name):
    """Also where its declaration came in the same burst, and without an answer."""
    client, queue = connect(), name()
    declare = wire.method_frame(1, "queue.declare", queue=queue, durable=True, nowait=True, arguments=quorum())
    delete = wire.method_frame(1, "queue.delete", queue=queue if by_name else "", **conditions)
    client.send_raw(declare + delete)
    close = client.closing(1)
    text = (f"NOT_IMPLEMENTED - cannot delete queue '{queue}' in vhost '/'. queue.delete operations with {blamed} "
            "flag set are not supported by quorum queues")  # fmt: skip
    assert said(close) == ("connection", 540, text)
    assert (close.class_id, close.method_id) == wire.METHODS["queue.delete"][:2]
    other = connect()
    assert other.call(1, "queue.delete", queue=queue).message_count == 0
    assert other.call(1, "queue.delete", queue=queue, **conditions).message_count == 0, "what is gone is gone"


@pytest.mark.parametrize("no_ack", [True, False])
def test_fetching_from_a_quorum_queue_with_a_single_active_consumer(client, quorum_queue, no_ack):
    queue = quorum_queue(x_single_active_consumer=True)
    close = client.refusal(1, "basic.get", queue=queue, no_ack=no_ack)
    assert said(close) == (
        "channel", 405, f"RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get "
        "operations are not supported by quorum queues with single active consumer",
    )  # fmt: skip


def test_fetching_from_other_quorum_queues(client, quorum_queue):
    queue = quorum_queue(x_single_active_consumer=False)
    assert client.call(1, "basic.get", queue=queue).name == "basic.get-empty"


# --- the reply-to pseudo-queue -----------------------------------------------------------------------------


@pytest.mark.parametrize("queue", [REPLY_TO, FORGED])
def test_the_reply_pseudo_queue_cannot_be_bound(client, peer, queue):
    close = client.refusal(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key="key")
    code, text = peer.pick(
        (403, f"ACCESS_REFUSED - operation not permitted on the reply-to pseudo-queue '{queue}'"),
        (404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"),
    )
    assert said(close) == ("channel", code, text)


@pytest.mark.parametrize("queue", [REPLY_TO, FORGED])
def test_the_reply_pseudo_queue_cannot_be_unbound(client, peer, queue):
    if peer.rabbitmq_310:
        pytest.skip("RabbitMQ 3.10 finds nothing to unbind and is content")
    close = client.refusal(1, "queue.unbind", queue=queue, exchange="amq.direct", routing_key="key")
    text = f"ACCESS_REFUSED - operation not permitted on the reply-to pseudo-queue '{queue}'"
    assert said(close) == ("channel", 403, text)


def test_the_reply_pseudo_queue_is_bound_by_nothing_after_its_declaration(client, peer):
    """A declare of it makes it the channel's last queue, so that an empty name means it."""
    client.call(1, "queue.declare", queue=REPLY_TO)
    close = client.refusal(1, "queue.bind", exchange="amq.direct")
    assert (close.name, close.reply_code) == ("channel.close", peer.pick(403, 404))


def test_the_reply_consumers_own_tag(client):
    client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True, consumer_tag="r")
    close = client.refusal(1, "basic.consume", queue=REPLY_TO, no_ack=True, consumer_tag="r")
    assert said(close) == ("channel", 406, "PRECONDITION_FAILED - reply consumer already set")


def test_a_tag_in_use_is_told_before_what_is_wrong_with_a_reply_consumer(client, name):
    client.call(1, "queue.declare", queue=name(), exclusive=True)
    client.call(1, "basic.consume", consumer_tag="c")
    close = client.refusal(1, "basic.consume", queue=REPLY_TO, consumer_tag="c")
    assert said(close) == ("connection", 530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'")


# --- limits ------------------------------------------------------------------------------------------------


@pytest.fixture
def two_consumers(own_broker):
    """A connection to a broker that allows two consumers per channel, with channels 1 and 2 and a queue."""
    client = Client(own_broker("[limits]\nmax_consumers_per_channel = 2").address).connect()
    for channel in (1, 2):
        client.open_channel(channel)
    client.call(1, "queue.declare", queue="q", exclusive=True)
    return client


TOO_MANY = ("connection", 530, "NOT_ALLOWED - reached maximum (2) of consumers per channel")


@pytest.mark.owned
@pytest.mark.parametrize("queue", ["q", "nosuch", REPLY_TO], ids=["existing", "missing", "reply-to"])
def test_one_consumer_too_many(two_consumers, queue):
    client = two_consumers
    for _ in range(2):
        client.call(1, "basic.consume", queue="q")
    close = client.refusal(1, "basic.consume", queue=queue)
    assert said(close) == TOO_MANY
    assert (close.class_id, close.method_id) == wire.METHODS["basic.consume"][:2]


@pytest.mark.owned
def test_the_limit_is_each_channels_own_and_cancelled_consumers_do_not_count(two_consumers):
    client = two_consumers
    for channel in (1, 2):
        for tag in ("a", "b"):
            client.call(channel, "basic.consume", queue="q", consumer_tag=tag)
    for _ in range(3):
        client.call(1, "basic.cancel", consumer_tag="a")
        client.call(1, "basic.consume", queue="q", consumer_tag="a")
    close = client.refusal(1, "basic.consume", queue="q", consumer_tag="a")
    assert said(close) == ("connection", 530, "NOT_ALLOWED - attempt to reuse consumer tag 'a'")


@pytest.mark.owned
def test_the_reply_consumer_does_not_count(two_consumers):
    client = two_consumers
    client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True)
    client.call(1, "basic.consume", queue="q")
    client.call(1, "basic.consume", queue="q")
    assert said(client.refusal(1, "basic.consume", queue="q")) == TOO_MANY


# --- field tables ------------------------------------------------------------------------------------------

EVERY_TYPE = {
    "S": "text", "x": Typed("x", b"\0\xff"), "T": Typed("T", 1), "F": {"k": {}}, "A": [1, [None]], "V": None,
    "B": Typed("B", 255), "b": Typed("b", -128), "s": Typed("s", -300), "u": Typed("u", 65535),
    "I": Typed("I", -(2**31)), "i": Typed("i", 2**32 - 1), "l": Typed("l", -(2**63)), "L": Typed("L", 2**63 - 1),
    "f": Typed("f", 0.5), "d": Typed("d", 0.25), "D": Typed("D", (2, 314)), "t": True,
}  # fmt: skip


def test_every_field_type_comes_back_octet_by_octet(client, name):
    queue, table = name(), wire.encode_table(EVERY_TYPE)
    client.call(1, "queue.declare", queue=queue, exclusive=True, arguments=EVERY_TYPE)
    client.publish(1, "", queue, b"", headers=EVERY_TYPE)
    client.send(1, "basic.get", queue=queue, no_ack=True)
    kind, _channel, _payload = client.read_frame()
    assert kind == wire.FRAME_METHOD
    kind, _channel, payload = client.read_frame()
    assert (kind, payload) == (wire.FRAME_HEADER, struct.pack(">HHQH", 60, 0, 0, 0x2000) + table)
