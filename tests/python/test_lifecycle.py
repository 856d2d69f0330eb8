"""Starting, stopping and crashing: what clients are told and what is still there afterwards."""

import signal
import subprocess
import threading

import pytest
import wire
from wire import Client, Closed

pytestmark = pytest.mark.owned



def session(server, channels=1):
    client = Client(server.address).connect()
    for channel in range(1, channels + 1):
        client.open_channel(channel)
    return client


def publish_confirmed(client, queue, bodies, **properties):
    client.call(1, "confirm.select")
    for body in bodies:
        client.publish(1, "", queue, body, **properties)
    acked = 0
    while acked < len(bodies):
        event = client.wait(1, "basic.ack")
        acked = event.delivery_tag if event.multiple else acked + 1


def missing(client, method, **args):
    """Whether a passive declare finds nothing; on a channel of its own."""
    client.open_channel(60)
    client.send(60, method, passive=True, **args)
    event = client.wait(60)
    if event.name == "channel.close":
        assert event.reply_code == 404
        return True
    client.call(60, "channel.close", reply_code=200)
    return False


def define(client):
    """One of everything, durable, transient and exclusive."""
    client.call(1, "queue.declare", queue="durable", durable=True)
    client.call(1, "queue.declare", queue="transient")
    client.call(1, "queue.declare", queue="exclusive", durable=True, exclusive=True)
    client.call(1, "exchange.declare", exchange="durable-x", type="topic", durable=True)
    client.call(1, "exchange.declare", exchange="transient-x", type="topic")
    client.call(1, "exchange.bind", source="amq.topic", destination="durable-x", routing_key="a.#")
    client.call(1, "queue.bind", queue="durable", exchange="durable-x", routing_key="#.b")
    client.call(1, "queue.bind", queue="durable", exchange="transient-x", routing_key="#")
    client.call(1, "queue.declare", queue="deleted", durable=True)
    client.call(1, "queue.delete", queue="deleted")
    client.call(1, "queue.declare", queue="unbound", durable=True)
    client.call(1, "queue.bind", queue="unbound", exchange="amq.topic", routing_key="x")
    client.call(1, "queue.unbind", queue="unbound", exchange="amq.topic", routing_key="x")


def check_definitions(client):
    """What `define` made durable is there, and nothing else."""
    for queue in ("durable", "unbound"):
        assert not missing(client, "queue.declare", queue=queue), queue
    for queue in ("transient", "exclusive", "deleted"):
        assert missing(client, "queue.declare", queue=queue), queue
    assert not missing(client, "exchange.declare", exchange="durable-x")
    assert missing(client, "exchange.declare", exchange="transient-x")
    client.call(1, "queue.declare", queue="durable", durable=True)
    client.call(1, "exchange.declare", exchange="durable-x", type="topic", durable=True)
    client.call(1, "queue.purge", queue="durable")
    publish_confirmed_to(client, "amq.topic", "a.b")
    assert client.call(1, "basic.get", queue="durable", no_ack=True).routing_key == "a.b"
    publish_confirmed_to(client, "amq.topic", "x")
    assert client.call(1, "basic.get", queue="unbound").name == "basic.get-empty"


def publish_confirmed_to(client, exchange, key):
    client.open_channel(61)
    client.call(61, "confirm.select")
    client.publish(61, exchange, key, b"probe")
    client.wait(61, "basic.ack")
    client.call(61, "channel.close", reply_code=200)


def test_sigterm_tells_clients_and_exits_with_0(own_broker):
    server = own_broker()
    clients = [session(server) for _ in range(3)]
    server.terminate()
    for client in clients:
        close = client.wait(0, "connection.close")
        assert close.reply_code == 320
        assert close.reply_text == "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
        client.abort()
    assert server.process.wait(30) == 0


def test_sigint_ends_it_too(own_broker):
    server = own_broker()
    client = session(server)
    server.process.send_signal(signal.SIGINT)
    assert client.wait(0, "connection.close").reply_code == 320
    client.abort()
    assert server.process.wait(30) == 0


def test_it_stops_although_a_client_never_answers(own_broker):
    server = own_broker()
    silent, half_open = session(server), Client(server.address)
    half_open.send_raw(wire.PROTOCOL_HEADER)
    server.terminate()
    assert server.process.wait(60) == 0
    silent.abort()
    half_open.abort()


def test_no_new_connections_while_stopping(own_broker):
    server = own_broker()
    address = server.address
    server.stop_process()
    with pytest.raises(ConnectionRefusedError):
        Client(address)


def test_definitions_survive_a_clean_restart(own_broker):
    server = own_broker()
    define(session(server))
    assert server.stop_process() == 0
    server.start()
    check_definitions(session(server))


def test_definitions_survive_kill_9(own_broker):
    server = own_broker()
    define(session(server))
    server.kill()
    server.start()
    check_definitions(session(server))


def test_definitions_survive_kill_9_again_and_again(own_broker):
    server = own_broker()
    for round_ in range(4):
        client = session(server)
        client.call(1, "queue.declare", queue=f"q{round_}", durable=True)
        if round_:
            client.call(1, "queue.delete", queue=f"q{round_ - 1}")
        server.kill()
        server.start()
        client = session(server)
        found = [n for n in range(round_ + 1) if not missing(client, "queue.declare", queue=f"q{n}")]
        assert found == [round_]


def messages(client, queue):
    found = []
    while (event := client.call(1, "basic.get", queue=queue, no_ack=True)).name == "basic.get-ok":
        found.append(event)
    return found


def test_confirmed_persistent_messages_survive_kill_9(own_broker):
    server = own_broker()
    client = session(server)
    client.call(1, "queue.declare", queue="q", durable=True)
    publish_confirmed(client, "q", [str(i) for i in range(200)], delivery_mode=2, headers={"n": 1})
    server.kill()
    server.start()
    found = messages(session(server), "q")
    assert [e.body for e in found] == [str(i).encode() for i in range(200)]
    assert all(e.properties == {"delivery_mode": 2, "headers": {"n": 1}} for e in found)


def test_persistent_messages_survive_a_clean_restart_in_order(own_broker):
    server = own_broker()
    client = session(server)
    client.call(1, "queue.declare", queue="q", durable=True)
    publish_confirmed(client, "q", [str(i) for i in range(50)], delivery_mode=2)
    for tag in range(1, 11):
        client.call(1, "basic.get", queue="q")
        if tag <= 5:
            client.send(1, "basic.ack", delivery_tag=tag)
    client.call(1, "basic.qos")
    assert server.stop_process() == 0
    server.start()
    found = messages(session(server), "q")
    assert [e.body for e in found] == [str(i).encode() for i in range(5, 50)]
    assert [e.redelivered for e in found] == [True] * 5 + [False] * 40


def test_transient_messages_are_gone_after_a_restart(own_broker):
    server = own_broker()
    client = session(server)
    client.call(1, "queue.declare", queue="q", durable=True)
    publish_confirmed(client, "q", ["transient"])
    server.stop_process()
    server.start()
    assert messages(session(server), "q") == []


def test_kill_9_under_load_keeps_what_was_confirmed(own_broker):
    """A publisher notes each confirm; the broker is killed; every noted message is found again."""
    server = own_broker()
    client = session(server)
    client.call(1, "queue.declare", queue="q", durable=True)
    client.call(1, "confirm.select")
    confirmed, sent = 0, 0
    killer = threading.Timer(1.0, server.kill)
    killer.start()
    try:
        while sent < 200_000:
            for _ in range(50):
                client.publish(1, "", "q", str(sent), delivery_mode=2)
                sent += 1
            event = client.wait(1, "basic.ack")
            confirmed = max(confirmed, event.delivery_tag)
    except (Closed, OSError):
        pass
    killer.join()
    server.process.wait()
    server.start()
    client = session(server)
    client.call(1, "basic.consume", queue="q", no_ack=True)
    found = set()
    while len(found) < confirmed:
        found.add(int(client.wait(1, "basic.deliver").body))
    lost = set(range(confirmed)) - found
    assert not lost, f"{len(lost)} of {confirmed} confirmed messages are lost"


def test_two_brokers_cannot_share_a_data_directory(own_broker):
    server = own_broker()
    command = [server.binary, "serve", "--config", str(server.config_path), "--data-dir",
               str(server.directory / "data"), "--listen", "127.0.0.1:0"]  # fmt: skip
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = second.communicate(timeout=30)
    finally:
        if second.poll() is None:
            second.kill()
    assert second.returncode != 0
    assert output.strip(), "it must say why"
    assert session(server).call(1, "basic.qos")


def test_an_address_in_use_is_said(own_broker):
    server = own_broker()
    command = [server.binary, "serve", "--data-dir", str(server.directory / "other"), "--listen",
               f"127.0.0.1:{server.port}"]  # fmt: skip
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=server.directory)
    assert second.returncode != 0
    assert str(server.port) in second.stdout + second.stderr
