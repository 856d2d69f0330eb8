"""Direct reply-to: answers without a reply queue."""

import pytest
from wire import Refused

REPLY_TO = "amq.rabbitmq.reply-to"


@pytest.fixture
def server(client, name):
    """A request queue consumed on channel 2; requests go out on channel 1."""
    queue = name("requests")
    client.call(2, "queue.declare", queue=queue, exclusive=True)
    client.call(2, "basic.consume", queue=queue, no_ack=True)
    return queue


def request(client, server, body=b"question"):
    client.publish(1, "", server, body, reply_to=REPLY_TO, correlation_id="7")
    return client.wait(2, "basic.deliver").properties["reply_to"]


def test_round_trip(client, server):
    tag = client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True).consumer_tag
    address = request(client, server)
    assert address.startswith(REPLY_TO + ".")
    client.publish(2, "", address, b"answer", correlation_id="7")
    answer = client.wait(1, "basic.deliver")
    assert (answer.body, answer.consumer_tag, answer.redelivered) == (b"answer", tag, False)
    assert (answer.exchange, answer.routing_key) == ("", address)
    assert answer.properties == {"correlation_id": "7"}


def test_many_answers_in_order(client, server):
    client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True)
    address = request(client, server)
    for i in range(50):
        client.publish(2, "", address, str(i))
    assert [client.wait(1, "basic.deliver").body for _ in range(50)] == [str(i).encode() for i in range(50)]


def test_from_another_connection(client, connect, server):
    other = connect()
    client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True)
    address = request(client, server)
    other.publish(1, "", address, b"answer")
    assert client.wait(1, "basic.deliver").body == b"answer"


def test_passive_declare_tells_whether_the_requester_lives(client, connect, server):
    client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True)
    address = request(client, server)
    assert client.call(2, "queue.declare", queue=address, passive=True).queue == address
    client.call(1, "channel.close", reply_code=200)
    with pytest.raises(Refused) as refused:
        client.call(2, "queue.declare", queue=address, passive=True)
    assert refused.value.event.reply_code == 404


def test_answers_to_the_gone_are_dropped(client, connect, server):
    client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True)
    address = request(client, server)
    client.call(1, "channel.close", reply_code=200)
    other = connect()
    other.call(1, "confirm.select")
    other.publish(1, "", address, b"too late")
    assert other.wait(1).name == "basic.ack"


def test_an_invented_address_is_not_an_error(connect):
    client = connect()
    client.call(1, "confirm.select")
    client.publish(1, "", REPLY_TO + ".invented", b"x")
    assert client.wait(1).name == "basic.ack"


def test_cancel_and_consume_again(client, server):
    tag = client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True, consumer_tag="r").consumer_tag
    assert tag == "r"
    client.call(1, "basic.cancel", consumer_tag="r")
    client.publish(1, "", server, b"x", reply_to=REPLY_TO)
    close = client.closing(1)
    assert close.reply_text == "PRECONDITION_FAILED - fast reply consumer does not exist"
    client.open_channel(1)
    client.call(1, "basic.consume", queue=REPLY_TO, no_ack=True)
    address = request(client, server)
    client.publish(2, "", address, b"answer")
    assert client.wait(1, "basic.deliver").body == b"answer"


def test_other_reply_to_values_are_left_alone(client, server):
    client.publish(1, "", server, b"x", reply_to="my.queue")
    assert client.wait(2, "basic.deliver").properties["reply_to"] == "my.queue"


def test_pika_rpc(pika_connection, name):
    """The pattern of pika's documentation, both sides on one connection."""
    connection = pika_connection()
    requester, responder = connection.channel(), connection.channel()
    queue = responder.queue_declare("", exclusive=True).method.queue

    def on_request(ch, method, properties, body):
        ch.basic_publish("", properties.reply_to, body.upper())

    answers = []
    responder.basic_consume(queue, on_request, auto_ack=True)
    requester.basic_consume(REPLY_TO, lambda *args: answers.append(args[3]), auto_ack=True)
    import pika

    requester.basic_publish("", queue, b"hello", pika.BasicProperties(reply_to=REPLY_TO))
    for _ in range(50):
        if answers:
            break
        connection.process_data_events(time_limit=0.2)
    assert answers == [b"HELLO"]
