"""A small AMQP 0-9-1 codec and a blocking client for tests.

It sends exactly what it is told, legal or not, and reports every method, content and close that comes
back, so that a test can check codes, texts and their order, which client libraries hide.

Invariant: nothing is sent or answered on its own except close-ok for a close of the peer, and heartbeats
are reported, never answered.
"""

import socket
import struct
import time

FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT = 1, 2, 3, 8
FRAME_END = b"\xce"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
TIMEOUT = 10.0

# name: (class id, method id, "field:type …").  Types: o octet, h short, l long, L longlong, s shortstr,
# S longstr, t table, T timestamp, b bit.
_SPEC = """
connection.start 10 10 version_major:o version_minor:o server_properties:t mechanisms:S locales:S
connection.start-ok 10 11 client_properties:t mechanism:s response:S locale:s
connection.secure 10 20 challenge:S
connection.secure-ok 10 21 response:S
connection.tune 10 30 channel_max:h frame_max:l heartbeat:h
connection.tune-ok 10 31 channel_max:h frame_max:l heartbeat:h
connection.open 10 40 virtual_host:s reserved_1:s reserved_2:b
connection.open-ok 10 41 reserved_1:s
connection.close 10 50 reply_code:h reply_text:s class_id:h method_id:h
connection.close-ok 10 51
connection.blocked 10 60 reason:s
connection.unblocked 10 61
connection.update-secret 10 70 new_secret:S reason:s
connection.update-secret-ok 10 71
channel.open 20 10 reserved_1:s
channel.open-ok 20 11 reserved_1:S
channel.flow 20 20 active:b
channel.flow-ok 20 21 active:b
channel.close 20 40 reply_code:h reply_text:s class_id:h method_id:h
channel.close-ok 20 41
access.request 30 10 realm:s exclusive:b passive:b active:b write:b read:b
access.request-ok 30 11 ticket:h
exchange.declare 40 10 ticket:h exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:t
exchange.declare-ok 40 11
exchange.delete 40 20 ticket:h exchange:s if_unused:b nowait:b
exchange.delete-ok 40 21
exchange.bind 40 30 ticket:h destination:s source:s routing_key:s nowait:b arguments:t
exchange.bind-ok 40 31
exchange.unbind 40 40 ticket:h destination:s source:s routing_key:s nowait:b arguments:t
exchange.unbind-ok 40 51
queue.declare 50 10 ticket:h queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:t
queue.declare-ok 50 11 queue:s message_count:l consumer_count:l
queue.bind 50 20 ticket:h queue:s exchange:s routing_key:s nowait:b arguments:t
queue.bind-ok 50 21
queue.purge 50 30 ticket:h queue:s nowait:b
queue.purge-ok 50 31 message_count:l
queue.delete 50 40 ticket:h queue:s if_unused:b if_empty:b nowait:b
queue.delete-ok 50 41 message_count:l
queue.unbind 50 50 ticket:h queue:s exchange:s routing_key:s arguments:t
queue.unbind-ok 50 51
basic.qos 60 10 prefetch_size:l prefetch_count:h global_:b
basic.qos-ok 60 11
basic.consume 60 20 ticket:h queue:s consumer_tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:t
basic.consume-ok 60 21 consumer_tag:s
basic.cancel 60 30 consumer_tag:s nowait:b
basic.cancel-ok 60 31 consumer_tag:s
basic.publish 60 40 ticket:h exchange:s routing_key:s mandatory:b immediate:b
basic.return 60 50 reply_code:h reply_text:s exchange:s routing_key:s
basic.deliver 60 60 consumer_tag:s delivery_tag:L redelivered:b exchange:s routing_key:s
basic.get 60 70 ticket:h queue:s no_ack:b
basic.get-ok 60 71 delivery_tag:L redelivered:b exchange:s routing_key:s message_count:l
basic.get-empty 60 72 reserved_1:s
basic.ack 60 80 delivery_tag:L multiple:b
basic.reject 60 90 delivery_tag:L requeue:b
basic.recover-async 60 100 requeue:b
basic.recover 60 110 requeue:b
basic.recover-ok 60 111
basic.nack 60 120 delivery_tag:L multiple:b requeue:b
confirm.select 85 10 nowait:b
confirm.select-ok 85 11
tx.select 90 10
tx.select-ok 90 11
tx.commit 90 20
tx.commit-ok 90 21
tx.rollback 90 30
tx.rollback-ok 90 31
"""

METHODS = {}
NAMES = {}
for _line in _SPEC.strip().splitlines():
    _name, _class, _method, *_fields = _line.split()
    METHODS[_name] = (int(_class), int(_method), [tuple(f.split(":")) for f in _fields])
    NAMES[int(_class), int(_method)] = _name

# Methods after which the server owes an answer (unless nowait is set).
SYNCHRONOUS = {name for name in METHODS if f"{name}-ok" in METHODS} | {"basic.get"}
CONTENT_METHODS = {"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"}

PROPERTIES = [
    ("content_type", "s"), ("content_encoding", "s"), ("headers", "t"), ("delivery_mode", "o"),
    ("priority", "o"), ("correlation_id", "s"), ("reply_to", "s"), ("expiration", "s"),
    ("message_id", "s"), ("timestamp", "T"), ("type", "s"), ("user_id", "s"), ("app_id", "s"),
    ("cluster_id", "s"),
]  # fmt: skip

_INTEGERS = {"o": ">B", "h": ">H", "l": ">I", "L": ">Q", "T": ">Q"}


class Typed:
    """A table value with an explicit AMQP type letter, for tests of type rules."""

    def __init__(self, letter, value):
        self.letter, self.value = letter, value

    def __eq__(self, other):
        return isinstance(other, Typed) and (self.letter, self.value) == (other.letter, other.value)

    def __repr__(self):
        return f"{self.letter}:{self.value!r}"


_NUMERIC = {"b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
            "f": ">f", "d": ">d", "T": ">Q", "t": ">?"}  # fmt: skip


def encode_value(value):
    """One table value with its type letter. Plain Python values take the letters RabbitMQ's client uses."""
    if isinstance(value, Typed):
        return value.letter.encode() + _encode_typed(value.letter, value.value)
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + struct.pack(">?", value)
    if isinstance(value, int):
        return b"I" + struct.pack(">i", value) if -(2**31) <= value < 2**31 else b"l" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, (str, bytes)):
        return b"S" + longstr(value)
    if isinstance(value, dict):
        return b"F" + encode_table(value)
    if isinstance(value, (list, tuple)):
        return b"A" + longstr(b"".join(encode_value(v) for v in value))
    raise TypeError(f"no AMQP type for {value!r}")


def _encode_typed(letter, value):
    if letter in _NUMERIC:
        return struct.pack(_NUMERIC[letter], value)
    if letter in "Sx":
        return longstr(value)
    if letter == "D":
        scale, number = value
        return struct.pack(">Bi", scale, number)
    if letter == "V":
        return b""
    raise TypeError(f"unknown type letter {letter!r}")


def _bytes(value):
    return value.encode() if isinstance(value, str) else value


def longstr(value):
    value = _bytes(value)
    return struct.pack(">I", len(value)) + value


def shortstr(value):
    value = _bytes(value)
    return struct.pack(">B", len(value)) + value


def encode_table(table):
    return longstr(b"".join(shortstr(key) + encode_value(value) for key, value in table.items()))


class Reader:
    """Reads AMQP values out of one payload."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError("payload ends inside a value")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def unpack(self, fmt):
        return struct.unpack(fmt, self.take(struct.calcsize(fmt)))[0]

    def shortstr(self):
        return self.take(self.unpack(">B")).decode("utf-8", "surrogateescape")

    def longstr(self):
        return self.take(self.unpack(">I"))

    def table(self):
        inner, result = Reader(self.longstr()), {}
        while inner.at < len(inner.data):
            key = inner.shortstr()
            result[key] = inner.value()
        return result

    def value(self):
        letter = chr(self.take(1)[0])
        if letter in _NUMERIC:
            number = self.unpack(_NUMERIC[letter])
            return number if letter in "tIld" else Typed(letter, number)
        if letter == "S":
            return self.longstr().decode("utf-8", "surrogateescape")
        if letter == "x":
            return Typed("x", self.longstr())
        if letter == "F":
            return self.table()
        if letter == "A":
            inner, result = Reader(self.longstr()), []
            while inner.at < len(inner.data):
                result.append(inner.value())
            return result
        if letter == "D":
            return Typed("D", (self.unpack(">B"), self.unpack(">i")))
        if letter == "V":
            return None
        raise ValueError(f"unknown field type {letter!r}")

    def field(self, kind):
        if kind in _INTEGERS:
            return self.unpack(_INTEGERS[kind])
        if kind == "s":
            return self.shortstr()
        if kind == "S":
            return self.longstr().decode("utf-8", "surrogateescape")
        return self.table()


def encode_method(name, args):
    """The payload of one method; arguments left out are zero, empty or false."""
    class_id, method_id, fields = METHODS[name]
    unknown = set(args) - {field for field, _ in fields}
    if unknown:
        raise TypeError(f"{name} has no argument {unknown}")
    out, bits = [struct.pack(">HH", class_id, method_id)], []
    for field, kind in fields:
        if kind == "b":
            bits.append(bool(args.get(field, False)))
            continue
        if bits:
            out.append(_pack_bits(bits))
            bits = []
        if kind in _INTEGERS:
            out.append(struct.pack(_INTEGERS[kind], args.get(field, 0)))
        elif kind == "t":
            out.append(encode_table(args.get(field) or {}))
        else:
            out.append((shortstr if kind == "s" else longstr)(args.get(field, "")))
    if bits:
        out.append(_pack_bits(bits))
    return b"".join(out)


def _pack_bits(bits):
    return bytes([sum(1 << i for i, bit in enumerate(bits) if bit)])


def decode_method(payload):
    """(name, arguments) of one method payload; reserved fields are left out."""
    reader = Reader(payload)
    name = NAMES[reader.unpack(">H"), reader.unpack(">H")]
    args, octet, bit = {}, 0, 8
    for field, kind in METHODS[name][2]:
        if kind == "b":
            if bit > 7:
                octet, bit = reader.unpack(">B"), 0
            args[field] = bool(octet >> bit & 1)
            bit += 1
            continue
        bit = 8
        args[field] = reader.field(kind)
    if reader.at != len(payload):
        raise ValueError(f"{name} has {len(payload) - reader.at} octets too many")
    return name, {k: v for k, v in args.items() if not k.startswith("reserved")}


def encode_header(body_size, properties, class_id=60):
    flags, out = 0, []
    for position, (name, kind) in enumerate(PROPERTIES):
        if properties.get(name) is None:
            continue
        flags |= 1 << (15 - position)
        value = properties[name]
        if kind in _INTEGERS:
            out.append(struct.pack(_INTEGERS[kind], value))
        else:
            out.append(shortstr(value) if kind == "s" else encode_table(value))
    return struct.pack(">HHQH", class_id, 0, body_size, flags) + b"".join(out)


def decode_header(payload):
    reader = Reader(payload)
    class_id, _weight, size, flags = (reader.unpack(f) for f in (">H", ">H", ">Q", ">H"))
    properties = {}
    for position, (name, kind) in enumerate(PROPERTIES):
        if flags >> (15 - position) & 1:
            properties[name] = reader.field(kind)
    if reader.at != len(payload):
        raise ValueError("the content header has octets too many")
    return class_id, size, properties


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END


def method_frame(channel, name, **args):
    return frame(FRAME_METHOD, channel, encode_method(name, args))


def content_frames(channel, body, properties=None, frame_max=131072):
    body = _bytes(body)
    out = [frame(FRAME_HEADER, channel, encode_header(len(body), properties or {}))]
    step = frame_max - 8
    out += [frame(FRAME_BODY, channel, body[i : i + step]) for i in range(0, len(body), step)]
    return b"".join(out)


class Event:
    """One thing the server said: a method, with content where the method carries one."""

    def __init__(self, channel, name, args, properties=None, body=None):
        self.channel, self.name, self.args, self.properties, self.body = channel, name, args, properties, body

    def __getattr__(self, name):
        try:
            return self.__dict__["args"][name]
        except KeyError:
            raise AttributeError(f"{self!r} has no {name}") from None

    def __repr__(self):
        inner = ", ".join(f"{k}={v!r}" for k, v in self.args.items())
        content = "" if self.body is None else f" {self.properties} {self.body!r}"
        return f"{self.channel}:{self.name}({inner}){content}"


class Closed(Exception):
    """The socket ended. `.args[0]` says what was waited for."""


class Refused(Exception):
    """The server closed the channel or the connection where an answer was expected."""

    def __init__(self, event):
        super().__init__(repr(event))
        self.event = event


CAPABILITIES = {
    "authentication_failure_close": True, "basic.nack": True, "connection.blocked": True,
    "consumer_cancel_notify": True, "publisher_confirms": True,
}  # fmt: skip


class Client:
    """One connection. `Client(address)` is only a socket; `connect()` performs the handshake."""

    def __init__(self, address, timeout=TIMEOUT):
        self.timeout = timeout
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.pending = []  # events read while waiting for another channel
        self.partial = {}  # channel -> [name, args, properties, size, chunks]
        self.frame_max = 131072
        self.server_properties = {}
        self.tune = None

    # --- bytes -------------------------------------------------------------------------------------

    def send_raw(self, data):
        self.socket.sendall(data)

    def _read(self, count, deadline, what):
        while len(self.buffer) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no {what} within {self.timeout} s")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except ConnectionError as error:
                raise Closed(what) from error
            if not data:
                raise Closed(what)
            self.buffer += data
        piece, self.buffer = self.buffer[:count], self.buffer[count:]
        return piece

    def read_frame(self, what="frame", timeout=None):
        """(type, channel, payload). A partial frame stays in the buffer when time runs out."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        head = self._read(7, deadline, what)
        kind, channel, size = struct.unpack(">BHI", head)
        try:
            rest = self._read(size + 1, deadline, what)
        except TimeoutError:
            self.buffer = head + self.buffer
            raise
        assert rest[-1:] == FRAME_END, f"frame of type {kind} without its end octet"
        return kind, channel, rest[:-1]

    def read_until_closed(self, timeout=None):
        """Every event until the server ends the socket."""
        events = []
        while True:
            try:
                events.append(self.next_event(timeout=timeout))
            except Closed:
                return events

    # --- events ------------------------------------------------------------------------------------

    def next_event(self, what="event", timeout=None):
        """The next complete method, whatever its channel; heartbeats are skipped."""
        while True:
            kind, channel, payload = self.read_frame(what, timeout)
            event = self._feed(kind, channel, payload)
            if event:
                return event

    def _feed(self, kind, channel, payload):
        if kind == FRAME_HEARTBEAT:
            return None
        if kind == FRAME_METHOD:
            name, args = decode_method(payload)
            if name in CONTENT_METHODS:
                self.partial[channel] = [name, args, None, None, []]
                return None
            if name == "channel.close":
                self.send(channel, "channel.close-ok")
            elif name == "connection.close":
                self._try_send(method_frame(0, "connection.close-ok"))
            return Event(channel, name, args)
        partial = self.partial[channel]
        if kind == FRAME_HEADER:
            _class_id, partial[3], partial[2] = decode_header(payload)
        else:
            partial[4].append(payload)
        body = b"".join(partial[4])
        if len(body) < partial[3]:
            return None
        del self.partial[channel]
        return Event(channel, partial[0], partial[1], partial[2], body)

    def _try_send(self, data):
        try:
            self.send_raw(data)
        except OSError:
            pass

    def wait(self, channel, *names, timeout=None):
        """The next event of `channel` (of one of `names`, if given). Others stay pending, in order."""
        for i, event in enumerate(self.pending):
            if self._matches(event, channel, names):
                return self.pending.pop(i)
        what = f"{' or '.join(names) or 'event'} on channel {channel}"
        while True:
            event = self.next_event(what, timeout)
            if self._matches(event, channel, names):
                return event
            if event.name == "connection.close" or (event.name == "channel.close" and event.channel == channel):
                raise Refused(event)
            self.pending.append(event)

    @staticmethod
    def _matches(event, channel, names):
        if event.name == "connection.close":
            return "connection.close" in names
        return event.channel == channel and (not names or event.name in names)

    def take_pending(self, channel, name):
        """Events of one kind that already arrived on a channel."""
        found = [e for e in self.pending if e.channel == channel and e.name == name]
        self.pending = [e for e in self.pending if e not in found]
        return found

    # --- speaking ----------------------------------------------------------------------------------

    def send(self, channel, name, **args):
        self.send_raw(method_frame(channel, name, **args))

    def call(self, channel, name, **args):
        """Sends a synchronous method and returns its answer; a close raises `Refused`."""
        self.send(channel, name, **args)
        wanted = ["basic.get-ok", "basic.get-empty"] if name == "basic.get" else [f"{name}-ok"]
        return self.wait(channel, *wanted)

    def publish(self, channel, exchange="", routing_key="", body=b"", mandatory=False, **properties):
        method = method_frame(
            channel, "basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )
        self.send_raw(method + content_frames(channel, body, properties, self.frame_max))

    def refusal(self, channel, name, **args):
        """Sends a method that must be refused; returns the channel.close or connection.close."""
        self.send(channel, name, **args)
        return self.closing(channel)

    def closing(self, channel):
        """The close that must come; anything else of this channel before it is an error."""
        event = self.wait(channel, "channel.close", "connection.close")
        return event

    def connect(self, vhost="/", user="guest", password="guest", mechanism="PLAIN", capabilities=None,
                heartbeat=0, channel_max=None, frame_max=None, properties=None):  # fmt: skip
        """The whole handshake. Returns self."""
        self.send_raw(PROTOCOL_HEADER)
        self.start_ok(user, password, mechanism, capabilities, properties)
        tune = self.wait(0, "connection.tune")
        self.tune = tune.args
        channel_max = tune.channel_max if channel_max is None else channel_max
        self.frame_max = (tune.frame_max if frame_max is None else frame_max) or 131072
        self.send(0, "connection.tune-ok", channel_max=channel_max, frame_max=self.frame_max, heartbeat=heartbeat)
        self.call(0, "connection.open", virtual_host=vhost)
        return self

    def start_ok(self, user="guest", password="guest", mechanism="PLAIN", capabilities=None, properties=None):
        """Waits for connection.start and answers it."""
        start = self.wait(0, "connection.start")
        self.server_properties, self.start = start.server_properties, start.args
        if mechanism == "AMQPLAIN":
            response = encode_table({"LOGIN": user, "PASSWORD": password})[4:]
        else:
            response = f"\0{user}\0{password}"
        capabilities = CAPABILITIES if capabilities is None else capabilities
        client_properties = {"product": "wire", "capabilities": capabilities, **(properties or {})}
        self.send(0, "connection.start-ok", client_properties=client_properties, mechanism=mechanism,
                  response=response, locale="en_US")  # fmt: skip

    def open_channel(self, channel=1):
        self.call(channel, "channel.open")
        return channel

    def close(self):
        """A clean goodbye; harmless when the connection is gone."""
        try:
            self.send(0, "connection.close", reply_code=200, reply_text="bye")
            while self.next_event().name != "connection.close-ok":
                pass
        except (OSError, Closed, TimeoutError, ValueError):
            pass
        self.socket.close()

    def abort(self):
        """Ends the socket without a word."""
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
