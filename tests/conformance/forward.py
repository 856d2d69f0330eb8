"""Leads a fixed port to the broker under test, for suites that cannot be told a port.

amqprs' tests connect to localhost:5672 as user "user" with password "bitnami". The forwarder listens there,
puts guest's login into `connection.start-ok`, and copies everything else untouched.
"""

import contextlib
import socket
import struct
import threading

from judging import Skipped

# What to change in the response of each login mechanism.
LOGINS = {
    b"PLAIN": {b"\0user\0bitnami": b"\0guest\0guest"},
    b"AMQPLAIN": {b"S\0\0\0\4user": b"S\0\0\0\5guest", b"S\0\0\0\7bitnami": b"S\0\0\0\5guest"},
}


@contextlib.contextmanager
def fixed_port(suite, server, port=5672):
    if suite.name != "amqprs":
        yield
        return
    listeners = []
    try:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with contextlib.suppress(OSError) if family == socket.AF_INET6 else contextlib.nullcontext():
                listeners.append(listen(family, host, port))
    except OSError as error:
        raise Skipped(f"it only speaks to port {port}, which is taken: {error}") from error
    for listener in listeners:
        threading.Thread(target=accept, args=(listener, server.address), daemon=True).start()
    try:
        yield
    finally:
        for listener in listeners:
            listener.close()


def listen(family, host, port):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


def accept(listener, address):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        broker = socket.create_connection(address)
        threading.Thread(target=copy, args=(client, broker, log_in), daemon=True).start()
        threading.Thread(target=copy, args=(broker, client, lambda data: data), daemon=True).start()


def copy(source, target, change):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(change(data))
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def log_in(data):
    """start-ok with guest's login; the lengths of the response and of the frame follow."""
    for mechanism, changes in LOGINS.items():
        name = struct.pack("B", len(mechanism)) + mechanism
        at = data.find(name) + len(name)
        if at < len(name) or data[0] != 1:
            continue
        [size] = struct.unpack_from(">I", data, at)
        response = data[at + 4 : at + 4 + size]
        for old, new in changes.items():
            response = response.replace(old, new)
        payload = data[7:at] + struct.pack(">I", len(response)) + response + data[at + 4 + size :]
        frame_size = struct.unpack_from(">I", data, 3)[0] + len(response) - size
        return data[:3] + struct.pack(">I", frame_size) + payload
    return data
