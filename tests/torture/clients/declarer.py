"""A client that declares, binds, unbinds, purges and deletes durable things of its own, and publishes to them.

Nobody else touches its things, so it knows what exists, except where the broker died between a request and its
answer. After a restart it looks at everything before it goes on.
"""

import links
import topology

from .base import found
from .publisher import Publisher

KEYS = 4


class Declarer(Publisher):
    """`definitions` lives through the whole run; the checker keeps its own."""

    def __init__(self, *arguments, definitions, prefix):
        super().__init__(*arguments)
        self.definitions, self.prefix = definitions, prefix
        self.verified = False

    def prepare(self):
        super().prepare()
        self.limit, self.returned = 50, set()
        if not self.verified:
            self.verify()
            self.verified = True

    # --- looking -----------------------------------------------------------------------------------

    def verify(self):
        """Looks for everything it ever declared."""
        # On a link of its own: what is missing costs the channel.
        link = links.connect(self.kind, self.shared.address)
        for thing in self.definitions.things("queue", True, False, None):
            self.observe(thing, found(link, lambda name=thing[1]: link.declare_queue(name, passive=True)))
        for thing in self.definitions.things("exchange", True, False, None):
            self.observe(thing, found(link, lambda name=thing[1]: link.declare_exchange(name, "direct", passive=True)))
        link.close()
        for thing in self.definitions.things("binding", True, False, None):
            if self.definitions.exists(("exchange", thing[1])):
                self.probe(thing)
        for thing in self.definitions.things("queue", True):
            # The same declaration is accepted only if the queue still has the same properties.
            self.link.declare_queue(thing[1])

    def observe(self, thing, present):
        present = bool(present)
        self.definitions.observe(thing, present)
        self.history.add("observe", thing, present)

    def probe(self, thing):
        """A mandatory message with the binding's key, which no other binding has."""
        _, exchange, key, queue = thing
        self.wait_for_confirms()
        lane = topology.Lane("probe", exchange, key, [], 0)
        message = self.publish(lane, persistent=False, mandatory=True, maybe=(queue,), unroutable=None)
        self.published += 1
        self.open_tags.add(self.published)
        self.returned = set()
        self.wait_for_confirms()
        self.observe(thing, message.id not in self.returned)

    def record_return(self, event):
        super().record_return(event)
        self.returned.add(event.properties.get("message_id"))

    # --- changing ----------------------------------------------------------------------------------

    def change(self, how, thing, act):
        self.definitions.begin((how, thing))
        self.history.add("define", (how, thing))
        act()
        self.definitions.done((how, thing))
        self.history.add("defined", (how, thing))

    def work(self):
        self.wait_for_confirms()
        queue = f"{self.prefix}.q{self.random.randrange(KEYS)}"
        exchange = f"{self.prefix}.e{self.random.randrange(2)}"
        dice = self.random.random()
        if dice < 0.25:
            self.change("add", ("queue", queue), lambda: self.link.declare_queue(queue))
        elif dice < 0.33:
            self.change("remove", ("queue", queue), lambda: self.link.delete_queue(queue))
        elif dice < 0.45:
            self.change("add", ("exchange", exchange), lambda: self.link.declare_exchange(exchange, "direct"))
        elif dice < 0.48:
            self.change("remove", ("exchange", exchange), lambda: self.link.delete_exchange(exchange))
        elif self.definitions.exists(("queue", queue)):
            self.use(queue, exchange, dice)

    def use(self, queue, exchange, dice):
        binding = ("binding", exchange, queue, queue)
        if dice < 0.53:
            self.history.add("purge", self.channel, queue)
            self.link.purge(queue)
            self.history.add("purged", self.channel, queue)
        elif dice < 0.6 or not self.definitions.exists(("exchange", exchange)):
            self.fill(topology.Lane("own", "", queue, [queue], 0))
        elif dice < 0.75:
            self.change("add", binding, lambda: self.link.bind(queue, exchange, queue))
        elif dice < 0.82:
            self.change("remove", binding, lambda: self.link.unbind(queue, exchange, queue))
        else:
            bound = [queue] if self.definitions.exists(binding) else []
            self.fill(topology.Lane("own", exchange, queue, bound, 0))

    def fill(self, lane):
        for _ in range(self.random.randint(1, 10)):
            self.publish(lane, self.random.random() < 0.9, self.random.random() < 0.3, unroutable=not lane.queues)
            self.published += 1
            self.open_tags.add(self.published)

    def take(self, events):
        assert all(isinstance(event, (links.Return, links.Confirm)) for event in events), events
        super().take(events)
