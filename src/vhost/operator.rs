//! The topology that operators write down: brought into force as a whole, or not at all.
//!
//! Invariant: only what the file declared is ever removed for its absence from the file, and only when unused;
//! what clients declared is untouched.

use std::collections::{HashMap, HashSet};

use ferrymq_protocol::table::Table;

use super::Effects;
use super::state::Vhost;
use crate::model::{
    BindingDefinition, Definition, DefinitionChange, Destination, ExchangeDefinition, ExchangeName, Origin,
    PolicyDefinition, PolicyKind, PolicyName, QueueDefinition, QueueId, QueueName, RoutingKey,
};
use crate::topology::{QueueEntry, Refusal, Topology};

/// What the file declares. Every definition has [`Origin::Config`].
#[derive(Clone, Debug, Default)]
pub struct OperatorTopology {
    /// Exchanges.
    pub exchanges: Vec<ExchangeDefinition>,
    /// Queues.
    pub queues: Vec<QueueDefinition>,
    /// Bindings between these and whatever else exists.
    pub bindings: Vec<BindingDefinition>,
    /// Policies of both kinds; no name occurs twice among those of a kind.
    pub policies: Vec<PolicyDefinition>,
}

/// Which declaration of the file: its place in the list of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declaration {
    /// In [`OperatorTopology::exchanges`].
    Exchange(usize),
    /// In [`OperatorTopology::queues`].
    Queue(usize),
    /// In [`OperatorTopology::bindings`].
    Binding(usize),
    /// In [`OperatorTopology::policies`].
    Policy(usize),
}

/// A declaration that cannot be brought into force.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// Which.
    pub declaration: Declaration,
    /// Why.
    pub refusal: Refusal,
}

/// What bringing a file into force has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorReport {
    /// Objects that did not exist before, in words.
    pub created: Vec<String>,
    /// Objects that are gone with their lines in the file, in words.
    pub removed: Vec<String>,
    /// Objects that are gone from the file and still in use, in words; the next edit tries again.
    pub kept: Vec<String>,
}

impl Vhost {
    /// Brings the file into force.
    ///
    /// # Errors
    /// Every declaration that conflicts with what exists; nothing has changed then.
    pub fn apply_operator(
        &mut self,
        wanted: &OperatorTopology,
        effects: &mut Effects,
    ) -> Result<OperatorReport, Vec<Conflict>> {
        let mut report = OperatorReport::default();
        let gone = self.gone_from(wanted, &mut report);
        let conflicts = rehearse(self.topology.clone(), &gone, wanted);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        self.remove_all(gone, effects, &mut report);
        self.declare_all(wanted, effects, &mut report);
        self.apply_policies(effects);
        self.dispatch_dirty(effects);
        Ok(report)
    }

    /// What the file declared once and does not declare any more, as far as it is not in use.
    fn gone_from(&self, wanted: &OperatorTopology, report: &mut OperatorReport) -> Gone {
        let exchanges: HashSet<&ExchangeName> =
            wanted.exchanges.iter().map(|exchange| &exchange.name).collect();
        let queues: HashSet<&QueueName> = wanted.queues.iter().map(|queue| &queue.name).collect();
        let policies: HashSet<_> = wanted.policies.iter().map(|policy| (policy.kind, &policy.name)).collect();
        let mut bindings: HashMap<_, Vec<&Table>> = HashMap::new();
        for binding in &wanted.bindings {
            bindings.entry(identity(binding)).or_default().push(&binding.arguments);
        }
        let is_wanted = |binding: &BindingDefinition| {
            bindings.get(&identity(binding)).is_some_and(|arguments| arguments.contains(&&binding.arguments))
        };
        let of_config = |origin| origin == Origin::Config;
        Gone {
            bindings: self
                .topology
                .bindings()
                .filter(|binding| of_config(binding.origin) && !is_wanted(binding))
                .cloned()
                .collect(),
            queues: self
                .topology
                .queues()
                .filter(|entry| {
                    of_config(entry.definition.origin) && !queues.contains(&entry.definition.name)
                })
                .filter(|entry| self.is_unused(entry, report))
                .map(|entry| entry.definition.name.clone())
                .collect(),
            exchanges: self
                .topology
                .exchanges()
                .filter(|exchange| of_config(exchange.origin) && !exchanges.contains(&exchange.name))
                .map(|exchange| exchange.name.clone())
                .collect(),
            policies: self
                .topology
                .policies()
                .filter(|policy| of_config(policy.origin) && !policies.contains(&(policy.kind, &policy.name)))
                .map(|policy| (policy.kind, policy.name.clone()))
                .collect(),
        }
    }

    /// Whether a queue has neither messages nor consumers; if it has, the report says so.
    fn is_unused(&self, entry: &QueueEntry, report: &mut OperatorReport) -> bool {
        let Some(slot) = self.queues.get(&entry.id) else { return true };
        let (messages, consumers) = (slot.queue.ready() + slot.queue.unacked(), slot.queue.consumers());
        let unused = messages == 0 && consumers == 0;
        if !unused {
            let name = &entry.definition.name;
            report.kept.push(format!("queue '{name}' (messages: {messages}, consumers: {consumers})"));
        }
        unused
    }

    fn remove_all(&mut self, gone: Gone, effects: &mut Effects, report: &mut OperatorReport) {
        for binding in gone.bindings {
            if let Ok(changes) = self.topology.unbind(binding, None) {
                report.removed.extend(changes.iter().map(|change| in_words(&change.change)));
                self.record(changes, effects);
            }
        }
        for name in gone.queues {
            self.remove_queue(&name, effects);
            report.removed.push(format!("queue '{name}'"));
        }
        for (kind, name) in gone.policies {
            if let Ok(changes) = self.topology.delete_policy(kind, name.as_str(), Origin::Config) {
                report.removed.push(policy_in_words(kind, &name));
                self.record(changes, effects);
            }
        }
        for name in gone.exchanges {
            match self.delete_exchange(&name, true, effects) {
                Ok(_) => report.removed.push(format!("exchange '{name}'")),
                Err(_in_use) => report.kept.push(format!("exchange '{name}' (it has bindings)")),
            }
        }
    }

    /// Declares what a rehearsal has shown to be free of conflicts.
    fn declare_all(&mut self, wanted: &OperatorTopology, effects: &mut Effects, report: &mut OperatorReport) {
        let exchanges = wanted.exchanges.iter().cloned().map(Definition::Exchange);
        let queues = wanted.queues.iter().cloned().map(Definition::Queue);
        let bindings = wanted.bindings.iter().cloned().map(Definition::Binding);
        let policies = wanted.policies.iter().cloned().map(Definition::Policy);
        // Policies first: what is created begins with the settings it will have.
        for definition in policies.chain(exchanges).chain(queues).chain(bindings) {
            let queue = match &definition {
                Definition::Queue(queue) => Some(queue.name.clone()),
                Definition::Exchange(_) | Definition::Binding(_) | Definition::Policy(_) => None,
            };
            let changes =
                self.declare(definition, &mut effects.journal).expect("the rehearsal met no refusal");
            if let Some(queue) = queue.filter(|_| !changes.is_empty()) {
                self.note_ineffective(&queue, effects);
            }
            report.created.extend(changes.iter().map(|change| in_words(&change.change)));
            self.replay(&changes, effects);
            self.record(changes, effects);
        }
    }
}

/// What is to be removed before the file is declared.
#[derive(Debug, Default)]
struct Gone {
    bindings: Vec<BindingDefinition>,
    queues: Vec<QueueName>,
    exchanges: Vec<ExchangeName>,
    policies: Vec<(PolicyKind, PolicyName)>,
}

/// Removes and declares everything on a copy and collects what is refused. What is still in use is not removed
/// there either, so the copy ends as the original will.
fn rehearse(mut topology: Topology, gone: &Gone, wanted: &OperatorTopology) -> Vec<Conflict> {
    for binding in &gone.bindings {
        // The vhost owns every exchange and queue it binds here: nothing can be refused.
        let _ = topology.unbind(binding.clone(), None);
    }
    for name in &gone.queues {
        topology.remove_queue(name.as_str());
    }
    for name in &gone.exchanges {
        // An exchange that is still bound stays, here as there.
        let _ = topology.delete_exchange(name.as_str(), true);
    }
    for (kind, name) in &gone.policies {
        // It is there and of the file.
        let _ = topology.delete_policy(*kind, name.as_str(), Origin::Config);
    }
    let mut conflicts = Vec::new();
    let mut note = |declaration, result: Result<(), Refusal>| {
        conflicts.extend(result.err().map(|refusal| Conflict { declaration, refusal }));
    };
    for (place, exchange) in wanted.exchanges.iter().enumerate() {
        let result = topology.declare_exchange(exchange.clone()).map(drop);
        note(Declaration::Exchange(place), result);
    }
    for (place, queue) in wanted.queues.iter().enumerate() {
        let result = topology.declare_queue(queue.clone(), QueueId(0), None).map(drop);
        note(Declaration::Queue(place), result);
    }
    for (place, binding) in wanted.bindings.iter().enumerate() {
        note(Declaration::Binding(place), topology.bind(binding.clone(), None).map(drop));
    }
    for (place, policy) in wanted.policies.iter().enumerate() {
        note(Declaration::Policy(place), topology.set_policy(policy.clone()).map(drop));
    }
    conflicts
}

/// Everything that makes a binding itself but its arguments.
fn identity(binding: &BindingDefinition) -> (&ExchangeName, &Destination, &RoutingKey) {
    (&binding.source, &binding.destination, &binding.routing_key)
}

fn policy_in_words(kind: PolicyKind, name: &PolicyName) -> String {
    match kind {
        PolicyKind::User => format!("policy '{name}'"),
        PolicyKind::Operator => format!("operator policy '{name}'"),
    }
}

fn in_words(change: &DefinitionChange) -> String {
    let (DefinitionChange::Put(definition) | DefinitionChange::Delete(definition)) = change;
    match definition {
        Definition::Exchange(exchange) => format!("exchange '{}'", exchange.name),
        Definition::Queue(queue) => format!("queue '{}'", queue.name),
        Definition::Policy(policy) => policy_in_words(policy.kind, &policy.name),
        Definition::Binding(BindingDefinition { source, destination, routing_key, .. }) => {
            match destination {
                Destination::Queue(queue) => {
                    format!("binding '{source}' -> queue '{queue}' by '{routing_key}'")
                }
                Destination::Exchange(exchange) => {
                    format!("binding '{source}' -> exchange '{exchange}' by '{routing_key}'")
                }
            }
        }
    }
}
