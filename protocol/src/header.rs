//! The protocol header: the eight octets with which a client opens, and what else may knock on the port.

/// The header of AMQP 0-9-1.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// What the first octets of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// AMQP 0-9-1.
    Amqp091,
    /// AMQP 0-9 in the form of that version (`AMQP 1 1 0 9`), which RabbitMQ serves like 0-9-1.
    Amqp09,
    /// AMQP 1.0 without a security layer (`AMQP 0 1 0 0`).
    Amqp10,
    /// AMQP 1.0 that opens with TLS (`AMQP 2 1 0 0`).
    Amqp10Tls,
    /// AMQP 1.0 that opens with SASL (`AMQP 3 1 0 0`).
    Amqp10Sasl,
    /// Another version of AMQP.
    OtherAmqp([u8; 8]),
    /// The request line of an HTTP client.
    Http,
    /// A TLS handshake on a port without TLS.
    Tls,
    /// Anything else; octets that had not arrived at the time are 0.
    Unknown([u8; 8]),
}

/// How HTTP requests begin; the last one is the preface of HTTP/2.
const HTTP_STARTS: [&[u8]; 10] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"PRI ",
];

/// The content type of a TLS handshake record, which no text begins with.
const TLS_HANDSHAKE: u8 = 0x16;

/// Reads the first octets of a connection. `None` asks for more: there are fewer than eight and they could still
/// become a header. What cannot become one is told at once, so that a stranger is not waited for.
pub fn decode_protocol_header(input: &[u8]) -> Option<ProtocolHeader> {
    let common = input.len().min(4);
    if input[..common] == b"AMQP"[..common] {
        let header: [u8; 8] = *input.first_chunk()?;
        let [_, _, _, _, version @ ..] = header;
        return Some(match version {
            [0, 0, 9, 1] => ProtocolHeader::Amqp091,
            [1, 1, 0, 9] => ProtocolHeader::Amqp09,
            [0, 1, 0, 0] => ProtocolHeader::Amqp10,
            [2, 1, 0, 0] => ProtocolHeader::Amqp10Tls,
            [3, 1, 0, 0] => ProtocolHeader::Amqp10Sasl,
            _ => ProtocolHeader::OtherAmqp(header),
        });
    }
    if input[0] == TLS_HANDSHAKE {
        return Some(ProtocolHeader::Tls);
    }
    if HTTP_STARTS.iter().any(|start| input.starts_with(start)) {
        return Some(ProtocolHeader::Http);
    }
    if HTTP_STARTS.iter().any(|start| start.starts_with(input)) {
        return None;
    }
    let mut octets = [0; 8];
    let known = input.len().min(octets.len());
    octets[..known].copy_from_slice(&input[..known]);
    Some(ProtocolHeader::Unknown(octets))
}
