//! The bindings of a vhost, found by source or by destination.
//!
//! Invariant: both orders hold the same bindings. Two bindings are the same if source, destination, key and
//! sorted arguments are.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::BytesMut;
use ferrymq_protocol::table::{Table, Value};
use rpds::RedBlackTreeSetSync;

use crate::model::{BindingDefinition, Destination, ExchangeName, Origin, QueueName, RoutingKey};

/// A binding and the form of its arguments that identifies it.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) definition: BindingDefinition,
    pub(super) canonical: Arc<[u8]>,
}

impl Binding {
    pub(super) fn new(definition: BindingDefinition) -> Arc<Self> {
        let canonical = canonical(&definition.arguments);
        Arc::new(Self { definition, canonical })
    }

    /// The least binding with this source and destination: where a search begins.
    fn first(source: &str, destination: Destination) -> Arc<Self> {
        Self::new(BindingDefinition {
            source: ExchangeName::from(source),
            destination,
            routing_key: RoutingKey::from(""),
            arguments: Table::default(),
            origin: Origin::Client,
        })
    }

    fn rest(&self) -> (&RoutingKey, &[u8]) {
        (&self.definition.routing_key, &self.canonical)
    }
}

/// Arguments in order of their names, as octets; of those with the same name the first.
pub(super) fn canonical(arguments: &Table) -> Arc<[u8]> {
    let mut sorted: Vec<(&str, &Value)> = arguments.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    sorted.dedup_by_key(|(name, _)| *name);
    let mut octets = BytesMut::new();
    for (name, value) in sorted {
        // One entry at a time: looking for its place in a growing table would cost the square of their number.
        let entry = Table::from_pairs([(name, value.clone())]).expect("what was in a table fits one");
        entry.encode(&mut octets).expect("what a frame carried can be encoded");
    }
    Arc::from(&octets[..])
}

/// Orders by source, then destination.
#[derive(Clone, Debug)]
struct BySource(Arc<Binding>);

/// Orders by destination, then source.
#[derive(Clone, Debug)]
struct ByDestination(Arc<Binding>);

impl Ord for BySource {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (&self.0.definition, &other.0.definition);
        left.source
            .cmp(&right.source)
            .then_with(|| left.destination.cmp(&right.destination))
            .then_with(|| self.0.rest().cmp(&other.0.rest()))
    }
}

impl Ord for ByDestination {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (&self.0.definition, &other.0.definition);
        left.destination
            .cmp(&right.destination)
            .then_with(|| left.source.cmp(&right.source))
            .then_with(|| self.0.rest().cmp(&other.0.rest()))
    }
}

macro_rules! compare_by_ord {
    ($($order:ty),*) => {$(
        impl PartialOrd for $order {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl PartialEq for $order {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }
        impl Eq for $order {}
    )*};
}

compare_by_ord!(BySource, ByDestination);

/// All bindings of a vhost.
#[derive(Clone, Debug)]
pub(super) struct Bindings {
    by_source: RedBlackTreeSetSync<BySource>,
    by_destination: RedBlackTreeSetSync<ByDestination>,
}

impl Bindings {
    pub(super) fn new() -> Self {
        Self { by_source: RedBlackTreeSetSync::new_sync(), by_destination: RedBlackTreeSetSync::new_sync() }
    }

    pub(super) fn contains(&self, binding: &Arc<Binding>) -> bool {
        self.by_source.contains(&BySource(Arc::clone(binding)))
    }

    /// Adds what is not there.
    pub(super) fn insert(&mut self, binding: &Arc<Binding>) {
        self.by_source.insert_mut(BySource(Arc::clone(binding)));
        self.by_destination.insert_mut(ByDestination(Arc::clone(binding)));
    }

    /// Takes the binding of this identity out and returns it, as it was declared.
    pub(super) fn remove(&mut self, identity: &Arc<Binding>) -> Option<Arc<Binding>> {
        let probe = BySource(Arc::clone(identity));
        let found = self.by_source.get(&probe).map(|found| Arc::clone(&found.0))?;
        self.by_source.remove_mut(&probe);
        self.by_destination.remove_mut(&ByDestination(Arc::clone(identity)));
        Some(found)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_source.iter().map(|entry| &entry.0)
    }

    pub(super) fn len(&self) -> usize {
        self.by_source.size()
    }

    pub(super) fn of_source(&self, source: &str) -> impl Iterator<Item = &Arc<Binding>> {
        // Queues come before exchanges, and no name before the empty one.
        let first = BySource(Binding::first(source, Destination::Queue(QueueName::from(""))));
        let name = first.0.definition.source.clone();
        self.by_source.range(first..).map(|entry| &entry.0).take_while(move |b| b.definition.source == name)
    }

    pub(super) fn of_destination(&self, destination: &Destination) -> impl Iterator<Item = &Arc<Binding>> {
        let first = ByDestination(Binding::first("", destination.clone()));
        let destination = destination.clone();
        self.by_destination
            .range(first..)
            .map(|entry| &entry.0)
            .take_while(move |b| b.definition.destination == destination)
    }
}
