//! A policy, stored.
//!
//! Key: kind, name. Value: version 1, what it applies to, priority, origin, pattern, settings.

use super::field::{Reader, put_long, put_short, put_table};
use super::{RecordError, origin, origin_tag, version};
use crate::model::{ApplyTo, PolicyDefinition, PolicyKind, PolicyName};

const VERSION: u8 = 1;

pub(super) fn put_key(policy: &PolicyDefinition, out: &mut Vec<u8>) {
    out.push(kind_tag(policy.kind));
    put_short(policy.name.as_str(), out);
}

pub(super) fn put_value(policy: &PolicyDefinition, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(apply_to_tag(policy.apply_to));
    out.extend_from_slice(&policy.priority.to_be_bytes());
    out.push(origin_tag(policy.origin));
    put_long(&policy.pattern, out);
    put_table(&policy.definition, out);
}

pub(super) fn read(key: &mut Reader<'_>, value: &mut Reader<'_>) -> Result<PolicyDefinition, RecordError> {
    let kind = kind(key.byte()?)?;
    let name = PolicyName::from(key.short()?);
    version(value, VERSION)?;
    let apply_to = apply_to(value.byte()?)?;
    let priority = i64::from_be_bytes(value.array()?);
    let origin = origin(value.byte()?)?;
    let pattern = value.long()?.to_owned();
    let definition = value.table()?;
    Ok(PolicyDefinition { name, kind, pattern, apply_to, priority, definition, origin })
}

fn kind_tag(kind: PolicyKind) -> u8 {
    match kind {
        PolicyKind::User => 1,
        PolicyKind::Operator => 2,
    }
}

fn kind(tag: u8) -> Result<PolicyKind, RecordError> {
    match tag {
        1 => Ok(PolicyKind::User),
        2 => Ok(PolicyKind::Operator),
        tag => Err(RecordError::UnknownTag { what: "kind of policy", tag }),
    }
}

fn apply_to_tag(apply_to: ApplyTo) -> u8 {
    match apply_to {
        ApplyTo::All => 1,
        ApplyTo::Queues => 2,
        ApplyTo::ClassicQueues => 3,
        ApplyTo::QuorumQueues => 4,
        ApplyTo::Streams => 5,
        ApplyTo::Exchanges => 6,
    }
}

fn apply_to(tag: u8) -> Result<ApplyTo, RecordError> {
    match tag {
        1 => Ok(ApplyTo::All),
        2 => Ok(ApplyTo::Queues),
        3 => Ok(ApplyTo::ClassicQueues),
        4 => Ok(ApplyTo::QuorumQueues),
        5 => Ok(ApplyTo::Streams),
        6 => Ok(ApplyTo::Exchanges),
        tag => Err(RecordError::UnknownTag { what: "object of a policy", tag }),
    }
}
