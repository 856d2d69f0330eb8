"""Policies of config.toml: in force on what exists and on what is declared later, for as long as they stand there."""

import pika
import pytest
from test_config import check, eventually

pytestmark = pytest.mark.owned

AE = """
[[policy]]
name = "lost-and-found"
pattern = '^(?!amq\\.)orders'
apply_to = "exchanges"
alternate_exchange = "amq.fanout"
"""
DLX = """
[[policy]]
name = "letters"
pattern = '^work'
apply_to = "queues"
dead_letter_exchange = ""
dead_letter_routing_key = "dead"
"""
DECLARED = "configuration: declared policy '{}'"
REMOVED = "configuration: removed policy '{}'"


@pytest.fixture
def connect_to():
    connections = []

    def connect(server):
        host, port = server.address
        connections.append(pika.BlockingConnection(pika.ConnectionParameters(host, port, heartbeat=0)))
        return connections[-1].channel()

    yield connect
    for connection in connections:
        if connection.is_open:
            connection.close()


def edit(server, text, expected):
    seen = len(server.output.lines)
    server.config_path.write_text(text)
    server.output.wait_for(expected, 15, start=seen)


def waiting(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def test_an_alternate_exchange_comes_and_goes_with_its_policy(own_broker, connect_to):
    server = own_broker()
    channel = connect_to(server)
    channel.queue_declare("found")
    channel.queue_bind("found", "amq.fanout")
    argued = {"alternate-exchange": "amq.direct"}
    channel.exchange_declare("orders-argued", arguments=argued)
    channel.exchange_declare("orders-early")
    channel.confirm_delivery()

    def is_found(exchange):
        try:
            channel.basic_publish(exchange, "nowhere", exchange.encode(), mandatory=True)
        except pika.exceptions.UnroutableError:
            return False
        _, _, body = channel.basic_get("found", auto_ack=True)
        return body == exchange.encode()

    assert not is_found("orders-early")
    edit(server, AE, DECLARED.format("lost-and-found"))
    channel.exchange_declare("orders-late")
    channel.exchange_declare("other")
    assert is_found("orders-early") and is_found("orders-late")
    assert not is_found("other") and not is_found("orders-argued"), "the argument wins"
    edit(server, AE.replace('"amq.fanout"', '"amq.topic"'), DECLARED.format("lost-and-found"))
    assert not is_found("orders-early")
    edit(server, AE, DECLARED.format("lost-and-found"))
    assert is_found("orders-early")
    edit(server, "", REMOVED.format("lost-and-found"))
    assert not is_found("orders-early") and not is_found("orders-late")


def test_rejected_messages_go_where_the_policy_says(own_broker, connect_to):
    server = own_broker()
    channel = connect_to(server)
    channel.queue_declare("dead")
    channel.queue_declare("mine")
    channel.queue_declare("work-early", durable=True)
    argued = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "mine"}
    channel.queue_declare("work-argued", arguments=argued)

    def reject_one(queue):
        channel.basic_publish("", queue, b"no")
        method, _, _ = channel.basic_get(queue)
        channel.basic_reject(method.delivery_tag, requeue=False)
        return waiting(channel, "dead")

    assert reject_one("work-early") == 0
    edit(server, DLX, DECLARED.format("letters"))
    channel.queue_declare("work-late")
    assert [reject_one(queue) for queue in ("work-early", "work-late")] == [1, 2]
    assert (reject_one("work-argued"), waiting(channel, "mine")) == (2, 1)
    _, properties, _ = channel.basic_get("dead", auto_ack=True)
    assert properties.headers["x-first-death-queue"] == "work-early"
    channel.queue_declare("work-early", durable=True)  # the same declaration as before
    edit(server, "", REMOVED.format("letters"))
    assert reject_one("work-early") == 1


def test_the_highest_priority_is_in_force_alone(own_broker, connect_to):
    high = DLX.replace('"letters"', '"none"').replace('dead_letter_exchange = ""', 'priority = 1\nmax_length = 1000')
    high = high.replace('dead_letter_routing_key = "dead"', "")
    server = own_broker(DLX + high)
    channel = connect_to(server)
    channel.queue_declare("dead")
    channel.queue_declare("work")

    def reject_one():
        channel.basic_publish("", "work", b"no")
        method, _, _ = channel.basic_get("work")
        channel.basic_reject(method.delivery_tag, requeue=False)
        return waiting(channel, "dead")

    assert reject_one() == 0
    edit(server, DLX, REMOVED.format("none"))
    assert reject_one() == 1


def test_policies_are_back_after_a_restart(own_broker, connect_to):
    server = own_broker(DLX)
    channel = connect_to(server)
    channel.queue_declare("dead", durable=True)
    channel.queue_declare("work", durable=True)
    channel.connection.close()
    server.stop_process()
    server.start()
    channel = connect_to(server)
    channel.basic_publish("", "work", b"no")
    method, _, _ = channel.basic_get("work")
    channel.basic_reject(method.delivery_tag, requeue=False)
    assert waiting(channel, "dead") == 1
    channel.connection.close()
    # A line that is gone from the file while nobody looks is gone at the next start.
    server.stop_process()
    server.config_path.write_text("")
    server.start()
    assert any(REMOVED.format("letters") in line for line in server.output.lines)


def test_an_edit_with_a_bad_pattern_changes_nothing(own_broker, connect_to):
    server = own_broker(DLX)
    channel = connect_to(server)
    channel.queue_declare("dead")
    channel.queue_declare("work")
    edit(server, DLX.replace("'^work'", "'work(?!s)'").replace("letters", "others"), "changes nothing")
    line = server.output.wait_for("'pattern' is no regular expression")
    assert "config.toml:4:1" in line and "look-around" in line and "may begin with a look-ahead" in line
    channel.basic_publish("", "work", b"no")
    method, _, _ = channel.basic_get("work")
    channel.basic_reject(method.delivery_tag, requeue=False)
    eventually(lambda: waiting(channel, "dead") == 1, "the policy from before is in force")


def test_config_check_knows_policies(own_broker):
    server = own_broker()
    good = check(server, AE + DLX + DLX.replace("[[policy]]", "[[operator_policy]]").split("dead_")[0] + "expires = '1 d'\n")
    assert good.returncode == 0, good.stderr
    assert "3 policies" in good.stdout
    bad = check(server, DLX.replace("'^work'", "'('"))
    assert bad.returncode == 65
    assert "checked.toml:4:1" in bad.stderr and "unclosed group" in bad.stderr
