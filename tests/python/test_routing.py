"""Where messages go: the exchange types."""

import itertools

import pytest
from wire import Typed


class Router:
    """Queues bound to one exchange, and which of them a publish reaches."""

    def __init__(self, client, name, exchange):
        self.client, self.name, self.exchange, self.queues = client, name, exchange, {}
        client.call(2, "confirm.select")

    def bind(self, label, key="", arguments=None):
        if label not in self.queues:
            self.queues[label] = self.client.call(1, "queue.declare", exclusive=True).queue
        self.client.call(1, "queue.bind", queue=self.queues[label], exchange=self.exchange, routing_key=key,
                         arguments=arguments or {})  # fmt: skip
        return self

    def reached(self, key="", **properties):
        self.client.publish(2, self.exchange, key, b"x", **properties)
        self.client.wait(2, "basic.ack")
        counts = {
            label: self.client.call(1, "queue.purge", queue=queue).message_count for label, queue in self.queues.items()
        }
        assert set(counts.values()) <= {0, 1}, f"a queue got more than one copy: {counts}"
        return {label for label, count in counts.items() if count}


@pytest.fixture
def router(client, name):
    numbers = itertools.count()
    made = []

    def make(kind):
        exchange = name(f"{kind}{next(numbers)}")
        client.call(1, "exchange.declare", exchange=exchange, type=kind)
        made.append(exchange)
        return Router(client, name, exchange)

    yield make
    for exchange in made:
        client.call(1, "exchange.delete", exchange=exchange)


def test_default_exchange_routes_by_queue_name(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.publish(1, "", queue, b"hello")
    message = client.call(1, "basic.get", queue=queue, no_ack=True)
    assert (message.exchange, message.routing_key, message.body) == ("", queue, b"hello")


def test_direct(router):
    direct = router("direct").bind("a", "red").bind("b", "red").bind("b", "blue").bind("c", "")
    assert direct.reached("red") == {"a", "b"}
    assert direct.reached("blue") == {"b"}
    assert direct.reached("") == {"c"}
    assert direct.reached("Red") == set()


def test_fanout_ignores_keys(router):
    fanout = router("fanout").bind("a", "x").bind("b", "y").bind("b", "z")
    assert fanout.reached("whatever") == {"a", "b"}


@pytest.mark.parametrize("pattern, matching, other", [
    ("a.b", ["a.b"], ["a", "a.b.c", "a.c", ""]),
    ("a.*", ["a.b", "a."], ["a", "a.b.c", "b.a"]),
    ("*.b", ["a.b", ".b"], ["b", "a.b.c"]),
    ("#", ["", "a", "a.b.c", "..."], []),
    ("a.#", ["a", "a.b", "a.b.c"], ["b", "ab", ""]),
    ("#.b", ["b", "a.b", "a.a.b"], ["a", "b.a"]),
    ("a.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "b", "a.b.c"]),
    ("#.#", ["", "a", "a.b"], []),
    ("*.#", ["a", "a.b", "a.b.c"], []),
    ("#.*", ["a", "a.b"], []),
    ("*.*", ["a.b", "."], ["a", "a.b.c", ""]),
    ("*", ["a", "a b"], ["", "a.b", "."]),
    ("", [""], ["a", "."]),
    ("a*", ["a*"], ["ab", "a"]),
    ("#a", ["#a"], ["a", "ba"]),
    ("#.x.#", ["x", "a.x", "x.b", "a.x.b"], ["a", "a.b"]),
])  # fmt: skip
def test_topic(router, peer, pattern, matching, other):
    topic = router("topic").bind("q", pattern)
    assert [key for key in matching if topic.reached(key) != {"q"}] == []
    assert [key for key in other if topic.reached(key)] == []


def test_topic_patterns_together(router):
    topic = router("topic").bind("all", "#").bind("eu", "*.eu.#").bind("errors", "*.*.error").bind("eu", "log.eu.error")
    assert topic.reached("log.eu.error") == {"all", "eu", "errors"}
    assert topic.reached("log.us.error") == {"all", "errors"}
    assert topic.reached("log.eu") == {"all", "eu"}


def test_topic_after_unbind(router):
    topic = router("topic").bind("q", "a.#").bind("q", "a.*")
    topic.client.call(1, "queue.unbind", queue=topic.queues["q"], exchange=topic.exchange, routing_key="a.#")
    assert topic.reached("a.b") == {"q"}
    assert topic.reached("a.b.c") == set()


HEADERS = [
    ({"x-match": "all", "a": "1", "b": 2}, {"a": "1", "b": 2, "c": 3}, True),
    ({"x-match": "all", "a": "1", "b": 2}, {"a": "1"}, False),
    ({"a": "1"}, {"a": "1"}, True),  # x-match is "all" when left out
    ({"x-match": "any", "a": "1", "b": 2}, {"b": 2}, True),
    ({"x-match": "any", "a": "1", "b": 2}, {"b": 3, "a": "2"}, False),
    ({"x-match": "all"}, {"a": 1}, True),
    ({"x-match": "any"}, {"a": 1}, False),
    ({"x-match": "all"}, None, True),
    ({"x-match": "all", "a": None}, {"a": "anything"}, True),  # void asks only for presence
    ({"x-match": "all", "a": None}, {"b": "anything"}, False),
    ({"x-match": "any", "a": None}, {"a": 5}, True),
    ({"x-match": "all", "n": 5}, {"n": Typed("l", 5)}, True),  # integer widths don't matter
    ({"x-match": "all", "n": 5}, {"n": Typed("b", 5)}, True),
    ({"x-match": "all", "n": 5}, {"n": "5"}, False),
    ({"x-match": "all", "flag": True}, {"flag": True}, True),
    ({"x-match": "all", "flag": True}, {"flag": False}, False),
    ({"x-match": "all", "t": {"k": "v"}}, {"t": {"k": "v"}}, True),
    ({"x-match": "all", "l": ["a", "b"]}, {"l": ["a", "b"]}, True),
    ({"x-match": "all", "x-other": "1"}, {}, True),  # x-… keys are not compared
]
WITH_X = [
    ({"x-match": "all-with-x", "x-k": "1"}, {"x-k": "1"}, True),
    ({"x-match": "all-with-x", "x-k": "1"}, {}, False),
    ({"x-match": "any-with-x", "x-k": "1", "a": "1"}, {"x-k": "1"}, True),
]


@pytest.mark.parametrize("binding, headers, matches", HEADERS, ids=lambda v: str(v)[:60])
def test_headers(router, peer, binding, headers, matches):
    router = router("headers").bind("q", arguments=binding)
    assert bool(router.reached("ignored", headers=headers)) is matches


@pytest.mark.parametrize("binding, headers, matches", WITH_X, ids=lambda v: str(v)[:60])
def test_headers_with_x(router, binding, headers, matches):
    router = router("headers").bind("q", arguments=binding)
    assert bool(router.reached(headers=headers)) is matches


def test_one_queue_gets_one_copy_whatever_matches(router):
    topic = router("topic").bind("q", "#").bind("q", "a.*").bind("q", "a.b")
    assert topic.reached("a.b") == {"q"}


def test_cc_and_bcc_reach_more_keys(router):
    direct = router("direct").bind("a", "a").bind("b", "b").bind("c", "c")
    assert direct.reached("a", headers={"CC": ["b"]}) == {"a", "b"}
    assert direct.reached("nothing", headers={"CC": ["b"], "BCC": ["c"]}) == {"b", "c"}
    assert direct.reached("a", headers={"CC": ["a", "a"], "BCC": ["a"]}) == {"a"}


def test_bcc_is_not_delivered_and_cc_is(client, name):
    queue = name()
    client.call(1, "queue.declare", queue=queue, exclusive=True)
    client.publish(1, "", "nowhere", b"x", headers={"CC": [queue, "other"], "BCC": ["secret"], "kept": 1})
    message = client.call(1, "basic.get", queue=queue, no_ack=True)
    assert message.properties["headers"] == {"CC": [queue, "other"], "kept": 1}
    assert message.routing_key == "nowhere"
