//! A complete message: checked, amended, routed, and on its way to the vhost.
//!
//! Invariant: the checks are made in RabbitMQ's order, so that a publish with several mistakes gets the same answer:
//! exchange, reply-to, expiration, CC and BCC, user id.

use bytes::BytesMut;
use ferrymq_protocol::method::basic;
use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::{TableRef, ValueRef};

use super::channel::{Channel, Mode, ReplyConsumer};
use super::content::{Assembly, Checked};
use super::errors::{Fault, ReplyCode};
use super::link::{Link, Turn};
use crate::model::{Body, ChannelNumber, Message, MessageParts};
use crate::topology::{Features, REPLY_TO_QUEUE, Route, Topology, reply_to_address};
use crate::vhost::{Awaiting, Command, Publish};

/// Delivery mode of messages that are to be kept across a restart.
const PERSISTENT: u8 = 2;
/// The longest expiration, in milliseconds: ten years, as RabbitMQ has it.
const EXPIRATION_MAX: u64 = 315_360_000_000;
/// Headers that add routing keys.
const CC: &str = "CC";
/// See [`CC`]; consumers do not see it.
const BCC: &str = "BCC";

/// Where messages of one exchange and routing key go, for as long as the topology stays as it is.
#[derive(Debug, Default)]
pub(super) struct CachedRoute {
    generation: u64,
    route: Option<Route>,
}

impl CachedRoute {
    fn get(&self, topology: &Topology) -> Option<Route> {
        self.route.as_ref().filter(|_| self.generation == topology.generation()).cloned()
    }
}

impl Assembly {
    /// Where the message goes.
    fn route(
        &mut self,
        topology: &Topology,
        (properties, lot): (&Properties<'_>, u64),
        copies: &Copies<'_>,
    ) -> Result<Route, Fault> {
        let plain = copies.keys.is_empty();
        if plain && let Some(route) = self.route.get(topology) {
            return Ok(route);
        }
        let features = Features::of(properties, lot);
        let route = topology.route(&self.exchange, &self.routing_key, &features, &copies.keys)?;
        if plain && route.cacheable {
            self.route = CachedRoute { generation: topology.generation(), route: Some(route.clone()) };
        }
        Ok(route)
    }

    /// Makes the message of what has come, if that is as it should be.
    fn arrival(
        &mut self,
        body: Body<'_>,
        topology: &Topology,
        link: &Link,
        (lot, replies): (u64, Option<ReplyConsumer>),
    ) -> Result<Arrival, Fault> {
        if let Some(checked) = self.checked
            && let Some(route) = self.route.get(topology)
        {
            return Ok(self.arrived(route, &self.properties, checked.persistent, body));
        }
        let octets = std::mem::take(&mut self.properties);
        let properties = Properties::decode(&octets)?;
        let copies = Copies::of(properties.headers);
        let route = self.route(topology, (&properties, lot), &copies)?;
        let reply_to = reply_to(&properties, replies)?;
        check_expiration(properties.expiration)?;
        if let Some(fault) = copies.fault {
            return Err(fault);
        }
        check_user_id(properties.user_id, link)?;
        let persistent = properties.delivery_mode == Some(PERSISTENT);
        let plain = copies.keys.is_empty();
        let amended = amend(properties, reply_to.as_deref(), copies.blind)?;
        self.checked = (plain && amended.is_none()).then_some(Checked { persistent });
        let arrival = self.arrived(route, amended.as_deref().unwrap_or(&octets), persistent, body);
        self.properties = octets;
        Ok(arrival)
    }

    fn arrived(&self, route: Route, properties: &[u8], persistent: bool, body: Body<'_>) -> Arrival {
        let Self { exchange, routing_key, mandatory, .. } = self;
        let parts = MessageParts { exchange, routing_key, properties, persistent };
        Arrival { message: Message::new(parts, body), route, mandatory: *mandatory }
    }
}

impl Channel {
    /// Takes a message in.
    pub(super) fn accept(&mut self, body: Body<'_>, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let Some(topology) = turn.context.topology else {
            return Err(Fault::new(ReplyCode::InternalError, "no vhost is open"));
        };
        let (lot, replies) = (self.next_lot(), self.replies);
        let arrival = self.assembly.arrival(body, topology, turn.link, (lot, replies))?;
        self.hand_over(arrival, turn)
    }

    /// A number that no other publish to the vhost has, short of channels that publish 2^32 times.
    fn next_lot(&self) -> u64 {
        let channel = self.key.map_or(0, |key| key.0);
        (channel << 32) ^ self.counters.publish
    }

    fn hand_over(&mut self, arrival: Arrival, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let Arrival { message, route, mandatory } = arrival;
        let unroutable = route.targets.is_empty();
        let returned = unroutable && mandatory;
        self.counters.publish += 1;
        let waits_for_disk = !unroutable && (message.persistent() || route.kept);
        match &mut self.mode {
            Mode::Plain => {
                self.count_unroutable(unroutable, returned);
                send_back(self.number, &message, returned, turn.link);
                turn.emit(Command::Publish(Publish {
                    message,
                    route,
                    returned,
                    awaiting: Awaiting::Nothing,
                }));
            }
            Mode::Confirm(confirms) => {
                if confirms.publish(waits_for_disk) {
                    turn.link.in_turn.push(self.number);
                }
                let awaiting = Awaiting::Confirm { channel: self.number, tag: confirms.last_tag() };
                self.count_unroutable(unroutable, returned);
                send_back(self.number, &message, returned, turn.link);
                turn.emit(Command::Publish(Publish { message, route, returned, awaiting }));
            }
            Mode::Transaction(transaction) => {
                let cost = message.cost();
                let awaiting = Awaiting::Commit { channel: self.number };
                transaction.publish(Publish { message, route, returned, awaiting }, cost);
                turn.link.count_transaction(cost)?;
            }
        }
        Ok(())
    }

    pub(super) fn count_unroutable(&mut self, unroutable: bool, returned: bool) {
        self.counters.returned += u64::from(returned);
        self.counters.dropped += u64::from(unroutable && !returned);
    }
}

/// The address that replaces the reply-to pseudo-queue's name.
fn reply_to(properties: &Properties<'_>, replies: Option<ReplyConsumer>) -> Result<Option<String>, Fault> {
    if properties.reply_to != Some(REPLY_TO_QUEUE) {
        return Ok(None);
    }
    match replies {
        Some(replies) => Ok(Some(reply_to_address(replies.token.0))),
        None => Err(Fault::precondition("fast reply consumer does not exist")),
    }
}

/// A message that has passed all checks.
struct Arrival {
    message: Message,
    route: Route,
    mandatory: bool,
}

/// Sends an unroutable mandatory message back to its publisher.
pub(super) fn send_back(channel: ChannelNumber, message: &Message, returned: bool, link: &mut Link) {
    if !returned {
        return;
    }
    let method = basic::Return {
        reply_code: ReplyCode::NoRoute.number(),
        reply_text: ReplyCode::NoRoute.name(),
        exchange: message.exchange(),
        routing_key: message.routing_key(),
    };
    link.send_message(channel, method, message.properties(), message);
}

/// What the headers `CC` and `BCC` say.
#[derive(Default)]
struct Copies<'a> {
    /// Further routing keys.
    keys: Vec<&'a str>,
    /// There is a `BCC` to be taken out.
    blind: bool,
    fault: Option<Fault>,
}

impl<'a> Copies<'a> {
    fn of(headers: Option<TableRef<'a>>) -> Self {
        let mut copies = Self::default();
        let Some(headers) = headers else { return copies };
        let [mut cc, mut bcc] = [None, None];
        for (name, value) in headers.iter() {
            match name {
                CC => cc = cc.or(Some(value)),
                BCC => bcc = bcc.or(Some(value)),
                _ => {}
            }
        }
        copies.blind = bcc.is_some();
        for (name, value) in [(CC, cc), (BCC, bcc)] {
            match value {
                None => {}
                // RabbitMQ passes over entries that are not strings; a key that is not UTF-8 matches nothing here.
                Some(ValueRef::Array(keys)) => copies.keys.extend(keys.iter().filter_map(|key| key.as_str())),
                Some(other) if copies.fault.is_none() => {
                    let type_name = other.type_name();
                    let text =
                        format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{type_name}}}");
                    copies.fault = Some(Fault::precondition(text));
                }
                Some(_) => {}
            }
        }
        copies
    }
}

/// The properties as consumers get them, if that differs from what was published.
fn amend(properties: Properties<'_>, reply_to: Option<&str>, blind: bool) -> Result<Option<BytesMut>, Fault> {
    if reply_to.is_none() && !blind {
        return Ok(None);
    }
    let mut amended = BytesMut::new();
    let mut table = BytesMut::new();
    // A copy of its own, because it borrows what lives only here.
    let mut properties = properties;
    let lengthened = |_| Fault::precondition("invalid message: its properties cannot be encoded");
    if let Some(headers) = properties.headers.filter(|_| blind) {
        let mut seen = headers.to_owned();
        while seen.remove(BCC).is_some() {}
        seen.encode(&mut table).map_err(lengthened)?;
        properties.headers = Some(TableRef::parse(&table)?);
    }
    properties.reply_to = reply_to.or(properties.reply_to);
    properties.encode(&mut amended).map_err(lengthened)?;
    Ok(Some(amended))
}

/// An expiration is a whole number of milliseconds in decimal digits.
fn check_expiration(expiration: Option<&str>) -> Result<(), Fault> {
    let Some(text) = expiration else { return Ok(()) };
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let reason = if digits == 0 {
        "no_integer".to_owned()
    } else if digits < unsigned.len() {
        format!("{{leftover_string,\"{}\"}}", &unsigned[digits..])
    } else {
        let value = unsigned.trim_start_matches('0');
        let number = value.parse::<u64>().ok();
        if text.starts_with('-') && !value.is_empty() {
            format!("{{value_negative,-{value}}}")
        } else if value.is_empty() || number.is_some_and(|number| number <= EXPIRATION_MAX) {
            return Ok(());
        } else {
            format!("{{value_too_large,{value}}}")
        }
    };
    Err(Fault::precondition(format!("invalid expiration '{text}': {reason}")))
}

/// Whoever names a user must be that user.
fn check_user_id(user_id: Option<&str>, link: &Link) -> Result<(), Fault> {
    let Some(claimed) = user_id else { return Ok(()) };
    match &link.user {
        Some(user) if user.as_str() == claimed || link.impersonator => Ok(()),
        user => {
            let actual = user.as_ref().map_or("", |user| user.as_str());
            let text = format!("user_id property set to '{claimed}' but authenticated user was '{actual}'");
            Err(Fault::precondition(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_judged_as_rabbitmq_judges_them() {
        for good in ["0", "00", "60000", "+5", "-0", "315360000000"] {
            assert_eq!(check_expiration(Some(good)), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("-10", "{value_negative,-10}"),
            ("100foobar", "{leftover_string,\"foobar\"}"),
            ("foobar", "no_integer"),
            ("", "no_integer"),
            ("315360000001", "{value_too_large,315360000001}"),
            ("99999999999999999999999", "{value_too_large,99999999999999999999999}"),
        ] {
            let fault = check_expiration(Some(bad)).expect_err(bad);
            assert_eq!(
                fault.reply_text(),
                format!("PRECONDITION_FAILED - invalid expiration '{bad}': {reason}")
            );
        }
    }
}
