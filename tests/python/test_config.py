"""config.toml: the topology declared there, its live reload, and errors in it."""

import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from wire import Client

pytestmark = pytest.mark.owned

ONE = """
[[exchange]]
name = "orders-x"
type = "topic"

[[queue]]
name = "orders"

[[binding]]
source = "orders-x"
queue = "orders"
routing_key = "order.*"
"""
MORE = ONE + """
[[queue]]
name = "payments"
"""  # fmt: skip


def session(server):
    client = Client(server.address).connect()
    client.open_channel(1)
    return client


def has(client, method, **args):
    client.open_channel(60)
    client.send(60, method, passive=True, **args)
    event = client.wait(60)
    if event.name == "channel.close":
        return False
    client.call(60, "channel.close", reply_code=200)
    return True


def has_queue(client, name):
    return has(client, "queue.declare", queue=name)


def eventually(condition, what):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, f"not within 15 s: {what}"
        time.sleep(0.05)


def test_the_files_topology_exists_at_start(own_broker):
    client = session(own_broker(ONE))
    client.call(1, "queue.declare", queue="orders", durable=True)
    client.call(1, "exchange.declare", exchange="orders-x", type="topic", durable=True)
    client.publish(1, "orders-x", "order.new", b"hello")
    assert client.call(1, "basic.get", queue="orders", no_ack=True).body == b"hello"


def test_added_and_removed_queues_take_effect_live(own_broker):
    server = own_broker(ONE)
    client = session(server)
    assert not has_queue(client, "payments")
    server.config_path.write_text(MORE)
    eventually(lambda: has_queue(client, "payments"), "the added queue appears")
    server.config_path.write_text(ONE)
    eventually(lambda: not has_queue(client, "payments"), "the removed queue disappears")
    assert has_queue(client, "orders")
    server.config_path.write_text("")
    eventually(lambda: not has_queue(client, "orders"), "the rest disappears")
    eventually(lambda: not has(client, "exchange.declare", exchange="orders-x"), "the exchange disappears")


def test_editors_that_replace_the_file(own_broker):
    server = own_broker(ONE)
    client = session(server)
    replacement = server.config_path.with_suffix(".new")
    replacement.write_text(MORE)
    replacement.rename(server.config_path)
    eventually(lambda: has_queue(client, "payments"), "the added queue appears")


def test_a_removed_binding_is_unbound(own_broker):
    server = own_broker(ONE)
    client = session(server)
    server.config_path.write_text(ONE.split("[[binding]]")[0])

    def unbound():
        client.publish(1, "orders-x", "order.new", b"probe")
        return client.call(1, "basic.get", queue="orders", no_ack=True).name == "basic.get-empty"

    eventually(unbound, "the binding goes")


def test_an_edit_with_an_error_changes_nothing(own_broker):
    server = own_broker(ONE)
    client = session(server)
    seen = len(server.output.lines)
    server.config_path.write_text(MORE.replace("[[queue]]\nname = \"payments\"", "[[queue]]\nnaem = \"payments\""))
    server.output.wait_for("naem", seconds=15, start=seen)
    assert has_queue(client, "orders")
    assert not has_queue(client, "payments")
    client.call(1, "queue.declare", queue="mine", exclusive=True)
    server.config_path.write_text(MORE)  # and a corrected one takes effect
    eventually(lambda: has_queue(client, "payments"), "the corrected file takes effect")


def test_a_queue_with_messages_is_not_deleted_by_an_edit(own_broker):
    server = own_broker(MORE)
    client = session(server)
    client.publish(1, "", "payments", b"precious", delivery_mode=2)
    client.call(1, "basic.qos")
    server.config_path.write_text(ONE + "[[queue]]\nname = \"later\"\n")
    eventually(lambda: has_queue(client, "later"), "the edit takes effect")
    assert client.call(1, "basic.get", queue="payments", no_ack=True).body == b"precious"


def test_what_clients_declared_is_left_alone(own_broker):
    server = own_broker(ONE)
    client = session(server)
    client.call(1, "queue.declare", queue="mine", durable=True)
    server.config_path.write_text(MORE)
    eventually(lambda: has_queue(client, "payments"), "the added queue appears")
    server.config_path.write_text(ONE)
    eventually(lambda: not has_queue(client, "payments"), "the removed queue disappears")
    assert has_queue(client, "mine")


def check(server, text):
    path = server.directory / "checked.toml"
    path.write_text(text)
    command = [server.binary, "config", "check", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_config_check(own_broker):
    server = own_broker()
    good = check(server, MORE)
    assert good.returncode == 0, good.stderr
    bad = check(server, "[limits]\nchannel_max = -1\n\n[[queue]]\nname = 5\n")
    assert bad.returncode == 65
    said = bad.stdout + bad.stderr
    assert "channel_max" in said and "name" in said, "all errors are said at once"
    assert "2" in said and "5" in said, "with their lines"


def test_a_broken_file_at_start_is_said_and_ends_it(own_broker):
    server = own_broker()
    path = server.directory / "broken.toml"
    path.write_text("[limits\n")
    command = [server.binary, "serve", "--config", str(path), "--data-dir", str(server.directory / "d2"),
               "--listen", "127.0.0.1:0"]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 65
    assert "broken.toml" in result.stdout + result.stderr


@pytest.mark.parametrize("option, offered", [
    ('[limits]\nframe_max = "8 KiB"', {"frame_max": 8192}),
    ("[limits]\nchannel_max = 10", {"channel_max": 10}),
    ('[limits]\nheartbeat = "7 s"', {"heartbeat": 7}),
])  # fmt: skip
def test_limits_are_offered_to_clients(own_broker, option, offered):
    client = session(own_broker(option))
    assert client.tune | offered == client.tune


def shipped_identity():
    """What the shipped config.toml documents, and the one text that cannot be configured."""
    shipped = (Path(__file__).resolve().parents[2] / "config.toml").read_text(encoding="utf-8")
    section = shipped.split("\n[identity]\n")[1].split("\n# ---")[0]
    return dict(re.findall(r'^#(\w+) = "(.*)"$', section, re.MULTILINE)) | {"copyright": "The FerryMQ developers"}


def texts_of(client):
    return {key: value for key, value in client.server_properties.items() if key != "capabilities"}


def test_identity(own_broker):
    own = {"product": "FerryMQ", "version": "9.9.9", "platform": "Fähre №1", "information": "i" * 255,
           "cluster_name": "here"}  # fmt: skip
    lines = [f'{key} = "{value}"' for key, value in own.items()]
    client = session(own_broker("\n".join(["[identity]", *lines])))
    assert texts_of(client) == shipped_identity() | own


def test_identity_unless_configured(own_broker):
    identity = shipped_identity()
    assert {"product", "version", "platform", "information", "cluster_name"} < set(identity)
    assert texts_of(session(own_broker())) == identity


def test_message_size_limit(own_broker):
    client = session(own_broker('[limits]\nmax_message_size = "1 KiB"'))
    client.publish(1, "", "nowhere", b"x" * 1025)
    close = client.closing(1)
    assert (close.reply_code, close.reply_text) == (
        406, "PRECONDITION_FAILED - message size 1025 is larger than configured max size 1024",
    )  # fmt: skip


def test_a_section_that_is_edited_back_needs_no_restart(own_broker):
    server = own_broker()
    edit = server.config_path.write_text
    needed = "[limits] has changed in the configuration: a restart puts it into force"
    edit('[limits]\nheartbeat = "30 s"\n')
    server.output.wait_for(needed, 10)
    seen = len(server.output.lines)
    edit('[[queue]]\nname = "edited-back"\n')
    server.output.wait_for("configuration: declared queue 'edited-back'", 10, start=seen)
    assert [line for line in server.output.lines[seen:] if needed in line] == []


def test_a_hangup_reads_the_file_again_and_is_never_the_end(own_broker):
    server = own_broker()
    server.process.send_signal(signal.SIGHUP)
    server.config_path.write_text('[[queue]]\nname = "by-hangup"\n')
    server.process.send_signal(signal.SIGHUP)
    server.output.wait_for("configuration: declared queue 'by-hangup'", 10)
    assert server.alive()


def test_lines_removed_while_the_broker_was_down_are_gone_after_its_start(own_broker):
    server = own_broker('[[exchange]]\nname = "x"\ntype = "headers"\n[[queue]]\nname = "kept"\n[[queue]]\nname = "gone"\n')
    server.stop_process()
    server.config_path.write_text('[[queue]]\nname = "kept"\n')
    server.start()
    client = session(server)
    assert has_queue(client, "kept")
    assert not has_queue(client, "gone")
    assert not has(client, "exchange.declare", exchange="x")


def test_headers_and_exchange_bindings_follow_the_file(own_broker):
    server = own_broker()
    server.config_path.write_text("""
[[exchange]]
name = "by-header"
type = "headers"

[[exchange]]
name = "front"
type = "fanout"

[[queue]]
name = "pdf"

[[binding]]
source = "front"
exchange = "by-header"

[[binding]]
source = "by-header"
queue = "pdf"
headers = { format = "pdf" }
match = "all"
""")
    server.output.wait_for("configuration: declared exchange", 10)
    client = session(server)
    for form in ("pdf", "txt"):
        client.publish(1, "front", "", b"a " + form.encode(), headers={"format": form})
    eventually(lambda: client.call(1, "queue.declare", queue="pdf", passive=True).message_count == 1, "one pdf")
    assert client.call(1, "basic.get", queue="pdf", no_ack=True).body == b"a pdf"


def test_edits_under_load_disturb_nobody(own_broker):
    server = own_broker(ONE)
    published, stop = [], threading.Event()

    def publish():
        client = session(server)
        client.call(1, "confirm.select")
        while not stop.is_set() and len(published) < 200_000:
            client.publish(1, "orders-x", "order.new", b"%d" % len(published))
            published.append(client.wait(1, "basic.ack").name)

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for round_ in range(10):
            seen = len(server.output.lines)
            server.config_path.write_text(ONE + f'\n[[queue]]\nname = "extra-{round_}"\n')
            server.output.wait_for(f"configuration: declared queue 'extra-{round_}'", 10, start=seen)
            seen = len(server.output.lines)
            server.config_path.write_text(ONE + "\n[[queue]]\nnam = 1\n")
            server.output.wait_for("changes nothing", 10, start=seen)
    finally:
        stop.set()
        publisher.join(20)
    client = session(server)
    count = client.call(1, "queue.declare", queue="orders", passive=True).message_count
    assert count == len(published) > 0
