"""Queues, exchanges and bindings: declaring, equivalence, deleting, lifetimes."""

import time

import pytest
from wire import Refused, Typed


def exists(client, queue):
    """Whether a queue exists, asked on a channel of its own."""
    channel = 99
    client.open_channel(channel)
    try:
        client.call(channel, "queue.declare", queue=queue, passive=True)
    except Refused:
        return False
    client.call(channel, "channel.close", reply_code=200)
    return True


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        time.sleep(0.02)


def count(client, queue):
    return client.call(1, "queue.declare", queue=queue, passive=True).message_count


def routed(client, exchange, key, queue):
    """How many copies one publish puts into the queue."""
    before = count(client, queue)
    client.send(2, "confirm.select")
    client.wait(2, "confirm.select-ok")
    client.publish(2, exchange, key, b"probe")
    client.wait(2, "basic.ack")
    return count(client, queue) - before


def test_declare_tells_counts(client, name):
    queue = name()
    assert client.call(1, "queue.declare", queue=queue, exclusive=True).args == {
        "queue": queue, "message_count": 0, "consumer_count": 0,
    }  # fmt: skip
    client.call(1, "basic.consume", queue=queue, no_ack=False)
    client.call(1, "basic.qos", prefetch_count=1)
    assert client.call(1, "queue.declare", queue=queue, exclusive=True).consumer_count == 1


def test_server_named_queues(client):
    names = {client.call(1, "queue.declare", exclusive=True).queue for _ in range(20)}
    assert len(names) == 20
    assert all(n.startswith("amq.gen-") and len(n) == len("amq.gen-") + 22 for n in names)
    assert all(exists(client, n) for n in names)


def test_an_empty_queue_name_is_the_last_one_declared(client, name):
    queue = client.call(1, "queue.declare", exclusive=True).queue
    client.call(1, "queue.bind", exchange="amq.direct", routing_key="")
    assert routed(client, "amq.direct", queue, queue) == 1  # empty queue and empty key: the queue's name
    assert client.call(1, "basic.get", no_ack=True).body == b"probe"
    assert client.call(1, "queue.purge").message_count == 0
    client.call(1, "basic.consume", consumer_tag="c")
    assert client.call(1, "queue.delete").message_count == 0


def test_an_empty_key_with_a_named_queue_stays_empty(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key="")
    assert routed(client, "amq.direct", queue, queue) == 0
    assert routed(client, "amq.direct", "", queue) == 1
    client.call(1, "queue.unbind", queue=queue, exchange="amq.direct", routing_key="")


@pytest.mark.parametrize("letter", "bsIlBuiL")
def test_integer_widths_are_equivalent(client, name, peer, letter):
    if letter == "L" and peer.rabbitmq_310:
        letter = "l"
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True, arguments={"x-max-length": 10})
    client.call(1, "queue.declare", queue=queue, exclusive=True, arguments={"x-max-length": Typed(letter, 10)})


def test_unknown_arguments_are_not_compared(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True, arguments={"x-colour": "red", "other": 1})
    client.call(1, "queue.declare", queue=queue, exclusive=True, arguments={"x-colour": "blue"})
    client.call(1, "queue.declare", queue=queue, exclusive=True)


def test_a_missing_queue_type_is_classic(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "queue.declare", queue=queue, exclusive=True, arguments={"x-queue-type": "classic"})


def test_durable_is_not_compared_for_exclusive_queues(client, name, peer):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True, durable=True)
    if not peer.rabbitmq_310:
        client.call(1, "queue.declare", queue=queue, exclusive=True, durable=False)
    client.call(1, "queue.declare", queue=queue, exclusive=True, durable=True)


def test_passive_declare_ignores_everything_but_the_name(client, name):
    queue, exchange = name(), name("exchange")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "queue.declare", queue=queue, passive=True, durable=True, auto_delete=True,
                arguments={"x-max-length": -1})  # fmt: skip
    client.call(1, "exchange.declare", exchange=exchange, type="fanout", auto_delete=True)
    client.call(1, "exchange.declare", exchange=exchange, type="topic", passive=True, durable=True)
    client.call(1, "exchange.declare", exchange="amq.topic", type="topic", passive=True)
    client.call(1, "exchange.delete", exchange=exchange)


@pytest.mark.parametrize("exchange, kind", [
    ("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"), ("amq.headers", "headers"),
    ("amq.match", "headers"),
])  # fmt: skip
def test_system_exchanges_exist(client, exchange, kind):
    client.call(1, "exchange.declare", exchange=exchange, type=kind, durable=True)


def test_deleting_what_is_not_there_is_fine(client, name):
    assert client.call(1, "queue.delete", queue=name()).message_count == 0
    client.call(1, "exchange.delete", exchange=name("exchange"))
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "queue.unbind", queue=queue, exchange="amq.direct", routing_key="nothing")
    client.call(1, "queue.unbind", queue=queue, exchange=name("exchange"), routing_key="nothing")
    client.call(1, "queue.unbind", queue=name("other"), exchange="amq.direct", routing_key="nothing")
    client.call(1, "exchange.unbind", destination="amq.fanout", source=name("exchange"), routing_key="nothing")


def test_delete_returns_the_number_of_messages(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    for _ in range(3):
        client.publish(1, "", queue, b"x")
    assert client.call(1, "queue.delete", queue=queue).message_count == 3
    assert not exists(client, queue)


def test_if_unused_and_if_empty_allow_it(client, name):
    queue, exchange = name(), name("exchange")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "queue.delete", queue=queue, if_unused=True, if_empty=True)
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.call(1, "exchange.bind", destination=exchange, source="amq.fanout")
    client.call(1, "exchange.delete", exchange=exchange, if_unused=True)  # being a destination is no use


def test_the_same_binding_twice_is_one(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    for _ in range(2):
        client.call(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)
    assert routed(client, "amq.direct", queue, queue) == 1
    client.call(1, "queue.unbind", queue=queue, exchange="amq.direct", routing_key=queue)
    assert routed(client, "amq.direct", queue, queue) == 0


def test_bindings_with_other_arguments_are_others(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key=queue, arguments={"a": 1})
    client.call(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key=queue, arguments={"a": 2})
    client.call(1, "queue.unbind", queue=queue, exchange="amq.direct", routing_key=queue, arguments={"a": 1})
    assert routed(client, "amq.direct", queue, queue) == 1
    client.call(1, "queue.unbind", queue=queue, exchange="amq.direct", routing_key=queue)
    assert routed(client, "amq.direct", queue, queue) == 1


def test_a_deleted_queue_takes_its_bindings_along(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)
    client.call(1, "queue.delete", queue=queue)
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    assert routed(client, "amq.direct", queue, queue) == 0


def test_exchange_to_exchange(client, name):
    queue, first, second = name(), name("first"), name("second")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    for exchange in (first, second):
        client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.call(1, "exchange.bind", source=first, destination=second, routing_key="key")
    client.call(1, "queue.bind", queue=queue, exchange=second, routing_key="key")
    assert routed(client, first, "key", queue) == 1
    assert routed(client, first, "other", queue) == 0
    client.call(1, "exchange.unbind", source=first, destination=second, routing_key="key")
    assert routed(client, first, "key", queue) == 0
    for exchange in (first, second):
        client.call(1, "exchange.delete", exchange=exchange)


def test_a_cycle_of_exchanges_delivers_once(client, name):
    queue, first, second = name(), name("first"), name("second")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    for exchange in (first, second):
        client.call(1, "exchange.declare", exchange=exchange, type="fanout")
        client.call(1, "queue.bind", queue=queue, exchange=exchange)
    client.call(1, "exchange.bind", source=first, destination=second)
    client.call(1, "exchange.bind", source=second, destination=first)
    assert routed(client, first, "", queue) == 1
    for exchange in (first, second):
        client.call(1, "exchange.delete", exchange=exchange)


def test_internal_exchanges_work_behind_others(client, name):
    queue, front, inner = name(), name("front"), name("inner")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "exchange.declare", exchange=front, type="fanout")
    client.call(1, "exchange.declare", exchange=inner, type="fanout", internal=True)
    client.call(1, "exchange.bind", source=front, destination=inner)
    client.call(1, "queue.bind", queue=queue, exchange=inner)
    assert routed(client, front, "", queue) == 1
    for exchange in (front, inner):
        client.call(1, "exchange.delete", exchange=exchange)


def test_alternate_exchange_takes_what_is_not_routed(client, name):
    matched, other, exchange, alternate = name("matched"), name("other"), name("exchange"), name("alternate")
    for queue in (matched, other):
        client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "exchange.declare", exchange=alternate, type="fanout")
    client.call(1, "exchange.declare", exchange=exchange, type="direct", arguments={"alternate-exchange": alternate})
    client.call(1, "queue.bind", queue=matched, exchange=exchange, routing_key="key")
    client.call(1, "queue.bind", queue=other, exchange=alternate)
    assert routed(client, exchange, "key", matched) == 1
    assert count(client, other) == 0
    assert routed(client, exchange, "else", other) == 1
    assert count(client, matched) == 1
    for name_ in (exchange, alternate):
        client.call(1, "exchange.delete", exchange=name_)


def test_alternate_exchanges_chain_and_may_be_missing_or_cyclic(client, name):
    queue, first, second = name(), name("first"), name("second")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "exchange.declare", exchange=first, type="direct", arguments={"alternate-exchange": second})
    assert routed(client, first, "key", queue) == 0  # the alternate exchange does not exist
    client.call(1, "exchange.declare", exchange=second, type="direct", arguments={"alternate-exchange": first})
    assert routed(client, first, "key", queue) == 0  # a circle of alternates
    client.call(1, "queue.bind", queue=queue, exchange=second, routing_key="key")
    assert routed(client, first, "key", queue) == 1
    for exchange in (first, second):
        client.call(1, "exchange.delete", exchange=exchange)


def test_auto_delete_queue_goes_with_its_last_consumer(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, auto_delete=True)
    assert exists(client, queue)  # it never had a consumer
    for tag in ("one", "two"):
        client.call(1, "basic.consume", queue=queue, consumer_tag=tag)
    client.call(1, "basic.cancel", consumer_tag="one")
    assert exists(client, queue)
    client.call(1, "basic.cancel", consumer_tag="two")
    eventually(lambda: not exists(client, queue))


def test_auto_delete_queue_goes_when_the_consumers_channel_closes(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, auto_delete=True)
    client.call(2, "basic.consume", queue=queue)
    client.call(2, "channel.close", reply_code=200)
    eventually(lambda: not exists(client, queue))


def test_auto_delete_exchange_goes_with_its_last_binding(client, name):
    queue, exchange = name(), name("exchange")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "exchange.declare", exchange=exchange, type="direct", auto_delete=True)
    for key in ("one", "two"):
        client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key=key)
    client.call(1, "queue.unbind", queue=queue, exchange=exchange, routing_key="one")
    client.call(1, "exchange.declare", exchange=exchange, passive=True)
    client.call(1, "queue.unbind", queue=queue, exchange=exchange, routing_key="two")
    assert client.refusal(1, "exchange.declare", exchange=exchange, passive=True).reply_code == 404


def test_auto_delete_exchange_goes_with_the_bound_queue(client, name):
    queue, exchange = name(), name("exchange")
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.call(1, "exchange.declare", exchange=exchange, type="direct", auto_delete=True)
    client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key="one")
    client.call(1, "queue.delete", queue=queue)
    assert client.refusal(1, "exchange.declare", exchange=exchange, passive=True).reply_code == 404


def test_exclusive_queues_are_gone_before_close_ok(connect, name):
    queue = name()
    for _ in range(10):
        owner = connect()
        owner.call(1, "queue.declare", queue=queue, exclusive=True)
        owner.call(0, "connection.close", reply_code=200)
        other = connect()
        assert not exists(other, queue)
        other.close()


def test_exclusive_queues_go_with_a_lost_connection(connect, name):
    queue = name()
    owner, other = connect(), connect()
    owner.call(1, "queue.declare", queue=queue, exclusive=True)
    owner.abort()

    def gone():
        other.open_channel(50)
        other.send(50, "queue.declare", queue=queue, passive=True)
        close = other.closing(50)
        return close.reply_code == 404

    eventually(gone)


def test_nowait_methods_take_effect_without_an_answer(client, name):
    queue, exchange = name(), name("exchange")
    client.send(1, "queue.declare", queue=queue, exclusive=True, nowait=True)
    client.send(1, "exchange.declare", exchange=exchange, type="direct", nowait=True)
    client.send(1, "queue.bind", queue=queue, exchange=exchange, routing_key="k", nowait=True)
    client.send(1, "exchange.bind", source="amq.direct", destination=exchange, routing_key="k", nowait=True)
    client.send(1, "exchange.unbind", source="amq.direct", destination=exchange, routing_key="k", nowait=True)
    client.publish(1, exchange, "k", b"1")
    eventually(lambda: count(client, queue) == 1)
    client.send(1, "queue.purge", queue=queue, nowait=True)
    client.send(1, "basic.consume", queue=queue, consumer_tag="c", nowait=True)
    assert client.call(1, "queue.declare", queue=queue, passive=True).args == {
        "queue": queue, "message_count": 0, "consumer_count": 1,
    }  # fmt: skip
    client.send(1, "basic.cancel", consumer_tag="c", nowait=True)
    client.send(1, "queue.delete", queue=queue, nowait=True)
    client.send(1, "exchange.delete", exchange=exchange, nowait=True)
    assert client.pending == []
    assert client.refusal(1, "queue.declare", queue=queue, passive=True).reply_code == 404


def test_nowait_declares_are_refused_all_the_same(client, name):
    client.send(1, "exchange.declare", exchange="amq.nope", type="direct", nowait=True)
    assert client.closing(1).reply_code == 403


def test_line_ends_are_stripped_from_names(client, name):
    queue = name()
    assert client.call(1, "queue.declare", queue=queue + "\r\n", exclusive=True).queue == queue
    assert exists(client, queue)


def test_names_of_255_octets(client):
    queue = "ü" * 127 + "q"
    assert client.call(1, "queue.declare", queue=queue, exclusive=True).queue == queue


def test_purge(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    for _ in range(5):
        client.publish(1, "", queue, b"x")
    unacked = client.call(1, "basic.get", queue=queue)
    assert client.call(1, "queue.purge", queue=queue).message_count == 4
    client.send(1, "basic.reject", delivery_tag=unacked.delivery_tag, requeue=True)
    assert client.call(1, "basic.get", queue=queue, no_ack=True).redelivered is True
