//! What the vhost says, and what the client hears of it.
//!
//! Invariant: an answer belongs to the one request its channel waits for; deliveries that cannot be sent go back.

use ferrymq_protocol::method::{basic, channel, exchange, queue};

use super::channel::{Asked, Channel, Outstanding, Phase as ChannelPhase};
use super::deliver::saturate;
use super::errors::{Fault, ReplyCode};
use super::link::Link;
use super::session::{Phase, Session};
use crate::model::{ChannelNumber, ConsumerKey, LogPosition};
use crate::topology::Refusal;
use crate::vhost::{Delivery, Event, Reply};

impl Session {
    /// Something happened in the vhost. An answer that promises durability waits until everything up to `gate` is on
    /// disk.
    pub fn event(&mut self, event: Event, gate: LogPosition) {
        match event {
            Event::Delivery(delivery) => self.delivery(&delivery),
            Event::Replied { channel, result } => self.replied(channel, result, gate),
            Event::ConsumerCancelled { channel, consumer } => self.consumer_cancelled(channel, consumer),
        }
    }

    /// Whether the client still listens.
    fn listens(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Leaving)
    }

    fn delivery(&mut self, delivery: &Delivery) {
        let running = matches!(self.phase, Phase::Running);
        match self.channels.get_mut(&delivery.channel) {
            Some(channel) if running => channel.deliver(delivery, &mut self.link),
            Some(channel) => {
                // The consumer is known until the vhost forgets the connection: handed back before that, the message
                // would come again, for ever.
                let settlement = channel.undeliver(delivery, &mut self.link);
                self.link.handed_back.extend(settlement);
            }
            None => self.link.output.skip(delivery.cost()),
        }
    }

    fn replied(&mut self, number: ChannelNumber, result: Result<Reply, Refusal>, gate: LogPosition) {
        let listens = self.listens();
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(outstanding) = channel.outstanding.take() else { return };
        if !listens {
            return;
        }
        let result = match result {
            Ok(reply) => channel.answer(&outstanding, reply, gate, &mut self.link),
            Err(refusal) => {
                channel.refused(&outstanding);
                Err(Fault::from(refusal))
            }
        };
        if let Err(fault) = result {
            self.fail(number, &fault.at(outstanding.method));
        }
        self.forget_if_gone(number);
    }

    fn consumer_cancelled(&mut self, number: ChannelNumber, key: ConsumerKey) {
        let listens = self.listens();
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let cancelling = channel.outstanding.as_ref().map(|outstanding| outstanding.asked);
        if cancelling == Some(Asked::Cancel(key)) {
            // The client is about to hear that it is cancelled, as it wishes.
            return;
        }
        let Some(consumer) = channel.remove_consumer(key) else { return };
        if listens && channel.phase == ChannelPhase::Open && self.link.client.consumer_cancel_notify {
            let cancel = basic::Cancel { consumer_tag: &consumer.tag, no_wait: true };
            match &mut channel.gated {
                // Whoever deletes its own queue hears of that first.
                Some(gated) => gated.push(number, &cancel.into()),
                None => self.link.send(number, cancel),
            }
        }
    }
}

impl Channel {
    /// A request was refused.
    fn refused(&mut self, outstanding: &Outstanding) {
        if let Asked::Consume(key) = outstanding.asked {
            self.remove_consumer(key);
        }
    }

    /// A request was granted.
    fn answer(
        &mut self,
        outstanding: &Outstanding,
        reply: Reply,
        gate: LogPosition,
        link: &mut Link,
    ) -> Result<(), Fault> {
        let quiet = outstanding.no_wait;
        match (outstanding.asked, reply) {
            (Asked::OpenChannel, Reply::ChannelOpened(key)) => {
                self.key = Some(key);
                self.phase = ChannelPhase::Open;
                self.reply(channel::OpenOk {}, LogPosition::START, false, link);
            }
            (Asked::CloseChannel, Reply::ChannelClosed) => self.closed(gate, link),
            (Asked::DeclareExchange, Reply::ExchangeDeclared) => {
                self.confirm(quiet, exchange::DeclareOk {}, gate, link);
            }
            (Asked::DeleteExchange, Reply::ExchangeDeleted) => {
                self.confirm(quiet, exchange::DeleteOk {}, gate, link);
            }
            (Asked::BindExchange, Reply::Bound) => self.confirm(quiet, exchange::BindOk {}, gate, link),
            (Asked::UnbindExchange, Reply::Unbound) => self.confirm(quiet, exchange::UnbindOk {}, gate, link),
            (Asked::BindQueue, Reply::Bound) => self.confirm(quiet, queue::BindOk {}, gate, link),
            (Asked::UnbindQueue, Reply::Unbound) => self.confirm(quiet, queue::UnbindOk {}, gate, link),
            (Asked::DeclareQueue, Reply::QueueDeclared { name, messages, consumers }) => {
                self.last_queue = Some(name.clone());
                let declared = queue::DeclareOk {
                    queue: name.as_str(),
                    message_count: saturate(messages),
                    consumer_count: saturate(consumers),
                };
                self.confirm(quiet, declared, gate, link);
            }
            (Asked::PurgeQueue, Reply::QueuePurged { messages }) => {
                self.confirm(quiet, queue::PurgeOk { message_count: saturate(messages) }, gate, link);
            }
            (Asked::DeleteQueue, Reply::QueueDeleted { messages }) => {
                self.confirm(quiet, queue::DeleteOk { message_count: saturate(messages) }, gate, link);
            }
            (Asked::Get { no_ack }, Reply::Got(got)) => {
                self.got(got, no_ack, link);
                self.release_parked(link);
            }
            (Asked::Consume(asked), Reply::Consuming(key)) if asked == key => {
                self.consuming(key, quiet, link);
            }
            (Asked::Cancel(asked), Reply::Cancelled(key)) if asked == key => {
                let consumer = self.remove_consumer(key);
                let tag = consumer.as_ref().map_or("", |consumer| &consumer.tag);
                self.confirm(quiet, basic::CancelOk { consumer_tag: tag }, gate, link);
            }
            (asked, reply) => {
                debug_assert!(false, "{reply:?} answers {asked:?}");
                return Err(Fault::new(ReplyCode::InternalError, "the vhost answered something else"));
            }
        }
        Ok(())
    }

    /// Sends a reply, unless the client wants none.
    fn confirm<'m>(
        &mut self,
        quiet: bool,
        method: impl Into<ferrymq_protocol::method::Method<'m>>,
        gate: LogPosition,
        link: &mut Link,
    ) {
        if quiet {
            self.release_parked(link);
        } else {
            self.reply(method, gate, false, link);
        }
    }

    fn consuming(&mut self, key: ConsumerKey, quiet: bool, link: &mut Link) {
        if !quiet && let Some(consumer) = self.consumer(key) {
            link.send(self.number, basic::ConsumeOk { consumer_tag: &consumer.tag });
        }
        self.release_parked(link);
    }

    /// The vhost has taken back what the channel held.
    fn closed(&mut self, gate: LogPosition, link: &mut Link) {
        match &mut self.phase {
            ChannelPhase::Failed { seen: true, .. } => {
                self.phase = ChannelPhase::Gone;
                self.release_parked(link);
            }
            ChannelPhase::Failed { returned, .. } => *returned = true,
            _ => self.reply(channel::CloseOk {}, gate, true, link),
        }
    }
}
