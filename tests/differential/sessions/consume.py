"""Consumers, prefetch, acknowledgement, requeueing, cancellation."""

from harness import scripted, session

declare = ("queue.declare", {"queue": "{q}"})


def consume(tag="c", **options):
    return ("basic.consume", {"queue": "{q}", "consumer_tag": tag, **options})


def settle(p):
    p.settle()


scripted("consume", {
    "missing_queue": [("basic.consume", {"queue": "{q}"})],
    "no_previous_queue": [("basic.consume", {})],
    "get_missing_queue": [("basic.get", {"queue": "{q}"})],
    "get_no_previous_queue": [("basic.get", {})],
    "get_empty": [declare, ("basic.get", {"queue": "{q}"}), ("basic.get", {})],
    "server_named_tag": [declare, ("basic.consume", {"queue": "{q}"}), ("basic.consume", {})],
    "tag_reused": [declare, consume(), consume()],
    "tag_reused_after_cancel": [declare, consume(), ("basic.cancel", {"consumer_tag": "c"}), consume()],
    "priority_argument_text": [declare, consume(arguments={"x-priority": "5"})],
    "priority_argument_table": [declare, consume(arguments={"x-priority": {}})],
    "priority_argument_void": [declare, consume(arguments={"x-priority": None})],
    "priority_argument_array": [declare, consume(arguments={"x-priority": []})],
    "exclusive_first": [declare, consume("a", exclusive=True), consume("b")],
    "exclusive_second": [declare, consume("a"), consume("b", exclusive=True)],
    "exclusive_after_cancel": [declare, consume("a", exclusive=True), ("basic.cancel", {"consumer_tag": "a"}),
                               consume("b", exclusive=True)],
    "cancel_unknown": [("basic.cancel", {"consumer_tag": "nobody"})],
    "cancel_nowait": [declare, consume(), lambda p: p.tell("basic.cancel", consumer_tag="c", nowait=True), settle],
    "consume_nowait": [declare, lambda p: p.tell("basic.consume", queue=p.s.q, consumer_tag="c", nowait=True),
                       lambda p: p.publish("", p.s.q), lambda p: p.wait("basic.deliver")],
    "consume_nowait_without_tag": [declare, lambda p: p.tell("basic.consume", queue=p.s.q, nowait=True),
                                   lambda p: p.publish("", p.s.q), lambda p: p.wait("basic.deliver")],
    "no_local_ignored": [declare, consume(no_local=True), lambda p: p.publish("", p.s.q), lambda p: p.wait("basic.deliver")],
    "qos_size": [("basic.qos", {"prefetch_size": 10})],
    "qos_global": [("basic.qos", {"prefetch_count": 10, "global_": True})],
    "recover_false": [("basic.recover", {"requeue": False})],
    "recover_async_false": [lambda p: p.tell("basic.recover-async", requeue=False), settle],
    "recover_nothing": [("basic.recover", {"requeue": True})],
    "ack_unknown": [lambda p: p.tell("basic.ack", delivery_tag=82), settle],
    "ack_zero": [lambda p: p.tell("basic.ack", delivery_tag=0), settle],
    "ack_zero_multiple": [lambda p: p.tell("basic.ack", delivery_tag=0, multiple=True), ("basic.qos", {})],
    "ack_unknown_multiple": [lambda p: p.tell("basic.ack", delivery_tag=7, multiple=True), settle],
    "nack_unknown": [lambda p: p.tell("basic.nack", delivery_tag=82), settle],
    "nack_zero_multiple": [lambda p: p.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True), ("basic.qos", {})],
    "reject_unknown": [lambda p: p.tell("basic.reject", delivery_tag=82), settle],
    "ack_of_no_ack_get": [declare, lambda p: p.fill(p.s.q, b"x"), ("basic.get", {"queue": "{q}", "no_ack": True}),
                          lambda p: p.tell("basic.ack", delivery_tag=1), settle],
    "ack_twice": [declare, lambda p: p.fill(p.s.q, b"x"), ("basic.get", {"queue": "{q}"}),
                  lambda p: p.tell("basic.ack", delivery_tag=1), lambda p: p.tell("basic.ack", delivery_tag=1), settle],
    "ack_multiple_beyond": [declare, lambda p: p.fill(p.s.q, b"x"), ("basic.get", {"queue": "{q}"}),
                            lambda p: p.tell("basic.ack", delivery_tag=9, multiple=True), settle],
    "exclusive_conflict_nowait": [declare, consume("a", exclusive=True),
                                  lambda p: p.tell("basic.consume", queue=p.s.q, consumer_tag="b", nowait=True), settle],
})  # fmt: skip


def filled(s, *bodies, **options):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, **options)
    p.fill(s.q, *bodies)
    return p


@session
def prefetch(s):
    p = filled(s, b"1", b"2", b"3", b"4")
    p.call("basic.qos", prefetch_count=2)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.wait("basic.deliver", count=2)
    p.quiet()
    p.tell("basic.ack", delivery_tag=1)
    p.wait("basic.deliver")
    p.quiet()
    p.tell("basic.ack", delivery_tag=3, multiple=True)
    p.wait("basic.deliver")


@session
def prefetch_changes_only_later_consumers(s):
    p = filled(s, b"1", b"2", b"3", b"4")
    p.call("basic.qos", prefetch_count=1)
    p.call("basic.consume", queue=s.q, consumer_tag="a")
    p.wait("basic.deliver")
    p.call("basic.qos", prefetch_count=2)
    p.quiet()
    p.call("basic.consume", queue=s.q, consumer_tag="b")
    p.wait("basic.deliver", count=2)
    p.quiet()


@session
def prefetch_global(s):
    p = filled(s, b"1", b"2", b"3", b"4", b"5")
    p.call("basic.qos", prefetch_count=2, global_=True)
    p.call("basic.consume", queue=s.q, consumer_tag="a")
    p.wait("basic.deliver", count=2)
    p.call("basic.consume", queue=s.q, consumer_tag="b")
    p.quiet()
    p.call("basic.qos", prefetch_count=3, global_=True)
    p.wait("basic.deliver")
    p.quiet()


@session
def get_is_not_limited_by_prefetch(s):
    p = filled(s, b"1", b"2")
    p.call("basic.qos", prefetch_count=1)
    p.call("basic.get", queue=s.q)
    p.call("basic.get", queue=s.q)


@session
def requeue_keeps_the_place(s):
    p = filled(s, b"1", b"2", b"3", b"4")
    for _ in range(3):
        p.call("basic.get", queue=s.q)
    p.tell("basic.reject", delivery_tag=2, requeue=True)
    p.tell("basic.nack", delivery_tag=1, requeue=True)
    for _ in range(4):
        p.call("basic.get", queue=s.q, no_ack=True)


@session
def nack_multiple_keeps_the_order(s):
    p = filled(s, b"1", b"2", b"3", b"4")
    for _ in range(3):
        p.call("basic.get", queue=s.q)
    p.tell("basic.nack", delivery_tag=2, multiple=True, requeue=True)
    for _ in range(3):
        p.call("basic.get", queue=s.q, no_ack=True)
    p.tell("basic.nack", delivery_tag=0, multiple=True, requeue=False)
    p.call("basic.get", queue=s.q, no_ack=True)
    p.tell("basic.ack", delivery_tag=3)
    p.settle()


@session
def redelivered_after_channel_close(s):
    p = filled(s, b"1", b"2")
    p.open(2)
    p.call("basic.get", 2, queue=s.q)
    p.call("channel.close", 2, reply_code=200)
    p.until_ready(s.q, 2)
    p.call("basic.get", queue=s.q)
    p.call("basic.get", queue=s.q)


@session
def redelivered_after_connection_loss(s):
    p = filled(s, b"1")
    other = s.connect()
    other.open()
    other.call("basic.get", queue=s.q)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    other.client.abort()
    p.wait("basic.deliver")


@session
def cancel_keeps_unacked(s):
    p = filled(s, b"1", b"2")
    p.call("basic.qos", prefetch_count=1)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.wait("basic.deliver")
    p.call("basic.cancel", consumer_tag="c")
    p.call("basic.get", queue=s.q)
    p.call("basic.get", queue=s.q)
    p.tell("basic.ack", delivery_tag=1)
    p.settle()


@session
def recover(s):
    p = filled(s, b"1", b"2")
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.wait("basic.deliver", count=2)
    p.call("basic.recover", requeue=True)
    p.wait("basic.deliver", count=2)
    p.tell("basic.recover-async", requeue=True)
    p.wait("basic.deliver", count=2)
    p.tell("basic.ack", delivery_tag=1)
    p.settle()


@session
def round_robin(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    for tag in "abc":
        p.call("basic.consume", queue=s.q, consumer_tag=tag, no_ack=True)
    for number in range(7):
        p.publish("", s.q, b"%d" % number)
        p.wait("basic.deliver")


@session
def consumer_priorities(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.call("basic.qos", prefetch_count=1)
    for tag, priority in (("low", -5), ("none", None), ("high", 10), ("high2", 10)):
        arguments = {} if priority is None else {"x-priority": priority}
        p.call("basic.consume", queue=s.q, consumer_tag=tag, arguments=arguments)
    for number in range(5):
        p.publish("", s.q, b"%d" % number)
        if number < 4:
            p.wait("basic.deliver")
    p.quiet()
    p.tell("basic.ack", delivery_tag=2)
    p.wait("basic.deliver")


@session
def cancelled_by_deletion(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.open(2)
    p.call("queue.delete", 2, queue=s.q)
    p.wait("basic.cancel")
    p.call("queue.declare", queue=s.q)
    p.call("basic.consume", queue=s.q, consumer_tag="c")


@session
def not_told_of_deletion_without_capability(s):
    p = s.connect(capabilities={})
    p.open()
    p.call("queue.declare", queue=s.q)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.call("queue.delete", queue=s.q)
    p.quiet()


@session
def ack_after_deletion(s):
    p = filled(s, b"1")
    p.call("basic.get", queue=s.q)
    p.call("queue.delete", queue=s.q)
    p.tell("basic.ack", delivery_tag=1)
    p.settle()
    p.quiet()


@session
def single_active_consumer(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, arguments={"x-single-active-consumer": True})
    for tag in "ab":
        p.call("basic.consume", queue=s.q, consumer_tag=tag, no_ack=True)
    for number in range(3):
        p.publish("", s.q, b"%d" % number)
        p.wait("basic.deliver")
    p.call("basic.cancel", consumer_tag="a")
    p.publish("", s.q, b"to b")
    p.wait("basic.deliver")
    p.call("basic.consume", queue=s.q, consumer_tag="x", exclusive=True)


@session
def message_priorities(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, arguments={"x-max-priority": 5})
    for body, priority in ((b"none", None), (b"one", 1), (b"nine", 9), (b"five", 5), (b"zero", 0)):
        p.fill(s.q, body, priority=priority)
    for _ in range(5):
        p.call("basic.get", queue=s.q, no_ack=True)


@session
def counts(s):
    p = filled(s, b"1", b"2", b"3")
    p.call("basic.get", queue=s.q)
    p.call("queue.declare", queue=s.q, passive=True)
    p.call("basic.qos", prefetch_count=1)
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.wait("basic.deliver")
    p.call("queue.declare", queue=s.q)


@session
def max_length_drops_the_head(s):
    p = filled(s, b"1", b"2", b"3", arguments={"x-max-length": 2})
    p.call("basic.get", queue=s.q, no_ack=True)
    p.call("basic.get", queue=s.q, no_ack=True)
    p.call("basic.get", queue=s.q, no_ack=True)


@session
def ttl_zero_without_consumer(s):
    p = filled(s, b"1", arguments={"x-message-ttl": 0})
    p.call("basic.get", queue=s.q, no_ack=True)
    p.call("basic.consume", queue=s.q, consumer_tag="c", no_ack=True)
    p.publish("", s.q, b"2")
    p.wait("basic.deliver")
