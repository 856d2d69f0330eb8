"""One connection with one channel, the same for this tree's own codec and for pika.

Requests return their answer; whatever comes unasked waits for `poll`. Nothing is recorded here.

Invariant: when the broker is gone every call raises `Gone`; when it refuses, `Refused`; when it is silent, `Silent`.
"""

from collections import namedtuple

PATIENCE = 20.0

Delivery = namedtuple("Delivery", "tag consumer redelivered exchange key properties body")
Confirm = namedtuple("Confirm", "tag multiple ok")
Return = namedtuple("Return", "properties")
Blocked = namedtuple("Blocked", "now")


class Gone(Exception):
    """The connection ended, or could not be made."""


class Refused(Exception):
    """The broker closed the channel or the connection and said why."""

    def __init__(self, code, text):
        super().__init__(f"{code} {text}")
        self.code = code


class Silent(Exception):
    """No answer came in time."""


def connect(kind, address):
    """A link of the kind "wire" or "pika"."""
    if kind == "wire":
        from wire_link import WireLink

        return WireLink(address)
    from pika_link import PikaLink

    return PikaLink(address)
