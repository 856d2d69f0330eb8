//! One exchange: what was declared and the rule by which it picks targets.
//!
//! Invariant: the rule holds exactly the exchange's bindings, and their number is counted.

use std::sync::Arc;

use ferrymq_protocol::table::{Table, Value};

use super::binding::Binding;
use super::consistent::{self, Consistent};
use super::delay;
use super::direct::Direct;
use super::headers::{self, Headers};
use super::ranked::Ranked;
use super::recent::{self, history_length};
use super::refusal::Refusal;
use super::route::ExchangeId;
use super::target::{Target, TargetSet};
use super::topic::Topic;
use crate::model::{BindingDefinition, ExchangeDefinition, ExchangeKind, ExchangeName, QueueId, VhostName};

/// The argument that names where a message goes that the exchange itself leads nowhere.
pub(super) const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) id: ExchangeId,
    pub(super) definition: Arc<ExchangeDefinition>,
    /// Where a message goes that the rule leads nowhere, by argument or by policy.
    pub(super) alternate: Option<ExchangeName>,
    /// Bindings of which it is the source.
    pub(super) bindings: usize,
    pub(super) rule: Rule,
    /// Where messages wait that ask for it.
    pub(super) delays: Option<QueueId>,
}

/// How an exchange picks targets, and the bindings it picks from.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    Direct(Direct),
    Fanout(TargetSet),
    Topic(Topic),
    Headers(Headers),
    ConsistentHash(Consistent),
    Random(Ranked),
    ModulusHash(Ranked),
    RecentHistory {
        targets: TargetSet,
        /// How many messages are remembered.
        length: u64,
    },
}

impl Rule {
    fn new(kind: ExchangeKind, arguments: &Table) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(Direct::new()),
            ExchangeKind::Fanout => Self::Fanout(TargetSet::default()),
            ExchangeKind::Topic => Self::Topic(Topic::new()),
            ExchangeKind::Headers => Self::Headers(Headers::new()),
            ExchangeKind::ConsistentHash => Self::ConsistentHash(Consistent::new(arguments)),
            ExchangeKind::Random => Self::Random(Ranked::default()),
            ExchangeKind::ModulusHash => Self::ModulusHash(Ranked::default()),
            ExchangeKind::RecentHistory => {
                Self::RecentHistory { targets: TargetSet::default(), length: history_length(arguments) }
            }
            ExchangeKind::Delayed => {
                Self::new(delay::delayed_type(arguments).unwrap_or(ExchangeKind::Fanout), arguments)
            }
        }
    }
}

impl Exchange {
    pub(super) fn new(
        id: ExchangeId,
        definition: ExchangeDefinition,
        alternate: Option<ExchangeName>,
    ) -> Self {
        let rule = Rule::new(definition.kind, &definition.arguments);
        Self { id, definition: Arc::new(definition), alternate, bindings: 0, rule, delays: None }
    }

    pub(super) fn add(&mut self, binding: &Binding, target: Target) {
        self.bindings += 1;
        let definition = &binding.definition;
        match &mut self.rule {
            Rule::Direct(direct) => direct.add(&definition.routing_key, target),
            Rule::Fanout(targets) | Rule::RecentHistory { targets, .. } => targets.add(target),
            Rule::Topic(topic) => topic.add(definition.routing_key.as_str(), target),
            Rule::Headers(headers) => headers.add(&binding.canonical, &definition.arguments, target),
            Rule::ConsistentHash(members) => members.add(definition.routing_key.as_str(), target),
            Rule::Random(bindings) | Rule::ModulusHash(bindings) => {
                bindings.add(&definition.destination, target);
            }
        }
    }

    /// Takes out a binding that is there.
    pub(super) fn remove(&mut self, binding: &Binding, target: &Target) {
        self.bindings -= 1;
        let definition = &binding.definition;
        match &mut self.rule {
            Rule::Direct(direct) => direct.remove(&definition.routing_key, target),
            Rule::Fanout(targets) | Rule::RecentHistory { targets, .. } => targets.remove(target),
            Rule::Topic(topic) => topic.remove(definition.routing_key.as_str(), target),
            Rule::Headers(headers) => headers.remove(&binding.canonical, target),
            Rule::ConsistentHash(members) => members.remove(definition.routing_key.as_str(), target),
            Rule::Random(bindings) | Rule::ModulusHash(bindings) => {
                bindings.remove(&definition.destination, target);
            }
        }
    }

    /// Refuses a binding that the exchange could not use.
    pub(super) fn check_binding(&self, binding: &BindingDefinition) -> Result<(), Refusal> {
        match &self.rule {
            Rule::Headers(_) => headers::check_arguments(&binding.arguments),
            Rule::ConsistentHash(_) => consistent::check_key(binding.routing_key.as_str()),
            _ => Ok(()),
        }
    }

    /// Whether it goes with its last binding, which has just gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.definition.auto_delete && self.bindings == 0
    }
}

/// The exchange type of that name.
///
/// # Errors
/// [`Refusal::UnknownExchangeType`].
pub fn parse_exchange_kind(name: &str) -> Result<ExchangeKind, Refusal> {
    match name {
        "direct" => Ok(ExchangeKind::Direct),
        "fanout" => Ok(ExchangeKind::Fanout),
        "topic" => Ok(ExchangeKind::Topic),
        "headers" => Ok(ExchangeKind::Headers),
        "x-consistent-hash" => Ok(ExchangeKind::ConsistentHash),
        "x-random" => Ok(ExchangeKind::Random),
        "x-modulus-hash" => Ok(ExchangeKind::ModulusHash),
        "x-recent-history" => Ok(ExchangeKind::RecentHistory),
        "x-delayed-message" => Ok(ExchangeKind::Delayed),
        unknown => Err(Refusal::UnknownExchangeType { kind: unknown.to_owned() }),
    }
}

/// The name of an exchange type, as declared and shown.
#[must_use]
pub fn exchange_kind_name(kind: ExchangeKind) -> &'static str {
    match kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Topic => "topic",
        ExchangeKind::Headers => "headers",
        ExchangeKind::ConsistentHash => "x-consistent-hash",
        ExchangeKind::Random => "x-random",
        ExchangeKind::ModulusHash => "x-modulus-hash",
        ExchangeKind::RecentHistory => "x-recent-history",
        ExchangeKind::Delayed => "x-delayed-message",
    }
}

/// Refuses arguments that no exchange of the type can have.
pub(super) fn check_arguments(
    definition: &ExchangeDefinition,
    subject: &str,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    let mut kind = definition.kind;
    if kind == ExchangeKind::Delayed {
        kind = delay::check_arguments(&definition.arguments)?;
    }
    match kind {
        ExchangeKind::ConsistentHash => consistent::check_arguments(&definition.arguments, subject, vhost),
        ExchangeKind::RecentHistory => recent::check_arguments(&definition.arguments),
        _ => Ok(()),
    }
}

/// The type of the `alternate-exchange` argument, unless it is the one it must have.
pub(super) fn wrong_alternate_type(arguments: &Table) -> Option<&'static str> {
    match arguments.get(ALTERNATE_EXCHANGE) {
        None | Some(Value::LongString(_)) => None,
        Some(other) => Some(other.type_name()),
    }
}
