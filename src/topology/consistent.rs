//! The consistent hash exchange's rule: a message goes to one destination, chosen by what it is hashed by.
//!
//! Every destination owns as many slots as its weight says. A key's hash names a sequence of slots; the first that is
//! owned decides. Invariant: spans stand in order without gaps between 0 and `end`; the first `used` slots of a span
//! that has a target are owned; an eighth of all slots is owned, if any is. So a key moves only to a destination that
//! was added, or from one that was removed, except when what is left of a removal is laid out anew.

use ferrymq_protocol::table::{Table, TableRef, Value};
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync, VectorSync};

use super::hash::{Hash, jump, next};
use super::refusal::Refusal;
use super::route::Features;
use super::target::Target;
use crate::model::VhostName;

/// The argument that names the header to hash by.
const HASH_HEADER: &str = "hash-header";
/// The argument that names the property to hash by.
const HASH_PROPERTY: &str = "hash-property";
/// The heaviest binding, as in `RabbitMQ` since 3.13.15.
const WEIGHT_MAX: u16 = 10_000;
/// Slots looked at before the first destination gets the message: with an eighth of the slots owned, fewer are enough
/// for all but one message in 10^14.
const PROBES: u32 = 256;

/// What the destination is chosen by.
#[derive(Clone, Debug, PartialEq)]
enum By {
    RoutingKey,
    Header(Box<str>),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl By {
    /// What an exchange's arguments ask for.
    fn of(arguments: &Table, subject: &str, vhost: &VhostName) -> Result<Self, Refusal> {
        let text = |name: &str| match arguments.get(name) {
            None => Ok(None),
            Some(Value::LongString(octets)) => Ok(Some(String::from_utf8_lossy(octets))),
            Some(other) => Err(Refusal::InvalidArgumentType {
                argument: name.to_owned(),
                subject: subject.to_owned(),
                vhost: vhost.clone(),
                received: other.type_name(),
            }),
        };
        match (text(HASH_HEADER)?, text(HASH_PROPERTY)?) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => Ok(Self::Header(header.as_ref().into())),
            (None, Some(property)) => match &*property {
                "message_id" => Ok(Self::MessageId),
                "correlation_id" => Ok(Self::CorrelationId),
                "timestamp" => Ok(Self::Timestamp),
                other => Err(Refusal::ExchangeArguments { reason: format!("Unsupported property: {other}") }),
            },
            (Some(_), Some(_)) => Err(Refusal::ExchangeArguments {
                reason: format!("{HASH_HEADER} and {HASH_PROPERTY} are mutually exclusive"),
            }),
        }
    }

    /// The hash of a message. What a message does not have is hashed, too: all without it go the same way.
    fn hash(&self, routing_key: &str, features: &Features<'_>) -> u64 {
        let hash = Hash::new();
        let optional = |text: Option<&str>| text.map_or(hash, |text| hash.text(text));
        let hashed = match self {
            Self::RoutingKey => hash.text(routing_key),
            Self::Header(name) => {
                let mut headers = features.headers.iter().flat_map(TableRef::iter);
                let found = headers.find(|(present, _)| *present == &**name);
                found.map_or(hash, |(_, value)| hash.value(value))
            }
            Self::MessageId => optional(features.message_id),
            Self::CorrelationId => optional(features.correlation_id),
            Self::Timestamp => features.timestamp.map_or(hash, |seconds| hash.octets(&seconds.to_be_bytes())),
        };
        hashed.finish()
    }
}

/// Refuses arguments that no consistent hash exchange can have.
pub(super) fn check_arguments(arguments: &Table, subject: &str, vhost: &VhostName) -> Result<(), Refusal> {
    By::of(arguments, subject, vhost).map(drop)
}

/// Refuses a binding key that is no weight.
pub(super) fn check_key(key: &str) -> Result<(), Refusal> {
    weight(key).map(drop)
}

/// The weight that a binding key says: a whole number in decimal digits, which may have a sign.
fn weight(key: &str) -> Result<u16, Refusal> {
    let refuse = |reason| Err(Refusal::InvalidBinding { reason });
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return refuse(format!("The binding key must be an integer: {}", in_erlang(key)));
    }
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() || key.starts_with('-') {
        return refuse("The binding key must be greater than 0".to_owned());
    }
    match digits.parse::<u16>() {
        Ok(weight) if weight <= WEIGHT_MAX => Ok(weight),
        _ => refuse(format!("The binding key must not be greater than {WEIGHT_MAX}")),
    }
}

/// A key as Erlang prints it: as text if all of it can be printed, otherwise as its octets.
fn in_erlang(key: &str) -> String {
    if key.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        if key.is_empty() {
            return "<<>>".to_owned();
        }
        return format!("<<\"{}\">>", key.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let octets: Vec<String> = key.bytes().map(|octet| octet.to_string()).collect();
    format!("<<{}>>", octets.join(","))
}

/// The destinations of one exchange.
#[derive(Clone, Debug)]
pub(super) struct Consistent {
    by: By,
    spans: VectorSync<Span>,
    /// Spans without a target, by length.
    free: RedBlackTreeSetSync<(u16, usize)>,
    members: RedBlackTreeMapSync<Target, Member>,
    /// Slots of all spans.
    end: u64,
    /// Slots that are owned.
    owned: u64,
}

/// Consecutive slots.
#[derive(Clone, Debug)]
struct Span {
    start: u64,
    len: u16,
    /// How many of them the target owns, from the start.
    used: u16,
    target: Option<Target>,
}

/// A destination.
#[derive(Clone, Debug)]
struct Member {
    /// Its span's place in the list.
    span: usize,
    /// The weight that counts: the first that was bound, for as long as it is.
    weight: u16,
    /// Its bindings, by weight.
    bindings: RedBlackTreeMapSync<u16, u32>,
}

impl Consistent {
    /// Of arguments that were checked.
    pub(super) fn new(arguments: &Table) -> Self {
        Self {
            by: By::of(arguments, "", &VhostName::from("")).unwrap_or(By::RoutingKey),
            spans: VectorSync::new_sync(),
            free: RedBlackTreeSetSync::new_sync(),
            members: RedBlackTreeMapSync::new_sync(),
            end: 0,
            owned: 0,
        }
    }

    /// Whether more than the routing key has a say.
    pub(super) fn looks_inside(&self) -> bool {
        self.by != By::RoutingKey
    }

    /// Adds a binding whose key was checked. Of several bindings to one target the first counts.
    pub(super) fn add(&mut self, key: &str, target: Target) {
        let weight = weight(key).unwrap_or(1);
        if let Some(member) = self.members.get_mut(&target) {
            let count = member.bindings.get(&weight).map_or(1, |count| count + 1);
            member.bindings.insert_mut(weight, count);
            return;
        }
        let span = self.take_slots(weight, target.clone());
        let mut bindings = RedBlackTreeMapSync::new_sync();
        bindings.insert_mut(weight, 1);
        self.members.insert_mut(target, Member { span, weight, bindings });
    }

    /// Takes out a binding. If its weight was the one that counted, the heaviest of the others counts from here on.
    pub(super) fn remove(&mut self, key: &str, target: &Target) {
        let removed = weight(key).unwrap_or(1);
        let Some(member) = self.members.get_mut(target) else { return };
        match member.bindings.get(&removed).copied() {
            None => return,
            Some(1) => drop(member.bindings.remove_mut(&removed)),
            Some(count) => member.bindings.insert_mut(removed, count - 1),
        }
        if member.bindings.contains_key(&member.weight) {
            return;
        }
        let (span, bindings) = (member.span, member.bindings.clone());
        self.members.remove_mut(target);
        self.give_slots(span);
        if let Some((weight, _)) = bindings.last() {
            let weight = *weight;
            let span = self.take_slots(weight, target.clone());
            self.members.insert_mut(target.clone(), Member { span, weight, bindings });
        }
        if self.end > 8 * self.owned {
            self.lay_out();
        }
    }

    /// Where a message goes.
    pub(super) fn choose(&self, routing_key: &str, features: &Features<'_>) -> Option<&Target> {
        let (first, _) = self.members.first()?;
        let mut draw = self.by.hash(routing_key, features);
        for _ in 0..PROBES {
            if let Some(target) = self.owner(jump(draw, self.end)) {
                return Some(target);
            }
            draw = next(draw);
        }
        Some(first)
    }

    fn owner(&self, slot: u64) -> Option<&Target> {
        let (mut low, mut high) = (0, self.spans.len());
        // The last span that does not begin behind the slot is in low..high.
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.spans.get(middle)?.start <= slot {
                low = middle;
            } else {
                high = middle;
            }
        }
        let span = self.spans.get(low)?;
        span.target.as_ref().filter(|_| slot - span.start < u64::from(span.used))
    }

    /// Gives slots to a target: the smallest free span that is long enough, or new ones at the end.
    fn take_slots(&mut self, weight: u16, target: Target) -> usize {
        self.owned += u64::from(weight);
        let free = self.free.range((weight, 0)..).next().copied();
        if let Some((len, place)) = free
            && let Some(span) = self.spans.get_mut(place)
        {
            self.free.remove_mut(&(len, place));
            span.used = weight;
            span.target = Some(target);
            return place;
        }
        self.spans.push_back_mut(Span { start: self.end, len: weight, used: weight, target: Some(target) });
        self.end += u64::from(weight);
        self.spans.len() - 1
    }

    fn give_slots(&mut self, place: usize) {
        let Some(span) = self.spans.get_mut(place) else { return };
        let (len, used) = (span.len, span.used);
        self.owned -= u64::from(used);
        span.used = 0;
        span.target = None;
        if place + 1 == self.spans.len() && used == len {
            // As if it had never been there. Free slots must stay: other keys have gone on from them.
            self.spans.drop_last_mut();
            self.end -= u64::from(len);
        } else {
            self.free.insert_mut((len, place));
        }
    }

    /// Lays out what there is without free slots, in the same order.
    fn lay_out(&mut self) {
        let present: Vec<(u16, Target)> =
            self.spans.iter().filter_map(|span| Some((span.used, span.target.clone()?))).collect();
        self.spans = VectorSync::new_sync();
        self.free = RedBlackTreeSetSync::new_sync();
        (self.end, self.owned) = (0, 0);
        for (weight, target) in present {
            let span = self.take_slots(weight, target.clone());
            if let Some(member) = self.members.get_mut(&target) {
                member.span = span;
            }
        }
    }
}

#[cfg(test)]
mod tests;
