//! The class `basic`: publishing, consuming and acknowledging messages.

use crate::table::TableRef;

super::methods! {
    class 60;

    /// Limits how much is delivered ahead of acknowledgements.
    10 Qos "basic.qos" () {
        /// A limit in octets; 0 is none. RabbitMQ refuses any other.
        prefetch_size: u32,
        /// A limit in messages; 0 is none.
        prefetch_count: u16,
        /// Whether the limit holds for the channel as a whole instead of each later consumer.
        global: bool,
    } ()

    /// Confirms [`Qos`].
    11 QosOk "basic.qos-ok" () {} ()

    /// Starts a consumer.
    20 Consume<'a> "basic.consume" (u16) {
        /// The queue; empty is the last one declared on the channel.
        queue: &'a str,
        /// The consumer's name on the channel; empty lets the broker choose.
        consumer_tag: &'a str,
        /// Asks not to get one's own messages; RabbitMQ passes over it.
        no_local: bool,
        /// Whether deliveries count as acknowledged when sent.
        no_ack: bool,
        /// Asks to be the queue's only consumer.
        exclusive: bool,
        /// Whether to leave out the reply.
        no_wait: bool,
        /// Arguments of the consumer, `x-priority` among them.
        arguments: TableRef<'a>,
    } ()

    /// Confirms [`Consume`].
    21 ConsumeOk<'a> "basic.consume-ok" () {
        /// The consumer's name.
        consumer_tag: &'a str,
    } ()

    /// Ends a consumer; from the broker, says that it has ended.
    30 Cancel<'a> "basic.cancel" () {
        /// The consumer's name.
        consumer_tag: &'a str,
        /// Whether to leave out the reply.
        no_wait: bool,
    } ()

    /// Confirms [`Cancel`].
    31 CancelOk<'a> "basic.cancel-ok" () {
        /// The consumer's name.
        consumer_tag: &'a str,
    } ()

    /// Publishes the content that follows.
    40 Publish<'a> "basic.publish" (u16) {
        /// The exchange; empty is the default one.
        exchange: &'a str,
        /// What the exchange routes by.
        routing_key: &'a str,
        /// Whether the message comes back if no queue takes it.
        mandatory: bool,
        /// Asks for the message back if no consumer takes it at once; RabbitMQ refuses it.
        immediate: bool,
    } ()

    /// Gives a mandatory message back, with its content.
    50 Return<'a> "basic.return" () {
        /// Why, as a number.
        reply_code: u16,
        /// Why, as a text.
        reply_text: &'a str,
        /// The exchange it was published to.
        exchange: &'a str,
        /// The key it was published with.
        routing_key: &'a str,
    } ()

    /// Delivers a message to a consumer, with its content.
    60 Deliver<'a> "basic.deliver" () {
        /// The consumer.
        consumer_tag: &'a str,
        /// What an acknowledgement on this channel refers to.
        delivery_tag: u64,
        /// Whether the message may have been delivered before.
        redelivered: bool,
        /// The exchange it was published to.
        exchange: &'a str,
        /// The key it was published with.
        routing_key: &'a str,
    } ()

    /// Asks for one message.
    70 Get<'a> "basic.get" (u16) {
        /// The queue; empty is the last one declared on the channel.
        queue: &'a str,
        /// Whether the message counts as acknowledged when sent.
        no_ack: bool,
    } ()

    /// Answers [`Get`] with a message and its content.
    71 GetOk<'a> "basic.get-ok" () {
        /// What an acknowledgement on this channel refers to.
        delivery_tag: u64,
        /// Whether the message may have been delivered before.
        redelivered: bool,
        /// The exchange it was published to.
        exchange: &'a str,
        /// The key it was published with.
        routing_key: &'a str,
        /// How many messages are left ready in the queue.
        message_count: u32,
    } ()

    /// Answers [`Get`] without a message.
    72 GetEmpty "basic.get-empty" () {} (&str)

    /// Acknowledges deliveries; from the broker, confirms publishes.
    80 Ack "basic.ack" () {
        /// The delivery or publish; 0 with `multiple` is all of them.
        delivery_tag: u64,
        /// Whether all before it are meant as well.
        multiple: bool,
    } ()

    /// Refuses one delivery.
    90 Reject "basic.reject" () {
        /// The delivery.
        delivery_tag: u64,
        /// Whether the message goes back to the queue instead of being dropped or dead-lettered.
        requeue: bool,
    } ()

    /// Asks for all unacknowledged messages again, without a reply. Deprecated.
    100 RecoverAsync "basic.recover-async" () {
        /// Whether they may go to other consumers.
        requeue: bool,
    } ()

    /// Asks for all unacknowledged messages again.
    110 Recover "basic.recover" () {
        /// Whether they may go to other consumers; RabbitMQ refuses false.
        requeue: bool,
    } ()

    /// Confirms [`Recover`].
    111 RecoverOk "basic.recover-ok" () {} ()

    /// Refuses deliveries; from the broker, says that publishes were not taken. An extension of RabbitMQ.
    120 Nack "basic.nack" () {
        /// The delivery or publish; 0 with `multiple` is all of them.
        delivery_tag: u64,
        /// Whether all before it are meant as well.
        multiple: bool,
        /// Whether the messages go back to the queue instead of being dropped or dead-lettered.
        requeue: bool,
    } ()
}
