"""Debian's amqp-tools as clients, and tshark as a judge of every frame.

Each check is a named test, like those of the published suites.
"""

import shutil
import subprocess
import time

import wire
from judging import Skipped


def run(suite, server, _work):
    return {"amqp-tools": amqp_tools, "tshark": tshark}[suite.name](server)


def checked(checks):
    results = {}
    for check in checks:
        try:
            check()
            results[check.__name__] = "passed"
        except Exception as error:
            print(f"    {check.__name__}: {error!r}")
            results[check.__name__] = "failed"
    return results


def amqp_tools(server):
    if not shutil.which("amqp-publish"):
        raise Skipped("amqp-tools is not on this machine (Debian: apt-get install amqp-tools)")

    def tool(*command, data=None):
        result = subprocess.run([command[0], "-u", server.url, *command[1:]], input=data, capture_output=True,
                                text=True, timeout=20)  # fmt: skip
        assert result.returncode == 0, f"{command}: {result.stdout} {result.stderr}"
        return result.stdout

    def declare_publish_get_delete():
        assert tool("amqp-declare-queue", "-q", "tools", "-d").strip() == "tools"
        tool("amqp-publish", "-r", "tools", "-b", "hello")
        assert tool("amqp-get", "-q", "tools") == "hello"
        assert tool("amqp-delete-queue", "-q", "tools").strip() == "0"

    def publish_from_standard_input_persistently():
        tool("amqp-declare-queue", "-q", "tools2")
        tool("amqp-publish", "-r", "tools2", "-p", "-C", "text/plain", data="one line\n")
        assert tool("amqp-get", "-q", "tools2") == "one line\n"
        tool("amqp-delete-queue", "-q", "tools2")

    def consume_with_a_program():
        tool("amqp-declare-queue", "-q", "tools3")
        for body in ("1", "2", "3"):
            tool("amqp-publish", "-r", "tools3", "-b", body)
        assert tool("amqp-consume", "-q", "tools3", "-c", "3", "cat") == "123"
        tool("amqp-delete-queue", "-q", "tools3")

    def consume_from_a_binding():
        consumer = subprocess.Popen(["amqp-consume", "-u", server.url, "-e", "amq.topic", "-r", "tools.#", "-c", "1",
                                     "cat"], stdout=subprocess.PIPE, text=True)  # fmt: skip
        try:
            for _ in range(50):
                tool("amqp-publish", "-e", "amq.topic", "-r", "tools.x", "-b", "bound")
                if consumer.poll() is not None:
                    break
                time.sleep(0.1)
            assert consumer.communicate(timeout=10)[0] == "bound"
        finally:
            if consumer.poll() is None:
                consumer.kill()

    return checked([
        declare_publish_get_delete, publish_from_standard_input_persistently, consume_with_a_program,
        consume_from_a_binding,
    ])  # fmt: skip


def tshark(server):
    """Every frame of a session with everything in it, seen through a recording forwarder, dissects cleanly."""
    if not shutil.which("tshark") or not shutil.which("text2pcap"):
        raise Skipped("tshark is not on this machine (Debian: apt-get install tshark)")
    frames, names = talk(server), set()

    def no_frame_is_malformed():
        nonlocal names
        text = dissect(frames)
        names = {line.split("\t")[0] for line in text.splitlines() if line.split("\t")[0]}
        malformed = [line for line in text.splitlines() if line.split("\t")[1:] not in ([], [""])]
        assert not malformed, malformed[:5]

    def the_methods_are_recognised():
        assert len(names) >= 3, f"tshark saw only {names}"

    return checked([no_frame_is_malformed, the_methods_are_recognised])


def talk(server):
    """The octets that the broker sends during a session."""
    recorded = []

    class Recorder(wire.Client):
        def _read(self, count, deadline, what):
            piece = super()._read(count, deadline, what)
            recorded.append(piece)
            return piece

    client = Recorder(server.address).connect()
    client.open_channel(1)
    client.open_channel(2)
    queue = client.call(1, "queue.declare", exclusive=True, arguments={"x-max-length": 10}).queue
    client.call(1, "exchange.declare", exchange="tshark", type="topic", auto_delete=True)
    client.call(1, "queue.bind", queue=queue, exchange="tshark", routing_key="#")
    client.call(2, "confirm.select")
    client.call(1, "basic.consume", queue=queue)
    properties = {"headers": {"a": [1, {"b": None}], "t": True}, "delivery_mode": 2, "timestamp": 7, "priority": 1}
    client.publish(2, "tshark", "key", b"x" * 300, **properties)
    client.wait(2, "basic.ack")
    tag = client.wait(1, "basic.deliver").delivery_tag
    client.send(1, "basic.reject", delivery_tag=tag, requeue=True)
    client.wait(1, "basic.deliver")
    client.publish(2, "", "nowhere", b"returned", mandatory=True)
    client.wait(2, "basic.return")
    client.call(1, "basic.cancel", consumer_tag="none")
    client.call(1, "channel.close", reply_code=200)
    client.open_channel(1)
    client.call(1, "basic.get", queue=queue, no_ack=True)
    client.call(1, "basic.get", queue=queue)
    client.refusal(1, "queue.declare", queue="missing", passive=True)
    client.close()
    return b"".join(recorded)


def dissect(octets):
    """tshark's view of one direction of a TCP connection from port 5672, as `info<TAB>malformed` lines."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="ferrymq-tshark-") as folder:
        dump, capture = Path(folder) / "dump.txt", Path(folder) / "capture.pcap"
        with open(dump, "w") as out:
            for at in range(0, len(octets), 1000):
                piece = octets[at : at + 1000]
                for line in range(0, len(piece), 16):
                    out.write(f"{line:06x} " + " ".join(f"{o:02x}" for o in piece[line : line + 16]) + "\n")
                out.write("\n")
        subprocess.run(["text2pcap", "-q", "-T", "5672,40000", dump, capture], check=True, capture_output=True)
        command = ["tshark", "-r", capture, "-d", "tcp.port==5672,amqp", "-T", "fields", "-e", "_ws.col.Info", "-e",
                   "_ws.malformed"]  # fmt: skip
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
