"""The clients of a run: each a thread that does one kind of work until the broker goes away, and records it."""

from .consumer import Consumer, Forwarder, Getter, Volatile
from .declarer import Declarer
from .publisher import Publisher, Transactor

__all__ = ["Consumer", "Declarer", "Forwarder", "Getter", "Publisher", "Transactor", "Volatile"]
