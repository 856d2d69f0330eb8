"""Runs one scripted session against one broker and writes down what the broker said.

Invariant: a transcript holds only what the broker sent, in the order a channel received it, with everything
replaced that two runs of the same broker would not repeat (generated names, tokens, times of day) and with
publisher confirms folded into the tags they settle.
"""

import re
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import wire  # noqa: E402

SESSIONS = {}
QUIET_SECONDS = 0.25
GENERATED = re.compile(r"amq\.(gen-|ctag-|rabbitmq\.reply-to\.)[A-Za-z0-9_\-=.+/]+")
PROBE = {"exchange": "amq.direct", "type": "direct", "passive": True}
VARIABLE_PROPERTIES = ("cluster_name", "copyright", "information", "platform", "version", "product")


def session(function):
    """Registers a session under the name of its file and its own, e.g. `declare.inequivalent_durable`."""
    register(Path(function.__code__.co_filename).stem, function.__name__, function)
    return function


def register(group, name, function):
    full = f"{group}.{name}"
    if full in SESSIONS:
        raise ValueError(f"two sessions are called {full}")
    SESSIONS[full] = function


def scripted(group, table):
    """Registers sessions that are nothing but steps on one connection: `(method, arguments)` on channel 1.

    `{q}` in a text argument stands for a name of the session's own. A step may also be a callable that gets
    the peer.
    """
    for name, steps in table.items():
        register(group, name, lambda s, steps=steps: play(s, steps))


def play(s, steps):
    peer = s.connect()
    peer.open()
    for step in steps:
        if callable(step):
            step(peer)
            continue
        method, arguments = step
        arguments = {k: v.replace("{q}", s.q) if isinstance(v, str) else v for k, v in arguments.items()}
        peer.call(method, **arguments)


class Ended(Exception):
    """The script wants to go on, but the broker closed the connection; the transcript ends here."""


class Session:
    """What a session function gets: names of its own and connections to the broker."""

    def __init__(self, address, name):
        self.address, self.name, self.lines, self.peers = address, name, [], []
        self.q = f"d.{name}"
        self.names = {}

    def connect(self, **options):
        peer = self.raw()
        peer.client.connect(**options)
        return peer

    def raw(self):
        peer = Peer(self, len(self.peers))
        self.peers.append(peer)
        return peer

    def note(self, line):
        self.lines.append(self._normalise(line))

    def _normalise(self, line):
        def replace(match):
            found, kind = match.group(0), match.group(1).rstrip("-.")
            number = self.names.setdefault(found, len(self.names) + 1)
            return f"<{kind} {number}>"

        return GENERATED.sub(replace, line)

    def close(self):
        for peer in self.peers:
            peer.client.abort()


def show(value):
    """A value as text, with table types told apart and long bodies cut to their length and ends."""
    if isinstance(value, bytes):
        if len(value) > 64:
            return f"<{len(value)} octets {value[:8]!r}..{value[-8:]!r} crc {zlib_crc(value):08x}>"
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {show(shown(k, v))}" for k, v in entries(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(show(v) for v in value) + "]"
    return repr(value)


def entries(table):
    """What both brokers can say: 3.13 added x-last-death-*, and put original-expiration first."""
    known = [(k, v) for k, v in table.items() if not k.startswith("x-last-death-")]
    return sorted(known, key=lambda entry: entry[0] == "original-expiration")


def shown(key, value):
    """Times of day inside x-death differ from run to run."""
    return "<time>" if key == "time" and isinstance(value, wire.Typed) else value


def zlib_crc(data):
    import zlib

    return zlib.crc32(data)


class Peer:
    """One connection of a session. Everything it reads is noted, channel by channel."""

    def __init__(self, s, index):
        self.s, self.label = s, "" if index == 0 else f"#{index + 1} "
        self.client = wire.Client(s.address, timeout=8)
        self.inbox = {}
        self.ended = False
        self.settled = {}

    # --- sending -----------------------------------------------------------------------------------

    def open(self, channel=1):
        self.client.call(channel, "channel.open")
        self.inbox_from_pending()
        self.settled.pop(channel, None)
        return channel

    def tell(self, name, ch=1, **args):
        """Sends a method nobody answers (nowait forms, acks), without looking for what it causes."""
        self._send(wire.method_frame(ch, name, **args))

    def raw(self, data):
        self._send(data)

    def publish(self, exchange="", routing_key="", body=b"m", ch=1, mandatory=False, immediate=False, **properties):
        method = wire.method_frame(ch, "basic.publish", exchange=exchange, routing_key=routing_key,
                                   mandatory=mandatory, immediate=immediate)  # fmt: skip
        self._send(method + wire.content_frames(ch, body, properties, self.client.frame_max))

    def fill(self, queue, *bodies, **properties):
        """Puts messages into a queue and returns once they are in it."""
        channel = 60000
        self.client.call(channel, "channel.open")
        self.client.call(channel, "confirm.select")
        for body in bodies:
            self.client.publish(channel, "", queue, body, **properties)
        settled = set()
        while len(settled) < len(bodies):
            ack = self.client.wait(channel, "basic.ack", "basic.nack").args
            settled |= set(range(1, ack["delivery_tag"] + 1)) if ack["multiple"] else {ack["delivery_tag"]}
        self.client.call(channel, "channel.close", reply_code=200)
        self.inbox_from_pending()

    def inbox_from_pending(self):
        """Hands what the client set aside for other channels to their inboxes."""
        for event in self.client.pending:
            self.inbox.setdefault(event.channel, []).append(event)
        self.client.pending = []

    def _send(self, data):
        if self.ended:
            raise Ended
        try:
            self.client.send_raw(data)
        except (ConnectionError, BrokenPipeError):
            pass  # What the broker said before it closed is still to be read.

    # --- reading -----------------------------------------------------------------------------------

    def call(self, name, ch=1, **args):
        """Sends a method and notes everything of its channel up to the answer, which it returns."""
        self.tell(name, ch, **args)
        wanted = ("basic.get-ok", "basic.get-empty") if name == "basic.get" else (f"{name}-ok",)
        return self.wait(*wanted, ch=ch)

    def wait(self, *names, ch=1, count=1):
        """Notes events of the channel until `count` of these came, or a close, or the socket's end."""
        left, event = count, None
        while left:
            event = self._next(ch)
            if event is None or event.name in ("channel.close", "connection.close"):
                self.note(event)
                return event
            left -= event.name in names
            self.note(event)
        return event

    def confirms(self, count, ch=1):
        """Notes events until `count` more publishes of the channel are settled."""
        goal = len(self.settled.setdefault(ch, set())) + count
        while len(self.settled[ch]) < goal:
            event = self._next(ch)
            self.note(event)
            if event is None or event.name in ("channel.close", "connection.close"):
                return

    def settle(self, ch=1):
        """Notes what is there once the broker has worked off everything sent so far on this channel."""
        self.tell("exchange.declare", ch, **PROBE)
        while True:
            event = self._next(ch)
            if event is not None and event.name == "exchange.declare-ok":
                return
            self.note(event)
            if event is None or event.name in ("channel.close", "connection.close"):
                return

    def until_ready(self, queue, count, ch=1):
        """Asks until the queue has so many ready messages, and notes nothing: requeueing takes RabbitMQ a moment."""
        for _ in range(500):
            self.tell("queue.declare", ch, queue=queue, passive=True)
            event = self._next(ch)
            if event is None or event.name != "queue.declare-ok" or event.message_count == count:
                return
            time.sleep(0.01)

    def quiet(self, ch=1, seconds=QUIET_SECONDS):
        """Notes everything that comes until nothing came for a while: shows that nothing more comes."""
        while True:
            event = self._next(ch, timeout=seconds)
            if event == "silence":
                return
            self.note(event)
            if event is None or event.name == "connection.close":
                return

    def until_closed(self, limit=8):
        """Notes everything until the broker closes the socket, and whether bare bytes came instead of frames."""
        while True:
            event = self._next(0, timeout=limit, everything=True)
            if event == "silence":
                self.s.note(f"{self.label}still open")
                return
            self.note(event)
            if event is None or event.name == "connection.close":
                return

    def octets(self, count=8):
        """Notes bare octets the broker sent, and the end of the socket if it comes before `count` octets."""
        data = b""
        try:
            while len(data) < count:
                piece = self.client.socket.recv(count - len(data))
                if not piece:
                    break
                data += piece
        except (ConnectionError, socket.timeout):
            pass
        self.s.note(f"{self.label}octets {data!r}")

    def _next(self, ch, timeout=None, everything=False):
        """The channel's next event; a close of the connection reaches every channel; None at the socket's end."""
        if self.ended:
            raise Ended
        queue = self.inbox.setdefault(ch, [])
        if queue:
            return queue.pop(0)
        deadline = time.monotonic() + (timeout if timeout is not None else self.client.timeout)
        while True:
            try:
                event = self.client.next_event(timeout=max(0.001, deadline - time.monotonic()))
            except wire.Closed:
                self.ended = True
                return None
            except TimeoutError:
                if timeout is not None:
                    return "silence"
                self.s.note(f"{self.label}no answer")
                raise Ended from None
            if event.name == "connection.close":
                self.ended = True
                return event
            if everything or event.channel == ch:
                return event
            self.inbox.setdefault(event.channel, []).append(event)

    # --- noting ------------------------------------------------------------------------------------

    def note(self, event):
        if event is None:
            self.s.note(f"{self.label}socket closed")
            return
        prefix = f"{self.label}{event.channel} "
        if event.name in ("basic.ack", "basic.nack"):
            self._note_confirm(prefix, event)
            return
        args = dict(event.args)
        if event.name == "connection.start":
            args["server_properties"] = {
                k: "<varies>" if k in VARIABLE_PROPERTIES else v
                for k, v in sorted(args["server_properties"].items())
            }
        line = prefix + event.name + "".join(f" {k}={show(v)}" for k, v in args.items())
        if event.body is not None:
            line += f" | {show(event.properties)} | {show(event.body)}"
        self.s.note(line)

    def _note_confirm(self, prefix, event):
        """One line per run of equal outcomes, however many frames it came in."""
        settled, last = self.settled.setdefault(event.channel, set()), event.args["delivery_tag"]
        tags = set(range(1, last + 1)) - settled if event.args["multiple"] else {last}
        settled |= tags
        lines, start = self.s.lines, f"{prefix}{event.name} tags "
        before = lines.pop()[len(start) :].split() if lines and lines[-1].startswith(start) else []
        lines.append(start + " ".join(map(str, sorted(set(map(int, before)) | tags))))


def run(address, name):
    """The transcript of one session against one broker."""
    s = Session(address, name)
    try:
        SESSIONS[name](s)
    except Ended:
        pass
    except wire.Refused as refused:
        s.note(f"refused: {refused.event!r}")
    except wire.Closed:
        s.note("socket closed")
    except (TimeoutError, OSError) as error:
        s.note(f"failed: {type(error).__name__} {error}")
    finally:
        s.close()
    return s.lines
