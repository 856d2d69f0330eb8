//! Where a publish goes: the walk from the exchange it names to the queues that get a copy.
//!
//! Invariant: every exchange is visited at most once, in a loop over a work list, so that neither cycles of
//! bindings nor cycles of alternate exchanges cost more than the exchanges they consist of.

use std::sync::Arc;

use ferrymq_protocol::table::TableRef;
use rustc_hash::FxHashSet;

use super::exchange::{Exchange, Rule};
use super::headers::SortedHeaders;
use super::name::reply_to_token;
use super::refusal::Refusal;
use super::target::Target;
use super::topology::{DEFAULT_EXCHANGE, Topology};
use crate::model::{ExchangeName, QueueId};

/// An exchange, for as long as it exists. Never reused within a vhost; a redeclared exchange gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// Where a publish goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The exchange that was published to.
    pub exchange: ExchangeId,
    /// Who gets a copy.
    pub targets: Targets,
    /// Every publish to this exchange with this routing key and without further keys has this same route, until
    /// [`super::Topology::generation`] changes. False as soon as message headers had a say.
    pub cacheable: bool,
}

/// Who gets a copy of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Nobody.
    None,
    /// One queue.
    One(QueueId),
    /// Several queues: ascending, each once.
    Many(Arc<[QueueId]>),
    /// The requester that this direct reply-to token names, if it is still there.
    ReplyTo([u8; 16]),
}

impl Targets {
    /// Whether nobody gets a copy: a mandatory message goes back to its publisher.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The queues that get a copy.
    #[must_use]
    pub fn queues(&self) -> &[QueueId] {
        match self {
            Self::None | Self::ReplyTo(_) => &[],
            Self::One(queue) => std::slice::from_ref(queue),
            Self::Many(queues) => queues,
        }
    }
}

impl Topology {
    /// Where a publish goes. `extra_keys` are those of the headers `CC` and `BCC`; each counts like the
    /// routing key itself. Headers are looked at by headers exchanges only.
    ///
    /// A publish to a requester's reply-to address goes to that requester alone, whatever the extra keys.
    ///
    /// # Errors
    /// [`Refusal::NoExchange`], [`Refusal::InternalExchange`].
    pub fn route(
        &self,
        exchange: &str,
        routing_key: &str,
        headers: Option<TableRef<'_>>,
        extra_keys: &[&str],
    ) -> Result<Route, Refusal> {
        let start = self.existing_exchange(exchange)?;
        if start.definition.internal {
            return Err(Refusal::InternalExchange { exchange: exchange.into(), vhost: self.vhost.clone() });
        }
        if exchange == DEFAULT_EXCHANGE
            && let Some(token) = reply_to_token(routing_key)
        {
            return Ok(Route { exchange: start.id, targets: Targets::ReplyTo(token), cacheable: true });
        }
        Ok(self.walk(start, routing_key, headers, extra_keys))
    }

    /// Where a dead letter goes, as [`Self::route`] says it for a publish; it may go to internal exchanges. None if
    /// there is no such exchange.
    #[must_use]
    pub fn route_dead_letter(
        &self,
        exchange: &str,
        routing_key: &str,
        headers: Option<TableRef<'_>>,
        extra_keys: &[&str],
    ) -> Option<Route> {
        let start = self.existing_exchange(exchange).ok()?;
        Some(self.walk(start, routing_key, headers, extra_keys))
    }

    fn walk(
        &self,
        start: &Exchange,
        routing_key: &str,
        headers: Option<TableRef<'_>>,
        extra_keys: &[&str],
    ) -> Route {
        let mut walk = Walk {
            topology: self,
            start: start.id,
            routing_key,
            extra_keys,
            headers,
            sorted_headers: None,
            pending: Vec::new(),
            seen: FxHashSet::default(),
            queues: Vec::new(),
        };
        let mut next = Some(start);
        while let Some(exchange) = next {
            walk.visit(exchange);
            next = walk.pending.pop();
        }
        walk.finish()
    }
}

/// One publish on its way through the exchanges.
struct Walk<'t, 'm> {
    topology: &'t Topology,
    start: ExchangeId,
    routing_key: &'m str,
    extra_keys: &'m [&'m str],
    headers: Option<TableRef<'m>>,
    /// There as soon as a headers exchange has looked at them.
    sorted_headers: Option<SortedHeaders<'m>>,
    /// Reached, but not visited.
    pending: Vec<&'t Exchange>,
    /// Reached, apart from the start.
    seen: FxHashSet<ExchangeId>,
    queues: Vec<QueueId>,
}

impl<'t> Walk<'t, '_> {
    fn visit(&mut self, exchange: &'t Exchange) {
        let mut exchanges: Vec<&'t ExchangeName> = Vec::new();
        let queues_before = self.queues.len();
        self.apply_rule(exchange, &mut exchanges);
        if exchanges.is_empty() && self.queues.len() == queues_before {
            exchanges.extend(&exchange.alternate);
        }
        for name in exchanges {
            self.reach(name);
        }
    }

    fn apply_rule(&mut self, exchange: &'t Exchange, exchanges: &mut Vec<&'t ExchangeName>) {
        let Self { topology, routing_key, extra_keys, queues, .. } = self;
        let keys = std::iter::once(*routing_key).chain(extra_keys.iter().copied());
        let mut found = |target: &'t Target| match target {
            Target::Queue(queue) => queues.push(*queue),
            Target::Exchange(name) => exchanges.push(name),
        };
        match &exchange.rule {
            Rule::Direct(_) if exchange.definition.name.as_str() == DEFAULT_EXCHANGE => {
                let named = keys.filter_map(|key| topology.queue(key));
                queues.extend(named.map(|entry| entry.id));
            }
            Rule::Direct(direct) => keys.for_each(|key| direct.for_each_match(key, &mut found)),
            Rule::Fanout(targets) => targets.for_each(&mut found),
            Rule::Topic(topic) => keys.for_each(|key| {
                topic.for_each_match(key, &mut found);
            }),
            Rule::Headers(rules) => {
                let headers = self.sorted_headers.get_or_insert_with(|| SortedHeaders::new(self.headers));
                rules.for_each_match(headers, &mut found);
            }
        }
    }

    /// Puts an exchange on the list, unless it is or was there. An alternate exchange need not exist.
    fn reach(&mut self, name: &ExchangeName) {
        let Some(exchange) = self.topology.exchanges.get(name) else { return };
        if exchange.id != self.start && self.seen.insert(exchange.id) {
            self.pending.push(exchange);
        }
    }

    fn finish(mut self) -> Route {
        self.queues.sort_unstable();
        self.queues.dedup();
        let targets = match *self.queues {
            [] => Targets::None,
            [queue] => Targets::One(queue),
            _ => Targets::Many(Arc::from(self.queues)),
        };
        let cacheable = self.sorted_headers.is_none() && self.extra_keys.is_empty();
        Route { exchange: self.start, targets, cacheable }
    }
}
