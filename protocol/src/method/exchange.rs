//! The class `exchange`: declaring, deleting and binding exchanges.

use crate::table::TableRef;

super::methods! {
    class 40;

    /// Creates an exchange, or checks that it is as described.
    10 Declare<'a> "exchange.declare" (u16) {
        /// The name.
        exchange: &'a str,
        /// How it routes (`type`): `direct`, `fanout`, `topic`, `headers`.
        kind: &'a str,
        /// Only asks whether it exists.
        passive: bool,
        /// Whether it survives a restart.
        durable: bool,
        /// Whether it goes with its last binding.
        auto_delete: bool,
        /// Whether it is closed to publishers.
        internal: bool,
        /// Whether to leave out the reply.
        no_wait: bool,
        /// Arguments, `alternate-exchange` among them.
        arguments: TableRef<'a>,
    } ()

    /// Confirms [`Declare`].
    11 DeclareOk "exchange.declare-ok" () {} ()

    /// Deletes an exchange.
    20 Delete<'a> "exchange.delete" (u16) {
        /// The name.
        exchange: &'a str,
        /// Only if nothing is bound to it.
        if_unused: bool,
        /// Whether to leave out the reply.
        no_wait: bool,
    } ()

    /// Confirms [`Delete`].
    21 DeleteOk "exchange.delete-ok" () {} ()

    /// Binds an exchange to another. An extension of RabbitMQ.
    30 Bind<'a> "exchange.bind" (u16) {
        /// The exchange that messages go to.
        destination: &'a str,
        /// The exchange they come from.
        source: &'a str,
        /// What the source compares with.
        routing_key: &'a str,
        /// Whether to leave out the reply.
        no_wait: bool,
        /// Arguments, which a headers exchange compares with.
        arguments: TableRef<'a>,
    } ()

    /// Confirms [`Bind`].
    31 BindOk "exchange.bind-ok" () {} ()

    /// Takes a binding away.
    40 Unbind<'a> "exchange.unbind" (u16) {
        /// The exchange that messages went to.
        destination: &'a str,
        /// The exchange they came from.
        source: &'a str,
        /// What the source compared with.
        routing_key: &'a str,
        /// Whether to leave out the reply.
        no_wait: bool,
        /// The arguments it was made with.
        arguments: TableRef<'a>,
    } ()

    /// Confirms [`Unbind`]. Its number breaks the pattern, and clients expect it so.
    51 UnbindOk "exchange.unbind-ok" () {} ()
}
