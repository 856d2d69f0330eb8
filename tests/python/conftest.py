"""Fixtures of the interoperability tests.

`broker` is one running broker for the whole session: the binary named by FERRYMQ_BIN, or the broker at
AMQP_URL, or a private RabbitMQ with TEST_BROKER=rabbitmq. `own_broker` is one that a single test starts,
stops and kills. `peer` tells which broker it is, for the few places where RabbitMQ 3.10 differs from the
later versions that FerryMQ follows.

Invariant: tests share the broker, so every name comes from the `name` fixture, and whatever a test leaves
durable it deletes.
"""

import collections
import itertools
import os
import sys
from pathlib import Path

import pika
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import servers  # noqa: E402
import skips  # noqa: E402
import wire  # noqa: E402

_numbers = itertools.count(1)


class Peer:
    """Which broker the tests speak to."""

    def __init__(self, server_properties, kind):
        self.product = server_properties.get("product", "")
        self.version = server_properties.get("version", "")
        self.rabbitmq = kind != "ferrymq" and self.product == "RabbitMQ"

    @property
    def rabbitmq_310(self):
        """True for RabbitMQ before 3.13, whose texts and levels differ in places."""
        return self.rabbitmq and self.version.startswith("3.10.")

    def pick(self, modern, old):
        """`old` where the peer is RabbitMQ 3.10, else `modern`."""
        return old if self.rabbitmq_310 else modern


def pytest_terminal_summary(terminalreporter):
    """Skipped tests, one line for each reason."""
    reasons = collections.Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        skips.tell(f"{count} tests: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def broker():
    server = servers.start_from_environment()
    yield server
    alive = server.alive()
    server.stop()
    assert alive, "the broker died during the tests"


@pytest.fixture(scope="session")
def peer(broker):
    with wire.Client(broker.address).connect() as client:
        return Peer(client.server_properties, broker.kind)


@pytest.fixture
def own_broker():
    """Starts FerryMQ brokers of the test's own: `own_broker(config="…")`."""
    binary = os.environ.get("FERRYMQ_BIN")
    if not binary:
        pytest.skip("needs FERRYMQ_BIN: the test starts and stops the broker itself")
    started = []

    def start(config="", data_dir=None):
        started.append(servers.Ferrymq(binary, config, data_dir))
        return started[-1]

    yield start
    for server in started:
        if server.alive():
            server.kill()
        server.remove()


@pytest.fixture
def name(request):
    """Makes names that no other test uses: `name("queue")`."""
    stem = request.node.name.split("[")[0].removeprefix("test_")[:60]

    def make(suffix="queue"):
        return f"{stem}.{os.getpid()}.{next(_numbers)}.{suffix}"

    return make


@pytest.fixture
def connect(broker):
    """Raw connections: `connect()` performs the handshake, `connect(raw=True)` only opens the socket."""
    clients = []

    def make(raw=False, channels=1, **options):
        client = wire.Client(broker.address)
        clients.append(client)
        if not raw:
            client.connect(**options)
            for channel in range(1, channels + 1):
                client.open_channel(channel)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect):
    """A raw connection with channels 1 and 2 open."""
    return connect(channels=2)


@pytest.fixture
def pika_connection(broker):
    """Opens pika connections; all are closed at the end of the test."""
    connections = []

    def make(**parameters):
        parameters.setdefault("heartbeat", 0)
        parameters.setdefault("blocked_connection_timeout", 10)
        connection = pika.BlockingConnection(
            pika.ConnectionParameters(host=broker.host, port=broker.port, **parameters)
        )
        connections.append(connection)
        return connection

    yield make
    for connection in connections:
        if connection.is_open:
            connection.close()


@pytest.fixture
def channel(pika_connection):
    """A pika channel on a connection of its own."""
    return pika_connection().channel()


@pytest.fixture
def queue(channel, name):
    """An exclusive queue of the pika channel's connection."""
    queue_name = name()
    channel.queue_declare(queue_name, exclusive=True)
    return queue_name


def take(channel, queue_name, count, auto_ack=True):
    """`count` messages by basic.get, as (method, properties, body); retries until they are there."""
    import time

    messages, deadline = [], time.monotonic() + 10
    while len(messages) < count:
        method, properties, body = channel.basic_get(queue_name, auto_ack=auto_ack)
        if method:
            messages.append((method, properties, body))
        else:
            assert time.monotonic() < deadline, f"{len(messages)} of {count} messages arrived in {queue_name}"
            channel.connection.process_data_events(time_limit=0.01)
    return messages


@pytest.fixture(name="take")
def take_fixture():
    return take
