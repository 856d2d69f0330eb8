"""Publishing: the order of checks, returns, confirms, transactions."""

from harness import scripted, session
from wire import Typed


def publishing(**options):
    """A publish that gets refused, with the channel's queue as its target unless said otherwise."""

    def run(p):
        target = {"routing_key": p.s.q, **options}
        p.publish(**target)
        p.settle()

    return [("queue.declare", {"queue": "{q}"}), run]


scripted("publish", {
    "missing_exchange": publishing(exchange="d.none"),
    "immediate": publishing(immediate=True),
    "missing_exchange_and_immediate": publishing(exchange="d.none", immediate=True),
    "internal": [("exchange.declare", {"exchange": "{q}", "type": "fanout", "internal": True}),
                 lambda p: p.publish(p.s.q), lambda p: p.settle()],
    "internal_and_bad_expiration": [("exchange.declare", {"exchange": "{q}", "type": "fanout", "internal": True}),
                                    lambda p: p.publish(p.s.q, expiration="x"), lambda p: p.settle()],
    "missing_exchange_and_bad_expiration": publishing(exchange="d.none", expiration="x"),
    "expiration_negative": publishing(expiration="-10"),
    "expiration_leftover": publishing(expiration="100foobar"),
    "expiration_text": publishing(expiration="foobar"),
    "expiration_empty": publishing(expiration=""),
    "expiration_float": publishing(expiration="1.5"),
    "expiration_space": publishing(expiration=" 10"),
    "expiration_plus": publishing(expiration="+10"),
    "expiration_huge": publishing(expiration="99999999999999999999"),
    "user_id": publishing(user_id="somebody"),
    "user_id_right": publishing(user_id="guest"),
    "user_id_empty": publishing(user_id=""),
    "user_id_and_expiration": publishing(user_id="somebody", expiration="x"),
    "cc_not_array": publishing(headers={"CC": 5}),
    "cc_text": publishing(headers={"CC": "x"}),
    "cc_member": publishing(headers={"CC": [5]}),
    "bcc_not_array": publishing(headers={"BCC": {"a": 1}}),
    "cc_and_user_id": publishing(headers={"CC": 5}, user_id="somebody"),
    "cc_and_expiration": publishing(headers={"CC": 5}, expiration="x"),
    "reply_to_without_consumer": publishing(reply_to="amq.rabbitmq.reply-to"),
    "reply_to_without_consumer_and_expiration": publishing(reply_to="amq.rabbitmq.reply-to", expiration="x"),
    "unroutable_unnoticed": publishing(routing_key="d.none"),
    "delivery_mode_odd": [*publishing(delivery_mode=7, body=b"odd"), ("basic.get", {"queue": "{q}", "no_ack": True})],
    "priority_property": [*publishing(priority=200), ("basic.get", {"queue": "{q}", "no_ack": True})],
    "flow_active": [("channel.flow", {"active": True})],
    "flow_inactive": [("channel.flow", {"active": False})],
    "commit_without_select": [("tx.commit", {})],
    "rollback_without_select": [("tx.rollback", {})],
    "tx_then_confirm": [("tx.select", {}), ("confirm.select", {})],
    "confirm_then_tx": [("confirm.select", {}), ("tx.select", {})],
    "tx_twice": [("tx.select", {}), ("tx.select", {})],
    "confirm_twice": [("confirm.select", {}), ("confirm.select", {})],
})  # fmt: skip


@session
def mandatory_return(s):
    p = s.connect()
    p.open()
    p.publish("amq.direct", "d.nobody", b"come back", mandatory=True, content_type="a/b", headers={"a": 1, "CC": ["d.x"],
                                                                                                 "BCC": ["d.y"]})  # fmt: skip
    p.wait("basic.return")


@session
def return_before_ack(s):
    p = s.connect()
    p.open()
    p.call("confirm.select")
    for number in range(3):
        p.publish("", "d.nobody", b"%d" % number, mandatory=True)
        p.confirms(1)
    p.quiet()


@session
def confirms_fold(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, durable=True)
    p.call("confirm.select")
    for number in range(50):
        p.publish("", s.q, b"%d" % number, delivery_mode=2)
    p.confirms(50)
    p.call("queue.declare", queue=s.q, passive=True)


@session
def confirm_counts_from_select(s):
    p = s.connect()
    p.open()
    p.publish("", "d.nobody")
    p.call("confirm.select")
    p.publish("", "d.nobody")
    p.publish("amq.fanout", "d.nobody")
    p.confirms(2)


@session
def confirm_then_error(s):
    p = s.connect()
    p.open()
    p.call("confirm.select")
    p.publish("", "d.nobody")
    p.confirms(1)
    p.publish("d.none", "x")
    p.wait("channel.close")


@session
def nack_on_reject_publish(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    p.call("confirm.select")
    for number in range(4):
        p.publish("", s.q, b"%d" % number)
        p.confirms(1)
    p.call("basic.get", queue=s.q, no_ack=True)
    p.publish("", s.q, b"room again")
    p.confirms(1)


@session
def tx_publish(s):
    p, other = s.connect(), s.connect()
    p.open()
    other.open()
    p.call("queue.declare", queue=s.q)
    p.call("tx.select")
    p.publish("", s.q, b"1")
    p.publish("", s.q, b"2")
    p.settle()
    other.call("basic.get", queue=s.q)
    p.call("tx.commit")
    other.call("queue.declare", queue=s.q, passive=True)
    p.publish("", s.q, b"3")
    p.call("tx.rollback")
    p.call("tx.commit")
    other.call("queue.declare", queue=s.q, passive=True)


@session
def tx_ack(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.fill(s.q, b"1", b"2", b"3")
    p.call("tx.select")
    for _ in range(3):
        p.call("basic.get", queue=s.q)
    p.tell("basic.ack", delivery_tag=1)
    p.call("tx.rollback")
    p.tell("basic.ack", delivery_tag=2, multiple=True)
    p.tell("basic.reject", delivery_tag=3, requeue=True)
    p.settle()
    p.call("queue.declare", queue=s.q, passive=True)
    p.call("tx.commit")
    p.call("basic.get", queue=s.q)
    p.call("basic.get", queue=s.q)


@session
def tx_unknown_tag(s):
    p = s.connect()
    p.open()
    p.call("tx.select")
    p.tell("basic.ack", delivery_tag=5)
    p.settle()


@session
def tx_ack_twice(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.fill(s.q, b"1")
    p.call("tx.select")
    p.call("basic.get", queue=s.q)
    p.tell("basic.ack", delivery_tag=1)
    p.tell("basic.ack", delivery_tag=1)
    p.settle()


@session
def tx_mandatory(s):
    p = s.connect()
    p.open()
    p.call("tx.select")
    p.publish("", "d.nobody", b"x", mandatory=True)
    p.settle()
    p.tell("tx.commit")
    p.wait("tx.commit-ok")
    p.quiet()


@session
def tx_missing_exchange(s):
    p = s.connect()
    p.open()
    p.call("tx.select")
    p.publish("d.none", "x")
    p.settle()


@session
def carbon_copies(s):
    p = s.connect()
    p.open()
    for suffix in ("a", "b", "c"):
        p.call("queue.declare", queue=s.q + suffix)
    p.call("confirm.select")
    p.publish("", s.q + "a", b"x", headers={"CC": [s.q + "b", s.q + "a"], "BCC": [s.q + "c"], "z": 1})
    p.confirms(1)
    for suffix in ("a", "b", "c"):
        p.call("basic.get", queue=s.q + suffix, no_ack=True)
        p.call("basic.get", queue=s.q + suffix, no_ack=True)


@session
def carbon_copy_only_bcc(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q)
    p.fill(s.q, b"x", headers={"BCC": ["d.nobody"]})
    p.call("basic.get", queue=s.q, no_ack=True)


@session
def dead_letter_rejected(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q + "dead")
    p.call("queue.declare", queue=s.q, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.q + "dead"})
    p.fill(s.q, b"x", headers={"own": 1, "CC": [s.q + "-cc"]}, expiration="60000", message_id="m")
    p.call("basic.get", queue=s.q)
    p.tell("basic.reject", delivery_tag=1)
    p.call("basic.consume", queue=s.q + "dead", consumer_tag="dead", no_ack=True)
    p.wait("basic.deliver")


@session
def dead_letter_twice(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q + "dead")
    p.call("queue.declare", queue=s.q, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.q})
    p.call("basic.consume", queue=s.q, consumer_tag="c")
    p.publish("", s.q, b"around")
    p.wait("basic.deliver")
    p.tell("basic.reject", delivery_tag=1)
    p.wait("basic.deliver")
    p.tell("basic.nack", delivery_tag=2)
    p.wait("basic.deliver")


@session
def dead_letter_expired_and_maxlen(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q + "dead")
    dlx = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.q + "dead"}
    p.call("queue.declare", queue=s.q + "ttl", arguments={**dlx, "x-message-ttl": 50})
    p.call("queue.declare", queue=s.q + "max", arguments={**dlx, "x-max-length": 1})
    p.call("basic.consume", queue=s.q + "dead", consumer_tag="dead", no_ack=True)
    p.publish("", s.q + "ttl", b"old")
    p.wait("basic.deliver")
    p.publish("", s.q + "ttl", b"older", expiration="20")
    p.wait("basic.deliver")
    p.publish("", s.q + "max", b"first")
    p.publish("", s.q + "max", b"second")
    p.wait("basic.deliver")


@session
def header_of_wrong_death(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q + "dead")
    p.call("queue.declare", queue=s.q, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.q + "dead"})
    p.fill(s.q, b"x", headers={"x-death": Typed("I", 5)})
    p.call("basic.get", queue=s.q)
    p.tell("basic.reject", delivery_tag=1)
    p.call("basic.consume", queue=s.q + "dead", consumer_tag="dead", no_ack=True)
    p.wait("basic.deliver")
