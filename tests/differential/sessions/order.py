"""Who gets what first: priorities, single active consumers, and what quorum queues make of them."""

from harness import session

SINGLE = {"x-single-active-consumer": True}
PRIORITIES = {"x-max-priority": 5}


def declared(s, arguments, durable=False):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, arguments=arguments, durable=durable)
    return p


def fetch(s, p, count):
    for _ in range(count):
        p.call("basic.get", queue=s.q, no_ack=True)


@session
def requeued_into_its_level(s):
    p = declared(s, PRIORITIES)
    for body, priority in ((b"a1", 1), (b"b3", 3), (b"c1", 1), (b"d3", 3)):
        p.fill(s.q, body, priority=priority)
    for _ in range(3):
        p.call("basic.get", queue=s.q)
    p.tell("basic.nack", delivery_tag=3, multiple=True, requeue=True)
    p.until_ready(s.q, 4)
    fetch(s, p, 4)


@session
def late_and_higher(s):
    p = declared(s, PRIORITIES)
    p.call("basic.qos", prefetch_count=1)
    p.fill(s.q, b"1", b"2", priority=1)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.wait("basic.deliver")
    p.fill(s.q, b"late", priority=4)
    p.tell("basic.ack", delivery_tag=1)
    p.wait("basic.deliver")
    p.tell("basic.ack", delivery_tag=2)
    p.wait("basic.deliver")


@session
def priority_zero_only(s):
    p = declared(s, {"x-max-priority": 0})
    for priority in (None, 3, 0, 255):
        p.fill(s.q, str(priority).encode(), priority=priority)
    fetch(s, p, 4)


@session
def highest_level(s):
    p = declared(s, {"x-max-priority": 255})
    for priority in (None, 254, 255, 1):
        p.fill(s.q, str(priority).encode(), priority=priority)
    fetch(s, p, 4)


@session
def expired_behind_a_higher_priority(s):
    p = declared(s, PRIORITIES)
    p.fill(s.q, b"short", priority=1, expiration="20")
    p.fill(s.q, b"long", priority=5)
    p.until_ready(s.q, 1)
    fetch(s, p, 2)


@session
def purged(s):
    p = declared(s, PRIORITIES)
    for priority in (1, 4, None):
        p.fill(s.q, b"m", priority=priority)
    p.call("queue.purge", queue=s.q)
    p.fill(s.q, b"low", priority=1)
    p.fill(s.q, b"high", priority=2)
    fetch(s, p, 3)


def hand_over(s, arguments, durable=False):
    """Three consumers of one channel each; the active one is cancelled, the next closes its channel."""
    p = declared(s, arguments, durable)
    for channel in (2, 3, 4):
        p.open(channel)
        p.call("basic.consume", channel, queue=s.q, consumer_tag=f"c{channel}")
    p.publish("", s.q, b"1")
    p.wait("basic.deliver", ch=2)
    p.call("basic.cancel", 2, consumer_tag="c2")
    p.publish("", s.q, b"2")
    p.wait("basic.deliver", ch=3)
    p.tell("basic.ack", 2, delivery_tag=1)
    p.call("channel.close", 3, reply_code=200)
    p.wait("basic.deliver", ch=4)
    p.publish("", s.q, b"3")
    p.wait("basic.deliver", ch=4)
    p.quiet(2)


@session
def single_active_hand_over(s):
    hand_over(s, SINGLE)


@session
def single_active_hand_over_in_a_quorum_queue(s):
    hand_over(s, {"x-queue-type": "quorum", **SINGLE}, durable=True)


def by_priority(s, arguments, durable=False):
    p = declared(s, arguments, durable)
    for tag, priority in (("low", 0), ("high", 5), ("middle", 3)):
        p.call("basic.consume", queue=s.q, consumer_tag=tag, arguments={"x-priority": priority})
    p.publish("", s.q, b"1")
    p.wait("basic.deliver")
    p.tell("basic.ack", delivery_tag=1)
    p.call("basic.cancel", consumer_tag="low")
    p.publish("", s.q, b"2")
    p.wait("basic.deliver")


@session
def single_active_by_priority(s):
    by_priority(s, SINGLE)


@session
def single_active_by_priority_in_a_quorum_queue(s):
    by_priority(s, {"x-queue-type": "quorum", **SINGLE}, durable=True)


@session
def single_active_and_prefetch(s):
    p = declared(s, SINGLE)
    p.call("basic.qos", prefetch_count=1)
    for tag in "ab":
        p.call("basic.consume", queue=s.q, consumer_tag=tag)
    for number in range(3):
        p.publish("", s.q, b"%d" % number)
    p.wait("basic.deliver")
    p.quiet()
    p.tell("basic.ack", delivery_tag=1)
    p.wait("basic.deliver")
    p.call("basic.cancel", consumer_tag="a")
    p.wait("basic.deliver")


@session
def single_active_exclusive(s):
    p = declared(s, SINGLE)
    p.call("basic.consume", queue=s.q, consumer_tag="x", exclusive=True)


@session
def single_active_exclusive_in_a_quorum_queue(s):
    p = declared(s, {"x-queue-type": "quorum", **SINGLE}, durable=True)
    p.call("basic.consume", queue=s.q, consumer_tag="x", exclusive=True)
    p.publish("", s.q, b"1")
    p.wait("basic.deliver")


@session
def single_active_get(s):
    p = declared(s, SINGLE)
    p.call("basic.consume", queue=s.q, consumer_tag="a")
    p.publish("", s.q, b"1")
    p.wait("basic.deliver")
    p.fill(s.q, b"2")
    p.wait("basic.deliver")
    p.call("basic.get", queue=s.q)


@session
def quorum_priorities(s):
    p = declared(s, {"x-queue-type": "quorum"}, durable=True)
    for priority in (3, None, 40, 0, 5):
        p.fill(s.q, str(priority).encode(), priority=priority)
    p.call("basic.consume", queue=s.q, consumer_tag="c", no_ack=True)
    p.wait("basic.deliver", count=5)


def consumer_priority(s, arguments, durable=False):
    """A consumer of a higher priority goes first for as long as it takes messages."""
    p = declared(s, arguments, durable)
    p.call("basic.qos", prefetch_count=2)
    for tag, priority in (("low", -1), ("high", 7)):
        p.call("basic.consume", queue=s.q, consumer_tag=tag, arguments={"x-priority": priority})
    for number in range(4):
        p.publish("", s.q, b"%d" % number)
        p.wait("basic.deliver")
    p.tell("basic.ack", delivery_tag=3)
    p.tell("basic.ack", delivery_tag=1)
    p.settle()
    p.publish("", s.q, b"4")
    p.wait("basic.deliver")
    p.call("basic.cancel", consumer_tag="high")
    p.publish("", s.q, b"5")
    p.wait("basic.deliver")


@session
def consumer_priorities(s):
    consumer_priority(s, {})


@session
def consumer_priorities_of_a_quorum_queue(s):
    consumer_priority(s, {"x-queue-type": "quorum"}, durable=True)


@session
def consumer_and_message_priorities(s):
    consumer_priority(s, PRIORITIES)
