"""Exchanges that choose a binding or remember messages: x-consistent-hash, x-random, x-modulus-hash, x-recent-history."""

import collections

import pika
import pytest

CHOOSING = ("x-consistent-hash", "x-random", "x-modulus-hash")


@pytest.fixture
def exchange(channel, name):
    """Declares an exchange of a type; `exchange("x-random")` is its name."""
    made = []

    def make(kind, arguments=None, **options):
        made.append(name(kind))
        channel.exchange_declare(made[-1], exchange_type=kind, arguments=arguments, **options)
        return made[-1]

    yield make
    if channel.is_open:
        for each in made:
            channel.exchange_delete(each)


def bind(channel, name, source, *weights):
    """A queue for each weight, bound to the exchange."""
    queues = []
    for weight in weights:
        queues.append(channel.queue_declare(name(), exclusive=True).method.queue)
        channel.queue_bind(queues[-1], source, routing_key=weight)
    return queues


def spread(channel, queues, exchange, count, properties=lambda number: None, key=lambda number: f"order-{number}"):
    """Publishes and tells which queue each message went to."""
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish(exchange, key(number), str(number).encode(), properties(number), mandatory=True)
    went = {}
    for queue in queues:
        for _ in range(channel.queue_declare(queue, passive=True).method.message_count):
            _, _, body = channel.basic_get(queue, auto_ack=True)
            assert body not in went, f"{body} is in {queue} and in {went[body]}"
            went[body] = queue
    assert len(went) == count, f"{count - len(went)} messages are missing"
    return went


@pytest.mark.parametrize("kind", CHOOSING)
def test_each_message_goes_to_one_queue_and_each_queue_gets_some(channel, name, exchange, kind):
    source = exchange(kind)
    queues = bind(channel, name, source, *["1"] * 4)
    shares = collections.Counter(spread(channel, queues, source, 400).values())
    assert len(shares) == 4 and min(shares.values()) >= 50, shares


@pytest.mark.parametrize("kind", ("x-consistent-hash", "x-modulus-hash"))
def test_a_key_stays_with_its_queue(channel, name, exchange, kind):
    source = exchange(kind)
    queues = bind(channel, name, source, *["3"] * 5)
    first = spread(channel, queues, source, 100)
    assert spread(channel, queues, source, 100) == first


def test_weights_are_shares(channel, name, exchange):
    source = exchange("x-consistent-hash")
    light, heavy = bind(channel, name, source, "1", "4")
    shares = collections.Counter(spread(channel, (light, heavy), source, 500).values())
    assert 50 <= shares[light] <= 150, shares


def test_keys_move_only_to_a_new_queue_and_back(channel, name, exchange):
    source = exchange("x-consistent-hash")
    queues = bind(channel, name, source, *["2"] * 4)
    before = spread(channel, queues, source, 300)
    (added,) = bind(channel, name, source, "2")
    after = spread(channel, [*queues, added], source, 300)
    moved = {body for body in before if before[body] != after[body]}
    assert moved and all(after[body] == added for body in moved)
    channel.queue_delete(added)
    assert spread(channel, queues, source, 300) == before


@pytest.mark.parametrize("by", ("header", "message_id", "correlation_id", "timestamp"))
def test_hashing_by_something_else(channel, name, exchange, by):
    arguments = {"hash-header": "customer"} if by == "header" else {"hash-property": by}
    source = exchange("x-consistent-hash", arguments)
    queues = bind(channel, name, source, *["1"] * 4)

    def properties(number):
        value = number % 40 if by == "timestamp" else f"customer-{number % 40}"
        return pika.BasicProperties(**({"headers": {"customer": value}} if by == "header" else {by: value}))

    went = spread(channel, queues, source, 160, properties)
    customers = collections.defaultdict(set)
    for body, queue in went.items():
        customers[int(body) % 40].add(queue)
    assert all(len(found) == 1 for found in customers.values()), "a customer has several queues"
    assert len(set(went.values())) > 1
    without = spread(channel, queues, source, 20)
    assert len(set(without.values())) == 1, "messages without it go one way"


@pytest.mark.parametrize("kind", CHOOSING)
def test_without_bindings_messages_are_returned(channel, name, exchange, kind):
    source = exchange(kind)
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(source, "1", b"nowhere", mandatory=True)


@pytest.mark.parametrize("kind", (*CHOOSING, "x-recent-history"))
def test_the_alternate_exchange_gets_what_goes_nowhere(channel, name, exchange, take, kind):
    rest = channel.queue_declare(name(), exclusive=True).method.queue
    channel.queue_bind(rest, "amq.fanout")
    source = exchange(kind, {"alternate-exchange": "amq.fanout"})
    channel.basic_publish(source, "k", b"rest")
    assert take(channel, rest, 1)[0][2] == b"rest"


@pytest.mark.parametrize("kind", CHOOSING)
def test_a_destination_may_be_an_exchange(channel, name, exchange, kind):
    source, onward = exchange(kind), exchange("fanout")
    queues = bind(channel, name, onward, "", "")
    channel.exchange_bind(onward, source, routing_key="1")
    channel.confirm_delivery()
    channel.basic_publish(source, "k", b"both", mandatory=True)
    assert [channel.basic_get(queue, auto_ack=True)[2] for queue in queues] == [b"both", b"both"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("heavy", 'The binding key must be an integer: <<"heavy">>'),
        ("0", "The binding key must be greater than 0"),
        ("-4", "The binding key must be greater than 0"),
    ],
)
def test_bad_weights_are_refused(channel, name, exchange, key, text):
    source = exchange("x-consistent-hash", auto_delete=True)
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_bind(queue, source, routing_key=key)
    assert (closed.value.reply_code, closed.value.reply_text) == (406, f"PRECONDITION_FAILED - {text}")


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        ("x-consistent-hash", {"hash-property": "app_id"}, "Unsupported property: app_id"),
        (
            "x-consistent-hash",
            {"hash-property": "message_id", "hash-header": "h"},
            "hash-header and hash-property are mutually exclusive",
        ),
        (
            "x-recent-history",
            {"x-recent-history-length": 0},
            "Invalid argument 0, 'x-recent-history-length' must be a positive integer",
        ),
    ],
)
def test_bad_arguments_are_refused(channel, name, kind, arguments, text):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_declare(name(), exchange_type=kind, arguments=arguments)
    assert (closed.value.reply_code, closed.value.reply_text) == (406, f"PRECONDITION_FAILED - {text}")


def test_a_new_binding_gets_the_history(channel, name, exchange, take):
    source = exchange("x-recent-history")
    channel.confirm_delivery()
    for number in range(25):
        channel.basic_publish(source, f"k{number}", str(number).encode())
    mark = pika.BasicProperties(headers={"x-recent-history-no-store": True})
    channel.basic_publish(source, "k", b"not this one", mark)
    (queue,) = bind(channel, name, source, "")
    messages = take(channel, queue, 20)
    assert [body for _, _, body in messages] == [str(number).encode() for number in range(5, 25)]
    assert (messages[0][0].exchange, messages[0][0].routing_key) == (source, "k5")
    channel.basic_publish(source, "k", b"new")
    assert take(channel, queue, 1)[0][2] == b"new"


def test_a_consumer_gets_the_history_at_once(channel, name, exchange):
    source = exchange("x-recent-history", {"x-recent-history-length": 2})
    channel.confirm_delivery()
    for body in (b"1", b"2", b"3"):
        channel.basic_publish(source, "", body)
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    got = []
    channel.basic_consume(queue, lambda _channel, _method, _properties, body: got.append(body), auto_ack=True)
    channel.queue_bind(queue, source)
    while len(got) < 2:
        channel.connection.process_data_events(time_limit=10)
    assert got == [b"2", b"3"]


CONFIGURED = """
[[exchange]]
name = "shards"
type = "x-consistent-hash"
arguments = { "hash-header" = "customer" }

[[exchange]]
name = "chat"
type = "x-recent-history"
arguments = { "x-recent-history-length" = 5 }
"""


def test_they_survive_a_restart_and_keys_stay_with_their_queues(own_broker, name):
    broker = own_broker(config=CONFIGURED)
    # Not in the order of their names, so that the order of declaration has to come back.
    queues = ["m", "c", "z", "a", "q"]

    def connect():
        connection = pika.BlockingConnection(pika.ConnectionParameters(host=broker.host, port=broker.port))
        return connection, connection.channel()

    connection, channel = connect()
    for kind in ("x-consistent-hash", "x-modulus-hash"):
        channel.exchange_declare(kind, exchange_type=kind, durable=True)
    for weight, queue in enumerate(queues, start=1):
        channel.queue_declare(queue, durable=True)
        for kind in ("x-consistent-hash", "x-modulus-hash", "shards"):
            channel.queue_bind(queue, kind, routing_key=str(weight))

    def all_ways(channel):
        header = lambda number: pika.BasicProperties(headers={"customer": number})  # noqa: E731
        return (
            spread(channel, queues, "x-consistent-hash", 60),
            spread(channel, queues, "x-modulus-hash", 60),
            spread(channel, queues, "shards", 60, header, lambda number: ""),
        )

    before = all_ways(channel)
    connection.close()
    broker.kill()
    broker.start()
    connection, channel = connect()
    channel.exchange_declare("shards", exchange_type="x-consistent-hash", passive=True)
    assert all_ways(channel) == before
    for number in range(7):
        channel.basic_publish("chat", "", str(number).encode())
    channel.queue_declare("late")
    channel.queue_bind("late", "chat")
    assert channel.queue_declare("late", passive=True).method.message_count == 5
    connection.close()
