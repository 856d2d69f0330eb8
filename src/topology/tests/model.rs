//! Random histories against a model made of plain lists: same refusals, same routes, same objects, and the
//! durable changes alone rebuild the durable part.

use bytes::BytesMut;
use ferrymq_protocol::table::{Table, TableRef, Value};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::fixture::{ME, OTHER, exchange, queue, table, to_queue};
use crate::model::{
    BindingDefinition, ConnectionKey, Definition, DefinitionChange, Destination, ExchangeDefinition,
    ExchangeKind, ExchangeName, Origin, QueueDefinition, QueueId, VhostName,
};
use crate::topology::topic::tests::naive_match;
use crate::topology::{Changes, Declared, Refusal, Topology, exchange_kind_name};

const EXCHANGES: [&str; 6] = ["a", "b", "c", "d", "amq.fanout", ""];
const QUEUES: [&str; 3] = ["q", "r", "s"];
const KEYS: [&str; 6] = ["", "x", "x.y", "x.*", "#", "q"];
const KINDS: [ExchangeKind; 5] = [
    ExchangeKind::Direct,
    ExchangeKind::Fanout,
    ExchangeKind::Topic,
    ExchangeKind::Headers,
    ExchangeKind::RecentHistory,
];

#[derive(Clone, Debug)]
enum Step {
    DeclareExchange(ExchangeDefinition),
    DeleteExchange { name: &'static str, if_unused: bool },
    DeclareQueue(QueueDefinition, ConnectionKey),
    RemoveQueue(&'static str),
    Bind(BindingDefinition, ConnectionKey),
    Unbind(BindingDefinition, ConnectionKey),
}

fn connection() -> impl Strategy<Value = ConnectionKey> {
    select(&[ME, ME, ME, OTHER])
}

fn any_exchange() -> impl Strategy<Value = ExchangeDefinition> {
    // Mostly the same choice for the same name, so that redeclarations agree now and then.
    let choice =
        (select(&EXCHANGES), select(&KINDS), any::<[bool; 2]>(), option::weighted(0.3, select(&EXCHANGES)));
    (choice, 0..4_u8).prop_map(|((name, kind, [durable, auto_delete], alternate), internal)| {
        ExchangeDefinition {
            durable,
            auto_delete,
            internal: internal == 0,
            arguments: alternate.map_or_else(Table::new, |name| table([("alternate-exchange", name.into())])),
            ..exchange(name, kind)
        }
    })
}

fn any_queue() -> impl Strategy<Value = QueueDefinition> {
    (select(&QUEUES), any::<bool>(), 0..4_u8).prop_map(|(name, durable, exclusive)| QueueDefinition {
        durable,
        exclusive: exclusive == 0,
        ..queue(name)
    })
}

fn any_arguments() -> impl Strategy<Value = Table> {
    prop_oneof![
        3 => Just(Table::new()),
        1 => Just(table([("k", 1.into())])),
        1 => Just(table([("k", 1_i64.into()), ("h", Value::Void), ("x-match", "any".into())])),
    ]
}

fn any_binding() -> impl Strategy<Value = BindingDefinition> {
    let destination = prop_oneof![
        3 => select(&QUEUES).prop_map(|name| Destination::Queue(name.into())),
        2 => select(&EXCHANGES).prop_map(|name| Destination::Exchange(name.into())),
    ];
    (select(&EXCHANGES), destination, select(&KEYS), any_arguments()).prop_map(
        |(source, destination, key, arguments)| BindingDefinition {
            destination,
            arguments,
            ..to_queue(source, "", key)
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any_exchange().prop_map(Step::DeclareExchange),
        1 => (select(&EXCHANGES), any::<bool>())
            .prop_map(|(name, if_unused)| Step::DeleteExchange { name, if_unused }),
        2 => (any_queue(), connection()).prop_map(|(queue, connection)| Step::DeclareQueue(queue, connection)),
        1 => select(&QUEUES).prop_map(Step::RemoveQueue),
        6 => (any_binding(), connection()).prop_map(|(binding, connection)| Step::Bind(binding, connection)),
        2 => (any_binding(), connection()).prop_map(|(binding, connection)| Step::Unbind(binding, connection)),
    ]
}

/// Everything in lists, searched from end to end.
struct Model {
    exchanges: Vec<ExchangeDefinition>,
    queues: Vec<(QueueDefinition, u64, ConnectionKey)>,
    bindings: Vec<BindingDefinition>,
}

type Outcome = Result<(), String>;

impl Model {
    fn find_exchange(&self, name: &str) -> Option<&ExchangeDefinition> {
        self.exchanges.iter().find(|exchange| exchange.name.as_str() == name)
    }

    fn find_queue(&self, name: &str) -> Option<&(QueueDefinition, u64, ConnectionKey)> {
        self.queues.iter().find(|(queue, ..)| queue.name.as_str() == name)
    }

    fn apply(&mut self, step: &Step, next_id: u64) -> Outcome {
        match step {
            Step::DeclareExchange(definition) => self.declare_exchange(definition),
            Step::DeleteExchange { name, if_unused } => self.delete_exchange(name, *if_unused),
            Step::DeclareQueue(definition, connection) => {
                self.declare_queue(definition, *connection, next_id)
            }
            Step::RemoveQueue(name) => {
                self.queues.retain(|(queue, ..)| queue.name.as_str() != *name);
                let gone = Destination::Queue((*name).into());
                self.remove_bindings(|binding| binding.destination == gone);
                Ok(())
            }
            Step::Bind(binding, connection) => {
                self.check_ends(binding)?;
                if self.find_exchange(binding.source.as_str()).is_none() {
                    return Err(format!("no exchange '{}' in vhost '/'", binding.source));
                }
                self.check_destination(binding, *connection)?;
                if !self.bindings.iter().any(|present| same(present, binding)) {
                    self.bindings.push(binding.clone());
                }
                Ok(())
            }
            Step::Unbind(binding, connection) => {
                self.check_ends(binding)?;
                if !self.bindings.iter().any(|present| same(present, binding)) {
                    return Ok(());
                }
                self.check_destination(binding, *connection)
                    .or_else(|text| if text.starts_with("cannot obtain") { Err(text) } else { Ok(()) })?;
                self.remove_bindings(|present| same(present, binding));
                Ok(())
            }
        }
    }

    fn declare_exchange(&mut self, received: &ExchangeDefinition) -> Outcome {
        let name = received.name.as_str();
        if name.is_empty() {
            return Err("operation not permitted on the default exchange".to_owned());
        }
        let Some(current) = self.find_exchange(name) else {
            self.exchanges.push(received.clone());
            return Ok(());
        };
        let alternate = |exchange: &ExchangeDefinition| {
            let name =
                exchange.arguments.get("alternate-exchange").and_then(Value::as_str).map(str::to_owned);
            name.unwrap_or_else(|| "none".to_owned())
        };
        let kind = |exchange: &ExchangeDefinition| exchange_kind_name(exchange.kind).to_owned();
        let pairs = [
            ("type", kind(received), kind(current)),
            ("durable", received.durable.to_string(), current.durable.to_string()),
            ("auto_delete", received.auto_delete.to_string(), current.auto_delete.to_string()),
            ("internal", received.internal.to_string(), current.internal.to_string()),
            ("alternate-exchange", alternate(received), alternate(current)),
        ];
        match pairs.into_iter().find(|(_, received, current)| received != current) {
            None => Ok(()),
            Some((argument, ..)) => {
                Err(format!("inequivalent arg '{argument}' for exchange '{name}' in vhost '/'"))
            }
        }
    }

    fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Outcome {
        if name.is_empty() {
            return Err("operation not permitted on the default exchange".to_owned());
        }
        if name.starts_with("amq.") {
            return Err(format!("deletion of system exchange '{name}' in vhost '/' not allowed"));
        }
        if if_unused && self.bindings.iter().any(|binding| binding.source.as_str() == name) {
            return Err(format!("exchange '{name}' in vhost '/' in use"));
        }
        self.drop_exchange(name);
        Ok(())
    }

    fn drop_exchange(&mut self, name: &str) {
        self.exchanges.retain(|exchange| exchange.name.as_str() != name);
        self.bindings.retain(|binding| binding.source.as_str() != name);
        let gone = Destination::Exchange(name.into());
        self.remove_bindings(|binding| binding.destination == gone);
    }

    /// Recursion is fine here: there are six exchanges.
    fn remove_bindings(&mut self, is_gone: impl Fn(&BindingDefinition) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.bindings).into_iter().partition(is_gone);
        self.bindings = kept;
        let gone: Vec<BindingDefinition> = gone;
        for binding in gone {
            let source = binding.source.as_str();
            let auto_delete = self.find_exchange(source).is_some_and(|exchange| exchange.auto_delete);
            if auto_delete && !self.bindings.iter().any(|binding| binding.source.as_str() == source) {
                self.drop_exchange(source);
            }
        }
    }

    fn declare_queue(&mut self, received: &QueueDefinition, me: ConnectionKey, id: u64) -> Outcome {
        let mut received = received.clone();
        received.durable = received.durable && !received.exclusive;
        let name = received.name.clone();
        match self.find_queue(name.as_str()) {
            None => self.queues.push((received, id, me)),
            Some((current, _, owner)) => {
                let same_owner =
                    current.exclusive == received.exclusive && (!current.exclusive || *owner == me);
                if !same_owner {
                    return Err(format!(
                        "cannot obtain exclusive access to locked queue '{name}' in vhost '/'"
                    ));
                }
                if received.durable != current.durable {
                    return Err(format!("inequivalent arg 'durable' for queue '{name}' in vhost '/'"));
                }
            }
        }
        Ok(())
    }

    fn check_ends(&self, binding: &BindingDefinition) -> Outcome {
        let default = |name: &ExchangeName| name.as_str().is_empty();
        let destination = matches!(&binding.destination, Destination::Exchange(name) if default(name));
        if default(&binding.source) || destination {
            return Err("operation not permitted on the default exchange".to_owned());
        }
        Ok(())
    }

    fn check_destination(&self, binding: &BindingDefinition, me: ConnectionKey) -> Outcome {
        match &binding.destination {
            Destination::Exchange(name) => match self.find_exchange(name.as_str()) {
                None => Err(format!("no exchange '{name}' in vhost '/'")),
                Some(_) => Ok(()),
            },
            Destination::Queue(name) => match self.find_queue(name.as_str()) {
                None => Err(format!("no queue '{name}' in vhost '/'")),
                Some((queue, _, owner)) if queue.exclusive && *owner != me => {
                    Err(format!("cannot obtain exclusive access to locked queue '{name}' in vhost '/'"))
                }
                Some(_) => Ok(()),
            },
        }
    }

    fn route(&self, exchange: &str, key: &str, headers: &Table) -> Result<Vec<u64>, String> {
        let start =
            self.find_exchange(exchange).ok_or_else(|| format!("no exchange '{exchange}' in vhost '/'"))?;
        if start.internal {
            return Err(format!("cannot publish to internal exchange '{exchange}' in vhost '/'"));
        }
        let mut reached = vec![exchange.to_owned()];
        let mut queues = Vec::new();
        let mut visited = 0;
        while visited < reached.len() {
            let name = reached[visited].clone();
            visited += 1;
            let Some(exchange) = self.find_exchange(&name) else { continue };
            let mut destinations: Vec<Destination> = if name.is_empty() {
                self.find_queue(key)
                    .map(|(queue, ..)| Destination::Queue(queue.name.clone()))
                    .into_iter()
                    .collect()
            } else {
                let bindings = self.bindings.iter().filter(|binding| binding.source == exchange.name);
                bindings
                    .filter(|b| leads_on(exchange.kind, b, key, headers))
                    .map(|b| b.destination.clone())
                    .collect()
            };
            if destinations.is_empty() {
                let alternate = exchange.arguments.get("alternate-exchange").and_then(Value::as_str);
                destinations.extend(alternate.map(|name| Destination::Exchange(name.into())));
            }
            for destination in destinations {
                match destination {
                    Destination::Queue(name) => {
                        queues.extend(self.find_queue(name.as_str()).map(|(_, id, _)| *id));
                    }
                    Destination::Exchange(name) if !reached.iter().any(|seen| seen == name.as_str()) => {
                        reached.push(name.to_string());
                    }
                    Destination::Exchange(_) => {}
                }
            }
        }
        queues.sort_unstable();
        queues.dedup();
        Ok(queues)
    }
}

fn same(left: &BindingDefinition, right: &BindingDefinition) -> bool {
    left.source == right.source
        && left.destination == right.destination
        && left.routing_key == right.routing_key
        && left.arguments == right.arguments
}

/// The arguments used here ask for `k` to be 1, or for either that or any `h`.
fn leads_on(kind: ExchangeKind, binding: &BindingDefinition, key: &str, headers: &Table) -> bool {
    match kind {
        ExchangeKind::Direct => binding.routing_key.as_str() == key,
        ExchangeKind::Fanout | ExchangeKind::RecentHistory => true,
        ExchangeKind::Topic => naive_match(binding.routing_key.as_str(), key),
        ExchangeKind::Headers => {
            let k_is_1 = headers.get("k").and_then(Value::as_integer) == Some(1);
            match binding.arguments.len() {
                0 => true,
                1 => k_is_1,
                _ => k_is_1 || headers.get("h").is_some(),
            }
        }
        ExchangeKind::ConsistentHash
        | ExchangeKind::Random
        | ExchangeKind::ModulusHash
        | ExchangeKind::Delayed => {
            panic!("which binding these choose has tests of its own")
        }
    }
}

/// The real thing and what its durable changes would rebuild.
struct Real {
    topology: Topology,
    kept: Vec<Definition>,
}

impl Real {
    fn apply(&mut self, step: Step, next_id: u64) -> Result<(), Refusal> {
        let created = |declared| match declared {
            Declared::Created(changes) => changes,
            Declared::Existing => Changes::default(),
        };
        let changes = match step {
            Step::DeclareExchange(definition) => self.topology.declare_exchange(definition).map(created)?,
            Step::DeleteExchange { name, if_unused } => self.topology.delete_exchange(name, if_unused)?,
            Step::DeclareQueue(definition, connection) => {
                self.topology.declare_queue(definition, QueueId(next_id), Some(connection)).map(created)?
            }
            Step::RemoveQueue(name) => self.topology.remove_queue(name),
            Step::Bind(binding, connection) => self.topology.bind(binding, Some(connection))?,
            Step::Unbind(binding, connection) => self.topology.unbind(binding, Some(connection))?,
        };
        for change in changes.into_durable() {
            match change {
                DefinitionChange::Put(definition) => self.kept.push(definition),
                DefinitionChange::Delete(definition) => {
                    let at = self.kept.iter().position(|kept| *kept == definition);
                    self.kept.remove(at.expect("only what was kept is deleted"));
                }
            }
        }
        Ok(())
    }

    fn route(&self, exchange: &str, key: &str, headers: &Table) -> Result<Vec<u64>, String> {
        let octets = encoded(headers);
        let headers = TableRef::parse(&octets).map_err(|error| error.to_string())?;
        let route = self
            .topology
            .route(exchange, key, &headers.into(), &[])
            .map_err(|refusal| refusal.to_string())?;
        Ok(route.targets.queues().iter().map(|queue| queue.0).collect())
    }

    fn durable_part(&self) -> Vec<Definition> {
        let topology = &self.topology;
        let exchanges =
            topology.exchanges().filter(|exchange| exchange.durable && exchange.origin != Origin::System);
        let queues = topology.queues().map(|entry| &*entry.definition).filter(|queue| queue.durable);
        let bindings = topology.bindings().filter(|binding| {
            topology.exchange(binding.source.as_str()).is_some_and(|source| source.durable)
                && match &binding.destination {
                    Destination::Queue(name) => {
                        topology.queue(name.as_str()).is_some_and(|q| q.definition.durable)
                    }
                    Destination::Exchange(name) => {
                        topology.exchange(name.as_str()).is_some_and(|x| x.durable)
                    }
                }
        });
        let mut part: Vec<Definition> = exchanges.cloned().map(Definition::Exchange).collect();
        part.extend(queues.cloned().map(Definition::Queue));
        part.extend(bindings.cloned().map(Definition::Binding));
        part
    }
}

fn encoded(headers: &Table) -> BytesMut {
    let mut octets = BytesMut::new();
    headers.encode(&mut octets).expect("small");
    octets
}

fn in_order(definitions: &[Definition]) -> Vec<String> {
    let mut texts: Vec<String> = definitions.iter().map(|definition| format!("{definition:?}")).collect();
    texts.sort_unstable();
    texts
}

proptest! {
    #[test]
    fn the_topology_agrees_with_the_model(
        steps in vec(any_step(), 1..60),
        headers in select(vec![Table::new(), table([("k", 1_i8.into())]), table([("h", "v".into())])]),
    ) {
        let topology = Topology::new(VhostName::from("/"));
        let exchanges = topology.exchanges().cloned().collect();
        let mut real = Real { topology, kept: Vec::new() };
        let mut model = Model { exchanges, queues: Vec::new(), bindings: Vec::new() };
        for (next_id, step) in (1..).zip(steps) {
            let expected = model.apply(&step, next_id);
            let before = real.topology.clone();
            let outcome = real.apply(step.clone(), next_id);
            match (&expected, &outcome) {
                (Ok(()), Ok(())) => {}
                // The model knows what is refused; the exact wording of values has tests of its own.
                (Err(expected), Err(refusal)) => prop_assert!(
                    refusal.to_string().starts_with(expected.as_str()), "{:?}: {} but {}", step, refusal, expected
                ),
                _ => prop_assert!(false, "{:?}: {:?} but {:?}", step, outcome, expected),
            }
            let mut same_routes = true;
            for exchange in EXCHANGES {
                for key in KEYS {
                    let route = real.route(exchange, key, &headers);
                    prop_assert_eq!(&route, &model.route(exchange, key, &headers), "{} {:?}", exchange, key);
                    let before = Real { topology: before.clone(), kept: Vec::new() };
                    same_routes &= before.route(exchange, key, &headers) == route;
                }
            }
            prop_assert!(same_routes || before.generation() != real.topology.generation());
            prop_assert_eq!(real.topology.exchanges().len(), model.exchanges.len());
            prop_assert_eq!(real.topology.queues().len(), model.queues.len());
            prop_assert_eq!(real.topology.binding_count(), model.bindings.len());
            prop_assert_eq!(in_order(&real.kept), in_order(&real.durable_part()));
        }
    }
}
