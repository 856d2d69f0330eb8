"""Consuming: order, credit, priorities, exclusivity, cancelling, requeueing, getting."""

import pytest
import wire
from wire import Refused


@pytest.fixture
def queue(client, name):
    """An exclusive queue; messages are published on channel 1."""
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    return queue


def fill(client, queue, count, start=1):
    """Publishes "1", "2", … and waits until they are in the queue."""
    channel = 90
    client.open_channel(channel)
    client.call(channel, "confirm.select")
    for i in range(start, start + count):
        client.publish(channel, "", queue, str(i))
    acked = 0
    while acked < count:
        acked = max(acked, client.wait(channel, "basic.ack").delivery_tag)
    client.call(channel, "channel.close", reply_code=200)


def deliveries(client, channel, count):
    return [client.wait(channel, "basic.deliver") for _ in range(count)]


def bodies(events):
    return [int(event.body) for event in events]


def nothing_more(client, channel):
    """No delivery of this channel is on its way: two round trips bring none."""
    client.call(channel, "basic.qos")
    client.call(channel, "channel.flow", active=True)
    client.socket.settimeout(0.1)
    try:
        event = client.next_event(timeout=0.1)
        client.pending.append(event)
    except TimeoutError:
        pass
    assert client.take_pending(channel, "basic.deliver") == []


def test_messages_come_in_order(client, queue):
    fill(client, queue, 100)
    client.call(2, "basic.consume", queue=queue, consumer_tag="c", no_ack=True)
    events = deliveries(client, 2, 100)
    assert bodies(events) == list(range(1, 101))
    assert [e.delivery_tag for e in events] == list(range(1, 101))
    assert {(e.consumer_tag, e.redelivered, e.exchange, e.routing_key) for e in events} == {("c", False, "", queue)}


def test_consume_ok_comes_before_the_first_delivery(client, queue):
    fill(client, queue, 3)
    client.send(2, "basic.consume", queue=queue, consumer_tag="c")
    assert client.wait(2).name == "basic.consume-ok"
    deliveries(client, 2, 3)


def test_server_made_consumer_tags(client, queue):
    tags = {client.call(2, "basic.consume", queue=queue).consumer_tag for _ in range(10)}
    assert len(tags) == 10
    assert all(tag.startswith("amq.ctag-") for tag in tags)


def test_consumers_take_turns(client, queue):
    for tag in "abc":
        client.call(2, "basic.consume", queue=queue, consumer_tag=tag, no_ack=True)
    for i in range(30):
        client.publish(1, "", queue, str(i))
    tags = [e.consumer_tag for e in deliveries(client, 2, 30)]
    assert {tag: tags.count(tag) for tag in "abc"} == {"a": 10, "b": 10, "c": 10}


def test_the_same_tag_on_two_channels(client, queue):
    client.call(1, "basic.consume", queue=queue, consumer_tag="c")
    client.call(2, "basic.consume", queue=queue, consumer_tag="c")


def test_prefetch_per_consumer(client, queue):
    fill(client, queue, 10)
    client.call(2, "basic.qos", prefetch_count=3)
    client.call(2, "basic.consume", queue=queue, consumer_tag="c")
    first = deliveries(client, 2, 3)
    nothing_more(client, 2)
    client.send(2, "basic.ack", delivery_tag=first[0].delivery_tag)
    assert bodies(deliveries(client, 2, 1)) == [4]
    nothing_more(client, 2)
    client.send(2, "basic.ack", delivery_tag=0, multiple=True)
    assert bodies(deliveries(client, 2, 3)) == [5, 6, 7]


def test_prefetch_applies_to_later_consumers_only(client, queue):
    fill(client, queue, 10)
    client.call(2, "basic.consume", queue=queue, consumer_tag="free")
    client.call(2, "basic.qos", prefetch_count=1)
    assert len(deliveries(client, 2, 10)) == 10


def test_each_consumer_has_its_own_prefetch(client, queue):
    fill(client, queue, 10)
    client.call(2, "basic.qos", prefetch_count=2)
    for tag in "ab":
        client.call(2, "basic.consume", queue=queue, consumer_tag=tag)
    tags = sorted(e.consumer_tag for e in deliveries(client, 2, 4))
    assert tags == ["a", "a", "b", "b"]
    nothing_more(client, 2)


def test_auto_ack_needs_no_credit(client, queue):
    fill(client, queue, 10)
    client.call(2, "basic.qos", prefetch_count=1)
    client.call(2, "basic.consume", queue=queue, no_ack=True)
    assert len(deliveries(client, 2, 10)) == 10


def test_global_prefetch_is_shared_by_the_channel(client, queue):
    fill(client, queue, 10)
    client.call(2, "basic.qos", prefetch_count=4, global_=True)
    for tag in "ab":
        client.call(2, "basic.consume", queue=queue, consumer_tag=tag)
    events = deliveries(client, 2, 4)
    nothing_more_global(client, 2)
    client.send(2, "basic.ack", delivery_tag=events[0].delivery_tag)
    deliveries(client, 2, 1)
    nothing_more_global(client, 2)


def nothing_more_global(client, channel):
    client.call(channel, "channel.flow", active=True)
    try:
        client.pending.append(client.next_event(timeout=0.1))
    except TimeoutError:
        pass
    assert client.take_pending(channel, "basic.deliver") == []


def test_global_prefetch_changes_live(client, queue):
    fill(client, queue, 10)
    client.call(2, "basic.qos", prefetch_count=1, global_=True)
    client.call(2, "basic.consume", queue=queue)
    deliveries(client, 2, 1)
    nothing_more_global(client, 2)
    client.call(2, "basic.qos", prefetch_count=3, global_=True)
    assert bodies(deliveries(client, 2, 2)) == [2, 3]
    nothing_more_global(client, 2)
    client.call(2, "basic.qos", prefetch_count=0, global_=True)
    assert len(deliveries(client, 2, 7)) == 7


def test_get_does_not_use_up_credit(client, queue):
    fill(client, queue, 5)
    client.call(2, "basic.qos", prefetch_count=1)
    for _ in range(3):
        client.call(2, "basic.get", queue=queue)
    client.call(2, "basic.consume", queue=queue)
    assert bodies(deliveries(client, 2, 1)) == [4]


def test_higher_priority_consumers_go_first(client, queue):
    client.call(2, "basic.qos", prefetch_count=2)
    client.call(2, "basic.consume", queue=queue, consumer_tag="low", arguments={"x-priority": -1})
    client.call(2, "basic.consume", queue=queue, consumer_tag="high", arguments={"x-priority": 10})
    client.call(2, "basic.consume", queue=queue, consumer_tag="none")
    fill(client, queue, 5)
    assert [e.consumer_tag for e in deliveries(client, 2, 5)] == ["high", "high", "none", "none", "low"]


def test_exclusive_consumer_leaves_and_another_may_come(client, queue):
    client.call(2, "basic.consume", queue=queue, consumer_tag="c", exclusive=True)
    client.call(2, "basic.cancel", consumer_tag="c")
    client.call(2, "basic.consume", queue=queue, consumer_tag="d")


def test_cancel_stops_deliveries_and_keeps_unacked(client, queue):
    fill(client, queue, 2)
    client.call(2, "basic.consume", queue=queue, consumer_tag="c")
    events = deliveries(client, 2, 2)
    assert client.call(2, "basic.cancel", consumer_tag="c").consumer_tag == "c"
    assert client.call(1, "basic.get", queue=queue).name == "basic.get-empty"  # a cancel requeues nothing
    client.send(2, "basic.ack", delivery_tag=events[1].delivery_tag, multiple=True)
    client.call(2, "channel.close", reply_code=200)
    assert client.call(1, "basic.get", queue=queue).name == "basic.get-empty"


def test_cancel_of_an_unknown_tag_is_fine(client):
    assert client.call(1, "basic.cancel", consumer_tag="nobody").consumer_tag == "nobody"


def test_a_tag_may_be_used_again_after_cancel(client, queue):
    for _ in range(3):
        client.call(2, "basic.consume", queue=queue, consumer_tag="c")
        client.call(2, "basic.cancel", consumer_tag="c")


def test_the_server_cancels_when_the_queue_is_deleted(client, connect, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue)
    client.call(2, "basic.consume", queue=queue, consumer_tag="c")
    client.call(1, "queue.delete", queue=queue)
    cancel = client.wait(2, "basic.cancel")
    assert cancel.args == {"consumer_tag": "c", "nowait": True}


def test_delete_ok_comes_before_the_cancel(client, name):
    """py-amqp raises ConsumerCancelled out of its queue_delete when the cancel comes first."""
    queue = name()
    client.call(1, "queue.declare", queue=queue)
    client.call(1, "basic.consume", queue=queue, consumer_tag="c")
    client.send(1, "queue.delete", queue=queue)
    assert [client.wait(1).name, client.wait(1).name] == ["queue.delete-ok", "basic.cancel"]


def test_clients_without_the_capability_get_no_cancel(client, connect, name):
    queue, other = name(), connect(capabilities={}, channels=1)
    client.call(1, "queue.declare", queue=queue)
    other.call(1, "basic.consume", queue=queue, consumer_tag="c")
    client.call(1, "queue.delete", queue=queue)
    other.call(1, "channel.flow", active=True)
    other.call(1, "channel.flow", active=True)
    assert other.pending == []


def test_requeued_messages_go_back_to_their_place(client, queue):
    fill(client, queue, 5)
    got = [client.call(2, "basic.get", queue=queue) for _ in range(3)]
    assert bodies(got) == [1, 2, 3]
    client.send(2, "basic.nack", delivery_tag=got[1].delivery_tag, requeue=True)
    client.send(2, "basic.reject", delivery_tag=got[0].delivery_tag, requeue=True)
    client.call(2, "basic.qos")
    again = [client.call(2, "basic.get", queue=queue) for _ in range(4)]
    assert [(int(e.body), e.redelivered) for e in again] == [(1, True), (2, True), (4, False), (5, False)]


@pytest.mark.parametrize("tag", [0, 4])
def test_nack_multiple_keeps_the_order(client, queue, tag):
    fill(client, queue, 4)
    for _ in range(4):
        client.call(2, "basic.get", queue=queue)
    client.send(2, "basic.nack", delivery_tag=tag, multiple=True, requeue=True)
    client.call(2, "basic.qos")
    assert bodies(client.call(2, "basic.get", queue=queue) for _ in range(4)) == [1, 2, 3, 4]


def test_ack_multiple_takes_everything_up_to_the_tag(client, queue):
    fill(client, queue, 5)
    for _ in range(5):
        client.call(2, "basic.get", queue=queue)
    client.send(2, "basic.ack", delivery_tag=3, multiple=True)
    client.call(2, "channel.close", reply_code=200)
    assert [client.call(1, "basic.get", queue=queue).body for _ in range(2)] == [b"4", b"5"]


def test_ack_of_tag_zero_multiple_with_nothing_unacked(client):
    client.send(1, "basic.ack", delivery_tag=0, multiple=True)
    client.call(1, "basic.qos")


def test_closing_a_channel_requeues_in_order(client, queue):
    fill(client, queue, 5)
    client.call(2, "basic.consume", queue=queue)
    deliveries(client, 2, 5)
    client.call(2, "channel.close", reply_code=200)
    again = [client.call(1, "basic.get", queue=queue, no_ack=True) for _ in range(5)]
    assert [(int(e.body), e.redelivered) for e in again] == [(i, True) for i in range(1, 6)]


def test_losing_a_connection_requeues(connect, name):
    queue = name()
    owner, consumer = connect(channels=2), connect()
    owner.call(1, "queue.declare", queue=queue, auto_delete=False)
    fill(owner, queue, 3)
    consumer.call(1, "basic.consume", queue=queue)
    deliveries(consumer, 1, 3)
    consumer.abort()
    owner.call(2, "basic.consume", queue=queue)
    again = deliveries(owner, 2, 3)
    assert [(int(e.body), e.redelivered) for e in again] == [(1, True), (2, True), (3, True)]
    owner.call(1, "queue.delete", queue=queue)


def test_reject_without_requeue_drops(client, queue):
    fill(client, queue, 2)
    client.call(2, "basic.get", queue=queue)
    client.send(2, "basic.reject", delivery_tag=1, requeue=False)
    client.call(2, "channel.close", reply_code=200)
    assert client.call(1, "basic.get", queue=queue).body == b"2"


def test_recover_redelivers_to_the_channels_consumers(client, queue):
    fill(client, queue, 3)
    client.call(2, "basic.consume", queue=queue, consumer_tag="c")
    deliveries(client, 2, 3)
    client.call(2, "basic.recover", requeue=True)
    again = deliveries(client, 2, 3)
    assert [(int(e.body), e.redelivered) for e in again] == [(1, True), (2, True), (3, True)]
    assert [e.delivery_tag for e in again] == [4, 5, 6]


def test_recover_async_has_no_answer(client, queue):
    fill(client, queue, 1)
    client.call(2, "basic.get", queue=queue)
    client.send(2, "basic.recover-async", requeue=True)
    client.call(2, "basic.qos")
    assert client.call(2, "basic.get", queue=queue).redelivered is True


def test_get(client, queue):
    assert client.call(2, "basic.get", queue=queue).name == "basic.get-empty"
    fill(client, queue, 3)
    message = client.call(2, "basic.get", queue=queue)
    assert message.args == {
        "delivery_tag": 1, "redelivered": False, "exchange": "", "routing_key": queue, "message_count": 2,
    }  # fmt: skip


def test_get_without_ack_is_gone(client, queue):
    fill(client, queue, 1)
    client.call(2, "basic.get", queue=queue, no_ack=True)
    client.call(2, "channel.close", reply_code=200)
    assert client.call(1, "basic.get", queue=queue).name == "basic.get-empty"


def test_delivery_tags_are_shared_by_consumers_and_gets(client, queue):
    fill(client, queue, 1)
    assert client.call(2, "basic.get", queue=queue).delivery_tag == 1
    client.call(2, "basic.consume", queue=queue)
    fill(client, queue, 1, start=2)
    assert client.wait(2, "basic.deliver").delivery_tag == 2


def test_a_consumer_that_does_not_read_holds_nobody_up(connect, broker, name):
    """A megabyte is pushed at a connection that never reads; another one works on."""
    slow, other = connect(), connect()
    queues = name("slow"), name("other")
    for connection, queue in zip((slow, other), queues):
        connection.call(1, "queue.declare", queue=queue, auto_delete=True)
        connection.call(1, "basic.consume", queue=queue, no_ack=True)
    for _ in range(400):
        other.publish(1, "", queues[0], b"x" * 100_000)
        other.publish(1, "", queues[1], b"y")
        assert other.wait(1, "basic.deliver").body == b"y"
    assert len(deliveries(slow, 1, 400)) == 400


def test_pika_consumer_callback(pika_connection, name):
    connection = pika_connection()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    got = []

    def on_message(ch, method, properties, body):
        got.append(body)
        ch.basic_ack(method.delivery_tag)
        if len(got) == 3:
            ch.stop_consuming()

    for i in range(3):
        channel.basic_publish("", queue, str(i))
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue, on_message)
    channel.start_consuming()
    assert got == [b"0", b"1", b"2"]


def test_consume_on_a_deleted_queue_is_refused_and_the_channel_reusable(client, queue):
    client.call(1, "queue.delete", queue=queue)
    with pytest.raises(Refused):
        client.call(2, "basic.consume", queue=queue)
    client.open_channel(2)


@pytest.mark.parametrize("last_words", [
    wire.method_frame(0, "connection.close", reply_code=200, reply_text="bye"),
    wire.method_frame(1, "queue.declare-ok"),
    wire.frame(9, 0, b""),
], ids=["goodbye", "command-invalid", "frame-error"])  # fmt: skip
def test_a_connection_that_ends_behind_its_last_ack_leaves_the_broker_to_others(connect, client, name, last_words):
    """The ack makes room for the next message, which finds its connection about to end."""
    queue = name()
    client.call(1, "queue.declare", queue=queue)
    fill(client, queue, 3)
    leaving = connect()
    leaving.call(1, "basic.qos", prefetch_count=1)
    leaving.call(1, "basic.consume", queue=queue)
    tag = leaving.wait(1, "basic.deliver").delivery_tag
    leaving.send_raw(wire.method_frame(1, "basic.ack", delivery_tag=tag) + last_words)
    assert leaving.wait(0, "connection.close-ok", "connection.close")
    assert client.call(1, "queue.delete", queue=queue).message_count == 2
