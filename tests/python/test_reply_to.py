"""Direct reply-to: answers without a reply queue."""

import base64

import pytest
import wire
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


def in_every_form(address):
    """The ways in which the token of an address could end up in a log."""
    text = address.removeprefix(REPLY_TO + ".")
    octets = base64.urlsafe_b64decode(text + "==")
    assert len(text) == 22 and len(octets) == 16
    numbers = [str(octet) for octet in octets]
    return [
        text, base64.b64encode(octets).decode().rstrip("="), octets.hex(), octets.hex().upper(),
        ",".join(numbers), ", ".join(numbers), str(octets)[2:-1],
        ",".join(str(octet) for octet in text.encode()), ", ".join(str(octet) for octet in text.encode()),
    ]  # fmt: skip


def refused(client, channel, method, **args):
    close = client.refusal(channel, method, **args)
    if close.name == "channel.close":
        client.open_channel(channel)
    return close.reply_text


def quoted_in_refusals(client, address):
    """Makes the broker quote the address in errors of every room that words them; how often it did."""
    bad = {"x-match": address}
    texts = [
        refused(client, 1, "queue.bind", queue=address, exchange="amq.direct"),
        refused(client, 1, "queue.unbind", queue=address, exchange="amq.direct"),
        refused(client, 1, "queue.purge", queue=address),
        refused(client, 1, "basic.get", queue=address),
        refused(client, 1, "basic.consume", queue=address, no_ack=True),
        refused(client, 1, "exchange.declare", exchange=address, type="direct"),
        refused(client, 1, "exchange.declare", exchange="x", type=address),
        refused(client, 1, "queue.declare", queue="q", arguments={"x-queue-type": address}),
        refused(client, 1, "queue.bind", queue="work", exchange="amq.headers", arguments=bad),
        refused(client, 1, "queue.bind", queue="work", exchange=address),
    ]
    client.publish(1, "", "work", b"x", expiration=address)
    texts.append(client.closing(1).reply_text)
    client.open_channel(1)
    client.publish(1, address, "", b"x")
    texts.append(client.closing(1).reply_text)
    client.open_channel(1)
    assert all(address in text for text in texts), texts
    return len(texts)


def rpc(requester, responder):
    """One whole round trip; the address that the responder saw."""
    requester.call(1, "basic.consume", queue=REPLY_TO, no_ack=True)
    responder.call(1, "queue.declare", queue="work", exclusive=True)
    responder.call(1, "basic.consume", queue="work", no_ack=True, consumer_tag="work")
    requester.publish(1, "", "work", b"question", reply_to=REPLY_TO)
    address = responder.wait(1, "basic.deliver").properties["reply_to"]
    responder.call(1, "queue.declare", queue=address, passive=True)
    responder.publish(1, "", address, b"answer")
    assert requester.wait(1, "basic.deliver").routing_key == address
    return address


def after_the_requester(responder, address):
    """What can be done with the address of a requester that is gone."""
    responder.call(1, "confirm.select")
    responder.publish(1, "", address, b"too late")
    responder.wait(1, "basic.ack")
    responder.publish(1, "", address, b"too late and mandatory", mandatory=True)
    responder.wait(1, "basic.ack")
    gone = f"NOT_FOUND - no queue '{address}' in vhost '/'"
    assert refused(responder, 1, "queue.declare", queue=address, passive=True) == gone
    assert refused(responder, 1, "queue.declare", queue=address) == gone


@pytest.mark.owned
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_reply_address_is_never_logged(own_broker, log_format):
    """Not at any level, in no format, while errors on the wire go on quoting it as RabbitMQ's do."""
    server = own_broker(f'[log]\nlevel = "trace"\nformat = "{log_format}"\n')
    requester, responder = wire.Client(server.address).connect(), wire.Client(server.address).connect()
    for client in (requester, responder):
        client.open_channel(1)
    address = rpc(requester, responder)
    requester.call(1, "channel.close", reply_code=200, reply_text=f"done with {address}")
    after_the_requester(responder, address)
    forged = REPLY_TO + ".AAECAwQFBgcICQoLDA0ODw"
    quoted = sum(quoted_in_refusals(responder, each) for each in (address, forged)) + 2
    hard = wire.Client(server.address).connect()
    hard.open_channel(1)
    hard.call(1, "queue.declare", queue="hard", exclusive=True)
    hard.call(1, "basic.consume", queue="hard", consumer_tag=address)
    assert hard.refusal(1, "basic.consume", queue="hard", consumer_tag=address).name == "connection.close"
    stranger = wire.Client(server.address)
    with pytest.raises(Refused):
        stranger.connect(vhost=address)
    requester.send(0, "connection.close", reply_code=200, reply_text=f"goodbye {address}")
    requester.wait(0, "connection.close-ok")
    responder.close()
    assert server.stop_process() == 0
    server.output.thread.join()
    log = "\n".join(server.output.lines)
    for each in (address, forged):
        assert [form for form in in_every_form(each) if form in log] == []
    assert log.count(REPLY_TO + ".<hidden>") >= quoted + 3, "what was looked for is logged at all"
