//! What clients cannot do to quorum queues, which the snapshot tells before the vhost is asked.
//!
//! Invariant: a queue that the snapshot does not know, or knows as classic, passes; the vhost has the last word.

use super::errors::Fault;
use super::link::Turn;
use crate::model::{QueueDefinition, QueueName};
use crate::topology::{QueueType, Refusal, Topology};

/// The argument that lets one consumer at a time have the messages.
const X_SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";

/// Refuses a deletion that depends on what a quorum queue cannot tell at once.
pub(super) fn check_delete(
    name: &QueueName,
    (if_unused, if_empty): (bool, bool),
    turn: &Turn<'_, '_>,
) -> Result<(), Fault> {
    let condition = match (if_unused, if_empty) {
        (true, _) => "if-unused",
        (false, true) => "if-empty",
        (false, false) => return Ok(()),
    };
    match quorum_queue(name, turn) {
        Some((topology, _)) => Err(Refusal::ConditionalDelete {
            queue: name.clone(),
            vhost: topology.vhost().clone(),
            condition,
        }
        .into()),
        None => Ok(()),
    }
}

/// Refuses to fetch from a quorum queue that belongs to its active consumer.
pub(super) fn check_get(name: &QueueName, turn: &Turn<'_, '_>) -> Result<(), Fault> {
    match quorum_queue(name, turn) {
        Some((topology, definition)) if has_single_active_consumer(definition) => {
            Err(Refusal::SingleActiveGet { queue: name.clone(), vhost: topology.vhost().clone() }.into())
        }
        _ => Ok(()),
    }
}

fn quorum_queue<'c>(name: &QueueName, turn: &Turn<'_, 'c>) -> Option<(&'c Topology, &'c QueueDefinition)> {
    let topology = turn.context.topology?;
    let definition = &*topology.queue(name.as_str())?.definition;
    (QueueType::of(&definition.arguments) == QueueType::Quorum).then_some((topology, definition))
}

fn has_single_active_consumer(definition: &QueueDefinition) -> bool {
    definition.arguments.get(X_SINGLE_ACTIVE_CONSUMER) == Some(&true.into())
}
