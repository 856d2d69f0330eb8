"""Judges a history: which promises the broker broke.

The parts know nothing of each other; each takes the kinds of events it has a method for (`on_publish` for
`publish`, and so on) and reports violations by the invariant's number.

    I1 no confirmed message is lost            I7 `redelivered` is never false for what somebody had
    I2 what was acknowledged stays away        I8 definitions are what was answered
    I3 what arrives is what was sent           I9 one confirm for each publish
    I4 order                                   I10 a transaction is all or nothing
    I6 a drained broker is empty               I11 one holder at a time

Judged where the disk is tampered with: I13 nothing is confirmed after the disk has failed, and I15 a full disk is
told to publishers, and passes.
"""

from .confirms import Confirms
from .copies import Copies
from .names import NameChecks
from .order import Order


class Violation:
    """A broken promise; `about` are the words to look for in the history."""

    def __init__(self, invariant, text, about):
        self.invariant, self.text, self.about = invariant, text, about

    def __str__(self):
        return f"{self.invariant}: {self.text}"


class Checker:
    """Feed it a history as it grows, then `finish` after the drain."""

    def __init__(self, ack_window=0.2, forgiving_nacks=False, ignored=()):
        self.violations, self.fed = [], 0
        self.ignored = dict.fromkeys(ignored, 0)
        self.copies = Copies(self.report, ack_window)
        self.confirms = Confirms(self.report, forgiving_nacks)
        parts = [self.copies, Order(self.report), self.confirms, NameChecks(self.report)]
        self.handlers = {}
        for part in parts:
            for name in dir(part):
                if name.startswith("on_"):
                    kind = name[3:].replace("_", "-")
                    self.handlers.setdefault(kind, []).append(getattr(part, name))

    def report(self, invariant, text, *about):
        if invariant in self.ignored:
            self.ignored[invariant] += 1
            return
        self.violations.append(Violation(invariant, text, about))

    def feed(self, history):
        """Judges the events that were added since the last call."""
        events, start = history.events, self.fed
        self.fed = len(events)
        for index in range(start, self.fed):
            at, kind, *fields = events[index]
            for handler in self.handlers.get(kind, ()):
                handler(at, *fields)

    def finish(self):
        """Says what is still missing once everything has been drained."""
        self.copies.finish()
        return self.violations
