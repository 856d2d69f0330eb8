"""The checker against made-up histories: each violation is found, and none where nothing is wrong.

A checker that cannot fail proves nothing, so every rule has a history here that breaks it and nothing else.
"""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from check import Checker  # noqa: E402
from history import History, Message  # noqa: E402


class Story(History):
    """A history told step by step, on a clock that only `wait` moves."""

    def __init__(self):
        self.now = 100.0
        super().__init__(clock=lambda: self.now)
        self.channels, self.messages, self.number = 0, {}, 0
        self.start()

    def wait(self, seconds):
        self.now += seconds
        return self

    def start(self):
        self.number += 1
        self.epoch(self.number)
        return self

    def restart(self, how="kill"):
        self.fault(how)
        self.wait(0.1)
        return self.start()

    def channel(self, mode="plain"):
        self.channels += 1
        name = f"c{self.channels}"
        self.add("open", name, mode)
        return name

    def publish(self, channel, id, queues="q", **rest):
        rest.setdefault("digest", 7)
        message = self.messages[id] = Message(id, exchange="x", key="k", queues=queues.split(), **rest)
        self.add("publish", channel, message)

    def confirmed(self, *ids, queues="q", **rest):
        """Each on a confirm channel of its own."""
        for id in ids:
            channel = self.channel("confirm")
            self.publish(channel, id, queues, **rest)
            self.add("confirm", channel, 1, False, True)

    def consumer(self, queue="q", mode="push", prefetch=10):
        channel = self.channel()
        self.add("attach", channel, queue, mode, prefetch)
        return channel

    def deliver(self, channel, tag, id, redelivered=False, queue="q", digest=7, exchange="x", key="k"):
        self.add("deliver", channel, tag, queue, id, redelivered, digest, exchange, key)

    def held(self, id, mode="push"):
        """Confirmed and delivered to a consumer of its own; its channel."""
        self.confirmed(id)
        channel = self.consumer(mode=mode)
        self.deliver(channel, 1, id)
        return channel

    def ack(self, channel, tag, multiple=False, how="ack", answered=True):
        self.add("settle", channel, tag, multiple, how)
        if answered:
            self.ask(channel)

    def take(self, channel, tag, id, redelivered=False, queue="q", how="ack", **rest):
        """Delivered, settled and answered for."""
        self.deliver(channel, tag, id, redelivered, queue, **rest)
        self.ack(channel, tag, how=how)

    def ask(self, channel):
        self.add("ask", channel, 1)
        self.add("answered", channel, 1)

    def close(self, channel):
        self.add("closing", channel)
        self.add("closed", channel)

    def purge(self, queue="q"):
        channel = self.channel()
        self.add("purge", channel, queue)
        self.add("purged", channel, queue)

    def define(self, how, *things):
        """Each answered before the next."""
        for thing in things:
            self.add("define", (how, thing))
            self.add("defined", (how, thing))

    def drain(self, *ids, queue="q", redelivered=True):
        channel = self.consumer(queue)
        for tag, id in enumerate(ids, 1):
            self.take(channel, tag, id, redelivered, queue)

    def verdict(self, **options):
        checker = Checker(**options)
        checker.feed(self)
        return checker.finish()


@pytest.fixture
def story():
    return Story()


def expect(story, invariant, *words, **options):
    """Exactly one violation, of this invariant, whose text holds the words."""
    violations = story.verdict(**options)
    assert [v.invariant for v in violations] == [invariant], [str(v) for v in violations]
    for word in words:
        assert word in violations[0].text
    assert violations[0].about or invariant == "client"


def expect_nothing(story):
    assert [str(v) for v in story.verdict()] == []


# --- I1 ----------------------------------------------------------------------------------------------


def test_a_confirmed_message_that_comes_back_is_not_lost(story):
    story.confirmed("p-1", queues="q r")
    story.restart()
    story.drain("p-1")
    story.drain("p-1", queue="r")
    expect_nothing(story)


def test_a_confirmed_message_that_never_comes_is_lost(story):
    story.confirmed("p-1")
    story.restart().drain()
    expect(story, "I1", "confirmed message lost", "q has lost", "never delivered")


def test_it_must_come_from_each_queue(story):
    story.confirmed("p-1", queues="q r")
    story.restart().drain("p-1")
    expect(story, "I1", "r has lost")


def test_what_was_delivered_and_not_settled_must_come_again(story):
    story.held("p-1")
    story.restart()
    expect(story, "I1", "delivered 1 times")


def test_what_was_requeued_must_come_again(story):
    channel = story.held("p-1")
    story.ack(channel, 1, how="requeue")
    expect(story, "I1", "delivered 1 times")


def test_unconfirmed_and_transient_messages_may_be_lost_by_a_kill(story):
    story.publish(story.channel("confirm"), "p-1")
    story.confirmed("p-2", persistent=False)
    story.restart()
    expect_nothing(story)


def test_a_refused_publish_secures_nothing(story):
    channel = story.channel("confirm")
    story.publish(channel, "p-1")
    story.add("confirm", channel, 1, False, False)
    story.restart()
    expect(story, "I9", "nothing was wrong")
    assert story.verdict(forgiving_nacks=True) == []


@pytest.mark.parametrize("how", ["ack", "drop"])
def test_an_attempt_to_settle_counts_as_removal(story, how):
    channel = story.held("p-1")
    story.ack(channel, 1, how=how, answered=False)
    story.restart()
    expect_nothing(story)


def test_a_purge_removes_what_was_there_and_not_what_came_later(story):
    story.confirmed("p-1")
    story.purge()
    story.confirmed("p-2")
    story.restart()
    expect(story, "I1", "p-2")


def test_a_deletion_removes_what_was_there_and_not_what_came_later(story):
    story.confirmed("p-1")
    story.define("remove", ("queue", "q"))
    story.define("add", ("queue", "q"))
    story.confirmed("p-2")
    story.restart()
    expect(story, "I1", "p-2")


def test_a_deletion_without_answer_that_did_not_happen_removes_nothing(story):
    story.define("add", ("queue", "q"))
    story.confirmed("p-1")
    story.add("define", ("remove", ("queue", "q")))
    story.restart().add("observe", ("queue", "q"), True)
    expect(story, "I1", "p-1")


def test_what_a_clean_stop_found_delivered_survives_it_unconfirmed(story):
    story.publish(story.channel("confirm"), "p-1")
    story.deliver(story.consumer(), 1, "p-1")
    story.restart("term")
    expect(story, "I1", "p-1")


def test_a_kill_and_then_a_clean_stop_secure_nothing(story):
    story.publish(story.channel("confirm"), "p-1")
    story.deliver(story.consumer(), 1, "p-1")
    story.restart("kill").restart("term")
    expect_nothing(story)


def test_messages_on_their_way_to_a_consumer_without_acks_may_be_lost(story):
    story.confirmed("p-1", "p-2", "p-3")
    story.deliver(story.consumer(mode="no-ack"), 1, "p-1")
    story.restart().drain("p-3")
    expect_nothing(story)


def test_but_not_behind_one_that_comes_later(story):
    story.confirmed("p-1", "p-2", "p-3")
    story.consumer(mode="no-ack")
    story.restart().drain("p-1", "p-3")
    expect(story, "I1", "p-2")


def test_nor_when_published_after_that_consumer_was_gone(story):
    story.consumer(mode="no-ack")
    story.restart()
    story.confirmed("p-1")
    story.restart()
    expect(story, "I1", "p-1")


def test_a_count_below_what_is_owed_is_a_loss(story):
    story.confirmed("p-1")
    story.restart().add("count", "q", 0)
    story.drain("p-1")
    expect(story, "I1", "has 0 messages and owes 1, the last of them <p-1")


# --- I2 ----------------------------------------------------------------------------------------------


def settled(story, age, how="ack", fault="kill", answered=True):
    """A settlement that is `age` seconds old at the fault, and the message comes back."""
    channel = story.held("p-1")
    story.ack(channel, 1, how=how, answered=answered)
    story.wait(age).restart(fault).drain("p-1")


@pytest.mark.parametrize("how", ["ack", "drop"])
def test_what_was_settled_before_the_window_stays_away(story, how):
    settled(story, 0.3, how)
    expect(story, "I2", "300 ms before the kill")


def test_what_was_settled_within_the_window_may_come_back(story):
    settled(story, 0.1)
    expect_nothing(story)


def test_what_was_settled_without_an_answer_may_come_back(story):
    settled(story, 5, answered=False)
    expect_nothing(story)


def test_an_answer_proves_only_what_was_sent_before_its_request(story):
    story.confirmed("p-1", "p-2")
    channel = story.consumer()
    story.deliver(channel, 1, "p-1")
    story.deliver(channel, 2, "p-2")
    story.ack(channel, 1, answered=False)
    story.add("ask", channel, 1)
    story.ack(channel, 2, answered=False)
    story.add("answered", channel, 1)
    story.wait(5).restart().drain("p-1", "p-2")
    expect(story, "I2", "p-1")


def test_through_a_clean_stop_nothing_settled_comes_back(story):
    settled(story, 0, fault="term")
    expect(story, "I2", "clean stop")


def test_an_orderly_close_proves_too(story):
    channel = story.held("p-1")
    story.ack(channel, 1, answered=False)
    story.close(channel)
    story.wait(1).restart().drain("p-1")
    expect(story, "I2", "1000 ms")


def test_multiple_settles_all_up_to_the_tag_and_no_more(story):
    story.confirmed("p-1", "p-2", "p-3")
    channel = story.consumer()
    for number in (1, 2, 3):
        story.deliver(channel, number, f"p-{number}")
    story.ack(channel, 2, multiple=True)
    story.wait(1).restart()
    expect(story, "I1", "p-3")


def test_what_was_settled_never_comes_again_in_the_same_life(story):
    channel = story.held("p-1")
    story.ack(channel, 1, answered=False)
    story.drain("p-1")
    expect(story, "I2", "same life")


def test_unless_its_connection_was_cut(story):
    channel = story.held("p-1")
    story.ack(channel, 1, answered=False)
    story.add("abort", channel)
    story.drain("p-1")
    expect_nothing(story)


def test_deliveries_without_acks_are_settled_by_themselves(story):
    channel = story.held("p-1", mode="no-ack")
    story.ask(channel)
    story.wait(1).restart().drain("p-1")
    expect(story, "I2", "no-ack")


def test_what_was_purged_stays_away(story):
    story.confirmed("p-1")
    story.purge()
    story.wait(1).restart().drain("p-1")
    expect(story, "I2", "purge")


def test_what_was_deleted_with_its_queue_stays_away_at_once(story):
    story.confirmed("p-1")
    story.define("remove", ("queue", "q"))
    story.restart().drain("p-1")
    expect(story, "I2", "deletion")


def test_a_count_above_what_can_be_there_is_a_return(story):
    channel = story.held("p-1")
    story.ack(channel, 1)
    story.wait(1).restart().add("count", "q", 1)
    expect(story, "I2", "has 1 messages and can have no more than 0")


# --- I3 ----------------------------------------------------------------------------------------------


def test_an_unknown_message_is_found(story):
    story.deliver(story.consumer(), 1, "p-1")
    expect(story, "I3", "nobody published")


def test_an_altered_message_is_found(story):
    story.confirmed("p-1")
    channel = story.consumer()
    story.take(channel, 1, "p-1", digest=8)
    expect(story, "I3", "altered")


@pytest.mark.parametrize("change", [{"exchange": "y"}, {"key": "l"}])
def test_another_exchange_or_key_is_found(story, change):
    story.confirmed("p-1")
    channel = story.consumer()
    story.take(channel, 1, "p-1", **change)
    expect(story, "I3", "altered")


def test_a_message_in_the_wrong_queue_is_found(story):
    story.confirmed("p-1")
    story.deliver(story.consumer("r"), 1, "p-1", queue="r")
    story.drain("p-1", redelivered=False)
    expect(story, "I3", "not routed there")


def test_a_queue_of_the_right_lane_may_get_it(story):
    story.confirmed("p-1", queues="", lane="fan")
    story.deliver(story.consumer("x.1.c.fan"), 1, "p-1", queue="x.1.c.fan")
    expect_nothing(story)


def test_and_one_of_another_lane_may_not(story):
    story.confirmed("p-1", queues="", lane="fan")
    story.deliver(story.consumer("x.1.c.tri"), 1, "p-1", queue="x.1.c.tri")
    expect(story, "I3", "not routed there")


# --- I4 ----------------------------------------------------------------------------------------------


def test_first_deliveries_of_one_publisher_never_go_backwards(story):
    story.confirmed("p-1", "p-2")
    story.consumer()
    story.drain("p-2", "p-1", redelivered=False)
    expect(story, "I4", "p-1 came for the first time after p-2")


def test_different_publishers_have_no_order(story):
    story.confirmed("p-1", "q-1")
    story.drain("q-1", "p-1", redelivered=False)
    expect_nothing(story)


def test_recovered_messages_come_in_publish_order(story):
    story.confirmed("p-1", "p-2")
    story.restart().drain("p-2", "p-1")
    expect(story, "I4", "p-1 came after p-2")


def test_recovery_keeps_the_order_among_publishers(story):
    story.confirmed("p-1", "q-1")
    channel = story.consumer()
    story.deliver(channel, 1, "p-1")
    story.deliver(channel, 2, "q-1")
    story.restart().drain("q-1", "p-1")
    expect(story, "I4", "p-1 was nearer to the head")


def test_recovery_puts_what_was_delivered_before_what_was_not(story):
    story.confirmed("p-1", "q-1")
    story.deliver(story.consumer(), 1, "p-1")
    story.restart().drain("q-1", "p-1")
    expect(story, "I4", "p-1 was nearer to the head")


def test_with_two_consumers_the_head_is_unknown(story):
    story.confirmed("p-1", "p-2")
    first, second = story.consumer(), story.consumer()
    story.deliver(first, 1, "p-2")
    story.deliver(second, 1, "p-1")
    story.restart().drain("p-1", "p-2")
    expect_nothing(story)


def requeued(story, mode, prefetch):
    """The head is requeued, and yet the second message comes next."""
    story.confirmed("p-1", "p-2")
    channel = story.consumer(mode=mode, prefetch=prefetch)
    story.take(channel, 1, "p-1", how="requeue")
    story.take(channel, 2, "p-2")
    story.take(channel, 3, "p-1", redelivered=True)


@pytest.mark.parametrize("mode, prefetch", [("get", 0), ("push", 1)])
def test_a_requeued_message_returns_to_its_place(story, mode, prefetch):
    requeued(story, mode, prefetch)
    expect(story, "I4", "p-1 was requeued as the oldest, and p-2 came next")


def test_with_more_in_flight_another_may_come_first(story):
    requeued(story, "push", prefetch=10)
    expect_nothing(story)


# --- I6, clients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ready, consumers", [(1, 0), (0, 1)])
def test_a_drained_queue_is_empty(story, ready, consumers):
    story.add("drained", "q", ready, consumers)
    expect(story, "I6", f"{ready} messages")


def test_what_was_judged_on_the_spot_counts(story):
    story.add("broken", "I13", "a late confirm")
    violations = story.verdict()
    assert [v.invariant for v in violations] == ["I13"]


def test_trouble_of_a_client_counts(story):
    story.add("trouble", "the connection was lost")
    expect(story, "client", "lost")


# --- I7 ----------------------------------------------------------------------------------------------


def test_what_somebody_had_is_marked(story):
    story.held("p-1")
    story.restart().drain("p-1", redelivered=False)
    expect(story, "I7", "without being marked")


def test_what_nobody_can_have_had_is_not_marked(story):
    story.confirmed("p-1")
    story.drain("p-1", redelivered=True)
    expect(story, "I7", "nobody can have had it")


def test_not_even_after_a_clean_stop(story):
    story.confirmed("p-1")
    story.restart("term").drain("p-1", redelivered=True)
    expect(story, "I7", "nobody can have had it")


def test_after_a_kill_everything_recovered_may_be_marked(story):
    story.confirmed("p-1")
    story.restart().restart("term").drain("p-1", redelivered=True)
    expect_nothing(story)


def test_a_consumer_may_have_had_what_it_never_recorded(story):
    story.confirmed("p-1")
    channel = story.consumer()
    story.add("closing", channel)
    story.confirmed("p-2")
    story.add("closed", channel)
    story.drain("p-1", "p-2", redelivered=True)
    expect_nothing(story)


def test_after_its_close_it_cannot(story):
    channel = story.consumer()
    story.close(channel)
    story.confirmed("p-1")
    story.drain("p-1", redelivered=True)
    expect(story, "I7", "nobody can have had it")


# --- I8 ----------------------------------------------------------------------------------------------

QUEUE, EXCHANGE, BINDING = ("queue", "q"), ("exchange", "x"), ("binding", "x", "k", "q")


@pytest.mark.parametrize("thing", [QUEUE, EXCHANGE, BINDING])
def test_what_was_defined_is_there(story, thing):
    story.define("add", thing)
    story.restart().add("observe", thing, False)
    expect(story, "I8", "is missing")


@pytest.mark.parametrize("thing", [QUEUE, EXCHANGE, BINDING])
def test_what_was_deleted_is_not(story, thing):
    for how in ("add", "remove"):
        story.define(how, thing)
    story.restart().add("observe", thing, True)
    expect(story, "I8", "is back")


@pytest.mark.parametrize("present", [True, False])
def test_without_an_answer_either_may_be_found_but_then_it_stays(story, present):
    story.add("define", ("add", QUEUE))
    story.restart().add("observe", QUEUE, present)
    expect_nothing(story)
    story.restart().add("observe", QUEUE, not present)
    expect(story, "I8")


@pytest.mark.parametrize("owner", [QUEUE, EXCHANGE])
def test_bindings_go_with_what_they_bind(story, owner):
    story.define("add", QUEUE, EXCHANGE, BINDING)
    story.define("remove", owner)
    story.restart().add("observe", BINDING, True)
    expect(story, "I8", "is back")


def test_a_transient_queue_keeps_nothing(story):
    story.confirmed("p-1", queues="", lane="fan")
    story.restart()
    story.deliver(story.consumer("x.2.c.fan"), 1, "p-1", queue="x.2.c.fan")
    expect(story, "I8", "of another epoch")


# --- I9 ----------------------------------------------------------------------------------------------


def publishes(story, count, **rest):
    channel = story.channel("confirm")
    for number in range(1, count + 1):
        story.publish(channel, f"p-{number}", queues="", **rest)
    return channel


def test_confirms_single_and_multiple_fit_together(story):
    channel = publishes(story, 4)
    for tag, multiple in ((2, False), (3, True), (4, False)):
        story.add("confirm", channel, tag, multiple, True)
    expect_nothing(story)


@pytest.mark.parametrize("second", [(1, False), (2, True), (2, False)])
def test_a_second_confirm_is_found(story, second):
    channel = publishes(story, 3)
    story.add("confirm", channel, 2, True, True)
    story.add("confirm", channel, *second, True)
    expect(story, "I9", "confirmed before")


def test_a_confirm_of_the_future_is_found(story):
    channel = publishes(story, 1)
    story.add("confirm", channel, 2, True, True)
    expect(story, "I9", "before anything with this number")


def test_a_return_comes_before_its_confirm(story):
    channel = publishes(story, 1, mandatory=True, unroutable=True)
    story.add("return", channel, "p-1")
    story.add("confirm", channel, 1, False, True)
    expect_nothing(story)


def test_a_missing_return_is_found(story):
    channel = publishes(story, 1, mandatory=True, unroutable=True)
    story.add("confirm", channel, 1, False, True)
    expect(story, "I9", "without being returned")


def test_a_late_return_is_found(story):
    channel = publishes(story, 1, mandatory=True, unroutable=None)
    story.add("confirm", channel, 1, False, True)
    story.add("return", channel, "p-1")
    expect(story, "I9", "after its confirm")


@pytest.mark.parametrize("rest", [{"mandatory": True}, {"mandatory": False, "unroutable": True}])
def test_a_return_without_a_reason_is_found(story, rest):
    channel = publishes(story, 1, **rest)
    story.add("return", channel, "p-1")
    expect(story, "I9", "had where to go")


# --- I10 ---------------------------------------------------------------------------------------------


def transaction(story, *ids, end="commit"):
    channel = story.channel("tx")
    for id in ids:
        story.publish(channel, id)
    if end:
        story.add(end, channel)
    return channel


def test_a_committed_transaction_is_not_lost(story):
    story.add("committed", transaction(story, "p-1", "p-2"))
    story.restart().drain("p-1")
    expect(story, "I1", "p-2")


@pytest.mark.parametrize("end, state", [(None, "open"), ("rollback", "rolled back")])
def test_what_was_not_committed_is_not_delivered(story, end, state):
    transaction(story, "p-1", end=end)
    story.restart().drain("p-1")
    expect(story, "I10", state)


@pytest.mark.parametrize("ids", [(), ("p-1", "p-2")])
def test_an_unanswered_commit_is_all_or_nothing(story, ids):
    transaction(story, "p-1", "p-2")
    story.restart().drain(*ids)
    expect_nothing(story)


def test_half_of_it_is_found(story):
    transaction(story, "p-1", "p-2")
    story.restart().drain("p-2")
    expect(story, "I10", "half a transaction")


def test_a_delivery_before_the_kill_proves_nothing(story):
    transaction(story, "p-1", "p-2")
    story.deliver(story.consumer(), 1, "p-1")
    story.restart()
    expect_nothing(story)


def forward(story, answered):
    """Takes in-1 and publishes p-1 in one transaction."""
    story.confirmed("in-1", queues="in")
    channel = story.channel("tx")
    story.add("attach", channel, "in", "push", 10)
    story.deliver(channel, 1, "in-1", queue="in")
    story.publish(channel, "p-1")
    story.add("settle", channel, 1, False, "ack")
    story.add("commit", channel)
    if answered:
        story.add("committed", channel)
    story.restart()


def test_an_acknowledgement_in_a_committed_transaction_holds_at_once(story):
    forward(story, answered=True)
    story.drain("p-1")
    story.drain("in-1", queue="in")
    expect(story, "I2", "durable")


@pytest.mark.parametrize("queue, id", [("q", "p-1"), ("in", "in-1")])
def test_an_unanswered_forwarding_happened_or_not(story, queue, id):
    forward(story, answered=False)
    story.drain(id, queue=queue)
    expect_nothing(story)


def test_a_message_forwarded_and_kept_is_found(story):
    forward(story, answered=False)
    story.drain("p-1")
    story.drain("in-1", queue="in")
    expect(story, "I10", "gave in-1 again")


def test_a_message_neither_forwarded_nor_kept_is_found(story):
    forward(story, answered=False)
    expect(story, "I10", "counts in-1 as acknowledged")


def test_a_rolled_back_acknowledgement_removes_nothing(story):
    story.confirmed("in-1", queues="in")
    channel = story.channel("tx")
    story.add("attach", channel, "in", "push", 10)
    story.deliver(channel, 1, "in-1", queue="in")
    story.add("settle", channel, 1, False, "ack")
    story.add("rollback", channel)
    story.add("rolled-back", channel)
    expect(story, "I1", "in-1")


# --- I11 ---------------------------------------------------------------------------------------------


def test_two_holders_are_found(story):
    story.held("p-1")
    story.drain("p-1")
    expect(story, "I11", "while c2 held it")


@pytest.mark.parametrize("end", ["closing", "abort"])
def test_a_closed_channel_holds_nothing(story, end):
    channel = story.held("p-1")
    story.add(end, channel)
    story.drain("p-1")
    expect_nothing(story)


# --- the record --------------------------------------------------------------------------------------


def test_the_excerpt_holds_what_concerns_the_message(story):
    story.confirmed("p-1", "p-2")
    story.restart().drain("p-1")
    lines = story.about("p-2")
    assert any("p-2" in line for line in lines) and not any("p-1 " in line for line in lines)
    assert sum("epoch" in line for line in lines) == 2 and any("kill" in line for line in lines)
