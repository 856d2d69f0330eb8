"""Full queues: what gives way, what the publisher hears, and what becomes of the refused or dropped."""

from harness import session

SHORT = {"x-max-length": 2}
REFUSING = {"x-max-length": 2, "x-overflow": "reject-publish"}


def limited(s, **arguments):
    """A peer on a channel with a queue of the session's name, whose dead letters go to `<name>.dead` if it has a DLX."""
    p = s.connect()
    p.open()
    if "x-dead-letter-exchange" in arguments:
        arguments["x-dead-letter-routing-key"] = f"{s.q}.dead"
        p.call("queue.declare", queue=f"{s.q}.dead")
    p.call("queue.declare", queue=s.q, arguments=arguments)
    return p


def confirming(s, **arguments):
    p = limited(s, **arguments)
    p.call("confirm.select")
    return p


def publish_each(p, *bodies, **properties):
    """One at a time, each settled before the next."""
    for body in bodies:
        p.publish("", p.s.q, body, **properties)
        p.confirms(1)


def answers(p, count):
    """Which of the next publishes were acked and which nacked, whatever comes first."""
    outcomes = {}
    while len(outcomes) < count:
        event = p._next(1)
        if event is None or event.name not in ("basic.ack", "basic.nack"):
            p.note(event)
            return
        settled = p.settled.setdefault(1, set())
        tags = range(1, event.delivery_tag + 1) if event.multiple else [event.delivery_tag]
        outcomes |= {tag: event.name for tag in tags if tag not in settled}
        settled |= set(tags)
    p.s.note(f"answers {sorted(outcomes.items())}")


def drain(p, queue=None):
    """Takes everything out of a queue."""
    queue = queue or p.s.q
    while True:
        event = p.call("basic.get", queue=queue, no_ack=True)
        if event is None or event.name != "basic.get-ok":
            return


def told(p, queue, ch=1):
    """Gets a message to be acknowledged; notes what of it does not depend on the release. None if there is none."""
    p.tell("basic.get", ch, queue=queue)
    event = p._next(ch)
    if event is None or event.name != "basic.get-ok":
        p.note(event)
        return None
    headers = event.properties.get("headers", {})
    deaths = [f"{death['reason']} in {death['queue']} x {death['count']}" for death in headers.get("x-death", [])]
    failures = headers.get("x-delivery-count", 0)
    line = f"{queue}: {event.body!r} redelivered={event.redelivered} failures={failures} deaths={deaths}"
    p.s.note(f"{line} kept={sorted(set(event.properties) - {'headers'})}")
    return event


def dead(p, count):
    """What arrived among the dead letters, once it has."""
    queue = f"{p.s.q}.dead"
    p.until_ready(queue, count)
    while told(p, queue):
        pass


@session
def drop_head_by_length(s):
    p = confirming(s, **SHORT)
    publish_each(p, b"1", b"2", b"3", b"4")
    drain(p)


@session
def drop_head_by_bytes(s):
    p = confirming(s, **{"x-max-length-bytes": 10})
    publish_each(p, b"1234", b"5678", b"90", b"x", b"yyyyyyy", b"zzzzzzzzzz", b"aaaaaaaaaaa")
    drain(p)


@session
def drop_head_by_both(s):
    p = confirming(s, **{"x-max-length": 3, "x-max-length-bytes": 10})
    publish_each(p, b"1", b"2", b"3", b"4", b"12345678", b"9")
    drain(p)


@session
def drop_head_dead_letters(s):
    p = confirming(s, **SHORT, **{"x-dead-letter-exchange": ""})
    publish_each(p, b"1", b"2", b"3", b"4", expiration="60000", headers={"h": 1})
    drain(p)
    dead(p, 2)


@session
def drop_head_of_nothing_allowed(s):
    p = confirming(s, **{"x-max-length": 0, "x-dead-letter-exchange": ""})
    publish_each(p, b"1", b"2")
    drain(p)
    dead(p, 2)


@session
def a_waiting_consumer_takes_what_there_is_no_room_for(s):
    p = limited(s, **{"x-max-length": 0})
    p.call("basic.consume", queue=s.q, consumer_tag="c", no_ack=True)
    for body in (b"1", b"2"):
        p.publish("", s.q, body)
        p.wait("basic.deliver")


@session
def what_consumers_hold_does_not_count(s):
    p = limited(s, **{"x-max-length": 1})
    p.call("basic.qos", prefetch_count=2)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    for body in (b"1", b"2"):
        p.publish("", s.q, body)
        p.wait("basic.deliver")
    for body in (b"3", b"4", b"5"):
        p.publish("", s.q, body)
    p.settle()
    p.tell("basic.ack", delivery_tag=1)
    p.wait("basic.deliver")
    p.tell("basic.ack", delivery_tag=2)
    p.quiet()


@session
def requeueing_drops_the_head(s):
    p = confirming(s, **SHORT, **{"x-dead-letter-exchange": ""})
    publish_each(p, b"1", b"2")
    p.call("basic.get", queue=s.q)
    p.call("basic.get", queue=s.q)
    publish_each(p, b"3", b"4")
    p.tell("basic.nack", delivery_tag=2, multiple=True, requeue=True)
    dead(p, 2)
    drain(p)


@session
def rejecting_drops_the_head(s):
    p = confirming(s, **{"x-max-length": 1})
    publish_each(p, b"1")
    p.call("basic.get", queue=s.q)
    publish_each(p, b"2")
    p.tell("basic.reject", delivery_tag=1, requeue=True)
    p.settle()
    drain(p)


@session
def requeueing_with_a_consumer_drops_before_it_is_served(s):
    p = limited(s, **{"x-max-length": 1})
    p.call("basic.qos", prefetch_count=1)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.publish("", s.q, b"1")
    p.wait("basic.deliver")
    p.publish("", s.q, b"2")
    p.settle()
    p.tell("basic.nack", delivery_tag=1, requeue=True)
    p.wait("basic.deliver")
    p.tell("basic.ack", delivery_tag=2)
    p.quiet()


@session
def a_closed_channel_requeues_within_the_limit(s):
    p = confirming(s, **SHORT)
    publish_each(p, b"1", b"2")
    p.open(2)
    p.call("basic.get", ch=2, queue=s.q)
    p.call("basic.get", ch=2, queue=s.q)
    publish_each(p, b"3")
    p.call("channel.close", ch=2, reply_code=200)
    p.until_ready(s.q, 2)
    drain(p)


@session
def reject_publish_nacks(s):
    p = confirming(s, **REFUSING)
    publish_each(p, b"1", b"2", b"3", b"4")
    p.call("basic.get", queue=s.q, no_ack=True)
    publish_each(p, b"5", b"6")
    drain(p)


@session
def reject_publish_by_bytes(s):
    p = confirming(s, **{"x-max-length-bytes": 10, "x-overflow": "reject-publish"})
    publish_each(p, b"12345678901", b"12345", b"123456", b"12345", b"", b"1", b"")
    drain(p)


@session
def reject_publish_without_confirms(s):
    p = limited(s, **REFUSING, **{"x-dead-letter-exchange": ""})
    for body in (b"1", b"2", b"3"):
        p.publish("", s.q, body)
    p.settle()
    drain(p)
    p.quiet()
    drain(p, f"{s.q}.dead")


@session
def reject_publish_of_a_burst(s):
    p = confirming(s, **REFUSING)
    for body in (b"1", b"2", b"3", b"4"):
        p.publish("", s.q, body)
        p.publish("", "d.nobody", body)
    answers(p, 8)
    drain(p)


@session
def reject_publish_mandatory(s):
    p = confirming(s, **{"x-max-length": 0, "x-overflow": "reject-publish"})
    p.publish("", s.q, b"1", mandatory=True)
    p.confirms(1)
    p.quiet()


@session
def reject_publish_looks_before_it_delivers(s):
    p = confirming(s, **{"x-max-length": 0, "x-overflow": "reject-publish"})
    p.call("basic.consume", queue=s.q, consumer_tag="c", no_ack=True)
    publish_each(p, b"1")
    p.quiet()


@session
def reject_publish_and_a_waiting_consumer(s):
    p = confirming(s, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    other = s.connect()
    other.open()
    other.call("basic.qos", prefetch_count=1)
    other.call("basic.consume", queue=s.q, consumer_tag="c")
    publish_each(p, b"1", b"2", b"3")
    other.wait("basic.deliver")
    other.tell("basic.ack", delivery_tag=1)
    other.wait("basic.deliver")
    publish_each(p, b"4")


@session
def requeueing_to_a_refusing_queue_drops_nothing(s):
    p = confirming(s, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    publish_each(p, b"1")
    p.call("basic.get", queue=s.q)
    publish_each(p, b"2")
    p.tell("basic.nack", delivery_tag=1, requeue=True)
    p.until_ready(s.q, 2)
    publish_each(p, b"3")
    drain(p)


@session
def one_of_two_targets_refuses(s):
    p = confirming(s, **{"x-max-length": 0, "x-overflow": "reject-publish"})
    p.call("queue.declare", queue=f"{s.q}.other")
    p.call("exchange.declare", exchange=s.q, type="fanout")
    for name in (s.q, f"{s.q}.other"):
        p.call("queue.bind", queue=name, exchange=s.q)
    p.publish(s.q, "", b"1")
    p.confirms(1)
    drain(p, f"{s.q}.other")


@session
def reject_publish_dlx(s):
    p = confirming(s, **{"x-max-length": 1, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": ""})
    publish_each(p, b"1", b"2", b"3", headers={"h": 1})
    drain(p)
    dead(p, 2)


@session
def reject_publish_dlx_without_dlx(s):
    p = confirming(s, **{"x-max-length": 1, "x-overflow": "reject-publish-dlx"})
    publish_each(p, b"1", b"2")
    drain(p)


@session
def a_letter_to_a_full_queue_is_lost(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=f"{s.q}.dead", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    p.call("queue.declare", queue=s.q, arguments={
        "x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{s.q}.dead"})  # fmt: skip
    p.call("confirm.select")
    publish_each(p, b"1", b"2", b"3", b"4")
    p.quiet()
    dead(p, 1)
    drain(p)


@session
def a_letter_to_its_own_full_queue_is_a_cycle(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, arguments={
        "x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.q})  # fmt: skip
    p.call("confirm.select")
    publish_each(p, b"1", b"2", b"3")
    p.quiet()
    drain(p)


@session
def partial_transaction(s):
    p = limited(s, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    p.call("tx.select")
    for body in (b"1", b"2", b"3"):
        p.publish("", s.q, body)
    p.call("tx.commit")
    p.open()
    drain(p)


@session
def partial_transaction_settles(s):
    p = limited(s, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    p.call("queue.declare", queue=f"{s.q}.other")
    p.publish("", f"{s.q}.other", b"a")
    p.publish("", f"{s.q}.other", b"b")
    p.settle()
    p.call("tx.select")
    p.call("basic.get", queue=f"{s.q}.other")
    for body in (b"1", b"2"):
        p.publish("", s.q, body)
    p.publish("", f"{s.q}.other", b"c")
    p.tell("basic.ack", delivery_tag=1)
    p.call("tx.commit")
    p.open()
    drain(p, f"{s.q}.other")
    drain(p)


@session
def transaction_within_the_limit(s):
    p = limited(s, **REFUSING)
    p.call("tx.select")
    for body in (b"1", b"2"):
        p.publish("", s.q, body)
    p.call("tx.commit")
    p.publish("", s.q, b"3")
    p.call("tx.rollback")
    drain(p)


def quorum(s, **arguments):
    p = s.connect()
    p.open()
    if "x-dead-letter-exchange" in arguments:
        arguments["x-dead-letter-routing-key"] = f"{s.q}.dead"
        p.call("queue.declare", queue=f"{s.q}.dead")
    p.call("queue.declare", queue=s.q, durable=True, arguments={"x-queue-type": "quorum", **arguments})
    p.call("confirm.select")
    return p


@session
def quorum_drop_head(s):
    p = quorum(s, **SHORT, **{"x-dead-letter-exchange": ""})
    publish_each(p, b"1", b"2", b"3", b"4")
    dead(p, 2)
    while told(p, s.q):
        pass


@session
def quorum_requeueing_serves_before_it_drops(s):
    # Without a delivery limit 3.10 puts what comes back behind everything.
    p = quorum(s, **{"x-max-length": 1, "x-delivery-limit": 5})
    publish_each(p, b"2")
    p.open(2)
    p.call("basic.qos", 2, prefetch_count=1)
    p.call("basic.consume", 2, queue=s.q, consumer_tag="c")
    p._next(2)
    p.publish("", s.q, b"3")
    p.confirms(1)
    p.tell("basic.reject", 2, delivery_tag=1, requeue=True)
    event = p._next(2)
    s.note(f"{event.name} {event.body!r} redelivered={event.redelivered}")
    p.tell("basic.ack", 2, delivery_tag=2)
    event = p._next(2)
    s.note(f"{event.name} {event.body!r} redelivered={event.redelivered}")


@session
def quorum_requeueing_drops(s):
    p = quorum(s, **SHORT, **{"x-delivery-limit": 5, "x-dead-letter-exchange": ""})
    publish_each(p, b"1", b"2")
    told(p, s.q)
    told(p, s.q)
    publish_each(p, b"3", b"4")
    p.tell("basic.reject", delivery_tag=1, requeue=True)
    p.tell("basic.reject", delivery_tag=2, requeue=True)
    dead(p, 2)
    p.until_ready(s.q, 2)


@session
def quorum_reject_publish(s):
    p = quorum(s, **REFUSING)
    publish_each(p, b"1", b"2", b"3", b"4", b"5")
    while told(p, s.q):
        pass


@session
def delivery_limit_by_reject(s):
    p = quorum(s, **{"x-delivery-limit": 1, "x-dead-letter-exchange": ""})
    publish_each(p, b"poison")
    told(p, s.q)
    p.tell("basic.reject", delivery_tag=1, requeue=True)
    p.until_ready(s.q, 1)
    told(p, s.q)
    p.tell("basic.reject", delivery_tag=2, requeue=True)
    dead(p, 1)
    told(p, s.q)


@session
def delivery_limit_zero(s):
    p = quorum(s, **{"x-delivery-limit": 0, "x-dead-letter-exchange": ""})
    publish_each(p, b"poison")
    told(p, s.q)
    p.tell("basic.reject", delivery_tag=1, requeue=True)
    dead(p, 1)
    told(p, s.q)


@session
def delivery_limit_by_lost_channels(s):
    p = quorum(s, **{"x-delivery-limit": 1, "x-dead-letter-exchange": ""})
    publish_each(p, b"poison", b"next")
    for number in (2, 3):
        p.open(number)
        told(p, s.q, number)
        p.call("channel.close", ch=number, reply_code=200)
        p.until_ready(s.q, 2 if number == 2 else 1)
    dead(p, 1)
    told(p, s.q)


@session
def delivery_limit_without_dead_letters(s):
    p = quorum(s, **{"x-delivery-limit": 0})
    publish_each(p, b"poison", b"next")
    p.call("basic.qos", prefetch_count=1)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.wait("basic.deliver")
    p.tell("basic.reject", delivery_tag=1, requeue=True)
    p.wait("basic.deliver")
    p.tell("basic.ack", delivery_tag=2)
    p.quiet()


@session
def delivery_limit_and_nack(s):
    p = quorum(s, **{"x-delivery-limit": 1})
    publish_each(p, b"m")
    for _ in range(3):
        event = told(p, s.q)
        if event is None:
            break
        p.tell("basic.nack", delivery_tag=event.delivery_tag, requeue=True)
        p.settle()
        p.quiet()
