//! The headers exchange's rule: a binding's arguments are conditions on the message's headers.
//!
//! Invariant: bindings with equal arguments share one rule, which is evaluated once per message.

use std::sync::Arc;

use ferrymq_protocol::table::{Table, TableRef, Value, ValueRef};
use rpds::RedBlackTreeMapSync;

use super::refusal::Refusal;
use super::target::{Target, TargetSet};
use super::value;

/// The argument that chooses between all and any; itself no condition.
const X_MATCH: &str = "x-match";

/// The rules of one exchange, by their arguments in canonical form.
#[derive(Clone, Debug)]
pub(super) struct Headers(RedBlackTreeMapSync<Arc<[u8]>, Rule>);

#[derive(Clone, Debug)]
struct Rule {
    conditions: Arc<Conditions>,
    targets: TargetSet,
}

/// What a binding asks of a message's headers.
#[derive(Debug)]
struct Conditions {
    /// Every condition must hold, rather than at least one.
    all: bool,
    /// Names with the value they must have; none means that any will do.
    wanted: Vec<(Box<str>, Option<Value>)>,
}

/// A message's headers, in order of their names.
#[derive(Debug)]
pub(super) struct SortedHeaders<'m>(Vec<(&'m str, ValueRef<'m>)>);

impl<'m> SortedHeaders<'m> {
    /// Of headers with the same name the first counts.
    pub(super) fn new(headers: Option<TableRef<'m>>) -> Self {
        let mut sorted: Vec<_> = headers.iter().flat_map(TableRef::iter).collect();
        sorted.sort_by_key(|(name, _)| *name);
        sorted.dedup_by_key(|(name, _)| *name);
        Self(sorted)
    }

    fn get(&self, name: &str) -> Option<ValueRef<'m>> {
        let at = self.0.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        Some(self.0[at].1)
    }
}

/// Refuses arguments that no binding to a headers exchange can have.
pub(super) fn check_arguments(arguments: &Table) -> Result<(), Refusal> {
    parse_mode(arguments).map(|_| ())
}

/// How conditions are combined.
struct Mode {
    all: bool,
    /// Arguments whose name begins with `x-` are conditions too.
    with_x: bool,
}

fn parse_mode(arguments: &Table) -> Result<Mode, Refusal> {
    let Some(mode) = arguments.get(X_MATCH) else { return Ok(Mode { all: true, with_x: false }) };
    let Value::LongString(octets) = mode else {
        let reason = format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            mode.type_name(),
            value::bare(mode)
        );
        return Err(Refusal::InvalidBinding { reason });
    };
    match octets.as_slice() {
        b"all" => Ok(Mode { all: true, with_x: false }),
        b"any" => Ok(Mode { all: false, with_x: false }),
        b"all-with-x" => Ok(Mode { all: true, with_x: true }),
        b"any-with-x" => Ok(Mode { all: false, with_x: true }),
        other => {
            let other = String::from_utf8_lossy(other);
            let reason = format!(
                "Invalid x-match field value <<\"{other}\">>; expected all, any, all-with-x, or any-with-x"
            );
            Err(Refusal::InvalidBinding { reason })
        }
    }
}

impl Conditions {
    /// Of arguments that were checked.
    fn new(arguments: &Table) -> Self {
        let mode = parse_mode(arguments).unwrap_or(Mode { all: true, with_x: false });
        let mut wanted: Vec<(Box<str>, Option<Value>)> = arguments
            .iter()
            .filter(|(name, _)| *name != X_MATCH && (mode.with_x || !name.starts_with("x-")))
            .map(|(name, value)| (Box::from(name), Some(value).filter(|v| **v != Value::Void).cloned()))
            .collect();
        wanted.sort_by(|(left, _), (right, _)| left.cmp(right));
        wanted.dedup_by(|(later, _), (earlier, _)| later == earlier);
        Self { all: mode.all, wanted }
    }

    fn hold(&self, headers: &SortedHeaders<'_>) -> bool {
        let mut results = self.wanted.iter().map(|(name, wanted)| {
            headers
                .get(name)
                .is_some_and(|header| wanted.as_ref().is_none_or(|wanted| value::matches(wanted, header)))
        });
        if self.all { results.all(|holds| holds) } else { results.any(|holds| holds) }
    }
}

impl Headers {
    pub(super) fn new() -> Self {
        Self(RedBlackTreeMapSync::new_sync())
    }

    /// `canonical` identifies the arguments ([`super::binding::canonical`]).
    pub(super) fn add(&mut self, canonical: &Arc<[u8]>, arguments: &Table, target: Target) {
        if let Some(rule) = self.0.get_mut(canonical) {
            rule.targets.add(target);
        } else {
            let mut targets = TargetSet::default();
            targets.add(target);
            let conditions = Arc::new(Conditions::new(arguments));
            self.0.insert_mut(Arc::clone(canonical), Rule { conditions, targets });
        }
    }

    pub(super) fn remove(&mut self, canonical: &Arc<[u8]>, target: &Target) {
        let Some(rule) = self.0.get_mut(canonical) else { return };
        rule.targets.remove(target);
        if rule.targets.is_empty() {
            self.0.remove_mut(canonical);
        }
    }

    pub(super) fn for_each_match<'a>(
        &'a self,
        headers: &SortedHeaders<'_>,
        found: &mut impl FnMut(&'a Target),
    ) {
        for rule in self.0.values() {
            if rule.conditions.hold(headers) {
                rule.targets.for_each(found);
            }
        }
    }
}

#[cfg(test)]
mod tests;
