//! What of a topology survives a restart.
//!
//! Invariant: replaying these definitions rebuilds the durable part of the topology, whenever the policies come.

use super::Topology;
use super::binding::Binding;
use crate::model::{Definition, Origin};

impl Topology {
    /// The durable definitions: exchanges before queues before bindings, and policies at the end. What every vhost has from the start is not
    /// among them.
    pub fn durable_definitions(&self) -> impl Iterator<Item = Definition> {
        let exchanges = self.exchanges().filter(|exchange| exchange.durable);
        let exchanges = exchanges.filter(|exchange| exchange.origin != Origin::System);
        let queues = self.queues().map(|entry| &entry.definition).filter(|queue| queue.durable);
        let bindings = self.bindings().filter(|binding| self.is_durable(binding));
        exchanges
            .map(|exchange| Definition::Exchange(exchange.clone()))
            .chain(queues.map(|queue| Definition::Queue((**queue).clone())))
            .chain(bindings.map(|binding| Definition::Binding(binding.clone())))
            .chain(self.policies().map(|policy| Definition::Policy(policy.clone())))
    }

    /// Whether exactly this is in force.
    #[must_use]
    pub fn holds(&self, definition: &Definition) -> bool {
        match definition {
            Definition::Exchange(exchange) => self.exchange(exchange.name.as_str()) == Some(exchange),
            Definition::Queue(queue) => {
                self.queue(queue.name.as_str()).is_some_and(|entry| *entry.definition == *queue)
            }
            Definition::Policy(policy) => self.policy(policy.kind, policy.name.as_str()) == Some(policy),
            Definition::Binding(binding) => self.bindings.contains(&Binding::new(binding.clone())),
        }
    }
}
