"""Queue and exchange declarations, equivalence, arguments, deletion and bindings."""

from harness import scripted, session
from wire import Typed


def queue(name="{q}", **options):
    return ("queue.declare", {"queue": name, **options})


def exchange(name="{q}", kind="direct", **options):
    return ("exchange.declare", {"exchange": name, "type": kind, **options})


def args(**arguments):
    return {"arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}


def wrong_argument(name, value):
    return [queue(arguments={name: value})]


def redeclare(first, second):
    return [queue(**first), queue(**second)]


def rexchange(first, second):
    return [exchange(**first), exchange(**second)]


scripted("declare", {
    "queue": [queue(), queue(), queue(passive=True)],
    "queue_missing_passive": [queue(passive=True)],
    "queue_server_named": [queue(""), ("queue.delete", {})],
    "queue_reserved_name": [queue("amq.mine")],
    "queue_reserved_name_passive": [queue("amq.mine", passive=True)],
    "queue_passive_empty_name_without_declare": [queue("", passive=True)],
    "queue_name_with_line_ends": [queue("d.line\r\nend"), queue("d.lineend", passive=True)],
    "queue_long_name": [queue("d." + "x" * 253), ("queue.delete", {"queue": "d." + "x" * 253})],
    "queue_unicode_name": [queue("d.früh-日本"), ("queue.delete", {"queue": "d.früh-日本"})],
    "durable_then_not": redeclare({"durable": True}, {}),
    "not_durable_then_durable": redeclare({}, {"durable": True}),
    "auto_delete_mismatch": redeclare({"auto_delete": True}, {}),
    "exclusive_mismatch": redeclare({"exclusive": True}, {}),
    "not_exclusive_then_exclusive": redeclare({}, {"exclusive": True}),
    "exclusive_again": redeclare({"exclusive": True}, {"exclusive": True}),
    "exclusive_durable_then_not": redeclare({"exclusive": True, "durable": True}, {"exclusive": True}),
    "ttl_missing": redeclare(args(x_message_ttl=60000), {}),
    "ttl_added": redeclare({}, args(x_message_ttl=60000)),
    "ttl_changed": redeclare(args(x_message_ttl=10), args(x_message_ttl=20)),
    "ttl_integer_widths": redeclare(args(x_message_ttl=Typed("b", 100)), args(x_message_ttl=Typed("l", 100))),
    "ttl_short_and_unsigned": redeclare(args(x_message_ttl=Typed("s", 100)), args(x_message_ttl=Typed("i", 100))),
    "ttl_float": redeclare(args(x_message_ttl=10), args(x_message_ttl=10.0)),
    "unknown_argument_ignored": redeclare(args(x_made_up="a"), args(x_made_up="b")),
    "dlx_mismatch": redeclare(args(x_dead_letter_exchange="a"), args(x_dead_letter_exchange="b")),
    "dlrk_added": redeclare(args(x_dead_letter_exchange="a"),
                            args(x_dead_letter_exchange="a", x_dead_letter_routing_key="foo")),
    "max_length_byte_missing": redeclare(args(x_max_length=Typed("b", 1)), {}),
    "overflow_mismatch": redeclare(args(x_overflow="drop-head"), args(x_overflow="reject-publish")),
    "priority_mismatch": redeclare(args(x_max_priority=5), args(x_max_priority=6)),
    "queue_type_classic_equals_none": redeclare({}, args(x_queue_type="classic")),
    "single_active_mismatch": redeclare(args(x_single_active_consumer=True), {}),
    "two_mismatches_first_wins": redeclare({"durable": True}, {"auto_delete": True}),
    "ttl_negative": wrong_argument("x-message-ttl", -10),
    "ttl_text": wrong_argument("x-message-ttl", "10"),
    "ttl_zero": wrong_argument("x-message-ttl", 0),
    "ttl_huge": wrong_argument("x-message-ttl", 2**62),
    "ttl_decimal": wrong_argument("x-message-ttl", Typed("D", (1, 10))),
    "expires_zero": wrong_argument("x-expires", 0),
    "expires_negative": wrong_argument("x-expires", -10),
    "expires_text": wrong_argument("x-expires", "x"),
    "expires_bool": wrong_argument("x-expires", True),
    "max_length_negative": wrong_argument("x-max-length", -5),
    "max_length_void": wrong_argument("x-max-length", None),
    "max_length_bytes_negative": wrong_argument("x-max-length-bytes", -5),
    "max_length_bytes_text": wrong_argument("x-max-length-bytes", "5"),
    "priority_too_high": wrong_argument("x-max-priority", 260),
    "priority_negative": wrong_argument("x-max-priority", -10),
    "priority_text": wrong_argument("x-max-priority", "10"),
    "dlx_type": wrong_argument("x-dead-letter-exchange", 5),
    "dlrk_without_dlx": wrong_argument("x-dead-letter-routing-key", "k"),
    "dlrk_type": [queue(**args(x_dead_letter_exchange="x", x_dead_letter_routing_key=5))],
    "overflow_value": wrong_argument("x-overflow", "nonsense"),
    "overflow_type": wrong_argument("x-overflow", 1),
    "queue_type_value": wrong_argument("x-queue-type", "nonsense"),
    "queue_type_type": wrong_argument("x-queue-type", 1),
    "queue_mode_lazy": wrong_argument("x-queue-mode", "lazy"),
    "queue_mode_value": wrong_argument("x-queue-mode", "nonsense"),
    "queue_mode_type": wrong_argument("x-queue-mode", 1),
    "single_active_type": wrong_argument("x-single-active-consumer", "yes"),
    "exchange": [exchange(), exchange(), exchange(passive=True)],
    "exchange_missing_passive": [exchange(passive=True)],
    "exchange_unknown_type": [exchange(kind="nonsense")],
    "exchange_unknown_type_passive": [exchange(), exchange(kind="nonsense", passive=True)],
    "exchange_empty_type": [exchange(kind="")],
    "exchange_reserved_name": [exchange("amq.mine")],
    "exchange_reserved_name_passive": [exchange("amq.mine", passive=True)],
    "exchange_reserved_redeclare": [exchange("amq.direct", durable=True)],
    "exchange_reserved_mismatch": [exchange("amq.direct", "fanout", durable=True)],
    "exchange_default": [exchange("")],
    "exchange_default_passive": [exchange("", passive=True)],
    "exchange_name_with_line_ends": [exchange("d.xline\r\nend"), exchange("d.xlineend", passive=True)],
    "exchange_type_mismatch": rexchange({}, {"kind": "fanout"}),
    "exchange_durable_mismatch": rexchange({"durable": True}, {}),
    "exchange_auto_delete_mismatch": rexchange({}, {"auto_delete": True}),
    "exchange_internal_mismatch": rexchange({}, {"internal": True}),
    "exchange_alternate_mismatch": rexchange({"arguments": {"alternate-exchange": "UME"}},
                                             {"arguments": {"alternate-exchange": "somewhere"}}),
    "exchange_alternate_added": rexchange({}, {"arguments": {"alternate-exchange": "somewhere"}}),
    "exchange_alternate_type": [exchange(arguments={"alternate-exchange": 5})],
    "exchange_unknown_argument": rexchange({"arguments": {"x-foo": 1}}, {"arguments": {"x-foo": 2}}),
})  # fmt: skip

def quorum(name="{q}", durable=True, arguments=None, **options):
    return queue(name, durable=durable, arguments={"x-queue-type": "quorum", **(arguments or {})}, **options)


scripted("quorum", {
    "queue": [quorum(), quorum(), ("queue.delete", {"queue": "{q}"})],
    "exclusive": [quorum(exclusive=True)],
    "not_durable": [quorum(durable=False)],
    "auto_delete": [quorum(auto_delete=True)],
    "exclusive_and_auto_delete": [quorum(exclusive=True, auto_delete=True)],
    "not_durable_and_auto_delete": [quorum(durable=False, auto_delete=True)],
    "server_named": [quorum("")],
    "server_named_exclusive": [quorum("", exclusive=True)],
    "server_named_stream": [queue("", durable=True, arguments={"x-queue-type": "stream"})],
    "server_named_with_a_bad_argument": [quorum("", arguments={"x-max-length": -1})],
    "bad_argument_and_exclusive": [quorum(exclusive=True, arguments={"x-max-length": -1})],
    "argument_of_classic_queues": [quorum(arguments={"x-max-priority": 5})],
    "argument_on_a_classic_queue": [queue(arguments={"x-delivery-limit": 5})],
    "redeclared_transient": [quorum(), quorum(durable=False)],
    "redeclared_exclusive": [quorum(), quorum(exclusive=True)],
    "redeclared_auto_delete": [quorum(), quorum(auto_delete=True)],
    "delete_if_unused": [quorum(), ("queue.delete", {"queue": "{q}", "if_unused": True})],
    "delete_if_empty": [quorum(), ("queue.delete", {"if_empty": True})],
    "delete_if_both": [quorum(), ("queue.delete", {"queue": "{q}", "if_unused": True, "if_empty": True})],
    "delete_missing_if_unused": [("queue.delete", {"queue": "{q}", "if_unused": True})],
    "get": [quorum(), ("basic.get", {"queue": "{q}"})],
    "get_single_active": [quorum(arguments={"x-single-active-consumer": True}), ("basic.get", {"queue": "{q}"})],
    "global_prefetch": [quorum(), ("basic.qos", {"global_": True, "prefetch_count": 5}),
                        ("basic.consume", {"queue": "{q}", "consumer_tag": "c"})],
})  # fmt: skip

bind = {"queue": "{q}", "exchange": "amq.direct", "routing_key": "{q}"}
scripted("bind", {
    "queue": [queue(), ("queue.bind", bind), ("queue.bind", bind), ("queue.unbind", bind), ("queue.unbind", bind)],
    "missing_queue": [("queue.bind", bind)],
    "missing_exchange": [queue(), ("queue.bind", {**bind, "exchange": "d.none"})],
    "missing_both": [("queue.bind", {**bind, "exchange": "d.none"})],
    "default_exchange": [queue(), ("queue.bind", {**bind, "exchange": ""})],
    "unbind_default_exchange": [queue(), ("queue.unbind", {**bind, "exchange": ""})],
    "unbind_missing_queue": [("queue.unbind", bind)],
    "unbind_missing_exchange": [queue(), ("queue.unbind", {**bind, "exchange": "d.none"})],
    "no_previous_queue": [("queue.bind", {"exchange": "amq.direct"})],
    "no_previous_queue_with_key": [("queue.bind", {"exchange": "amq.direct", "routing_key": "k"})],
    "last_queue": [queue(), ("queue.bind", {"exchange": "amq.direct"}),
                   lambda p: p.publish("amq.direct", p.s.q, b"to the last queue"), ("basic.get", {"no_ack": True}),
                   ("queue.unbind", {"exchange": "amq.direct"}),
                   lambda p: p.publish("amq.direct", p.s.q, mandatory=True), lambda p: p.wait("basic.return")],
    "last_queue_with_key": [queue(), ("queue.bind", {"exchange": "amq.direct", "routing_key": "{q}k"}),
                            lambda p: p.publish("amq.direct", p.s.q + "k"), ("basic.get", {"no_ack": True})],
    "last_queue_deleted": [queue(), ("queue.delete", {"queue": "{q}"}), ("queue.purge", {})],
    "last_queue_by_passive": [queue(), lambda p: p.open(2), lambda p: p.call("queue.declare", 2, queue=p.s.q, passive=True),
                              lambda p: p.call("queue.purge", 2)],
    "exchange": [exchange(), ("exchange.bind", {"destination": "{q}", "source": "amq.fanout"}),
                 ("exchange.unbind", {"destination": "{q}", "source": "amq.fanout"}),
                 ("exchange.unbind", {"destination": "{q}", "source": "amq.fanout"})],
    "exchange_missing_source": [exchange(), ("exchange.bind", {"destination": "{q}", "source": "d.none"})],
    "exchange_missing_destination": [("exchange.bind", {"destination": "d.none", "source": "amq.fanout"})],
    "exchange_missing_both": [("exchange.bind", {"destination": "d.none", "source": "d.none2"})],
    "exchange_default_source": [exchange(), ("exchange.bind", {"destination": "{q}", "source": ""})],
    "exchange_default_destination": [("exchange.bind", {"destination": "", "source": "amq.fanout"})],
    "exchange_unbind_missing": [("exchange.unbind", {"destination": "d.none", "source": "d.none2"})],
    "exchange_unbind_default": [("exchange.unbind", {"destination": "", "source": "amq.fanout"})],
    "headers_bad_match": [queue(), ("queue.bind", {**bind, "exchange": "amq.headers",
                                                   "arguments": {"x-match": "all or any"}})],
    "headers_bad_match_type": [queue(), ("queue.bind", {**bind, "exchange": "amq.headers", "arguments": {"x-match": 23}})],
    "headers_no_match": [queue(), ("queue.bind", {**bind, "exchange": "amq.headers", "arguments": {"a": 23}})],
    "reply_to_queue": [("queue.bind", {**bind, "queue": "amq.rabbitmq.reply-to"})],
    "unbind_reply_to_queue": [("queue.unbind", {**bind, "queue": "amq.rabbitmq.reply-to"})],
})  # fmt: skip

scripted("delete", {
    "queue_missing": [("queue.delete", {"queue": "{q}"})],
    "exchange_missing": [("exchange.delete", {"exchange": "{q}"})],
    "exchange_default": [("exchange.delete", {"exchange": ""})],
    "exchange_system": [("exchange.delete", {"exchange": "amq.direct"})],
    "exchange_reserved_missing": [("exchange.delete", {"exchange": "amq.mine"})],
    "queue_no_previous": [("queue.delete", {})],
    "queue_in_use": [queue(), ("basic.consume", {"queue": "{q}", "consumer_tag": "c"}),
                     ("queue.delete", {"queue": "{q}", "if_unused": True})],
    "queue_not_empty": [queue(), lambda p: p.fill(p.s.q, b"m"), ("queue.delete", {"queue": "{q}", "if_empty": True})],
    "queue_in_use_and_not_empty": [queue(), lambda p: p.publish("", p.s.q),
                                   ("basic.consume", {"queue": "{q}", "consumer_tag": "c"}),
                                   lambda p: p.wait("basic.deliver"),
                                   ("queue.delete", {"queue": "{q}", "if_empty": True, "if_unused": True})],
    "queue_only_unacked_is_empty": [queue(), lambda p: p.fill(p.s.q, b"m"), ("basic.get", {"queue": "{q}"}),
                                    ("queue.delete", {"queue": "{q}", "if_empty": True})],
    "queue_count": [queue(), lambda p: p.fill(p.s.q, b"1", b"2", b"3"),
                    ("queue.declare", {"queue": "{q}", "passive": True}), ("queue.delete", {"queue": "{q}"})],
    "exchange_in_use_as_source": [exchange(), queue(), ("queue.bind", {"queue": "{q}", "exchange": "{q}"}),
                                  ("exchange.delete", {"exchange": "{q}", "if_unused": True})],
    "exchange_not_in_use_as_destination": [exchange(), ("exchange.bind", {"destination": "{q}", "source": "amq.fanout"}),
                                           ("exchange.delete", {"exchange": "{q}", "if_unused": True})],
    "purge": [queue(), lambda p: p.fill(p.s.q, b"1", b"2", b"3"), ("basic.get", {"queue": "{q}"}),
              ("queue.purge", {"queue": "{q}"}), ("queue.purge", {"queue": "{q}"})],
    "purge_missing": [("queue.purge", {"queue": "{q}"})],
    "purge_no_previous": [("queue.purge", {})],
})  # fmt: skip


@session
def nowait_forms(s):
    p = s.connect()
    p.open()
    p.tell("exchange.declare", exchange=s.q, type="fanout", nowait=True)
    p.tell("queue.declare", queue=s.q, nowait=True)
    p.tell("queue.bind", exchange=s.q, nowait=True)
    p.tell("exchange.bind", destination=s.q, source="amq.fanout", nowait=True)
    p.publish(s.q, "", b"1")
    p.tell("queue.purge", nowait=True)
    p.publish(s.q, "", b"2")
    p.call("basic.get", no_ack=True)
    p.tell("exchange.unbind", destination=s.q, source="amq.fanout", nowait=True)
    p.tell("queue.delete", nowait=True)
    p.tell("exchange.delete", exchange=s.q, nowait=True)
    p.call("exchange.declare", exchange=s.q, passive=True)


@session
def nowait_error(s):
    p = s.connect()
    p.open()
    p.tell("queue.declare", queue=s.q, passive=True, nowait=True)
    p.quiet()


@session
def nowait_server_named(s):
    p = s.connect()
    p.open()
    p.tell("queue.declare", nowait=True)
    p.call("queue.purge")


@session
def locked_from_elsewhere(s):
    owner, other = s.connect(), s.connect()
    owner.open()
    owner.call("queue.declare", queue=s.q, exclusive=True)
    owner.call("queue.bind", queue=s.q, exchange="amq.direct", routing_key=s.q)
    other.open()
    attempts = [
        ("queue.declare", {}), ("queue.declare", {"passive": True}), ("queue.declare", {"exclusive": True}),
        ("queue.bind", {"exchange": "amq.direct"}), 
        ("queue.unbind", {"exchange": "amq.direct", "routing_key": s.q}), ("queue.purge", {}), ("queue.delete", {}), ("basic.get", {}), ("basic.consume", {}),
    ]  # fmt: skip
    for method, options in attempts:
        other.open()
        other.call(method, queue=s.q, **options)
    other.open()
    other.tell("confirm.select", nowait=True)
    other.publish("", s.q, mandatory=True)
    other.confirms(1)


@session
def locked_unbind_of_what_is_not_bound(s):
    owner, other = s.connect(), s.connect()
    owner.open()
    owner.call("queue.declare", queue=s.q, exclusive=True)
    other.open()
    other.call("queue.unbind", queue=s.q, exchange="amq.direct", routing_key="not bound")


@session
def exclusive_goes_with_its_connection(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, exclusive=True)
    p.tell("connection.close", 0, reply_code=200, reply_text="bye")
    p.wait("connection.close-ok", ch=0)
    again = s.connect()
    again.open()
    again.call("queue.declare", queue=s.q, passive=True)


@session
def auto_delete_queue(s):
    p = s.connect()
    p.open()
    p.call("queue.declare", queue=s.q, auto_delete=True)
    p.call("basic.consume", queue=s.q, consumer_tag="a")
    p.call("basic.consume", queue=s.q, consumer_tag="b")
    p.call("basic.cancel", consumer_tag="a")
    p.call("queue.declare", queue=s.q, passive=True)
    p.call("basic.cancel", consumer_tag="b")
    p.call("queue.declare", queue=s.q, passive=True)


@session
def auto_delete_queue_on_channel_close(s):
    p = s.connect()
    p.open()
    p.open(2)
    p.call("queue.declare", queue=s.q, auto_delete=True)
    p.call("basic.consume", 2, queue=s.q, consumer_tag="a")
    p.call("channel.close", 2, reply_code=200)
    p.quiet()
    p.call("queue.declare", queue=s.q, passive=True)


@session
def auto_delete_exchange(s):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type="fanout", auto_delete=True)
    p.call("queue.declare", queue=s.q)
    p.call("queue.bind", queue=s.q, exchange=s.q)
    p.call("queue.bind", queue=s.q, exchange=s.q, routing_key="2")
    p.call("queue.unbind", queue=s.q, exchange=s.q)
    p.call("exchange.declare", exchange=s.q, passive=True)
    p.call("queue.unbind", queue=s.q, exchange=s.q, routing_key="2")
    p.call("exchange.declare", exchange=s.q, passive=True)


@session
def auto_delete_exchange_when_queue_goes(s):
    p = s.connect()
    p.open()
    p.call("exchange.declare", exchange=s.q, type="fanout", auto_delete=True)
    p.call("queue.declare", queue=s.q)
    p.call("queue.bind", queue=s.q, exchange=s.q)
    p.call("queue.delete", queue=s.q)
    p.call("exchange.declare", exchange=s.q, passive=True)
