//! The class `channel`: opening and closing channels, and flow control by method.

super::methods! {
    class 20;

    /// Opens the channel of the frame.
    10 Open "channel.open" () {} (&str)

    /// Confirms [`Open`].
    11 OpenOk "channel.open-ok" () {} (&[u8])

    /// Asks the peer to pause or go on sending content.
    20 Flow "channel.flow" () {
        /// Whether content may be sent.
        active: bool,
    } ()

    /// Confirms [`Flow`].
    21 FlowOk "channel.flow-ok" () {
        /// Whether content will be sent.
        active: bool,
    } ()

    /// Closes the channel; nothing but [`CloseOk`] counts on it after that.
    40 Close<'a> "channel.close" () {
        /// Why, as a number.
        reply_code: u16,
        /// Why, as a text.
        reply_text: &'a str,
        /// The class of the method that failed, or 0.
        class_id: u16,
        /// The method that failed, or 0.
        method_id: u16,
    } ()

    /// Confirms [`Close`].
    41 CloseOk "channel.close-ok" () {} ()
}
