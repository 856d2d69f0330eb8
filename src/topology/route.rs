//! Where a publish goes: the walk from the exchange it names to the queues that get a copy.
//!
//! Invariant: every exchange is visited at most once, in a loop over a work list, so that neither cycles of
//! bindings nor cycles of alternate exchanges cost more than the exchanges they consist of.

use std::sync::Arc;

use ferrymq_protocol::properties::Properties;
use ferrymq_protocol::table::TableRef;
use rustc_hash::FxHashSet;

use super::delay::delay_of;
use super::exchange::{Exchange, Rule};
use super::hash::{Hash, next};
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
    /// [`super::Topology::generation`] changes. False as soon as more of the message, or chance, had a say.
    pub cacheable: bool,
    /// One of the queues keeps every message across a restart, persistent or not.
    pub kept: bool,
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
    /// Queues, and exchanges that remember the message.
    Recorded(Arc<Recorded>),
}

/// Who gets a copy of a publish that passes exchanges with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The queues: ascending, each once; possibly none.
    pub queues: Box<[QueueId]>,
    /// The exchanges: at least one.
    pub recorders: Box<[Recorder]>,
}

/// An exchange that remembers what passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorder {
    /// Which.
    pub exchange: ExchangeId,
    /// How many messages it remembers.
    pub length: u64,
}

/// What may have a say in where a message goes, besides its keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features<'m> {
    /// Looked at by headers exchanges, and by consistent hash exchanges that are told to.
    pub headers: Option<TableRef<'m>>,
    /// Looked at by consistent hash exchanges that are told to.
    pub message_id: Option<&'m str>,
    /// See `message_id`.
    pub correlation_id: Option<&'m str>,
    /// See `message_id`; seconds since 1970.
    pub timestamp: Option<u64>,
    /// What a random exchange goes by: different for every message. It need not look random.
    pub lot: u64,
}

impl<'m> Features<'m> {
    /// Those of a message.
    #[must_use]
    pub fn of(properties: &Properties<'m>, lot: u64) -> Self {
        Self {
            headers: properties.headers,
            message_id: properties.message_id,
            correlation_id: properties.correlation_id,
            timestamp: properties.timestamp,
            lot,
        }
    }
}

impl<'m> From<TableRef<'m>> for Features<'m> {
    fn from(headers: TableRef<'m>) -> Self {
        Self { headers: Some(headers), ..Self::default() }
    }
}

impl Targets {
    /// Whether nobody gets a copy: a mandatory message goes back to its publisher.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::Recorded(recorded) => recorded.queues.is_empty(),
            Self::One(_) | Self::Many(_) | Self::ReplyTo(_) => false,
        }
    }

    /// The queues that get a copy.
    #[must_use]
    pub fn queues(&self) -> &[QueueId] {
        match self {
            Self::None | Self::ReplyTo(_) => &[],
            Self::One(queue) => std::slice::from_ref(queue),
            Self::Many(queues) => queues,
            Self::Recorded(recorded) => &recorded.queues,
        }
    }
}

impl Topology {
    /// Where a publish goes. `extra_keys` are those of the headers `CC` and `BCC`; each counts like the
    /// routing key itself, except for consistent hash exchanges, which look at the routing key alone.
    ///
    /// A publish to a requester's reply-to address goes to that requester alone, whatever the extra keys.
    ///
    /// # Errors
    /// [`Refusal::NoExchange`], [`Refusal::InternalExchange`].
    pub fn route(
        &self,
        exchange: &str,
        routing_key: &str,
        features: &Features<'_>,
        extra_keys: &[&str],
    ) -> Result<Route, Refusal> {
        let start = self.existing_exchange(exchange)?;
        if start.definition.internal {
            return Err(Refusal::InternalExchange { exchange: exchange.into(), vhost: self.vhost.clone() });
        }
        if exchange == DEFAULT_EXCHANGE
            && let Some(token) = reply_to_token(routing_key)
        {
            let targets = Targets::ReplyTo(token);
            return Ok(Route { exchange: start.id, targets, cacheable: true, kept: false });
        }
        Ok(self.walk((start, None), routing_key, features, extra_keys))
    }

    /// Where a dead letter goes, as [`Self::route`] says it for a publish; it may go to internal exchanges. None if
    /// there is no such exchange.
    #[must_use]
    pub fn route_dead_letter(
        &self,
        exchange: &str,
        routing_key: &str,
        features: &Features<'_>,
        extra_keys: &[&str],
    ) -> Option<Route> {
        let start = self.existing_exchange(exchange).ok()?;
        Some(self.walk((start, None), routing_key, features, extra_keys))
    }

    /// Where a message goes that has waited at this exchange. None if there is no such exchange.
    #[must_use]
    pub fn route_delayed(
        &self,
        exchange: &str,
        routing_key: &str,
        features: &Features<'_>,
        extra_keys: &[&str],
    ) -> Option<Route> {
        let start = self.existing_exchange(exchange).ok()?;
        Some(self.walk((start, Some(start.id)), routing_key, features, extra_keys))
    }

    fn walk(
        &self,
        (start, waited_at): (&Exchange, Option<ExchangeId>),
        routing_key: &str,
        features: &Features<'_>,
        extra_keys: &[&str],
    ) -> Route {
        let mut walk = Walk {
            topology: self,
            start: start.id,
            waited_at,
            routing_key,
            extra_keys,
            features,
            sorted_headers: None,
            varies: false,
            recorders: Vec::new(),
            pending: Vec::new(),
            seen: FxHashSet::default(),
            queues: Queues::default(),
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
    /// Where the message has waited already.
    waited_at: Option<ExchangeId>,
    routing_key: &'m str,
    extra_keys: &'m [&'m str],
    features: &'m Features<'m>,
    /// There as soon as a headers exchange has looked at them.
    sorted_headers: Option<SortedHeaders<'m>>,
    /// Some exchange went by more than the keys.
    varies: bool,
    recorders: Vec<Recorder>,
    /// Reached, but not visited.
    pending: Vec<&'t Exchange>,
    /// Reached, apart from the start.
    seen: FxHashSet<ExchangeId>,
    queues: Queues,
}

/// Queues that have been found. The first takes no memory of its own: most messages go to one queue.
#[derive(Default)]
struct Queues {
    first: Option<QueueId>,
    further: Vec<QueueId>,
}

impl Queues {
    fn push(&mut self, queue: QueueId) {
        match self.first {
            None => self.first = Some(queue),
            // The same queue again counts: whoever finds it leads somewhere, and needs no alternate.
            Some(_) => self.further.push(queue),
        }
    }

    /// How many have been found, some of them more than once.
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.further.len()
    }

    /// All, ascending, each once.
    fn into_sorted(self) -> Vec<QueueId> {
        let mut queues = self.further;
        queues.extend(self.first);
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    fn into_targets(self) -> Targets {
        match (self.first, self.further.is_empty()) {
            (None, _) => Targets::None,
            (Some(queue), true) => Targets::One(queue),
            (Some(queue), false) => match *self.into_sorted() {
                [] | [_] => Targets::One(queue),
                ref several => Targets::Many(Arc::from(several)),
            },
        }
    }
}

impl<'t> Walk<'t, '_> {
    fn visit(&mut self, exchange: &'t Exchange) {
        if let Some(queue) = exchange.delays.filter(|_| self.waited_at != Some(exchange.id)) {
            self.varies = true;
            if delay_of(self.features.headers) > 0 {
                return self.queues.push(queue);
            }
        }
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
        let Self { topology, routing_key, extra_keys, features, queues, .. } = self;
        let keys = std::iter::once(*routing_key).chain(extra_keys.iter().copied());
        let mut found = |target: &'t Target| match target {
            Target::Queue(queue) => queues.push(*queue),
            Target::Exchange(name) => exchanges.push(name),
        };
        match &exchange.rule {
            Rule::Direct(_) if exchange.definition.name.as_str() == DEFAULT_EXCHANGE => {
                let named = keys.filter_map(|key| topology.queue(key));
                named.for_each(|entry| queues.push(entry.id));
            }
            Rule::Direct(direct) => keys.for_each(|key| direct.for_each_match(key, &mut found)),
            Rule::Fanout(targets) => targets.for_each(&mut found),
            Rule::Topic(topic) => keys.for_each(|key| {
                topic.for_each_match(key, &mut found);
            }),
            Rule::Headers(rules) => {
                let headers = self.sorted_headers.get_or_insert_with(|| SortedHeaders::new(features.headers));
                rules.for_each_match(headers, &mut found);
            }
            Rule::ConsistentHash(members) => {
                self.varies |= members.looks_inside();
                members.choose(routing_key, features).map(found);
            }
            Rule::Random(bindings) => {
                self.varies = true;
                // Two random exchanges in a row must not go by the same draw.
                bindings.pick(next(features.lot ^ next(exchange.id.0))).map(found);
            }
            Rule::ModulusHash(bindings) => {
                let hash = keys.fold(Hash::new(), Hash::text).finish();
                hash.checked_rem(bindings.len()).and_then(|nth| bindings.get(nth)).map(found);
            }
            Rule::RecentHistory { targets, length } => {
                self.recorders.push(Recorder { exchange: exchange.id, length: *length });
                targets.for_each(&mut found);
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

    fn finish(self) -> Route {
        let cacheable = self.sorted_headers.is_none() && !self.varies && self.extra_keys.is_empty();
        let targets = if self.recorders.is_empty() {
            self.queues.into_targets()
        } else {
            let queues = self.queues.into_sorted().into();
            Targets::Recorded(Arc::new(Recorded { queues, recorders: self.recorders.into() }))
        };
        let kept = self.topology.keeps_in(targets.queues());
        Route { exchange: self.start, targets, cacheable, kept }
    }
}
