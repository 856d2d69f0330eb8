"""Every refusal that a client logged in as guest can provoke: its level, code, exact text and failing method.

The texts are RabbitMQ 3.13's and later; `old` holds 3.10's where it differs. `{q}`, `{x}` and so on stand for
names made for the test.
"""

from dataclasses import dataclass, field

import pytest
import wire
from wire import Typed

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{q}' in vhost '/'. It could be "
    "originally declared on another connection or the exclusive property value does not match that of the "
    "original declaration."
)


@dataclass
class Case:
    """Steps on channel 1, the last of which is refused."""

    id: str
    steps: list
    code: int
    text: str
    level: str = "channel"
    old: dict = field(default_factory=dict)


def declare(**args):
    return "queue.declare", {"queue": "{q}", "exclusive": True, **args}


def exchange(**args):
    return "exchange.declare", {"exchange": "{x}", "type": "direct", "auto_delete": True, **args}


def publish(**args):
    return "basic.publish", args


def redeclared(id, first, second, text, **old):
    steps = [declare(**first), declare(**second)]
    return Case(id, steps, 406, f"PRECONDITION_FAILED - inequivalent arg {text}", old=old)


def bad_queue_argument(name, value, text, id=None, **more):
    arguments = {name: value, **more}
    return Case(id or f"{name}={value}", [declare(arguments=arguments)], 406, f"PRECONDITION_FAILED - {text}")


def invalid(name, value, reason, id=None, **more):
    return bad_queue_argument(name, value, f"invalid arg '{name}' for queue '{{q}}' in vhost '/': {reason}", id, **more)


MISSING_QUEUE = "NOT_FOUND - no queue '{q}' in vhost '/'"
MISSING_EXCHANGE = "NOT_FOUND - no exchange '{x}' in vhost '/'"
DEFAULT_EXCHANGE = "ACCESS_REFUSED - operation not permitted on the default exchange"
NO_LAST_QUEUE = "NOT_FOUND - no previously declared queue"

NOT_FOUND = [
    Case("passive queue", [declare(passive=True)], 404, MISSING_QUEUE),
    Case("passive exchange", [exchange(passive=True)], 404, MISSING_EXCHANGE),
    Case("consume", [("basic.consume", {"queue": "{q}"})], 404, MISSING_QUEUE),
    Case("get", [("basic.get", {"queue": "{q}"})], 404, MISSING_QUEUE),
    Case("purge", [("queue.purge", {"queue": "{q}"})], 404, MISSING_QUEUE),
    Case("bind queue", [("queue.bind", {"queue": "{q}", "exchange": "amq.direct"})], 404, MISSING_QUEUE),
    Case("bind to missing exchange", [declare(), ("queue.bind", {"queue": "{q}", "exchange": "{x}"})], 404,
         MISSING_EXCHANGE),
    Case("bind exchange from missing", [("exchange.bind", {"destination": "amq.fanout", "source": "{x}"})], 404,
         MISSING_EXCHANGE),
    Case("bind exchange to missing", [("exchange.bind", {"destination": "{x}", "source": "amq.fanout"})], 404,
         MISSING_EXCHANGE),
    Case("publish", [publish(exchange="{x}")], 404, MISSING_EXCHANGE),
    Case("get without a queue", [("basic.get", {})], 404, NO_LAST_QUEUE),
    Case("consume without a queue", [("basic.consume", {})], 404, NO_LAST_QUEUE),
    Case("purge without a queue", [("queue.purge", {})], 404, NO_LAST_QUEUE),
    Case("delete without a queue", [("queue.delete", {})], 404, NO_LAST_QUEUE),
    Case("bind without a queue", [("queue.bind", {"exchange": "amq.direct"})], 404, NO_LAST_QUEUE),
    Case("unbind without a queue", [("queue.unbind", {"exchange": "amq.direct"})], 404, NO_LAST_QUEUE),
]  # fmt: skip

ACCESS_REFUSED = [
    Case("reserved queue name", [declare(queue="amq.test")], 403,
         "ACCESS_REFUSED - queue name 'amq.test' contains reserved prefix 'amq.*'"),
    Case("reserved exchange name", [exchange(exchange="amq.test")], 403,
         "ACCESS_REFUSED - exchange name 'amq.test' contains reserved prefix 'amq.*'"),
    Case("declare the default exchange", [exchange(exchange="")], 403, DEFAULT_EXCHANGE),
    Case("passive declare of the default exchange", [exchange(exchange="", passive=True)], 403, DEFAULT_EXCHANGE),
    Case("delete the default exchange", [("exchange.delete", {"exchange": ""})], 403, DEFAULT_EXCHANGE),
    Case("bind to the default exchange", [declare(), ("queue.bind", {"queue": "{q}", "exchange": ""})], 403,
         DEFAULT_EXCHANGE),
    Case("unbind from the default exchange", [declare(), ("queue.unbind", {"queue": "{q}", "exchange": ""})], 403,
         DEFAULT_EXCHANGE),
    Case("bind an exchange to the default one", [("exchange.bind", {"destination": "amq.fanout", "source": ""})],
         403, DEFAULT_EXCHANGE),
    Case("bind the default exchange", [("exchange.bind", {"destination": "", "source": "amq.fanout"})], 403,
         DEFAULT_EXCHANGE),
    Case("delete a system exchange", [("exchange.delete", {"exchange": "amq.direct"})], 403,
         "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"),
    Case("publish to an internal exchange", [exchange(internal=True), publish(exchange="{x}")], 403,
         "ACCESS_REFUSED - cannot publish to internal exchange '{x}' in vhost '/'"),
    Case("second consumer beside an exclusive one",
         [declare(), ("basic.consume", {"queue": "{q}", "exclusive": True}), ("basic.consume", {"queue": "{q}"})],
         403, "ACCESS_REFUSED - queue '{q}' in vhost '/' in exclusive use"),
    Case("exclusive consumer beside another",
         [declare(), ("basic.consume", {"queue": "{q}"}), ("basic.consume", {"queue": "{q}", "exclusive": True})],
         403, "ACCESS_REFUSED - queue '{q}' in vhost '/' in exclusive use"),
]  # fmt: skip

INEQUIVALENT = [
    redeclared("durable", {"exclusive": False, "auto_delete": True},
               {"exclusive": False, "auto_delete": True, "durable": True},
               "'durable' for queue '{q}' in vhost '/': received 'true' but current is 'false'"),
    redeclared("auto_delete", {}, {"auto_delete": True},
               "'auto_delete' for queue '{q}' in vhost '/': received 'true' but current is 'false'"),
    redeclared("x-max-length absent", {"arguments": {"x-max-length": Typed("b", 1)}}, {},
               "'x-max-length' for queue '{q}' in vhost '/': received none but current is the value '1' of "
               "type 'byte'"),
    redeclared("x-max-length absent long", {"arguments": {"x-max-length": Typed("l", 1)}}, {},
               "'x-max-length' for queue '{q}' in vhost '/': received none but current is the value '1' of "
               "type 'long'"),
    redeclared("x-max-length added", {}, {"arguments": {"x-max-length": 1}},
               "'x-max-length' for queue '{q}' in vhost '/': received the value '1' of type 'signedint' but "
               "current is none"),
    redeclared("x-max-length differs", {"arguments": {"x-max-length": 99}}, {"arguments": {"x-max-length": 10}},
               "'x-max-length' for queue '{q}' in vhost '/': received '10' but current is '99'"),
    redeclared("x-message-ttl float", {"arguments": {"x-message-ttl": 10}},
               {"arguments": {"x-message-ttl": 20}},
               "'x-message-ttl' for queue '{q}' in vhost '/': received '20' but current is '10'"),
    redeclared("x-expires differs", {"arguments": {"x-expires": 60000}}, {"arguments": {"x-expires": 70000}},
               "'x-expires' for queue '{q}' in vhost '/': received '70000' but current is '60000'"),
    redeclared("x-dead-letter-exchange differs", {"arguments": {"x-dead-letter-exchange": "dlx_foo"}},
               {"arguments": {"x-dead-letter-exchange": "dlx_bar"}},
               "'x-dead-letter-exchange' for queue '{q}' in vhost '/': received 'dlx_bar' but current is 'dlx_foo'"),
    redeclared("x-dead-letter-routing-key added", {"arguments": {"x-dead-letter-exchange": "dlx"}},
               {"arguments": {"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "foo"}},
               "'x-dead-letter-routing-key' for queue '{q}' in vhost '/': received the value 'foo' of type "
               "'longstr' but current is none"),
    redeclared("x-max-length-bytes differs", {"arguments": {"x-max-length-bytes": 5}},
               {"arguments": {"x-max-length-bytes": 6}},
               "'x-max-length-bytes' for queue '{q}' in vhost '/': received '6' but current is '5'"),
    redeclared("x-max-priority differs", {"arguments": {"x-max-priority": 5}},
               {"arguments": {"x-max-priority": 6}},
               "'x-max-priority' for queue '{q}' in vhost '/': received '6' but current is '5'"),
    Case("exchange durable", [exchange(), exchange(durable=True)], 406,
         "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange '{x}' in vhost '/': received 'true' but "
         "current is 'false'"),
    Case("exchange type", [exchange(), exchange(type="topic")], 406,
         "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{x}' in vhost '/': received 'topic' but "
         "current is 'direct'"),
    Case("exchange auto_delete", [exchange(), exchange(auto_delete=False)], 406,
         "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for exchange '{x}' in vhost '/': received 'false' "
         "but current is 'true'"),
    Case("exchange internal", [exchange(), exchange(internal=True)], 406,
         "PRECONDITION_FAILED - inequivalent arg 'internal' for exchange '{x}' in vhost '/': received 'true' "
         "but current is 'false'"),
    Case("alternate exchange", [exchange(arguments={"alternate-exchange": "UME"}),
                                exchange(arguments={"alternate-exchange": "somewhere"})], 406,
         "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{x}' in vhost '/': received "
         "'somewhere' but current is 'UME'"),
    Case("system exchange with another type", [exchange(exchange="amq.direct", type="fanout", durable=True,
                                                        auto_delete=False)], 406,
         "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'fanout' "
         "but current is 'direct'"),
]  # fmt: skip

ARGUMENTS = [
    invalid("x-expires", 0, "{value_zero,0}"),
    invalid("x-expires", -10, "{value_negative,-10}"),
    invalid("x-expires", "soon", '"expected integer, got longstr"'),
    invalid("x-message-ttl", -10, "{value_negative,-10}"),
    invalid("x-message-ttl", "10", '"expected integer, got longstr"'),
    invalid("x-message-ttl", 10.5, '"expected integer, got double"'),
    invalid("x-message-ttl", True, '"expected integer, got bool"'),
    invalid("x-max-length", -5, "{value_negative,-5}"),
    invalid("x-max-length", "5", '"expected integer, got longstr"'),
    invalid("x-max-length-bytes", -5, "{value_negative,-5}"),
    invalid("x-max-priority", 260, "{max_value_exceeded,260}"),
    invalid("x-max-priority", -10, "{value_negative,-10}"),
    invalid("x-max-priority", "high", '"expected integer, got longstr"'),
    invalid("x-dead-letter-routing-key", "key", "routing_key_but_no_dlx_defined"),
    invalid("x-dead-letter-routing-key", 5, "{unacceptable_type,signedint}", None, **{"x-dead-letter-exchange": "d"}),
    bad_queue_argument("x-dead-letter-exchange", 5,
                       "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{q}' in vhost '/'"),
    invalid("x-overflow", "spill", "invalid_overflow"),
    invalid("x-single-active-consumer", 1, "{unacceptable_type,signedint}"),
    Case("x-queue-type unknown", [declare(arguments={"x-queue-type": "nosuch"})], 406,
         "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue '{q}' in vhost '/': \"unsupported queue type "
         "'nosuch'\""),
    Case("x-queue-type not a string", [declare(arguments={"x-queue-type": 1})], 406,
         "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue '{q}' in vhost '/': {unacceptable_type,signedint}"),
    *[Case(f"x-priority {kind}", [declare(), ("basic.consume", {"queue": "{q}", "arguments": {"x-priority": value}})],
           406, "PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{q}' in vhost '/': "
           f'"expected integer, got {kind}"')
      for kind, value in [("table", {}), ("longstr", "1"), ("array", []), ("void", None)]],
    Case("alternate-exchange not a string", [exchange(arguments={"alternate-exchange": 5})], 406,
         "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange '{x}' in vhost "
         "'/'"),
    Case("unknown exchange type", [exchange(type="nosuch")], 406,
         "PRECONDITION_FAILED - unknown exchange type 'nosuch'",
         old={"level": "connection", "code": 503, "text": "COMMAND_INVALID - unknown exchange type 'nosuch'"}),
    *[Case(f"x-match {value!r}", [declare(), ("queue.bind", {"queue": "{q}", "exchange": "amq.headers",
                                                             "arguments": {"x-match": value}})], 406, text)
      for value, text in [
          (23, "PRECONDITION_FAILED - Invalid x-match field type signedint (value 23); expected longstr"),
          ("most", 'PRECONDITION_FAILED - Invalid x-match field value <<"most">>; expected all, any, all-with-x, '
                   "or any-with-x"),
      ]],
]  # fmt: skip

IN_USE = [
    Case("delete a queue in use", [declare(), ("basic.consume", {"queue": "{q}"}),
                                   ("queue.delete", {"queue": "{q}", "if_unused": True})], 406,
         "PRECONDITION_FAILED - queue '{q}' in vhost '/' in use"),
    Case("delete a queue that is not empty", [declare(), publish(routing_key="{q}", body=b"x"),
                                              ("queue.delete", {"queue": "{q}", "if_empty": True})], 406,
         "PRECONDITION_FAILED - queue '{q}' in vhost '/' not empty"),
    Case("delete an exchange in use", [exchange(), declare(), ("queue.bind", {"queue": "{q}", "exchange": "{x}"}),
                                       ("exchange.delete", {"exchange": "{x}", "if_unused": True})], 406,
         "PRECONDITION_FAILED - exchange '{x}' in vhost '/' in use"),
]  # fmt: skip


def wrong_tag(id, *steps, tag):
    return Case(id, list(steps), 406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")


ONE = [declare(), publish(routing_key="{q}", body=b"1")]
GET = ("basic.get", {"queue": "{q}"})

TAGS = [
    wrong_tag("ack unknown", ("basic.ack", {"delivery_tag": 82}), tag=82),
    wrong_tag("ack unknown multiple", ("basic.ack", {"delivery_tag": 82, "multiple": True}), tag=82),
    wrong_tag("nack unknown", ("basic.nack", {"delivery_tag": 82}), tag=82),
    wrong_tag("nack unknown multiple", ("basic.nack", {"delivery_tag": 3, "multiple": True}), tag=3),
    wrong_tag("reject unknown", ("basic.reject", {"delivery_tag": 82}), tag=82),
    wrong_tag("ack zero", ("basic.ack", {"delivery_tag": 0}), tag=0),
    wrong_tag("reject zero", ("basic.reject", {"delivery_tag": 0}), tag=0),
    wrong_tag("ack twice", *ONE, GET, ("basic.ack", {"delivery_tag": 1}), ("basic.ack", {"delivery_tag": 1}), tag=1),
    wrong_tag("ack after multiple", *ONE, publish(routing_key="{q}", body=b"2"), GET, GET,
              ("basic.ack", {"delivery_tag": 2, "multiple": True}), ("basic.ack", {"delivery_tag": 1}), tag=1),
    wrong_tag("ack of a no-ack get", *ONE, ("basic.get", {"queue": "{q}", "no_ack": True}),
              ("basic.ack", {"delivery_tag": 1}), tag=1),
    wrong_tag("reject after nack", *ONE, GET, ("basic.nack", {"delivery_tag": 1}),
              ("basic.reject", {"delivery_tag": 1}), tag=1),
    wrong_tag("ack after recover", *ONE, GET, ("basic.recover", {"requeue": True}),
              ("basic.ack", {"delivery_tag": 1}), tag=1),
]  # fmt: skip


def publishing(id, text, **args):
    return Case(id, [declare(), publish(routing_key="{q}", body=b"x", **args)], 406, f"PRECONDITION_FAILED - {text}")


PUBLISH = [
    publishing("negative expiration", "invalid expiration '-10': {value_negative,-10}", expiration="-10"),
    publishing("expiration with letters", "invalid expiration '100foobar': {leftover_string,\"foobar\"}",
               expiration="100foobar"),
    publishing("expiration of letters", "invalid expiration 'foobar': no_integer", expiration="foobar"),
    publishing("empty expiration", "invalid expiration '': no_integer", expiration=""),
    publishing("CC not an array", 'invalid message: {unacceptable_type_in_header,"CC",signedint}',
               headers={"CC": 5}),
    publishing("BCC not an array", 'invalid message: {unacceptable_type_in_header,"BCC",longstr}',
               headers={"BCC": "queue"}),
    publishing("user id of another", "user_id property set to 'not the guest, honest' but authenticated user was "
               "'guest'", user_id="not the guest, honest"),
    publishing("reply-to without a consumer", "fast reply consumer does not exist",
               reply_to="amq.rabbitmq.reply-to"),
]  # fmt: skip

REPLY_TO = "amq.rabbitmq.reply-to"
MODES = [
    Case("confirm after tx", [("tx.select", {}), ("confirm.select", {})], 406,
         "PRECONDITION_FAILED - cannot switch from tx to confirm mode"),
    Case("tx after confirm", [("confirm.select", {}), ("tx.select", {})], 406,
         "PRECONDITION_FAILED - cannot switch from confirm to tx mode"),
    Case("commit without select", [("tx.commit", {})], 406, "PRECONDITION_FAILED - channel is not transactional"),
    Case("rollback without select", [("tx.rollback", {})], 406, "PRECONDITION_FAILED - channel is not transactional"),
    Case("reply consumer with acks", [("basic.consume", {"queue": REPLY_TO})], 406,
         "PRECONDITION_FAILED - reply consumer cannot acknowledge"),
    Case("second reply consumer", [("basic.consume", {"queue": REPLY_TO, "no_ack": True})] * 2, 406,
         "PRECONDITION_FAILED - reply consumer already set"),
    Case("immediate", [publish(routing_key="{q}", immediate=True)], 540, "NOT_IMPLEMENTED - immediate=true",
         level="connection"),
    Case("prefetch_size", [("basic.qos", {"prefetch_size": 1000})], 540, "NOT_IMPLEMENTED - prefetch_size!=0 (1000)",
         level="connection"),
    Case("flow off", [("channel.flow", {"active": False})], 540, "NOT_IMPLEMENTED - active=false", level="connection"),
    Case("recover without requeue", [("basic.recover", {"requeue": False})], 540, "NOT_IMPLEMENTED - requeue=false",
         level="connection"),
    Case("recover-async without requeue", [("basic.recover-async", {"requeue": False})], 540,
         "NOT_IMPLEMENTED - requeue=false", level="connection"),
    Case("consumer tag twice", [declare(), *[("basic.consume", {"queue": "{q}", "consumer_tag": "tag"})] * 2], 530,
         "NOT_ALLOWED - attempt to reuse consumer tag 'tag'", level="connection"),
    Case("channel open twice", [("channel.open", {})], 504, "CHANNEL_ERROR - second 'channel.open' seen",
         level="connection"),
]  # fmt: skip

CASES = NOT_FOUND + ACCESS_REFUSED + INEQUIVALENT + ARGUMENTS + IN_USE + TAGS + PUBLISH + MODES
WITHOUT_ANSWER = {"basic.publish", "basic.ack", "basic.nack", "basic.reject", "basic.recover-async"}


def cut(text):
    """A reply text as it fits a short string."""
    return text if len(text) <= 255 else text[:252] + "..."


def fill(value, names):
    if isinstance(value, str):
        for key, replacement in names.items():
            value = value.replace("{" + key + "}", replacement)
    return value


def send(client, method, args):
    if method == "basic.publish" and args.get("immediate"):
        client.send_raw(wire.method_frame(1, method, **args) + wire.content_frames(1, b"x"))
    elif method == "basic.publish":
        client.publish(1, **args)
    else:
        client.send(1, method, **args)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refusal(case, connect, name, peer):
    names = {"q": name("queue"), "x": name("exchange")}
    client = connect(channels=2)
    steps = [(method, {k: fill(v, names) for k, v in args.items()}) for method, args in case.steps]
    for method, args in steps[:-1]:
        if method in WITHOUT_ANSWER:
            send(client, method, args)
        else:
            client.call(1, method, **args)
    method, args = steps[-1]
    send(client, method, args)
    close = client.closing(1)
    expected = {"level": case.level, "code": case.code, "text": case.text, **(case.old if peer.rabbitmq_310 else {})}
    level = close.name.split(".")[0]
    assert {"level": level, "code": close.reply_code, "text": close.reply_text} == {
        **expected, "text": cut(fill(expected["text"], names))
    }  # fmt: skip
    assert (close.class_id, close.method_id) == wire.METHODS[method][:2]
    if level == "channel":  # the rest of the connection goes on
        client.call(2, "queue.declare", queue=names["q"] + ".alive", exclusive=True)


@pytest.mark.parametrize(
    "method, args",
    [
        ("queue.declare", {"exclusive": True}),
        ("queue.declare", {"passive": True}),
        ("queue.bind", {"exchange": "amq.direct", "routing_key": "key"}),
        ("queue.unbind", {"exchange": "amq.direct", "routing_key": "key"}),
        ("queue.purge", {}),
        ("queue.delete", {}),
        ("basic.get", {}),
        ("basic.consume", {}),
    ],
)
def test_exclusive_queue_of_another_connection(connect, name, method, args):
    queue = name()
    owner, other = connect(), connect()
    owner.call(1, "queue.declare", queue=queue, exclusive=True)
    owner.call(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key="key")
    close = other.refusal(1, method, queue=queue, **args)
    assert (close.name, close.reply_code) == ("channel.close", 405)
    assert close.reply_text == cut(LOCKED.replace("{q}", queue))
    assert (close.class_id, close.method_id) == wire.METHODS[method][:2]


def test_redeclaring_an_exclusive_queue_as_shared_on_its_own_connection(connect, name):
    queue = name()
    client = connect()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    close = client.refusal(1, "queue.declare", queue=queue)
    assert (close.name, close.reply_code) == ("channel.close", 405)
    assert close.reply_text == cut(LOCKED.replace("{q}", queue))


def test_redeclaring_a_shared_queue_as_exclusive(connect, name):
    queue = name()
    client = connect()
    client.call(1, "queue.declare", queue=queue, auto_delete=True)
    close = client.refusal(1, "queue.declare", queue=queue, exclusive=True, auto_delete=True)
    assert (close.name, close.reply_code) == ("channel.close", 405)
    assert close.reply_text == cut(LOCKED.replace("{q}", queue))
    client.open_channel(1)
    client.call(1, "queue.delete", queue=queue)


def test_long_texts_are_cut_at_255_octets(connect):
    queue = "q" * 240
    client = connect()
    close = client.refusal(1, "queue.declare", queue=queue, passive=True)
    assert close.reply_code == 404
    assert close.reply_text == cut(f"NOT_FOUND - no queue '{queue}' in vhost '/'")
