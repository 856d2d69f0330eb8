"""Expiry as clients see it: exact wherever a message stands, and neither longer nor lost across a restart."""

import time

import pika


def connect(broker):
    connection = pika.BlockingConnection(pika.ConnectionParameters(host=broker.host, port=broker.port))
    channel = connection.channel()
    channel.confirm_delivery()
    return connection, channel


def dead_lettering(channel, name, **arguments):
    """A durable queue whose dead letters go to a second one."""
    channel.queue_declare(f"{name}.dead", durable=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}.dead", **arguments}
    channel.queue_declare(name, durable=True, arguments=arguments)


def publish(channel, queue, body, **properties):
    channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **properties))


def arrivals(connection, channel, queue, count, seconds=10):
    """Body, time and properties of the next messages of a queue."""
    seen = []

    def note(_channel, _method, properties, body):
        seen.append((body, time.monotonic(), properties))

    tag = channel.basic_consume(queue, note, auto_ack=True)
    limit = time.monotonic() + seconds
    while len(seen) < count and time.monotonic() < limit:
        connection.process_data_events(time_limit=0.5)
    channel.basic_cancel(tag)
    assert len(seen) == count, seen
    return seen


def test_a_short_life_ends_behind_a_longer_one(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    dead_lettering(channel, "q")
    publish(channel, "q", b"long", expiration="600000")
    publish(channel, "q", b"short", expiration="100")
    published = time.monotonic()
    ((body, at, properties),) = arrivals(connection, channel, "q.dead", 1)
    assert body == b"short"
    assert at - published >= 0.09, "nobody loses time either"
    assert properties.expiration is None
    (death,) = properties.headers["x-death"]
    assert (death["reason"], death["queue"], death["original-expiration"]) == ("expired", "q", "100")
    assert channel.queue_declare("q", passive=True).method.message_count == 1
    connection.close()


def test_deadlines_survive_a_kill_and_a_clean_stop(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    dead_lettering(channel, "q", **{"x-message-ttl": 1500})
    publish(channel, "q", b"by the queue")
    publish(channel, "q", b"its own", expiration="1200")
    published = time.monotonic()
    for end in (broker.kill, broker.stop_process):
        end()
        broker.start()
    connection, channel = connect(broker)
    seen = arrivals(connection, channel, "q.dead", 2)
    assert [body for body, *_ in seen] == [b"its own", b"by the queue"]
    assert seen[0][1] - published >= 1.15
    assert channel.queue_declare("q", passive=True).method.message_count == 0
    connection.close()


def test_what_expired_while_the_broker_was_down_is_dead_lettered_at_once(own_broker):
    broker = own_broker()
    connection, channel = connect(broker)
    dead_lettering(channel, "q", **{"x-message-ttl": 300})
    for number in range(2000):
        publish(channel, "q", str(number).encode())
    broker.kill()
    # The time it was down is the point here.
    time.sleep(0.5)
    broker.config_path.write_text('[storage]\nmessage_cache = "0 B"\n')
    broker.start()
    connection, channel = connect(broker)
    seen = arrivals(connection, channel, "q.dead", 2000)
    assert sorted(int(body) for body, *_ in seen) == list(range(2000))
    assert channel.basic_get("q") == (None, None, None)
    connection.close()
