//! Methods that look at or change the topology. Each becomes one request; the vhost decides.
//!
//! Invariant: names lose their carriage returns and line feeds here, before anyone else sees them.

use ferrymq_protocol::method::{MethodId, exchange, queue};

use super::channel::{Asked, Channel, Outstanding};
use super::errors::Fault;
use super::link::Turn;
use super::quorum;
use crate::model::{
    BindingDefinition, Destination, ExchangeDefinition, ExchangeName, LogPosition, Origin, QueueDefinition,
    QueueName, RoutingKey,
};
use crate::topology::{
    REPLY_TO_QUEUE, Refusal, generated_queue_name, is_reply_to, parse_exchange_kind, reply_to_token,
    strip_name,
};
use crate::vhost::{ReplyToken, Request};

fn exchange_name(text: &str) -> ExchangeName {
    ExchangeName::from(&*strip_name(text))
}

impl Channel {
    fn ask(
        &mut self,
        request: Request,
        (method, asked, no_wait): (MethodId, Asked, bool),
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        self.open_key()?;
        turn.ask(self, request, Outstanding { method, no_wait, asked });
        Ok(())
    }

    pub(super) fn declare_exchange(
        &mut self,
        declare: &exchange::Declare<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let name = exchange_name(declare.exchange);
        let request = if declare.passive {
            Request::CheckExchange(name)
        } else {
            Request::DeclareExchange(ExchangeDefinition {
                name,
                kind: parse_exchange_kind(declare.kind)?,
                durable: declare.durable,
                auto_delete: declare.auto_delete,
                internal: declare.internal,
                arguments: declare.arguments.to_owned(),
                origin: Origin::Client,
            })
        };
        self.ask(request, (exchange::Declare::ID, Asked::DeclareExchange, declare.no_wait), turn)
    }

    pub(super) fn delete_exchange(
        &mut self,
        delete: &exchange::Delete<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let request =
            Request::DeleteExchange { name: exchange_name(delete.exchange), if_unused: delete.if_unused };
        self.ask(request, (exchange::Delete::ID, Asked::DeleteExchange, delete.no_wait), turn)
    }

    pub(super) fn bind_exchange(
        &mut self,
        bind: &exchange::Bind<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let request = Request::Bind(BindingDefinition {
            source: exchange_name(bind.source),
            destination: Destination::Exchange(exchange_name(bind.destination)),
            routing_key: RoutingKey::from(bind.routing_key),
            arguments: bind.arguments.to_owned(),
            origin: Origin::Client,
        });
        self.ask(request, (exchange::Bind::ID, Asked::BindExchange, bind.no_wait), turn)
    }

    pub(super) fn unbind_exchange(
        &mut self,
        unbind: &exchange::Unbind<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let request = Request::Unbind(BindingDefinition {
            source: exchange_name(unbind.source),
            destination: Destination::Exchange(exchange_name(unbind.destination)),
            routing_key: RoutingKey::from(unbind.routing_key),
            arguments: unbind.arguments.to_owned(),
            origin: Origin::Client,
        });
        self.ask(request, (exchange::Unbind::ID, Asked::UnbindExchange, unbind.no_wait), turn)
    }

    pub(super) fn declare_queue(
        &mut self,
        declare: &queue::Declare<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let name = strip_name(declare.queue);
        let request = if is_reply_to(&name) {
            match self.declare_reply_to(&name, declare.no_wait, turn)? {
                Some(request) => request,
                None => return Ok(()),
            }
        } else if declare.passive {
            Request::CheckQueue(QueueName::from(&*name))
        } else {
            let name = if name.is_empty() {
                QueueName::from(&*generated_queue_name((turn.context.random)()))
            } else {
                QueueName::from(&*name)
            };
            Request::DeclareQueue(QueueDefinition {
                name,
                durable: declare.durable && !declare.exclusive,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: declare.arguments.to_owned(),
                origin: Origin::Client,
            })
        };
        self.ask(request, (queue::Declare::ID, Asked::DeclareQueue, declare.no_wait), turn)
    }

    /// Declaring the direct reply-to pseudo-queue creates nothing: it tells whether the requester is there. The
    /// pseudo-queue itself always is, which needs no asking.
    fn declare_reply_to(
        &mut self,
        name: &str,
        no_wait: bool,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Option<Request>, Fault> {
        let queue = QueueName::from(name);
        if name == REPLY_TO_QUEUE {
            self.last_queue = Some(queue);
            if !no_wait {
                let declared = queue::DeclareOk { queue: name, message_count: 0, consumer_count: 1 };
                self.reply(declared, LogPosition::START, false, turn.link);
            }
            return Ok(None);
        }
        if let Some(token) = reply_to_token(name) {
            return Ok(Some(Request::CheckReplyTo { token: ReplyToken(token), name: queue }));
        }
        match turn.context.topology {
            Some(topology) => Err(Refusal::NoQueue { queue, vhost: topology.vhost().clone() }.into()),
            None => Ok(Some(Request::CheckQueue(queue))),
        }
    }

    /// The queue and the key of a binding. Empty ones mean the queue declared last.
    fn binding(
        &self,
        (queue, routing_key): (&str, &str),
        definition: impl FnOnce(Destination, RoutingKey) -> BindingDefinition,
    ) -> Result<BindingDefinition, Fault> {
        let meant = self.meant_queue(queue)?;
        let key = match (queue, routing_key) {
            ("", "") => RoutingKey::from(meant.as_str()),
            (_, key) => RoutingKey::from(key),
        };
        Ok(definition(Destination::Queue(meant), key))
    }

    pub(super) fn bind_queue(
        &mut self,
        bind: &queue::Bind<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let definition =
            self.binding((bind.queue, bind.routing_key), |destination, routing_key| BindingDefinition {
                source: exchange_name(bind.exchange),
                destination,
                routing_key,
                arguments: bind.arguments.to_owned(),
                origin: Origin::Client,
            })?;
        self.ask(Request::Bind(definition), (queue::Bind::ID, Asked::BindQueue, bind.no_wait), turn)
    }

    pub(super) fn unbind_queue(
        &mut self,
        unbind: &queue::Unbind<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let names = (unbind.queue, unbind.routing_key);
        let definition = self.binding(names, |destination, routing_key| BindingDefinition {
            source: exchange_name(unbind.exchange),
            destination,
            routing_key,
            arguments: unbind.arguments.to_owned(),
            origin: Origin::Client,
        })?;
        self.ask(Request::Unbind(definition), (queue::Unbind::ID, Asked::UnbindQueue, false), turn)
    }

    pub(super) fn purge_queue(
        &mut self,
        purge: &queue::Purge<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let request = Request::PurgeQueue(self.meant_queue(purge.queue)?);
        self.ask(request, (queue::Purge::ID, Asked::PurgeQueue, purge.no_wait), turn)
    }

    pub(super) fn delete_queue(
        &mut self,
        delete: &queue::Delete<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let name = self.meant_queue(delete.queue)?;
        quorum::check_delete(&name, (delete.if_unused, delete.if_empty), turn)?;
        let request = Request::DeleteQueue { name, if_unused: delete.if_unused, if_empty: delete.if_empty };
        self.ask(request, (queue::Delete::ID, Asked::DeleteQueue, delete.no_wait), turn)
    }
}
