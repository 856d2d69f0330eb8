//! The topology of one vhost: what exists, and every way to change it but for policies, which have a file of their own.
//!
//! Invariants: a clone is an immutable snapshot that shares what later writes do not touch. Every binding's
//! ends exist; a rule holds exactly the bindings of its exchange. A refused write changes nothing.

use std::sync::Arc;

use super::arguments::{self, QueueType};
use super::binding::{Binding, Bindings};
use super::change::{Changes, Declared};
use super::equivalence;
use super::exchange::{ALTERNATE_EXCHANGE, Exchange, check_arguments, wrong_alternate_type};
use super::map::{Map, new_map};
use super::name::{is_generated_queue_name, is_reply_to, is_reserved};
use super::policy::Policies;
use super::refusal::Refusal;
use super::route::ExchangeId;
use super::target::Target;
use crate::model::{
    BindingDefinition, ConnectionKey, Definition, Destination, ExchangeDefinition, ExchangeKind,
    ExchangeName, Origin, QueueDefinition, QueueId, QueueName, VhostName,
};

/// The default exchange: it leads to every queue by its name.
pub(super) const DEFAULT_EXCHANGE: &str = "";

/// What every vhost has from the start: name, type, internal.
const PREDECLARED: [(&str, ExchangeKind, bool); 7] = [
    (DEFAULT_EXCHANGE, ExchangeKind::Direct, false),
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.topic", ExchangeKind::Topic, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
];

/// A queue that exists.
#[derive(Clone, Debug)]
pub struct QueueEntry {
    /// Its identity, for as long as it exists.
    pub id: QueueId,
    /// As declared; `durable` is false if it is exclusive.
    pub definition: Arc<QueueDefinition>,
    /// The connection it belongs to and goes with, if it is exclusive.
    pub owner: Option<ConnectionKey>,
}

/// Exchanges, queues and bindings of one vhost. Cloning takes a snapshot, at the cost of a few counters.
#[derive(Clone, Debug)]
pub struct Topology {
    pub(super) vhost: VhostName,
    pub(super) exchanges: Map<ExchangeName, Exchange>,
    pub(super) queues: Map<QueueName, QueueEntry>,
    pub(super) bindings: Bindings,
    pub(super) policies: Arc<Policies>,
    /// The queues that keep every message across a restart.
    keepers: Map<QueueId, ()>,
    generation: u64,
    next_exchange: u64,
}

impl Topology {
    /// A vhost with the predeclared exchanges.
    #[must_use]
    pub fn new(vhost: VhostName) -> Self {
        let mut topology = Self {
            vhost,
            exchanges: new_map(),
            queues: new_map(),
            bindings: Bindings::new(),
            policies: Arc::default(),
            keepers: new_map(),
            generation: 0,
            next_exchange: 0,
        };
        for (name, kind, internal) in PREDECLARED {
            topology.insert_exchange(ExchangeDefinition {
                name: ExchangeName::from(name),
                kind,
                durable: true,
                auto_delete: false,
                internal,
                arguments: ferrymq_protocol::table::Table::default(),
                origin: Origin::System,
            });
        }
        topology
    }

    /// The vhost's name.
    #[must_use]
    pub fn vhost(&self) -> &VhostName {
        &self.vhost
    }

    /// Changes with every write that could change where a publish goes, and never comes back.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The exchange of that name.
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<&ExchangeDefinition> {
        self.exchanges.get(name).map(|exchange| &*exchange.definition)
    }

    /// The identity of the exchange of that name, for as long as it exists.
    #[must_use]
    pub fn exchange_id(&self, name: &str) -> Option<ExchangeId> {
        self.exchanges.get(name).map(|exchange| exchange.id)
    }

    /// The queue of that name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&QueueEntry> {
        self.queues.get(name)
    }

    /// Whether one of these queues keeps every message across a restart, persistent or not.
    pub(super) fn keeps_in(&self, queues: &[QueueId]) -> bool {
        !self.keepers.is_empty() && queues.iter().any(|queue| self.keepers.contains_key(queue))
    }

    /// All exchanges, in no order, but always the same.
    pub fn exchanges(&self) -> impl ExactSizeIterator<Item = &ExchangeDefinition> {
        self.exchanges.values().map(|exchange| &*exchange.definition)
    }

    /// All queues, in no order, but always the same.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = &QueueEntry> {
        self.queues.values()
    }

    /// All bindings but the implied ones of the default exchange, by source, then destination.
    pub fn bindings(&self) -> impl Iterator<Item = &BindingDefinition> {
        self.bindings.iter().map(|binding| &binding.definition)
    }

    /// How many bindings there are.
    #[must_use]
    pub fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    /// The bindings that lead from an exchange, by destination.
    pub fn bindings_of_source(&self, source: &str) -> impl Iterator<Item = &BindingDefinition> {
        self.bindings.of_source(source).map(|binding| &binding.definition)
    }

    /// The bindings that lead to a queue or an exchange, by source.
    pub fn bindings_of_destination(
        &self,
        destination: &Destination,
    ) -> impl Iterator<Item = &BindingDefinition> {
        self.bindings.of_destination(destination).map(|binding| &binding.definition)
    }

    /// Passive declaration of an exchange.
    ///
    /// # Errors
    /// [`Refusal::DefaultExchange`], [`Refusal::NoExchange`].
    pub fn check_exchange(&self, name: &str) -> Result<&ExchangeDefinition, Refusal> {
        refuse_default_exchange(name)?;
        self.existing_exchange(name).map(|exchange| &*exchange.definition)
    }

    /// The queue of that name, for an operation of this connection; a passive declaration among them.
    ///
    /// # Errors
    /// [`Refusal::NoQueue`]; [`Refusal::Locked`] if it belongs to another connection.
    pub fn check_queue(&self, name: &str, connection: ConnectionKey) -> Result<&QueueEntry, Refusal> {
        let entry = self.queues.get(name).ok_or_else(|| self.no_queue(name))?;
        self.check_owner(entry, Some(connection))?;
        Ok(entry)
    }

    /// Declares an exchange.
    ///
    /// # Errors
    /// What differs from an existing one, or what no exchange can be: see [`Refusal`].
    pub fn declare_exchange(&mut self, definition: ExchangeDefinition) -> Result<Declared, Refusal> {
        let name = definition.name.as_str();
        refuse_default_exchange(name)?;
        if let Some(current) = self.exchanges.get(name) {
            equivalence::check_exchange(&definition, &current.definition, &self.vhost)?;
            return Ok(Declared::Existing);
        }
        if is_reserved(name) {
            return Err(Refusal::ReservedName { kind: "exchange", name: name.to_owned() });
        }
        if let Some(received) = wrong_alternate_type(&definition.arguments) {
            return Err(Refusal::InvalidArgumentType {
                argument: ALTERNATE_EXCHANGE.to_owned(),
                subject: exchange_subject(name),
                vhost: self.vhost.clone(),
                received,
            });
        }
        check_arguments(&definition, &exchange_subject(name), &self.vhost)?;
        let mut changes = Changes::default();
        changes.put(Definition::Exchange(definition.clone()), definition.durable);
        self.insert_exchange(definition);
        Ok(Declared::Created(changes))
    }

    /// Says in which queue messages wait that ask this exchange for it.
    pub fn set_delay_queue(&mut self, exchange: &str, queue: QueueId) {
        if let Some(exchange) = self.exchanges.get_mut(exchange) {
            exchange.delays = Some(queue);
            self.generation += 1;
        }
    }

    /// Deletes an exchange, its bindings, and what those were the last of. Deleting none changes nothing.
    ///
    /// # Errors
    /// [`Refusal::DefaultExchange`], [`Refusal::SystemExchange`]; [`Refusal::InUse`] if it is the source of a
    /// binding and `if_unused` is set.
    pub fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Result<Changes, Refusal> {
        refuse_default_exchange(name)?;
        if is_reserved(name) {
            return Err(Refusal::SystemExchange { exchange: name.into(), vhost: self.vhost.clone() });
        }
        let mut changes = Changes::default();
        let Some(exchange) = self.exchanges.get(name) else { return Ok(changes) };
        if if_unused && exchange.bindings > 0 {
            return Err(Refusal::InUse { subject: exchange_subject(name), vhost: self.vhost.clone() });
        }
        let doomed = vec![exchange.definition.name.clone()];
        self.delete_exchanges(doomed, &mut changes);
        Ok(changes)
    }

    /// Declares a queue, for a connection or for the broker itself. `id` becomes its identity if it is created.
    /// An exclusive queue becomes `owner`'s, and is not durable whatever the definition says.
    ///
    /// Names under `amq.` are refused on creation, except in the form that the broker makes up
    /// ([`super::generated_queue_name`]): a client may ask for that again when it reconnects.
    ///
    /// # Errors
    /// [`Refusal::Locked`] if an existing one belongs to another connection or `exclusive` differs; what
    /// differs from an existing one, or what no queue can be: see [`Refusal`].
    pub fn declare_queue(
        &mut self,
        mut definition: QueueDefinition,
        id: QueueId,
        owner: Option<ConnectionKey>,
    ) -> Result<Declared, Refusal> {
        definition.durable &= !definition.exclusive;
        let owner = owner.filter(|_| definition.exclusive);
        let name = definition.name.as_str();
        if let Some(current) = self.queues.get(name) {
            if current.owner != owner {
                return Err(self.locked(current));
            }
            equivalence::check_queue(&definition, &current.definition, &self.vhost)?;
            return Ok(Declared::Existing);
        }
        if is_reserved(name) && !is_generated_queue_name(name) {
            return Err(Refusal::ReservedName { kind: "queue", name: name.to_owned() });
        }
        arguments::check(&definition, &self.vhost)?;
        let mut changes = Changes::default();
        changes.put(Definition::Queue(definition.clone()), definition.durable);
        if QueueType::of(&definition.arguments) == QueueType::Quorum {
            self.keepers.insert_mut(id, ());
        }
        let entry = QueueEntry { id, definition: Arc::new(definition), owner };
        self.queues.insert_mut(entry.definition.name.clone(), entry);
        self.generation += 1;
        Ok(Declared::Created(changes))
    }

    /// Removes a queue, its bindings, and the exchanges that go with those. Whether it may go is the vhost's
    /// to decide. Removing none changes nothing.
    pub fn remove_queue(&mut self, name: &str) -> Changes {
        let mut changes = Changes::default();
        let Some(entry) = self.queues.get(name).cloned() else { return changes };
        let mut doomed = Vec::new();
        // While the queue is still there, its bindings know what to take out of which rule.
        self.remove_incoming(&Destination::Queue(entry.definition.name.clone()), &mut doomed, &mut changes);
        self.queues.remove_mut(name);
        self.keepers.remove_mut(&entry.id);
        self.generation += 1;
        changes.delete(Definition::Queue((*entry.definition).clone()), entry.definition.durable);
        self.delete_exchanges(doomed, &mut changes);
        changes
    }

    /// Binds, for a connection or for the broker itself. What is bound already stays as it is.
    ///
    /// # Errors
    /// [`Refusal::DefaultExchange`], [`Refusal::ReplyToQueue`], [`Refusal::NoExchange`], [`Refusal::NoQueue`],
    /// [`Refusal::Locked`], and [`Refusal::InvalidBinding`] for arguments that the source cannot use.
    pub fn bind(
        &mut self,
        definition: BindingDefinition,
        connection: Option<ConnectionKey>,
    ) -> Result<Changes, Refusal> {
        refuse_default_ends(&definition)?;
        let source = self.existing_exchange(definition.source.as_str())?;
        let (target, destination_durable) = self.check_destination(&definition.destination, connection)?;
        source.check_binding(&definition)?;
        let durable = source.definition.durable && destination_durable;
        let binding = Binding::new(definition);
        let mut changes = Changes::default();
        if self.bindings.contains(&binding) {
            return Ok(changes);
        }
        changes.put(Definition::Binding(binding.definition.clone()), durable);
        if let Some(source) = self.exchanges.get_mut(&binding.definition.source) {
            source.add(&binding, target);
        }
        self.bindings.insert(&binding);
        self.generation += 1;
        Ok(changes)
    }

    /// Unbinds, for a connection or for the broker itself; an exchange that loses its last binding may go.
    /// Unbinding what is not bound changes nothing, even where the queue belongs to somebody else.
    ///
    /// # Errors
    /// [`Refusal::DefaultExchange`], [`Refusal::ReplyToQueue`], [`Refusal::Locked`].
    pub fn unbind(
        &mut self,
        definition: BindingDefinition,
        connection: Option<ConnectionKey>,
    ) -> Result<Changes, Refusal> {
        refuse_default_ends(&definition)?;
        let mut changes = Changes::default();
        let binding = Binding::new(definition);
        if !self.bindings.contains(&binding) {
            return Ok(changes);
        }
        if let Destination::Queue(name) = &binding.definition.destination
            && let Some(entry) = self.queues.get(name)
        {
            self.check_owner(entry, connection)?;
        }
        let mut doomed = Vec::new();
        if let Some(binding) = self.bindings.remove(&binding) {
            self.removed(&binding, &mut doomed, &mut changes);
        }
        self.delete_exchanges(doomed, &mut changes);
        Ok(changes)
    }

    /// Sessions are not to rely on routes that they have seen.
    pub(super) fn routes_changed(&mut self) {
        self.generation += 1;
    }

    fn insert_exchange(&mut self, definition: ExchangeDefinition) {
        let alternate = self.alternate_of(&definition);
        let exchange = Exchange::new(ExchangeId(self.next_exchange), definition, alternate);
        self.next_exchange += 1;
        self.routes_changed();
        self.exchanges.insert_mut(exchange.definition.name.clone(), exchange);
    }

    /// Deletes these exchanges and, in turn, those that lose their last binding by it.
    fn delete_exchanges(&mut self, mut doomed: Vec<ExchangeName>, changes: &mut Changes) {
        while let Some(name) = doomed.pop() {
            let Some(exchange) = self.exchanges.get(&name).cloned() else { continue };
            self.remove_incoming(&Destination::Exchange(name.clone()), &mut doomed, changes);
            let outgoing: Vec<Arc<Binding>> = self.bindings.of_source(name.as_str()).cloned().collect();
            for binding in &outgoing {
                self.bindings.remove(binding);
                let durable = self.is_durable(&binding.definition);
                changes.delete(Definition::Binding(binding.definition.clone()), durable);
            }
            self.exchanges.remove_mut(&name);
            self.generation += 1;
            changes.exchange_gone(exchange.id);
            changes.delete(Definition::Exchange((*exchange.definition).clone()), exchange.definition.durable);
        }
    }

    /// Removes every binding that leads to a queue or exchange that still exists.
    fn remove_incoming(&mut self, to: &Destination, doomed: &mut Vec<ExchangeName>, changes: &mut Changes) {
        let incoming: Vec<Arc<Binding>> = self.bindings.of_destination(to).cloned().collect();
        for binding in &incoming {
            self.bindings.remove(binding);
            self.removed(binding, doomed, changes);
        }
    }

    /// Takes a binding that is no longer listed, but whose ends exist, out of its source's rule.
    fn removed(&mut self, binding: &Binding, doomed: &mut Vec<ExchangeName>, changes: &mut Changes) {
        let durable = self.is_durable(&binding.definition);
        let target = self.target(&binding.definition.destination);
        if let (Some(target), Some(source)) = (target, self.exchanges.get_mut(&binding.definition.source)) {
            source.remove(binding, &target);
            if source.is_abandoned() {
                doomed.push(binding.definition.source.clone());
            }
        }
        self.generation += 1;
        changes.delete(Definition::Binding(binding.definition.clone()), durable);
    }

    /// Whether both ends of a binding that exists survive a restart.
    pub(super) fn is_durable(&self, binding: &BindingDefinition) -> bool {
        let destination = match &binding.destination {
            Destination::Queue(name) => self.queues.get(name).is_some_and(|entry| entry.definition.durable),
            Destination::Exchange(name) => self.exchanges.get(name).is_some_and(|x| x.definition.durable),
        };
        destination && self.exchanges.get(&binding.source).is_some_and(|source| source.definition.durable)
    }

    fn target(&self, destination: &Destination) -> Option<Target> {
        match destination {
            Destination::Queue(name) => self.queues.get(name).map(|entry| Target::Queue(entry.id)),
            Destination::Exchange(name) => Some(Target::Exchange(name.clone())),
        }
    }

    /// The target for a new binding and whether it is durable.
    fn check_destination(
        &self,
        destination: &Destination,
        connection: Option<ConnectionKey>,
    ) -> Result<(Target, bool), Refusal> {
        match destination {
            Destination::Queue(name) => {
                let entry = self.queues.get(name).ok_or_else(|| self.no_queue(name.as_str()))?;
                self.check_owner(entry, connection)?;
                Ok((Target::Queue(entry.id), entry.definition.durable))
            }
            Destination::Exchange(name) => {
                let exchange = self.existing_exchange(name.as_str())?;
                Ok((Target::Exchange(name.clone()), exchange.definition.durable))
            }
        }
    }

    pub(super) fn existing_exchange(&self, name: &str) -> Result<&Exchange, Refusal> {
        self.exchanges
            .get(name)
            .ok_or_else(|| Refusal::NoExchange { exchange: name.into(), vhost: self.vhost.clone() })
    }

    fn check_owner(&self, entry: &QueueEntry, connection: Option<ConnectionKey>) -> Result<(), Refusal> {
        match entry.owner {
            Some(owner) if connection.is_some_and(|connection| connection != owner) => {
                Err(self.locked(entry))
            }
            _ => Ok(()),
        }
    }

    fn no_queue(&self, name: &str) -> Refusal {
        Refusal::NoQueue { queue: name.into(), vhost: self.vhost.clone() }
    }

    fn locked(&self, entry: &QueueEntry) -> Refusal {
        Refusal::Locked { queue: entry.definition.name.clone(), vhost: self.vhost.clone() }
    }
}

fn exchange_subject(name: &str) -> String {
    format!("exchange '{name}'")
}

fn refuse_default_exchange(name: &str) -> Result<(), Refusal> {
    if name == DEFAULT_EXCHANGE { Err(Refusal::DefaultExchange) } else { Ok(()) }
}

fn refuse_default_ends(binding: &BindingDefinition) -> Result<(), Refusal> {
    refuse_default_exchange(binding.source.as_str())?;
    match &binding.destination {
        Destination::Exchange(name) => refuse_default_exchange(name.as_str()),
        Destination::Queue(name) if is_reply_to(name.as_str()) => {
            Err(Refusal::ReplyToQueue { queue: name.clone() })
        }
        Destination::Queue(_) => Ok(()),
    }
}
