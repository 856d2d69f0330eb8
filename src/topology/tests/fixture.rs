//! Short ways to say what exists.

use ferrymq_protocol::table::{Table, Value};

use crate::model::{
    BindingDefinition, ConnectionKey, Definition, DefinitionChange, Destination, ExchangeDefinition,
    ExchangeKind, Origin, QueueDefinition, QueueId, VhostName,
};
use crate::topology::{Changes, Declared, Features, Refusal, Topology};

pub(in crate::topology) const ME: ConnectionKey = ConnectionKey(1);
pub(in crate::topology) const OTHER: ConnectionKey = ConnectionKey(2);

pub(in crate::topology) fn exchange(name: &str, kind: ExchangeKind) -> ExchangeDefinition {
    ExchangeDefinition {
        name: name.into(),
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
        origin: Origin::Client,
    }
}

pub(in crate::topology) fn queue(name: &str) -> QueueDefinition {
    QueueDefinition {
        name: name.into(),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
        origin: Origin::Client,
    }
}

pub(in crate::topology) fn to_queue(source: &str, queue: &str, key: &str) -> BindingDefinition {
    BindingDefinition {
        source: source.into(),
        destination: Destination::Queue(queue.into()),
        routing_key: key.into(),
        arguments: Table::new(),
        origin: Origin::Client,
    }
}

pub(in crate::topology) fn to_exchange(source: &str, exchange: &str, key: &str) -> BindingDefinition {
    BindingDefinition { destination: Destination::Exchange(exchange.into()), ..to_queue(source, "", key) }
}

/// A table; names may repeat only if equal entries are meant to replace each other.
pub(in crate::topology) fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    Table::from_pairs(entries).expect("short names, flat values")
}

pub(in crate::topology) fn text(refusal: &Refusal) -> String {
    refusal.to_string()
}

/// Each change as `+what` or `-what`, transient ones in brackets.
pub(in crate::topology) fn summary(changes: &Changes) -> Vec<String> {
    let name = |definition: &Definition| match definition {
        Definition::Exchange(exchange) => exchange.name.to_string(),
        Definition::Queue(queue) => queue.name.to_string(),
        Definition::Policy(policy) => policy.name.to_string(),
        Definition::Binding(binding) => {
            let destination = match &binding.destination {
                Destination::Queue(name) => name.to_string(),
                Destination::Exchange(name) => name.to_string(),
            };
            format!("{}>{destination}", binding.source)
        }
    };
    changes
        .iter()
        .map(|change| {
            let what = match &change.change {
                DefinitionChange::Put(definition) => format!("+{}", name(definition)),
                DefinitionChange::Delete(definition) => format!("-{}", name(definition)),
            };
            if change.durable { what } else { format!("({what})") }
        })
        .collect()
}

/// A topology to which things are added that must be accepted.
pub(in crate::topology) struct World {
    pub(in crate::topology) topology: Topology,
    next_queue: u64,
}

impl World {
    pub(in crate::topology) fn new() -> Self {
        Self { topology: Topology::new(VhostName::from("/")), next_queue: 1 }
    }

    pub(in crate::topology) fn exchange(&mut self, name: &str, kind: ExchangeKind) {
        self.exchange_of(exchange(name, kind));
    }

    pub(in crate::topology) fn exchange_of(&mut self, definition: ExchangeDefinition) {
        let declared = self.topology.declare_exchange(definition).expect("a new exchange");
        assert!(matches!(declared, Declared::Created(_)));
    }

    pub(in crate::topology) fn queue(&mut self, name: &str) -> u64 {
        self.queue_of(queue(name))
    }

    pub(in crate::topology) fn queue_of(&mut self, definition: QueueDefinition) -> u64 {
        let id = self.next_queue;
        self.next_queue += 1;
        let declared = self.topology.declare_queue(definition, QueueId(id), Some(ME)).expect("a new queue");
        assert!(matches!(declared, Declared::Created(_)));
        id
    }

    pub(in crate::topology) fn bind(&mut self, source: &str, queue: &str, key: &str) -> Changes {
        self.topology.bind(to_queue(source, queue, key), Some(ME)).expect("both ends exist")
    }

    pub(in crate::topology) fn bind_exchange(&mut self, source: &str, exchange: &str, key: &str) -> Changes {
        self.topology.bind(to_exchange(source, exchange, key), Some(ME)).expect("both ends exist")
    }

    /// The queues that get a copy.
    pub(in crate::topology) fn route(&self, exchange: &str, key: &str) -> Vec<u64> {
        self.route_with(exchange, key, &[])
    }

    pub(in crate::topology) fn route_with(&self, exchange: &str, key: &str, extra_keys: &[&str]) -> Vec<u64> {
        let route =
            self.topology.route(exchange, key, &Features::default(), extra_keys).expect("open to publishers");
        route.targets.queues().iter().map(|queue| queue.0).collect()
    }
}
