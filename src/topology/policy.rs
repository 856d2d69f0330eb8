//! The policies of one vhost, and which of them are in force for a queue or an exchange.
//!
//! For each object that is the policy of either kind that matches, and has the highest priority, or else the lowest
//! name. Invariant: what is in here has been checked, and names are unique among the policies of a kind.

mod keys;
mod pattern;
mod term;

use std::cmp::Reverse;
use std::sync::Arc;

use ferrymq_protocol::table::{Table, Value};

use self::pattern::Pattern;
use super::change::Changes;
use super::exchange::ALTERNATE_EXCHANGE;
use super::refusal::Refusal;
use super::topology::{DEFAULT_EXCHANGE, Topology};
use crate::model::{
    ApplyTo, Definition, ExchangeDefinition, ExchangeName, Origin, PolicyDefinition, PolicyKind, PolicyName,
    QueueDefinition,
};
use crate::topology::QueueType;

pub use self::keys::lower_limit;

/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 4_096;

/// Every value of `apply-to`, with its name.
const APPLY_TO: [(&str, ApplyTo); 6] = [
    ("all", ApplyTo::All),
    ("queues", ApplyTo::Queues),
    ("classic_queues", ApplyTo::ClassicQueues),
    ("quorum_queues", ApplyTo::QuorumQueues),
    ("streams", ApplyTo::Streams),
    ("exchanges", ApplyTo::Exchanges),
];

/// The value of `apply-to` with that name.
///
/// # Errors
/// [`Refusal::InvalidPolicy`].
pub fn parse_apply_to(name: &str) -> Result<ApplyTo, Refusal> {
    APPLY_TO.iter().find(|(known, _)| *known == name).map(|(_, apply_to)| *apply_to).ok_or_else(|| {
        let one_of = "'queues', 'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'";
        Refusal::InvalidPolicy {
            reason: format!("apply-to '{name}' unrecognised; should be one of: {one_of}"),
        }
    })
}

/// The name of a value of `apply-to`.
#[must_use]
pub fn apply_to_name(apply_to: ApplyTo) -> &'static str {
    APPLY_TO.iter().find(|(_, known)| *known == apply_to).map_or("all", |(name, _)| name)
}

/// Checks a policy's pattern.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    compile(pattern).map(drop)
}

fn compile(pattern: &str) -> Result<Pattern, String> {
    if pattern.len() > PATTERN_MAX {
        return Err(format!("it has more than {PATTERN_MAX} bytes"));
    }
    Pattern::new(pattern)
}

/// A policy that has been checked.
#[derive(Clone, Debug)]
struct Policy {
    definition: Arc<PolicyDefinition>,
    pattern: Pattern,
}

impl Policy {
    fn new(definition: PolicyDefinition) -> Result<Self, Refusal> {
        let invalid = |reason| Refusal::InvalidPolicy { reason };
        let pattern = compile(&definition.pattern).map_err(|reason| {
            invalid(format!("pattern should be regular expression but is invalid: {reason}"))
        })?;
        keys::check(definition.kind, &definition.definition).map_err(invalid)?;
        Ok(Self { definition: Arc::new(definition), pattern })
    }

    fn is_for_queue(&self, queue: &QueueDefinition) -> bool {
        let kind = QueueType::of(&queue.arguments);
        let is_wanted = match self.definition.apply_to {
            ApplyTo::All | ApplyTo::Queues => true,
            ApplyTo::ClassicQueues => kind == QueueType::Classic,
            ApplyTo::QuorumQueues => kind == QueueType::Quorum,
            ApplyTo::Streams | ApplyTo::Exchanges => false,
        };
        is_wanted
            && keys::is_for(&self.definition.definition, kind)
            && self.pattern.matches(queue.name.as_str())
    }

    fn is_for_exchange(&self, name: &str) -> bool {
        let is_wanted = matches!(self.definition.apply_to, ApplyTo::All | ApplyTo::Exchanges);
        is_wanted && self.pattern.matches(name)
    }
}

/// All policies of a vhost, those of each kind in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    user: Vec<Policy>,
    operator: Vec<Policy>,
}

impl Policies {
    fn of(&self, kind: PolicyKind) -> &[Policy] {
        match kind {
            PolicyKind::User => &self.user,
            PolicyKind::Operator => &self.operator,
        }
    }

    fn of_mut(&mut self, kind: PolicyKind) -> &mut Vec<Policy> {
        match kind {
            PolicyKind::User => &mut self.user,
            PolicyKind::Operator => &mut self.operator,
        }
    }

    fn get(&self, kind: PolicyKind, name: &str) -> Option<&PolicyDefinition> {
        let found = self.of(kind).iter().find(|policy| policy.definition.name.as_str() == name);
        found.map(|policy| &*policy.definition)
    }

    fn remove(&mut self, kind: PolicyKind, name: &str) {
        self.of_mut(kind).retain(|policy| policy.definition.name.as_str() != name);
    }

    fn insert(&mut self, policy: Policy) {
        self.remove(policy.definition.kind, policy.definition.name.as_str());
        let policies = self.of_mut(policy.definition.kind);
        policies.push(policy);
        policies.sort_by(|left, right| {
            let order =
                |policy: &Policy| (Reverse(policy.definition.priority), policy.definition.name.clone());
            order(left).cmp(&order(right))
        });
    }

    fn first(&self, is_for: impl Fn(&Policy) -> bool) -> AppliedPolicies<'_> {
        let first = |policies: &'_ [Policy]| policies.iter().position(&is_for);
        AppliedPolicies {
            user: first(&self.user).map(|place| &*self.user[place].definition),
            operator: first(&self.operator).map(|place| &*self.operator[place].definition),
        }
    }
}

/// The policies in force for one object.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppliedPolicies<'t> {
    /// The user's.
    pub user: Option<&'t PolicyDefinition>,
    /// The operator's.
    pub operator: Option<&'t PolicyDefinition>,
}

impl<'t> AppliedPolicies<'t> {
    /// The value of a setting.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'t Value> {
        let of = |policy: Option<&'t PolicyDefinition>| policy.and_then(|policy| policy.definition.get(name));
        match (of(self.user), of(self.operator)) {
            (Some(user), Some(operator)) => Some(keys::merge(name, user, operator)),
            (user, operator) => user.or(operator),
        }
    }

    /// All settings, by name; the queue's or exchange's own arguments are not among them.
    #[must_use]
    pub fn definition(&self) -> Table {
        let mut merged = Table::new();
        let names =
            [self.user, self.operator].into_iter().flatten().flat_map(|policy| policy.definition.iter());
        for (name, _) in names {
            if let Some(value) = self.get(name) {
                merged.insert(name, value.clone()).expect("it comes out of a table");
            }
        }
        merged
    }
}

impl Topology {
    /// Sets a policy, or replaces the one of its kind and name. What it is for has to be looked at again:
    /// [`Self::policies_of_queue`], [`Self::reroute_by_policy`].
    ///
    /// # Errors
    /// [`Refusal::InvalidPolicy`]; [`Refusal::PolicyOfFile`] and [`Refusal::PolicyDiffers`] if the existing one was
    /// set by somebody else.
    pub fn set_policy(&mut self, definition: PolicyDefinition) -> Result<Changes, Refusal> {
        let mut changes = Changes::default();
        let policy = Policy::new(definition)?;
        let definition = Arc::clone(&policy.definition);
        if let Some(current) = self.policies.get(definition.kind, definition.name.as_str()) {
            let is_same = PolicyDefinition { origin: definition.origin, ..current.clone() } == *definition;
            if is_same {
                return Ok(changes);
            }
            match (current.origin, definition.origin) {
                (Origin::Config, Origin::Client) => return Err(policy_of_file(&definition.name)),
                (Origin::Client, Origin::Config) => {
                    return Err(Refusal::PolicyDiffers { policy: definition.name.clone() });
                }
                _ => {}
            }
        }
        Arc::make_mut(&mut self.policies).insert(policy);
        changes.put(Definition::Policy((*definition).clone()), true);
        Ok(changes)
    }

    /// Deletes a policy, on behalf of a client or of the file. What it was for has to be looked at again.
    ///
    /// # Errors
    /// [`Refusal::NoPolicy`]; [`Refusal::PolicyOfFile`] if the file declares it and somebody else wants it gone.
    pub fn delete_policy(&mut self, kind: PolicyKind, name: &str, by: Origin) -> Result<Changes, Refusal> {
        let Some(current) = self.policies.get(kind, name) else { return Err(Refusal::NoPolicy) };
        if current.origin == Origin::Config && by != Origin::Config {
            return Err(policy_of_file(&current.name));
        }
        let mut changes = Changes::default();
        changes.delete(Definition::Policy(current.clone()), true);
        Arc::make_mut(&mut self.policies).remove(kind, name);
        Ok(changes)
    }

    /// All policies: users' before operators', each in the order in which they are tried.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyDefinition> {
        let Policies { user, operator } = &*self.policies;
        user.iter().chain(operator).map(|policy| &*policy.definition)
    }

    /// The policy of this kind and name.
    #[must_use]
    pub fn policy(&self, kind: PolicyKind, name: &str) -> Option<&PolicyDefinition> {
        self.policies.get(kind, name)
    }

    /// The policies in force for a queue.
    #[must_use]
    pub fn policies_of_queue(&self, queue: &QueueDefinition) -> AppliedPolicies<'_> {
        self.policies.first(|policy| policy.is_for_queue(queue))
    }

    /// The policies in force for an exchange. None are for the default exchange.
    #[must_use]
    pub fn policies_of_exchange(&self, name: &str) -> AppliedPolicies<'_> {
        if name == DEFAULT_EXCHANGE {
            return AppliedPolicies::default();
        }
        self.policies.first(|policy| policy.is_for_exchange(name))
    }

    /// Makes an exchange lead where the policies now say. Says whether that has changed anything.
    pub fn reroute_by_policy(&mut self, name: &ExchangeName) -> bool {
        let Some(exchange) = self.exchanges.get(name) else { return false };
        let alternate = self.alternate_of(&exchange.definition);
        if alternate == exchange.alternate {
            return false;
        }
        if let Some(exchange) = self.exchanges.get_mut(name) {
            exchange.alternate = alternate;
        }
        self.routes_changed();
        true
    }

    /// Where a message goes that an exchange leads nowhere: its argument says it, or else a policy.
    pub(super) fn alternate_of(&self, exchange: &ExchangeDefinition) -> Option<ExchangeName> {
        let argument = exchange.arguments.get(ALTERNATE_EXCHANGE);
        let name = match argument {
            Some(argument) => Some(argument),
            None => self.policies_of_exchange(exchange.name.as_str()).get(ALTERNATE_EXCHANGE),
        };
        name.and_then(Value::as_str).map(ExchangeName::from)
    }
}

fn policy_of_file(name: &PolicyName) -> Refusal {
    Refusal::PolicyOfFile { policy: name.clone() }
}

#[cfg(test)]
mod tests;
