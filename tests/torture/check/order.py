"""I4: first deliveries come in publish order, and a message keeps its place in the queue for life.

Whatever several consumers do to each other, a single consumer never sees first deliveries of one publisher go
backwards. More can be said while a queue has had one consumer only in an epoch, and that one gave nothing back:
then its deliveries are the head of the queue, in order. They must ascend for each publisher, marked as redelivered
or not, and in a later epoch those that are still there must come in the same order, before all others.

A message id is `publisher-number`; the numbers of one publisher ascend through the whole run.
"""

FAR = float("inf")


def split(id):
    publisher, number = id.rsplit("-", 1)
    return publisher, int(number)


class Sole:
    """The head of a queue as its only consumer of this epoch has seen it."""

    def __init__(self, channel, before):
        self.channel, self.before = channel, before
        self.last, self.ranks, self.rank, self.unbroken = {}, {}, -1, True


class Order:
    """Sole consumers by queue, and what each consumer has seen last of each publisher."""

    def __init__(self, report):
        self.report = report
        self.fresh, self.sole, self.earlier, self.held, self.expected, self.queues = {}, {}, {}, {}, {}, {}

    def on_epoch(self, _at, _number):
        for queue, sole in self.sole.items():
            if sole.ranks:
                self.earlier[queue] = sole.ranks
        self.fresh, self.sole, self.held, self.expected, self.queues = {}, {}, {}, {}, {}

    def on_attach(self, _at, channel, queue, mode, prefetch):
        self.queues.setdefault(channel, {})[queue] = mode == "get" or prefetch == 1
        sole = self.sole.get(queue)
        if sole is None:
            self.sole[queue] = Sole(channel, self.earlier.get(queue, {}))
        elif sole.channel != channel:
            sole.unbroken, sole.channel = False, None
            self.expected.pop(queue, None)

    def on_settle(self, _at, channel, tag, _multiple, how):
        if how != "requeue":
            return
        self._break(channel)
        queue, id, last = self.held.get(channel, (None, None, None))
        one_at_a_time = self.queues.get(channel, {}).get(queue)
        if tag == last and one_at_a_time and self.sole[queue].channel == channel:
            self.expected[queue] = id

    def on_closing(self, _at, channel):
        self._gone(channel)

    def on_abort(self, _at, channel):
        self._gone(channel)

    def _gone(self, channel):
        self._break(channel)
        for queue in self.queues.pop(channel, {}):
            self.expected.pop(queue, None)
            self.sole[queue].channel = None

    def _break(self, channel):
        for queue in self.queues.get(channel, {}):
            self.sole[queue].unbroken = False

    def on_deliver(self, _at, channel, tag, queue, id, redelivered, *_):
        publisher, number = split(id)
        if not redelivered:
            last = self.fresh.get((channel, queue, publisher), -1)
            if number <= last:
                self.report("I4", f"{queue}: {id} came for the first time after {publisher}-{last}", id, queue)
            self.fresh[channel, queue, publisher] = number
        self.held[channel] = (queue, id, tag)
        expected = self.expected.pop(queue, None)
        if expected not in (None, id):
            self.report("I4", f"{queue}: {expected} was requeued as the oldest, and {id} came next", expected, queue)
        sole = self.sole.get(queue)
        if sole and sole.unbroken and sole.channel == channel:
            self._judge_head(sole, queue, id, publisher, number)

    def _judge_head(self, sole, queue, id, publisher, number):
        last = sole.last.get(publisher, -1)
        if number <= last:
            self.report("I4", f"{queue}: {id} came after {publisher}-{last}", id, queue)
        sole.last[publisher] = number
        rank = sole.before.get(id, FAR)
        if rank < sole.rank:
            self.report("I4", f"{queue}: {id} was nearer to the head before the restart", id, queue)
        sole.rank = rank
        sole.ranks[id] = len(sole.ranks)
