//! Exchanges, queues and bindings come and go.
//!
//! Invariant: topology and queues change in one turn, and what is durable of the change is recorded in it.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::slot::QueueSlot;
use super::state::Vhost;
use super::{Effects, Entry, Event, ExchangeCounters, IneffectiveArguments, Journal, Places, Reply};
use crate::model::{
    BindingDefinition, ConnectionKey, Definition, DefinitionChange, ExchangeDefinition, ExchangeName,
    QueueDefinition, QueueId, QueueName,
};
use crate::queue::Queue;
use crate::topology::{Changes, Declared, Refusal, arguments_without_effect};

impl Vhost {
    /// Declares on nobody's behalf: at start, and for the operator.
    pub(super) fn declare(
        &mut self,
        definition: Definition,
        journal: &mut Journal,
    ) -> Result<Changes, Refusal> {
        match definition {
            Definition::Exchange(exchange) => {
                self.add_exchange(exchange, None, journal).map(Declared::into_changes)
            }
            Definition::Binding(binding) => self.topology.bind(binding, None),
            // What exists already is looked at again by [`Vhost::apply_policies`].
            Definition::Policy(policy) => self.topology.set_policy(policy),
            Definition::Queue(queue) => self.insert_queue(queue, None, journal).map(Declared::into_changes),
        }
    }

    pub(super) fn declare_exchange(
        &mut self,
        definition: ExchangeDefinition,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let changes = self.add_exchange(definition, None, &mut effects.journal)?.into_changes();
        self.record(changes, effects);
        Ok(Reply::ExchangeDeclared)
    }

    pub(super) fn check_exchange(&self, name: &ExchangeName) -> Result<Reply, Refusal> {
        self.topology.check_exchange(name.as_str())?;
        Ok(Reply::ExchangeDeclared)
    }

    pub(super) fn delete_exchange(
        &mut self,
        name: &ExchangeName,
        if_unused: bool,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let changes = self.topology.delete_exchange(name.as_str(), if_unused)?;
        self.record(changes, effects);
        Ok(Reply::ExchangeDeleted)
    }

    pub(super) fn bind(
        &mut self,
        connection: ConnectionKey,
        binding: BindingDefinition,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let changes = self.topology.bind(binding, Some(connection))?;
        self.replay(&changes, effects);
        self.record(changes, effects);
        Ok(Reply::Bound)
    }

    pub(super) fn unbind(
        &mut self,
        connection: ConnectionKey,
        binding: BindingDefinition,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let changes = self.topology.unbind(binding, Some(connection))?;
        self.record(changes, effects);
        Ok(Reply::Unbound)
    }

    pub(super) fn declare_queue(
        &mut self,
        connection: ConnectionKey,
        definition: QueueDefinition,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let name = definition.name.clone();
        let (exclusive, durable) = (definition.exclusive, definition.durable);
        match self.insert_queue(definition, Some(connection), &mut effects.journal)? {
            Declared::Created(changes) => {
                self.note_ineffective(&name, effects);
                if exclusive {
                    self.connections.connection(connection).exclusive_queues.push(name.clone());
                }
                self.record(changes, effects);
            }
            Declared::Existing => effects.relies_on_definitions |= durable && !exclusive,
        }
        self.check_queue(connection, &name)
    }

    pub(super) fn check_queue(
        &mut self,
        connection: ConnectionKey,
        name: &QueueName,
    ) -> Result<Reply, Refusal> {
        let id = self.topology.check_queue(name.as_str(), connection)?.id;
        let slot = self.queues.get_mut(&id).expect("a queue of the topology has its state");
        // Who asks for it uses it; the lease of a quorum queue is renewed by gets and consumers only.
        if !slot.settings.is_quorum {
            self.calendar.renew(slot);
        }
        let (messages, consumers) = (slot.queue.ready(), slot.queue.consumers());
        Ok(Reply::QueueDeclared { name: name.clone(), messages, consumers })
    }

    pub(super) fn delete_queue(
        &mut self,
        connection: ConnectionKey,
        name: &QueueName,
        if_unused: bool,
        if_empty: bool,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let queue = match self.queue_of(connection, name) {
            Ok(queue) => queue,
            Err(Refusal::NoQueue { .. }) => {
                effects.relies_on_definitions = true;
                return Ok(Reply::QueueDeleted { messages: 0 });
            }
            Err(refusal) => return Err(refusal),
        };
        let messages = queue.ready();
        if if_unused && queue.consumers() > 0 {
            return Err(Refusal::InUse { subject: format!("queue '{name}'"), vhost: self.name.clone() });
        }
        if if_empty && messages > 0 {
            return Err(Refusal::NotEmpty { queue: name.clone(), vhost: self.name.clone() });
        }
        self.remove_queue(name, effects);
        Ok(Reply::QueueDeleted { messages })
    }

    pub(super) fn purge_queue(
        &mut self,
        connection: ConnectionKey,
        name: &QueueName,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let id = self.topology.check_queue(name.as_str(), connection)?.id;
        let slot = self.queues.get_mut(&id).expect("a queue of the topology has its state");
        if slot.durable && slot.queue.ready() > 0 {
            let unheld = slot.queue.unheld().into_iter();
            let places = unheld.map(|(first, last)| Entry::Gone(Places { queue: id, first, last }));
            effects.journal.entries.extend(places);
            effects.journal.waited_for = true;
        }
        let purged = slot.queue.purge();
        let messages = purged.remaining();
        effects.purged.push(purged);
        // Whoever waits for a message of it waits in vain.
        self.mark_dirty(id);
        Ok(Reply::QueuePurged { messages })
    }

    pub(super) fn queue_of(&self, connection: ConnectionKey, name: &QueueName) -> Result<&Queue, Refusal> {
        let id = self.topology.check_queue(name.as_str(), connection)?.id;
        Ok(&self.queues.get(&id).expect("a queue of the topology has its state").queue)
    }

    /// An auto-delete queue goes with its last consumer, if it ever had one.
    pub(super) fn delete_if_abandoned(&mut self, id: QueueId, effects: &mut Effects) {
        let Some(slot) = self.queues.get(&id) else { return };
        if slot.queue.consumers() > 0 || !slot.queue.had_consumer() {
            return;
        }
        if slot.definition.auto_delete {
            let name = slot.definition.name.clone();
            self.remove_queue(&name, effects);
        }
    }

    /// Removes a queue with its bindings and messages; its consumers are told.
    pub(super) fn remove_queue(&mut self, name: &QueueName, effects: &mut Effects) {
        let Some(entry) = self.topology.queue(name.as_str()) else { return };
        let (id, owner) = (entry.id, entry.owner);
        let changes = self.topology.remove_queue(name.as_str());
        self.record(changes, effects);
        if let Some(owner) = owner {
            self.connections.connection(owner).exclusive_queues.retain(|owned| owned != name);
        }
        let Some(slot) = self.queues.remove(&id) else { return };
        self.cache.forget(&slot);
        self.calendar.forget(&slot);
        self.give_up_gets(id, effects);
        if slot.durable {
            effects.journal.entries.push(Entry::Deleted(id));
        }
        for holding in slot.queue.holdings() {
            self.connections.channel(holding.channel).holds_in.remove(&id);
            if holding.consumer.is_some() {
                let held = u32::try_from(holding.messages).unwrap_or(u32::MAX);
                self.regain_credit(holding.channel, held);
            }
        }
        let mut channels = FxHashSet::default();
        for consumer in slot.queue.iter_consumers() {
            channels.insert(consumer.channel);
            let event = Event::ConsumerCancelled { channel: consumer.number, consumer: consumer.consumer };
            self.cancelled.push((consumer.connection, event));
        }
        for key in channels {
            let channel = self.connections.channel(key);
            channel.consumers.retain(|(_, queue)| *queue != id);
            channel.holds_in.remove(&id);
            channel.parked_in.remove(&id);
        }
        effects.deleted.push(slot.queue);
    }

    /// A queue that was just created may ask for what this release does not do.
    pub(super) fn note_ineffective(&self, name: &QueueName, effects: &mut Effects) {
        let Some(entry) = self.topology.queue(name.as_str()) else { return };
        let arguments = arguments_without_effect(&entry.definition.arguments);
        if !arguments.is_empty() {
            let arguments = arguments.join(", ");
            effects.ineffective.push(IneffectiveArguments { queue: name.clone(), arguments });
        }
    }

    /// Notes what a write to the topology has changed.
    pub(super) fn record(&mut self, changes: Changes, effects: &mut Effects) {
        if changes.is_empty() {
            effects.relies_on_definitions = true;
            return;
        }
        self.forget_delays(&changes, effects);
        for gone in changes.gone_exchanges() {
            self.exchanges.remove(gone);
            self.histories.forget(*gone);
        }
        for change in changes.iter() {
            if let DefinitionChange::Put(Definition::Exchange(exchange)) = &change.change
                && let Some(id) = self.topology.exchange_id(exchange.name.as_str())
            {
                self.exchanges.insert(id, ExchangeCounters::default());
            }
        }
        self.sweep.note(&changes);
        effects.topology_changed = true;
        effects.definitions.extend(changes.into_durable());
    }

    fn insert_queue(
        &mut self,
        definition: QueueDefinition,
        owner: Option<ConnectionKey>,
        journal: &mut Journal,
    ) -> Result<Declared, Refusal> {
        let id = QueueId(self.next_queue);
        let name = definition.name.clone();
        let declared = self.topology.declare_queue(definition, id, owner)?;
        if let (Declared::Created(_), Some(entry)) = (&declared, self.topology.queue(name.as_str())) {
            self.next_queue += 1;
            let policies = self.topology.policies_of_queue(&entry.definition);
            let mut slot = QueueSlot::new(id, Arc::clone(&entry.definition), policies, &self.options);
            if slot.durable {
                journal.entries.push(Entry::Created { queue: id, name });
            }
            self.calendar.renew(&mut slot);
            self.queues.insert(id, slot);
        }
        Ok(declared)
    }
}
