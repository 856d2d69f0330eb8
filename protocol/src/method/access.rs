//! The class `access`: a relic of AMQP 0-8 that some clients still speak. RabbitMQ answers with ticket 1.

super::methods! {
    class 30;

    /// Asks for access to a realm.
    10 Request<'a> "access.request" () {
        /// The realm.
        realm: &'a str,
        /// Asks for exclusive access.
        exclusive: bool,
        /// Asks for passive access.
        passive: bool,
        /// Asks for active access.
        active: bool,
        /// Asks for write access.
        write: bool,
        /// Asks for read access.
        read: bool,
    } ()

    /// Grants it.
    11 RequestOk "access.request-ok" () {
        /// A number to send with later methods, where it is a reserved field.
        ticket: u16,
    } ()
}
