"""The end of a round: everything that is left is taken out, and the broker must then be empty, also after a restart."""

import random
import time

import links
import topology
from clients import Declarer
from clients.base import Client, Load, Shared

QUIET_SECONDS = 30
BATCH = 200
# What may be left on disk without a message: a few of the smallest segments and the definitions.
DRAINED_BYTES = 32 << 20


class Drainer(Client):
    """The only consumer of every queue; acknowledges everything."""

    def empty(self, queues):
        self.link.qos(2000)
        for queue in queues:
            self.attach(queue, "push", 2000)
            self.link.consume(queue, queue)
        last, behind, progress = 0, 0, time.monotonic()
        while True:
            for delivery in self.link.poll(0.05):
                if not isinstance(delivery, links.Delivery):
                    continue
                self.record_delivery(delivery.consumer, delivery)
                last, behind, progress = delivery.tag, behind + 1, time.monotonic()
                if behind == BATCH:
                    self.settle(last, multiple=True)
                    behind = 0
            if behind:
                self.settle(last, multiple=True)
                behind = 0
            elif self.all_empty(queues):
                return
            elif time.monotonic() - progress > QUIET_SECONDS:
                self.history.add("trouble", f"messages are left and none has come for {QUIET_SECONDS} s")
                return

    def take_some(self, queue, count):
        """Up to `count` messages of one queue, acknowledged; fewer when no more come for a while."""
        self.link.qos(50)
        self.attach(queue, "push", 50)
        self.link.consume(queue, queue)
        while count > 0 and (events := self.link.poll(5)):
            for delivery in events:
                if isinstance(delivery, links.Delivery):
                    self.record_delivery(delivery.consumer, delivery)
                    self.settle(delivery.tag)
                    count -= 1
        self.question(lambda: self.link.qos(50))

    def all_empty(self, queues):
        ready = []
        for queue in queues:
            self.question(lambda queue=queue: ready.append(self.link.declare_queue(queue, passive=True)[0]))
        return not any(ready)


def drain(campaign):
    """Runs the last start of a round and judges the whole."""
    history, declared = campaign.history, []
    campaign.start()
    campaign.look_around(first=False)
    shared = Shared(history, Load(), campaign.broker.address, campaign.epoch)
    numbers = random.Random(campaign.random.random())
    for kind, definitions in campaign.definitions.items():
        declarer = Declarer(f"declarer-{kind}", shared, kind, numbers, campaign.numbers, definitions=definitions,
                            prefix=f"{campaign.prefix}.{kind}")  # fmt: skip
        declarer.open()
        declarer.wait_for_confirms()
        declarer.close()
        declared += [name for _, name in definitions.things("queue", True)]
    campaign.judge()
    drainer = Drainer("drainer", shared, "wire", numbers, campaign.numbers)
    drainer.open()
    drainer.empty(topology.QUEUES + declared)
    drainer.close()
    look(campaign, topology.QUEUES + declared)
    campaign.bring_down("term")
    campaign.checker.feed(history)
    campaign.checker.finish()
    campaign.judge()
    campaign.start()
    campaign.look_around(first=False)
    clear_away(campaign)
    campaign.bring_down("term")
    size = size_of(campaign.directory / "data")
    campaign.totals.disk.append(size)
    if size > DRAINED_BYTES and not campaign.options.rabbitmq:
        campaign.history.add("broken", "I6", f"{size} bytes are left on disk when no message is")
    campaign.judge()


def look(campaign, queues):
    """What the broker says of every queue after the drain."""
    link = links.connect("wire", campaign.broker.address)
    for queue in queues:
        campaign.history.add("drained", queue, *link.declare_queue(queue, passive=True))
    link.close()


def clear_away(campaign):
    """Deletes what the declarers left; the next round uses other names."""
    link = links.connect("wire", campaign.broker.address)
    for definitions in campaign.definitions.values():
        for kind, delete in (("queue", link.delete_queue), ("exchange", link.delete_exchange)):
            for thing in definitions.things(kind, True):
                campaign.history.add("define", ("remove", thing))
                delete(thing[1])
                campaign.history.add("defined", ("remove", thing))
    link.close()


def size_of(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
