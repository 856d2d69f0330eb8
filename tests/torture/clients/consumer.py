"""Consumers of all kinds, recorded."""

import links
import topology

from .base import Client

PAUSE = 0.02


class Consumer(Client):
    """Subscribes to queues and settles what comes.

    `manner` is "strict" (acknowledges everything, in order), "wild" (also requeues, drops and reorders), "one"
    (prefetch 1, requeues at times) or "no-ack".
    """

    def __init__(self, *arguments, queues, manner):
        super().__init__(*arguments)
        self.queues, self.manner = queues, manner

    def prepare(self):
        self.held, self.since_question = [], 0
        prefetch = 1 if self.manner == "one" else self.random.choice([1, 5, 50, 500])
        mode = "no-ack" if self.manner == "no-ack" else "push"
        self.link.qos(prefetch)
        for queue in self.queues:
            self.attach(queue, mode, prefetch)
            self.link.consume(queue, queue, no_ack=mode == "no-ack")

    def work(self):
        self.take(self.link.poll(PAUSE))
        self.since_question += 1
        if self.since_question >= 3:
            self.question(lambda: self.link.qos(self.random.choice([1, 5, 50, 500]) if self.manner != "one" else 1))
            self.since_question = 0
        if self.manner == "wild" and self.random.random() < 0.004:
            self.depart()

    def depart(self):
        """Goes with messages in hand, and comes back."""
        if self.kind == "wire" and self.random.random() < 0.5:
            self.cut()
        else:
            self.close()
        self.open()

    def take(self, events):
        for delivery in events:
            if not isinstance(delivery, links.Delivery):
                continue
            self.record_delivery(delivery.consumer, delivery)
            if self.manner == "no-ack":
                self.shared.load.copies -= 1
            else:
                self.held.append(delivery.tag)
                self.settle_some()

    def settle_some(self):
        dice = self.random.random()
        if self.manner == "strict":
            if len(self.held) >= self.random.choice([1, 4, 16]):
                self.settle_up_to(self.held[-1])
        elif self.manner == "one":
            self.settle_one(self.held[0], "requeue" if dice < 0.3 else "ack")
        elif dice < 0.5:
            self.settle_one(self.random.choice(self.held[:8]), "ack")
        elif dice < 0.7:
            self.settle_up_to(self.random.choice(self.held))
        elif dice < 0.76:
            self.settle_one(self.held[0], "requeue")
        elif dice < 0.78:
            self.settle_up_to(self.random.choice(self.held), "requeue")
        elif dice < 0.81:
            self.settle_one(self.held[-1], "drop")

    def settle_one(self, tag, how):
        self.held.remove(tag)
        self.settle(tag, how=how, by_reject=self.random.random() < 0.5)
        self.shared.load.copies -= how != "requeue"

    def settle_up_to(self, tag, how="ack"):
        count = sum(each <= tag for each in self.held)
        self.held = [each for each in self.held if each > tag]
        self.settle(tag, multiple=True, how=how)
        self.shared.load.copies -= count if how != "requeue" else 0


class Getter(Client):
    """Takes from one queue by basic.get; what it requeues must be what it gets next."""

    queue = "t.gets"

    def prepare(self):
        self.attach(self.queue, "get")

    def work(self):
        answers = []
        self.question(lambda: answers.append(self.link.get(self.queue)))
        if answers[0] is None:
            self.link.poll(PAUSE)
            return
        self.record_delivery(self.queue, answers[0])
        dice = self.random.random()
        how = "requeue" if dice < 0.2 else "drop" if dice < 0.25 else "ack"
        self.settle(answers[0].tag, how=how, by_reject=dice > 0.22)
        self.shared.load.copies -= how != "requeue"


class Forwarder(Client):
    """Takes from one queue and publishes to another, both in one transaction."""

    mode = "tx"

    def prepare(self):
        self.link.tx_select()
        self.link.qos(20)
        self.attach(topology.FORWARD_FROM, "push", 20)
        self.link.consume(topology.FORWARD_FROM, "forward")

    def work(self):
        taken = [event for event in self.link.poll(PAUSE) if isinstance(event, links.Delivery)]
        for delivery in taken:
            self.record_delivery(topology.FORWARD_FROM, delivery)
        while taken:
            batch, taken = taken[:5], taken[5:]
            self.forward(batch)
            if self.random.random() < 0.2:
                self.history.add("rollback", self.channel)
                self.link.rollback()
                self.history.add("rolled-back", self.channel)
                self.forward(batch)
            self.history.add("commit", self.channel)
            self.link.commit()
            self.history.add("committed", self.channel)
            self.shared.load.copies -= len(batch)

    def forward(self, batch):
        for delivery in batch:
            self.publish(topology.FORWARD_TO)
            self.settle(delivery.tag)


class Volatile(Client):
    """Declares queues that end with its connection or with the broker, and reads them."""

    def prepare(self):
        lane = self.random.choice(topology.VOLATILE_LANES)
        exclusive = self.random.random() < 0.5
        queue = f"x.{self.shared.epoch}.{self.name}{self.opened}.{lane.name}"
        self.link.declare_queue(queue, durable=False, exclusive=exclusive)
        self.link.bind(queue, lane.exchange, lane.key)
        self.link.qos(100)
        self.attach(queue, "push", 100)
        self.link.consume(queue, queue)

    def work(self):
        for delivery in self.link.poll(PAUSE):
            self.record_delivery(delivery.consumer, delivery)
            self.settle(delivery.tag)
        if self.random.random() < 0.002:
            self.close()
            self.open()
