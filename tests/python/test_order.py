"""Who gets what first: priorities of messages, single active consumers, and what quorum queues keep."""

import socket

import pika
import pytest


def connect(broker):
    connection = pika.BlockingConnection(pika.ConnectionParameters(host=broker.host, port=broker.port))
    channel = connection.channel()
    channel.confirm_delivery()
    return connection, channel


def publish(channel, queue, body, **properties):
    channel.basic_publish("", queue, body, pika.BasicProperties(**properties))


def cut(connection):
    """Ends the connection without a word."""
    connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)


def bodies(channel, queue):
    """Everything that is ready, in the order in which it is handed out."""
    seen = []
    while (got := channel.basic_get(queue, auto_ack=True))[0]:
        seen.append(got[2])
    return seen


class Consumers:
    """Consumers that tell who got what; each acks at once unless it is told to hold."""

    def __init__(self, broker):
        self.broker, self.seen, self.connections, self.held = broker, [], {}, []

    def start(self, name, queue, hold=False, **arguments):
        connection, channel = connect(self.broker)
        channel.basic_qos(prefetch_count=2)

        def take(channel, method, _properties, body):
            self.seen.append((name, body))
            if hold:
                self.held.append((channel, method.delivery_tag))
            else:
                channel.basic_ack(method.delivery_tag)

        tag = channel.basic_consume(queue, take, arguments=arguments)
        self.connections[name] = connection, channel, tag

    def until(self, count):
        for _ in range(200):
            if len(self.seen) >= count:
                break
            for connection, *_ in list(self.connections.values()):
                if connection.is_open:
                    connection.process_data_events(time_limit=0.02)
        seen, self.seen = self.seen, []
        assert len(seen) == count, seen
        return seen


LEVELS = [(b"none", None), (b"one", 1), (b"nine", 9), (b"five", 5), (b"zero", 0), (b"two", 2)]


def test_the_highest_priority_first_also_after_requeue_kill_and_stop(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    channel.queue_declare("q", durable=True, arguments={"x-max-priority": 5})
    for body, priority in LEVELS:
        publish(channel, "q", body, priority=priority, delivery_mode=2)
    expected = [b"nine", b"five", b"two", b"one", b"none", b"zero"]
    held = [channel.basic_get("q") for _ in range(3)]
    assert [body for _, _, body in held] == expected[:3]
    for method, _, _ in reversed(held):
        channel.basic_nack(method.delivery_tag, requeue=True)
    for end in (broker.kill, broker.stop_process):
        end()
        broker.start()
        connection, channel = connect(broker)
        held = [channel.basic_get("q") for _ in range(6)]
        assert [body for _, _, body in held] == expected
        connection.close()
    connection, channel = connect(broker)
    publish(channel, "q", b"late", priority=4, delivery_mode=2)
    assert bodies(channel, "q") == [*expected[:2], b"late", *expected[2:]]
    connection.close()


def test_priorities_hold_where_nothing_is_in_memory(own_broker):
    broker = own_broker('[storage]\nmessage_cache = "0 B"\n')
    connection, channel = connect(broker)
    channel.queue_declare("q", durable=True, arguments={"x-max-priority": 9})
    for number in range(3000):
        publish(channel, "q", b"%d" % number, priority=number % 10, delivery_mode=2)
    broker.kill()
    broker.start()
    connection, channel = connect(broker)
    expected = sorted(range(3000), key=lambda number: (-(number % 10), number))
    assert [int(body) for body in bodies(channel, "q")] == expected
    connection.close()


def test_a_quorum_queue_keeps_everything_and_knows_priorities(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    channel.queue_declare("q", durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_declare("classic", durable=True)
    channel.queue_bind("q", "amq.fanout")
    channel.queue_bind("classic", "amq.fanout")
    for body, priority in ((b"3", 3), (b"none", None), (b"100", 100), (b"0", 0), (b"5", 5)):
        properties = pika.BasicProperties(priority=priority, delivery_mode=1)
        channel.basic_publish("amq.fanout", "", body, properties)
    # The first end is a power cut right behind the last confirm.
    for end in (broker.kill, broker.stop_process):
        end()
        broker.start()
        connection, channel = connect(broker)
        assert bodies(channel, "classic") == []
        held = [channel.basic_get("q") for _ in range(5)]
        assert [body for _, _, body in held] == [b"100", b"5", b"none", b"3", b"0"]
        assert {properties.delivery_mode for _, properties, _ in held} == {1}
        connection.close()


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_next_consumer_takes_over_when_the_active_one_goes(own_broker, kind):
    broker = own_broker()
    connection, channel = connect(broker)
    arguments = {"x-single-active-consumer": True, "x-queue-type": kind}
    channel.queue_declare("q", durable=True, arguments=arguments)
    consumers = Consumers(broker)
    for name in ("first", "second", "third", "fourth"):
        consumers.start(name, "q")
    ends = {
        "first": lambda _, channel, tag: channel.basic_cancel(tag),
        "second": lambda _, channel, __: channel.close(),
        "third": lambda connection, *_: cut(connection),
        "fourth": None,
    }
    for name, end in ends.items():
        for number in range(3):
            publish(channel, "q", b"%d" % number)
        assert consumers.until(3) == [(name, b"0"), (name, b"1"), (name, b"2")]
        if end:
            end(*consumers.connections.pop(name))
    connection.close()


def test_what_the_active_consumer_held_comes_first_to_the_next(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    channel.queue_declare("q", arguments={"x-single-active-consumer": True})
    consumers = Consumers(broker)
    consumers.start("first", "q", hold=True)
    consumers.start("second", "q")
    for number in range(5):
        publish(channel, "q", b"%d" % number)
    assert consumers.until(2) == [("first", b"0"), ("first", b"1")]
    cut(consumers.connections.pop("first")[0])
    assert consumers.until(5) == [("second", b"%d" % number) for number in range(5)]
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
        channel.basic_consume("q", lambda *_: None, exclusive=True)
    assert refused.value.args == (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use")
    connection.close()


def test_in_a_quorum_queue_a_higher_priority_takes_over_once_nothing_is_held(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    arguments = {"x-single-active-consumer": True, "x-queue-type": "quorum"}
    channel.queue_declare("q", durable=True, arguments=arguments)
    consumers = Consumers(broker)
    consumers.start("low", "q", hold=True)
    publish(channel, "q", b"held")
    assert consumers.until(1) == [("low", b"held")]
    consumers.start("high", "q", **{"x-priority": 10})
    publish(channel, "q", b"waits")
    assert consumers.until(0) == []
    ((holder, tag),) = consumers.held
    holder.basic_ack(tag)
    assert consumers.until(1) == [("high", b"waits")]
    connection.close()
