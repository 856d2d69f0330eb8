//! The class `connection`: the handshake, the end, and what concerns the connection as a whole. On channel 0.

use crate::table::TableRef;

super::methods! {
    class 10;

    /// Opens the handshake from the broker's side.
    10 Start<'a> "connection.start" () {
        /// 0.
        version_major: u8,
        /// 9.
        version_minor: u8,
        /// What the broker is and can do.
        server_properties: TableRef<'a>,
        /// The SASL mechanisms it takes, separated by spaces.
        mechanisms: &'a [u8],
        /// The locales it speaks, separated by spaces.
        locales: &'a [u8],
    } ()

    /// Chooses a mechanism and logs in.
    11 StartOk<'a> "connection.start-ok" () {
        /// What the client is and can do.
        client_properties: TableRef<'a>,
        /// The SASL mechanism.
        mechanism: &'a str,
        /// The mechanism's first response.
        response: &'a [u8],
        /// The locale.
        locale: &'a str,
    } ()

    /// Challenges the client, for mechanisms of more than one step.
    20 Secure<'a> "connection.secure" () {
        /// The mechanism's challenge.
        challenge: &'a [u8],
    } ()

    /// Answers [`Secure`].
    21 SecureOk<'a> "connection.secure-ok" () {
        /// The mechanism's response.
        response: &'a [u8],
    } ()

    /// Proposes limits.
    30 Tune "connection.tune" () {
        /// How many channels may be open; 0 is no limit.
        channel_max: u16,
        /// The largest frame in octets; 0 is no limit.
        frame_max: u32,
        /// Seconds between signs of life; 0 is none.
        heartbeat: u16,
    } ()

    /// Settles the limits.
    31 TuneOk "connection.tune-ok" () {
        /// How many channels may be open; 0 is no limit.
        channel_max: u16,
        /// The largest frame in octets; 0 is no limit.
        frame_max: u32,
        /// Seconds between signs of life; 0 is none.
        heartbeat: u16,
    } ()

    /// Enters a virtual host.
    40 Open<'a> "connection.open" () {
        /// The virtual host.
        vhost: &'a str,
    } (&str, bool)

    /// Confirms [`Open`]; the handshake is over.
    41 OpenOk "connection.open-ok" () {} (&str)

    /// Closes the connection; nothing but [`CloseOk`] counts after that.
    50 Close<'a> "connection.close" () {
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
    51 CloseOk "connection.close-ok" () {} ()

    /// Says that the broker does not read on until [`Unblocked`]. An extension of RabbitMQ.
    60 Blocked<'a> "connection.blocked" () {
        /// What the broker is short of.
        reason: &'a str,
    } ()

    /// Ends [`Blocked`].
    61 Unblocked "connection.unblocked" () {} ()

    /// Replaces the secret the connection was opened with. An extension of RabbitMQ.
    70 UpdateSecret<'a> "connection.update-secret" () {
        /// The secret.
        new_secret: &'a [u8],
        /// Why, as a text.
        reason: &'a str,
    } ()

    /// Confirms [`UpdateSecret`].
    71 UpdateSecretOk "connection.update-secret-ok" () {} ()
}
