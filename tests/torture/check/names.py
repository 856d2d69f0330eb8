"""I8: every definition that was answered is in force afterwards, and nothing that was deleted comes back.

Two more things are judged here because they need no state: a drained broker is empty (I6), and whatever a
client met that it must never meet.
"""

import definitions


class NameChecks:
    """Compares what is found with what was answered."""

    def __init__(self, report):
        self.report, self.definitions = report, definitions.Definitions()

    def on_define(self, _at, what):
        self.definitions.begin(what)

    def on_defined(self, _at, what):
        self.definitions.done(what)

    def on_observe(self, _at, thing, present):
        if not self.definitions.observe(thing, present):
            was = "deleted, and is back" if present else "defined, and is missing"
            self.report("I8", f"{' '.join(thing)} was {was}", thing)

    def on_drained(self, _at, queue, ready, consumers):
        if ready or consumers:
            self.report("I6", f"{queue} has {ready} messages and {consumers} consumers after its drain", queue)

    def on_broken(self, _at, invariant, text):
        self.report(invariant, text)

    def on_trouble(self, _at, text):
        self.report("client", text)
