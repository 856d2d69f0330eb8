"""Messages that expire, queues that go, and what dead letters tell of it."""

from harness import session


def dead_letters(s, *ends, **arguments):
    """A queue with these arguments, whose dead letters go to another one; `ends` fill it."""
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=f"{s.q}.dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{s.q}.dead", **arguments}
    p.call("queue.declare", queue=s.q, arguments=arguments)
    p.call("confirm.select")
    for properties, body in ends:
        p.publish("", s.q, body, **properties)
    p.confirms(len(ends))
    return p


def fetch_dead(s, p, count):
    p.until_ready(f"{s.q}.dead", count)
    for _ in range(count):
        p.call("basic.get", queue=f"{s.q}.dead", no_ack=True)
    p.call("queue.delete", queue=f"{s.q}.dead")


@session
def queue_ttl_to_dead_letters(s):
    p = dead_letters(s, ({}, b"1"), ({"delivery_mode": 2}, b"2"), **{"x-message-ttl": 50})
    fetch_dead(s, p, 2)
    p.call("queue.declare", queue=s.q, passive=True)


@session
def expiration_to_dead_letters(s):
    p = dead_letters(s, ({"expiration": "40", "headers": {"h": 1}}, b"1"), ({"expiration": "60"}, b"2"))
    fetch_dead(s, p, 2)


@session
def smaller_of_both(s):
    p = dead_letters(s, ({"expiration": "30"}, b"short"), ({"expiration": "600000"}, b"long"), **{"x-message-ttl": 60})
    fetch_dead(s, p, 2)


@session
def ttl_zero_to_dead_letters(s):
    p = dead_letters(s, ({}, b"1"), **{"x-message-ttl": 0})
    fetch_dead(s, p, 1)


@session
def expiration_zero_with_a_consumer(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.call("basic.consume", queue=s.q, consumer_tag="c", no_ack=True)
    p.publish("", s.q, b"1", expiration="0")
    p.wait("basic.deliver")
    p.call("basic.cancel", consumer_tag="c")
    p.publish("", s.q, b"2", expiration="0")
    p.call("basic.get", queue=s.q, no_ack=True)


@session
def held_messages_do_not_expire(s):
    p = dead_letters(s, ({}, b"1"), **{"x-message-ttl": 60})
    p.call("basic.get", queue=s.q)
    p.quiet(seconds=0.15)
    p.call("queue.declare", queue=f"{s.q}.dead", passive=True)
    p.tell("basic.nack", delivery_tag=1, requeue=True)
    fetch_dead(s, p, 1)


@session
def rejected_after_expired(s):
    """The same message dies in two queues, for two reasons."""
    p = dead_letters(s, ({"expiration": "30"}, b"1"))
    p.call("queue.declare", queue=f"{s.q}.second", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{s.q}.dead"})
    p.until_ready(f"{s.q}.dead", 1)
    p.call("exchange.declare", exchange=f"{s.q}.x", type="fanout")
    p.call("queue.bind", queue=f"{s.q}.second", exchange=f"{s.q}.x")
    p.call("basic.get", queue=f"{s.q}.dead", no_ack=True)
    p.publish(f"{s.q}.x", "k", b"2", expiration="600000")
    p.confirms(1)
    p.until_ready(f"{s.q}.second", 1)
    p.call("basic.get", queue=f"{s.q}.second")
    p.tell("basic.reject", delivery_tag=2, requeue=False)
    fetch_dead(s, p, 1)
    p.call("queue.delete", queue=f"{s.q}.second")
    p.call("exchange.delete", exchange=f"{s.q}.x")


@session
def round_without_a_client(s):
    """Two queues that send their dead letters to each other: the round is broken when it closes."""
    p = s.connect()
    p.open()
    other = f"{s.q}.other"
    p.call("queue.declare", queue=s.q, arguments={
        "x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": other})  # fmt: skip
    p.call("queue.declare", queue=other, arguments={
        "x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.q})  # fmt: skip
    p.fill(s.q, b"1")
    p.quiet(seconds=0.2)
    p.call("queue.declare", queue=s.q, passive=True)
    p.call("queue.declare", queue=other, passive=True)
    p.call("queue.delete", queue=other)


@session
def queue_expires(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, arguments={"x-expires": 60})
    p.fill(s.q, b"1")
    p.quiet(seconds=0.3)
    p.call("queue.declare", queue=s.q, passive=True)


@session
def queue_with_a_consumer_does_not_expire(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, arguments={"x-expires": 60})
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.quiet(seconds=0.3)
    p.publish("", s.q, b"1")
    p.wait("basic.deliver")
    p.call("basic.cancel", consumer_tag="c")
    p.quiet(seconds=0.3)
    p.call("queue.declare", queue=s.q, passive=True)
