"""Direct reply-to: the pseudo-queue `amq.rabbitmq.reply-to`."""

from harness import scripted, session

PSEUDO = "amq.rabbitmq.reply-to"

scripted("reply_to", {
    "must_not_ack": [("basic.consume", {"queue": PSEUDO})],
    "twice": [("basic.consume", {"queue": PSEUDO, "no_ack": True, "consumer_tag": "a"}),
              ("basic.consume", {"queue": PSEUDO, "no_ack": True, "consumer_tag": "b"})],
    "again_after_cancel": [("basic.consume", {"queue": PSEUDO, "no_ack": True, "consumer_tag": "a"}),
                           ("basic.cancel", {"consumer_tag": "a"}),
                           ("basic.consume", {"queue": PSEUDO, "no_ack": True, "consumer_tag": "b"})],
    "named_tag_missing": [("basic.consume", {"queue": PSEUDO, "no_ack": True})],
    "same_tag_twice": [("basic.consume", {"queue": PSEUDO, "no_ack": True, "consumer_tag": "a"})] * 2,
    "tag_of_a_consumer": [("queue.declare", {"queue": "{q}"}),
                          ("basic.consume", {"queue": "{q}", "consumer_tag": "a"}),
                          ("basic.consume", {"queue": PSEUDO, "consumer_tag": "a"})],
    "tag_of_the_reply_consumer": [("queue.declare", {"queue": "{q}"}),
                                  ("basic.consume", {"queue": PSEUDO, "no_ack": True, "consumer_tag": "a"}),
                                  ("basic.consume", {"queue": "{q}", "consumer_tag": "a"})],
    "passive_declare_of_prefix": [("queue.declare", {"queue": PSEUDO, "passive": True})],
    "declare_of_prefix": [("queue.declare", {"queue": PSEUDO})],
    "declare_of_gone": [("queue.declare", {"queue": PSEUDO + ".nonsense", "passive": True})],
    "delete": [("queue.delete", {"queue": PSEUDO})],
    "purge": [("queue.purge", {"queue": PSEUDO})],
    "get": [("basic.get", {"queue": PSEUDO, "no_ack": True})],
    "exclusive": [("basic.consume", {"queue": PSEUDO, "no_ack": True, "exclusive": True, "consumer_tag": "a"})],
})  # fmt: skip


def asked(s):
    """A requester that consumes replies, a responder, and the reply address the responder saw."""
    asker, responder = s.connect(), s.connect()
    asker.open()
    responder.open()
    responder.call("queue.declare", queue=s.q)
    asker.call("basic.consume", queue=PSEUDO, no_ack=True, consumer_tag="replies")
    asker.publish("", s.q, b"question", reply_to=PSEUDO, correlation_id="7")
    responder.call("basic.consume", queue=s.q, no_ack=True, consumer_tag="c")
    return asker, responder, responder.wait("basic.deliver").properties["reply_to"]


@session
def round_trip(s):
    asker, responder, address = asked(s)
    responder.call("queue.declare", queue=address, passive=True)
    responder.publish("", address, b"answer", mandatory=True, correlation_id="7")
    asker.wait("basic.deliver")
    responder.quiet()


@session
def requester_gone(s):
    asker, responder, address = asked(s)
    asker.call("channel.close", reply_code=200)
    responder.call("confirm.select")
    responder.publish("", address, b"answer")
    responder.confirms(1)
    responder.call("queue.declare", queue=address, passive=True)


@session
def mandatory_to_nowhere(s):
    p = s.connect()
    p.open()
    p.publish("", PSEUDO + ".nonsense", b"answer", mandatory=True)
    p.settle()
    p.quiet()


@session
def after_cancel(s):
    asker, responder, address = asked(s)
    asker.call("basic.cancel", consumer_tag="replies")
    responder.publish("", address, b"answer")
    asker.quiet()
    asker.publish("", s.q, b"again", reply_to=PSEUDO)
    asker.settle()
