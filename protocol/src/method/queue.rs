//! The class `queue`: declaring, binding, emptying and deleting queues.

use crate::table::TableRef;

super::methods! {
    class 50;

    /// Creates a queue, or checks that it is as described.
    10 Declare<'a> "queue.declare" (u16) {
        /// The name; empty lets the broker choose.
        queue: &'a str,
        /// Only asks whether it exists.
        passive: bool,
        /// Whether it survives a restart.
        durable: bool,
        /// Whether it belongs to this connection alone and goes with it.
        exclusive: bool,
        /// Whether it goes with its last consumer.
        auto_delete: bool,
        /// Whether to leave out the reply.
        no_wait: bool,
        /// Arguments: the queue's type, limits and dead-letter exchange.
        arguments: TableRef<'a>,
    } ()

    /// Confirms [`Declare`].
    11 DeclareOk<'a> "queue.declare-ok" () {
        /// The name.
        queue: &'a str,
        /// How many messages are ready.
        message_count: u32,
        /// How many consumers there are.
        consumer_count: u32,
    } ()

    /// Binds a queue to an exchange.
    20 Bind<'a> "queue.bind" (u16) {
        /// The queue; empty is the last one declared on the channel.
        queue: &'a str,
        /// The exchange.
        exchange: &'a str,
        /// What the exchange compares with.
        routing_key: &'a str,
        /// Whether to leave out the reply.
        no_wait: bool,
        /// Arguments, which a headers exchange compares with.
        arguments: TableRef<'a>,
    } ()

    /// Confirms [`Bind`].
    21 BindOk "queue.bind-ok" () {} ()

    /// Drops all ready messages.
    30 Purge<'a> "queue.purge" (u16) {
        /// The queue; empty is the last one declared on the channel.
        queue: &'a str,
        /// Whether to leave out the reply.
        no_wait: bool,
    } ()

    /// Confirms [`Purge`].
    31 PurgeOk "queue.purge-ok" () {
        /// How many messages were dropped.
        message_count: u32,
    } ()

    /// Deletes a queue.
    40 Delete<'a> "queue.delete" (u16) {
        /// The queue; empty is the last one declared on the channel.
        queue: &'a str,
        /// Only if it has no consumers.
        if_unused: bool,
        /// Only if it has no ready messages.
        if_empty: bool,
        /// Whether to leave out the reply.
        no_wait: bool,
    } ()

    /// Confirms [`Delete`].
    41 DeleteOk "queue.delete-ok" () {
        /// How many messages went with it.
        message_count: u32,
    } ()

    /// Takes a binding away. There is no form without a reply.
    50 Unbind<'a> "queue.unbind" (u16) {
        /// The queue; empty is the last one declared on the channel.
        queue: &'a str,
        /// The exchange.
        exchange: &'a str,
        /// What the exchange compared with.
        routing_key: &'a str,
        /// The arguments it was made with.
        arguments: TableRef<'a>,
    } ()

    /// Confirms [`Unbind`].
    51 UnbindOk "queue.unbind-ok" () {} ()
}
