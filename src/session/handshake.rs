//! From the protocol header to the open vhost.
//!
//! Invariant: before it is logged in a peer learns nothing but what every peer is offered, and a mistake costs it time.

use std::fmt;
use std::time::Instant;

use bytes::BytesMut;
use ferrymq_protocol::frame::{self, PROTOCOL_HEADER, ProtocolHeader};
use ferrymq_protocol::method::{Method, connection};
use ferrymq_protocol::table::{Table, TableRef, ValueRef};

use super::errors::{Fault, ReplyCode};
use super::heartbeat::Heartbeat;
use super::link::Tuned;
use super::options::FRAME_MAX_MIN;
use super::report::CloseReport;
use super::session::{CONNECTION, Phase, Session};
use crate::model::{UserName, VhostName};

/// Bytes of a frame, at most, as long as nothing has been agreed on.
pub(super) const FIRST_FRAME_MAX: u32 = 8_192;

const MECHANISMS: &[u8] = b"PLAIN AMQPLAIN";
const LOCALES: &[u8] = b"en_US";

/// What the broker can do beyond AMQP 0-9-1; clients look here before they use it.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// `PLAIN` (RFC 4616).
    Plain,
    /// `AMQPLAIN`: a field table with `LOGIN` and `PASSWORD`.
    AmqPlain,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
        })
    }
}

/// A name and a password to be checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// How they came.
    pub mechanism: Mechanism,
    /// The user's name.
    pub user: String,
    /// The password; any octets.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password must not reach a log by accident.
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The login was refused, for a cause that is the log's business and not the peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRefusal(pub String);

/// Why a vhost was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefusal {
    /// There is none of this name.
    #[error("vhost {0} not found")]
    NoVhost(VhostName),
    /// The user may not use it.
    #[error("access to vhost '{vhost}' refused for user '{user}'")]
    NotPermitted {
        /// Which.
        vhost: VhostName,
        /// Who.
        user: UserName,
    },
    /// The node has as many connections as it may have.
    #[error("connection refused: node connection limit ({0}) is reached")]
    NodeLimit(u64),
    /// The vhost has as many connections as it may have.
    #[error("access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached")]
    VhostLimit {
        /// Which.
        vhost: VhostName,
        /// Who.
        user: UserName,
        /// How many it may have.
        limit: u64,
    },
    /// The user has as many connections as they may have.
    #[error("connection refused for user '{user}': user connection limit ({limit}) is reached")]
    UserLimit {
        /// Who.
        user: UserName,
        /// How many they may have.
        limit: u64,
    },
}

/// What a client says about itself.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// All it said, for operators to look at.
    pub properties: Table,
    /// How it logged in.
    pub mechanism: Option<Mechanism>,
    /// It wants to know when the broker cancels a consumer.
    pub consumer_cancel_notify: bool,
    /// It wants to know when it is not read.
    pub connection_blocked: bool,
    /// It wants to be told that its login was refused.
    pub authentication_failure_close: bool,
}

impl Client {
    fn new(properties: TableRef<'_>, mechanism: Mechanism) -> Self {
        let capabilities = match properties.get("capabilities") {
            Some(ValueRef::Table(capabilities)) => capabilities,
            _ => TableRef::default(),
        };
        let has = |name| capabilities.get(name) == Some(ValueRef::Boolean(true));
        Self {
            properties: properties.to_owned(),
            mechanism: Some(mechanism),
            consumer_cancel_notify: has("consumer_cancel_notify"),
            connection_blocked: has("connection.blocked"),
            authentication_failure_close: has("authentication_failure_close"),
        }
    }

    /// The name it gave its connection.
    #[must_use]
    pub fn connection_name(&self) -> Option<&str> {
        self.properties.get("connection_name").and_then(|name| name.as_str())
    }
}

impl Session {
    /// Reads the protocol header; returns how many bytes it took, `None` while there are too few.
    pub(super) fn protocol_header(&mut self, input: &[u8]) -> Option<usize> {
        let wrong = match frame::decode_protocol_header(input)? {
            ProtocolHeader::Amqp091 | ProtocolHeader::Amqp09 => {
                self.send_start();
                self.phase = Phase::Starting;
                return Some(PROTOCOL_HEADER.len());
            }
            ProtocolHeader::Http => "HTTP request on the AMQP port".to_owned(),
            ProtocolHeader::Tls => "TLS handshake on the plain AMQP port".to_owned(),
            ProtocolHeader::Amqp10 | ProtocolHeader::Amqp10Tls | ProtocolHeader::Amqp10Sasl => {
                self.offer_version();
                "AMQP 1.0 protocol header, which is not supported".to_owned()
            }
            ProtocolHeader::OtherAmqp(octets) | ProtocolHeader::Unknown(octets) => {
                self.offer_version();
                format!("unknown protocol header \"{}\"", octets.escape_ascii())
            }
        };
        self.end(CloseReport::client(wrong));
        Some(input.len())
    }

    /// The answer to a header the broker does not speak: the one it does.
    fn offer_version(&mut self) {
        self.link.output.room(PROTOCOL_HEADER.len()).extend_from_slice(&PROTOCOL_HEADER);
    }

    fn send_start(&mut self) {
        let options = &self.link.options;
        let mut capabilities = Table::new();
        for name in CAPABILITIES {
            capabilities = capabilities.with(name, true);
        }
        let properties = Table::new()
            .with("capabilities", capabilities)
            .with("cluster_name", options.cluster_name.as_str())
            .with("copyright", options.copyright.as_str())
            .with("information", options.information.as_str())
            .with("platform", options.platform.as_str())
            .with("product", options.product.as_str())
            .with("version", options.version.as_str());
        let mut octets = BytesMut::new();
        let encoded = properties.encode(&mut octets);
        debug_assert!(encoded.is_ok(), "the server properties are small");
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: TableRef::parse(&octets).unwrap_or_default(),
            mechanisms: MECHANISMS,
            locales: LOCALES,
        };
        self.link.send(CONNECTION, start);
    }

    /// A method before the vhost is open.
    pub(super) fn handshake_method(&mut self, method: &Method<'_>, now: Instant) -> Result<(), Fault> {
        match (&self.phase, method) {
            (_, Method::ConnectionClose(close)) => {
                let text = format!(
                    "closed by the client before it was open: {} {}",
                    close.reply_code, close.reply_text
                );
                self.link.send(CONNECTION, connection::CloseOk {});
                self.end(CloseReport::client(text));
                Ok(())
            }
            (Phase::Starting, Method::ConnectionStartOk(start_ok)) => self.start_ok(start_ok),
            (Phase::Tuning, Method::ConnectionTuneOk(tune_ok)) => self.tune_ok(tune_ok, now),
            (Phase::AwaitingOpen, Method::ConnectionOpen(open)) => {
                self.phase = Phase::OpenAsked(VhostName::from(open.vhost));
                self.link.attention = true;
                Ok(())
            }
            (phase, _) => {
                let text = format!("unexpected method in connection state {}", phase.name());
                Err(Fault::new(ReplyCode::ChannelError, text))
            }
        }
    }

    fn start_ok(&mut self, start_ok: &connection::StartOk<'_>) -> Result<(), Fault> {
        let parsed = match start_ok.mechanism {
            "PLAIN" => plain(start_ok.response),
            "AMQPLAIN" => amqplain(start_ok.response),
            other => {
                let text = format!("unknown authentication mechanism '{other}'");
                return Err(Fault::new(ReplyCode::CommandInvalid, text));
            }
        };
        let Some(credentials) = parsed else {
            let text = format!("malformed {} response", start_ok.mechanism);
            return Err(Fault::new(ReplyCode::SyntaxError, text));
        };
        self.link.client = Client::new(start_ok.client_properties, credentials.mechanism);
        self.phase = Phase::LoginAsked(credentials);
        self.link.attention = true;
        Ok(())
    }

    /// The answer to [`super::Step::Authenticate`].
    pub fn authenticated(&mut self, result: Result<UserName, LoginRefusal>) {
        if !matches!(self.phase, Phase::LoginAsked(_) | Phase::LoggingIn) {
            return;
        }
        match result {
            Ok(user) => {
                self.link.user = Some(user);
                let options = &self.link.options;
                let tune = connection::Tune {
                    channel_max: options.channel_max,
                    frame_max: options.frame_max,
                    heartbeat: options.heartbeat_seconds,
                };
                self.link.send(CONNECTION, tune);
                self.phase = Phase::Tuning;
            }
            Err(LoginRefusal(cause)) => {
                let mechanism = self.link.client.mechanism.map(|mechanism| mechanism.to_string());
                let text = format!(
                    "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                    mechanism.unwrap_or_default()
                );
                let fault = Fault::new(ReplyCode::AccessRefused, text).outside_methods();
                if self.link.client.authentication_failure_close {
                    self.fail_connection(&fault);
                } else {
                    self.fail_silently(&fault);
                }
                // The peer is sent to the log, so the log has to know more than the peer.
                self.report = Some(CloseReport::client(cause));
            }
        }
    }

    /// The user may publish with any user id.
    pub fn allow_impersonation(&mut self) {
        self.link.impersonator = true;
    }

    fn tune_ok(&mut self, tune_ok: &connection::TuneOk, now: Instant) -> Result<(), Fault> {
        let options = &self.link.options;
        let checked =
            negotiate("frame_max", FRAME_MAX_MIN, tune_ok.frame_max, options.frame_max).and_then(|()| {
                negotiate("channel_max", 1, tune_ok.channel_max.into(), options.channel_max.into())
            });
        if let Err(fault) = checked {
            self.fail_connection(&fault.at(connection::Tune::ID));
            return Ok(());
        }
        self.link.tuned = Tuned {
            channel_max: tune_ok.channel_max,
            frame_max: tune_ok.frame_max,
            heartbeat_seconds: tune_ok.heartbeat,
        };
        self.heartbeat = Heartbeat::start(tune_ok.heartbeat, now);
        self.phase = Phase::AwaitingOpen;
        Ok(())
    }

    /// The answer to [`super::Step::OpenVhost`].
    pub fn vhost_opened(&mut self, result: Result<(), OpenRefusal>) {
        if !matches!(self.phase, Phase::OpenAsked(_) | Phase::Opening) {
            return;
        }
        match result {
            Ok(()) => {
                self.link.send(CONNECTION, connection::OpenOk {});
                self.phase = Phase::Running;
                self.attached = true;
            }
            Err(refusal) => {
                let fault = Fault::new(ReplyCode::NotAllowed, refusal.to_string()).at(connection::Open::ID);
                self.fail_connection(&fault);
            }
        }
    }
}

/// Checks one value of `connection.tune-ok` as RabbitMQ does: 0 is no limit, which is more than any limit of ours.
fn negotiate(field: &str, min: u32, asked: u32, offered: u32) -> Result<(), Fault> {
    let text = if asked != 0 && asked < min {
        format!("negotiated {field} = {asked} is lower than the minimum allowed value ({min})")
    } else if offered != 0 && (asked == 0 || asked > offered) {
        let unlimited = if asked == 0 && field == "channel_max" { " (no limit)" } else { "" };
        format!(
            "negotiated {field} = {asked}{unlimited} is higher than the maximum allowed value ({offered})"
        )
    } else {
        return Ok(());
    };
    Err(Fault::new(ReplyCode::NotAllowed, text))
}

/// `NUL user NUL password`; acting on behalf of another user is not supported, so nothing stands before.
fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.strip_prefix(&[0])?.split(|octet| *octet == 0);
    let (user, password) = (parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let user = std::str::from_utf8(user).ok()?.to_owned();
    Some(Credentials { mechanism: Mechanism::Plain, user, password: password.to_vec() })
}

/// A field table without its length.
fn amqplain(response: &[u8]) -> Option<Credentials> {
    let table = TableRef::parse(response).ok()?;
    let octets = |name| match table.get(name)? {
        ValueRef::LongString(octets) | ValueRef::Binary(octets) => Some(octets),
        _ => None,
    };
    let user = std::str::from_utf8(octets("LOGIN")?).ok()?.to_owned();
    Some(Credentials { mechanism: Mechanism::AmqPlain, user, password: octets("PASSWORD")?.to_vec() })
}
