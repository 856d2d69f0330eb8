"""Full queues and poison messages, with clients as people use them: nacks, dead letters, counts, restarts."""

import pika
import pytest


@pytest.fixture
def limited(channel, name):
    """Declares an exclusive queue with these arguments and, for its dead letters, another one."""

    def make(dead_letters=False, **arguments):
        queue, dead = name(), name("dead")
        arguments = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        if dead_letters:
            channel.queue_declare(dead, exclusive=True)
            arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        channel.queue_declare(queue, exclusive=True, arguments=arguments)
        return queue, dead

    return make


def bodies(messages):
    return [body for _, _, body in messages]


def deaths(messages):
    return [[(death["reason"], death["queue"], death["count"]) for death in properties.headers["x-death"]]
            for _, properties, _ in messages]  # fmt: skip


def outcomes(channel, queue, count):
    """What a blocking publisher hears of each of its messages."""
    heard = []
    for number in range(count):
        try:
            channel.basic_publish("", queue, b"%d" % number)
            heard.append("ack")
        except pika.exceptions.NackError:
            heard.append("nack")
    return heard


def test_a_publisher_hears_that_a_queue_is_full(channel, limited, take):
    queue, _ = limited(max_length=3, overflow="reject-publish")
    channel.confirm_delivery()
    assert outcomes(channel, queue, 5) == ["ack"] * 3 + ["nack"] * 2
    assert bodies(take(channel, queue, 1)) == [b"0"]
    assert outcomes(channel, queue, 2) == ["ack", "nack"]
    assert bodies(take(channel, queue, 3)) == [b"1", b"2", b"0"]


def test_a_burst_is_answered_message_by_message(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True,
                arguments={"x-max-length": 100, "x-overflow": "reject-publish"})  # fmt: skip
    client.call(1, "confirm.select")
    for number in range(300):
        client.publish(1, "", queue if number % 3 else "nowhere", b"m", delivery_mode=2)
    answers = {}
    while len(answers) < 300:
        event = client.wait(1, "basic.ack", "basic.nack")
        first = min(set(range(1, 301)) - set(answers)) if event.multiple else event.delivery_tag
        for tag in range(first, event.delivery_tag + 1):
            assert tag not in answers
            answers[tag] = event.name
    to_queue = [answers[number + 1] for number in range(300) if number % 3]
    assert to_queue == ["basic.ack"] * 100 + ["basic.nack"] * 100
    assert {answers[number + 1] for number in range(0, 300, 3)} == {"basic.ack"}
    assert client.call(1, "queue.declare", queue=queue, passive=True).message_count == 100


def test_what_gives_way_is_dead_lettered(channel, limited, take):
    queue, dead = limited(dead_letters=True, max_length=2)
    for number in range(5):
        channel.basic_publish("", queue, b"%d" % number)
    letters = take(channel, dead, 3)
    assert bodies(letters) == [b"0", b"1", b"2"]
    assert deaths(letters) == [[("maxlen", queue, 1)]] * 3
    assert bodies(take(channel, queue, 2)) == [b"3", b"4"]


def test_octets_are_limited_too(channel, limited, take):
    queue, _ = limited(max_length_bytes=1_000)
    for size in (400, 400, 400, 100):
        channel.basic_publish("", queue, b"x" * size)
    assert [len(body) for body in bodies(take(channel, queue, 3))] == [400, 400, 100]


def test_what_is_refused_may_be_dead_lettered(channel, limited, take):
    queue, dead = limited(dead_letters=True, max_length=1, overflow="reject-publish-dlx")
    channel.confirm_delivery()
    assert outcomes(channel, queue, 3) == ["ack", "nack", "nack"]
    letters = take(channel, dead, 2)
    assert (bodies(letters), deaths(letters)) == ([b"1", b"2"], [[("maxlen", queue, 1)]] * 2)


def test_a_transaction_that_a_queue_refuses_in_part_fails(pika_connection, channel, limited, take):
    queue, _ = limited(max_length=2, overflow="reject-publish")
    other = channel.connection.channel()
    other.tx_select()
    for number in range(3):
        other.basic_publish("", queue, b"%d" % number)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        other.tx_commit()
    assert (closed.value.reply_code, closed.value.reply_text) == (406, "PRECONDITION_FAILED - partial tx completion")
    assert bodies(take(channel, queue, 2)) == [b"0", b"1"]


def test_a_poison_message_is_counted_and_put_aside(channel, name, take, peer):
    queue, dead = name(), name("dead")
    channel.queue_declare(dead, exclusive=True)
    channel.queue_declare(queue, durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2,
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})  # fmt: skip
    try:
        channel.basic_publish("", queue, b"poison")
        counts = []
        for _ in range(3):
            [(method, properties, _)] = take(channel, queue, 1, auto_ack=False)
            counts.append((properties.headers or {}).get("x-delivery-count", 0))
            channel.basic_reject(method.delivery_tag, requeue=True)
        assert counts == [0, 1, 2]
        letters = take(channel, dead, 1)
        assert (bodies(letters), deaths(letters)) == ([b"poison"], [[("delivery_limit", queue, 1)]])
    finally:
        channel.queue_delete(queue)


def test_consumers_that_die_with_a_message_do_not_get_it_for_ever(pika_connection, channel, name, peer):
    if peer.rabbitmq:
        pytest.skip("classic queues of RabbitMQ have no delivery limit")
    queue = name()
    channel.queue_declare(queue, durable=True, arguments={"x-delivery-limit": 1})
    try:
        channel.basic_publish("", queue, b"poison")
        for expected in (0, 1):
            victim = pika_connection()
            method, properties, body = next(victim.channel().consume(queue))
            assert ((properties.headers or {}).get("x-delivery-count", 0), body) == (expected, b"poison")
            victim.close()
        assert channel.basic_get(queue) == (None, None, None)
    finally:
        channel.queue_delete(queue)


def on(server):
    connection = pika.BlockingConnection(pika.ConnectionParameters(host=server.host, port=server.port, heartbeat=0))
    return connection, connection.channel()


PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.mark.parametrize("end", ["kill", "stop_process"])
def test_limits_and_counts_survive_a_restart(own_broker, take, end):
    server = own_broker(config="[queues]\ndefault_delivery_limit = 1\n")
    connection, channel = on(server)
    channel.confirm_delivery()
    channel.queue_declare("short", durable=True, arguments={"x-max-length": 2})
    channel.queue_declare("fragile", durable=True, arguments={"x-queue-type": "quorum"})
    for number in range(4):
        channel.basic_publish("", "short", b"%d" % number, PERSISTENT)
    channel.basic_publish("", "fragile", b"poison", PERSISTENT)
    channel.basic_publish("", "fragile", b"good", PERSISTENT)
    [(method, _, body)] = take(channel, "fragile", 1, auto_ack=False)
    assert body == b"poison"
    channel.basic_reject(method.delivery_tag, requeue=True)
    # What is answered after it is stored after it.
    channel.queue_declare("after", durable=True)
    if end == "stop_process":
        connection.close()
    getattr(server, end)()
    server.start()
    connection, channel = on(server)
    channel.confirm_delivery()
    channel.basic_publish("", "short", b"4", PERSISTENT)
    assert bodies(take(channel, "short", 2)) == [b"3", b"4"]
    [(method, properties, body)] = take(channel, "fragile", 1, auto_ack=False)
    assert (properties.headers["x-delivery-count"], body) == (1, b"poison")
    channel.basic_reject(method.delivery_tag, requeue=True)
    assert bodies(take(channel, "fragile", 1)) == [b"good"]
    connection.close()


def test_giving_back_may_count_as_a_failure(own_broker, take):
    server = own_broker(config="[queues]\nnack_counts_as_failure = true\n")
    connection, channel = on(server)
    channel.queue_declare("q", exclusive=True, arguments={"x-delivery-limit": 1})
    channel.basic_publish("", "q", b"m")
    for _ in range(2):
        [(method, _, _)] = take(channel, "q", 1, auto_ack=False)
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert channel.basic_get("q") == (None, None, None)
    connection.close()
