"""What durable definitions must exist, as far as the answers tell.

A thing is `("queue", name)`, `("exchange", name)` or `("binding", exchange, key, queue)`. A change is
`("add", thing)` or `("remove", thing)`. Between the request and its answer a thing's existence is unknown; if
the broker dies there, it stays unknown until somebody looks.

Invariant: the removal of a queue or an exchange takes its bindings along, in the same instant.
"""


class Definitions:
    """Existence by thing: True, False, or None for unknown. What was never mentioned is False."""

    def __init__(self):
        self.known = {}

    def exists(self, thing):
        return self.known.get(thing, False)

    def begin(self, change):
        how, thing = change
        if self.exists(thing) != (how == "add"):
            self.known[thing] = None

    def done(self, change):
        how, thing = change
        self._set(thing, how == "add")

    def observe(self, thing, present):
        """Takes note of what was found; False when it contradicts an answer given earlier."""
        expected = self.exists(thing)
        self._set(thing, present)
        return expected is None or expected == present

    def _set(self, thing, present):
        self.known[thing] = present
        if not present and thing[0] != "binding":
            for other in self.known:
                if other[0] == "binding" and thing[1] in (other[1] if thing[0] == "exchange" else other[3],):
                    self.known[other] = False

    def things(self, kind, *existence):
        """All things of one kind whose existence is one of those given, in the order of their first mention."""
        return [thing for thing, exists in self.known.items() if thing[0] == kind and exists in existence]
