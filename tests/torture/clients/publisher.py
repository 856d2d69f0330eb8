"""Publishers: with confirms and a window, or in transactions."""

import links
import topology

from .base import Client

PAUSE = 0.02


class Publisher(Client):
    """Keeps up to `window` publishes open, persistent and transient ones mixed, on all lanes."""

    mode = "confirm"

    def prepare(self):
        self.link.confirm_select()
        self.published, self.open_tags, self.limit = 0, set(), self.random.choice([1, 10, 100, 400])
        self.lanes = self.random.choices(topology.LANES, [lane.weight for lane in topology.LANES], k=200)

    def work(self):
        for _ in range(self.random.randint(1, 20)):
            if len(self.open_tags) < self.limit and not self.shared.load.full:
                self.publish_one()
        must_wait = len(self.open_tags) >= self.limit or self.shared.load.full
        self.take(self.link.poll(PAUSE if must_wait else 0))
        if self.random.random() < 0.002:
            self.wait_for_confirms()
            self.close()
            self.open()

    def publish_one(self):
        lane = self.random.choice(self.lanes)
        # Whether something is bound to this lane at the moment is another client's affair.
        unroutable = None if lane.name == "volatile" else not lane.queues
        self.publish(lane, self.random.random() < 0.8, self.random.random() < 0.2, unroutable=unroutable)
        self.published += 1
        self.open_tags.add(self.published)

    def take(self, events):
        for event in events:
            if isinstance(event, links.Return):
                self.record_return(event)
            elif isinstance(event, links.Confirm):
                self.history.add("confirm", self.channel, event.tag, event.multiple, event.ok)
                if event.multiple:
                    self.open_tags = {tag for tag in self.open_tags if tag > event.tag}
                else:
                    self.open_tags.discard(event.tag)

    def wait_for_confirms(self):
        while self.open_tags:
            events = self.link.poll(links.PATIENCE)
            if not events and self.open_tags:
                raise links.Silent(f"{len(self.open_tags)} publishes unconfirmed after {links.PATIENCE} s")
            self.take(events)

    def leave(self):
        if not self.history.faulted.is_set():
            self.wait_for_confirms()
            self.close()


class Transactor(Client):
    """Publishes several messages and commits them or takes them back."""

    mode = "tx"

    def prepare(self):
        self.link.tx_select()

    def work(self):
        if self.shared.load.full:
            self.link.poll(PAUSE)
            return
        for _ in range(self.random.randint(1, 12)):
            self.publish(self.random.choice(topology.TX_LANES), self.random.random() < 0.9)
        if self.random.random() < 0.75:
            self.history.add("commit", self.channel)
            self.link.commit()
            self.history.add("committed", self.channel)
        else:
            self.history.add("rollback", self.channel)
            self.link.rollback()
            self.history.add("rolled-back", self.channel)
