"""Messages that wait at an exchange of type x-delayed-message."""

import time

import pika


def connect(broker):
    connection = pika.BlockingConnection(pika.ConnectionParameters(host=broker.host, port=broker.port))
    channel = connection.channel()
    channel.confirm_delivery()
    return connection, channel


def publish(channel, body, delay):
    properties = pika.BasicProperties(headers={"x-delay": delay}, delivery_mode=2)
    channel.basic_publish("later", "key", body, properties, mandatory=True)


def arrivals(connection, channel, count):
    """Body, time and delay as it is told, of the next messages."""
    seen = []

    def note(_channel, _method, properties, body):
        seen.append((body, time.monotonic(), properties.headers["x-delay"]))

    tag = channel.basic_consume("q", note, auto_ack=True)
    limit = time.monotonic() + 20
    while len(seen) < count and time.monotonic() < limit:
        connection.process_data_events(time_limit=0.5)
    channel.basic_cancel(tag)
    assert len(seen) == count, seen
    return seen


def test_messages_wait_for_their_time_even_across_a_kill(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    channel.exchange_declare("later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_declare("q", durable=True)
    channel.queue_bind("q", "later", "key")
    begin = time.monotonic()
    publish(channel, b"at once", 0)
    publish(channel, b"last", 2000)
    publish(channel, b"first", 300)
    seen = arrivals(connection, channel, 2)
    assert [(body, delay) for body, _, delay in seen] == [(b"at once", 0), (b"first", -300)]
    assert seen[1][1] - begin >= 0.3
    publish(channel, b"second", 1000)
    broker.kill()
    broker.start()
    connection, channel = connect(broker)
    seen = arrivals(connection, channel, 2)
    assert [(body, delay) for body, _, delay in seen] == [(b"second", -1000), (b"last", -2000)]
    assert seen[1][1] - begin >= 2
    connection.close()


def test_a_type_to_route_by_is_needed(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    try:
        channel.exchange_declare("later", "x-delayed-message")
        raise AssertionError("it was declared")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 406
        assert "'x-delayed-type' must be an existing exchange type" in closed.reply_text
    connection.close()
