//! The class `confirm`, an extension of RabbitMQ: acknowledgements for publishers.

super::methods! {
    class 85;

    /// Turns confirms on for the channel. The first publish after it is number 1.
    10 Select "confirm.select" () {
        /// Whether to leave out the reply.
        no_wait: bool,
    } ()

    /// Confirms [`Select`].
    11 SelectOk "confirm.select-ok" () {} ()
}
