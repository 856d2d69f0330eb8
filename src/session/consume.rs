//! Consuming: consumers, `basic.get`, prefetch and acknowledgements.
//!
//! Invariant: a consumer is known from its request until its cancel has been answered; a delivery tag that waits for
//! nothing is refused without asking the vhost.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ferrymq_protocol::method::basic;

use super::channel::{Asked, Channel, Mode, Outstanding, ReplyConsumer};
use super::errors::{Fault, ReplyCode};
use super::link::{Link, Turn};
use super::quorum;
use super::tags::Unacked;
use crate::model::{ChannelKey, ConsumerKey, QueueName};
use crate::topology::{REPLY_TO_QUEUE, Refusal, strip_name};
use crate::vhost::{Command, Consume, Get, Outcome, ReplyToken, Request, Settlement};

/// A consumer of a channel.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) tag: Box<str>,
    pub(super) no_ack: bool,
}

impl Channel {
    /// The queue a method means: the one it names, or else the one declared last.
    ///
    /// # Errors
    /// 404 if it names none and none was declared.
    pub(super) fn meant_queue(&self, name: &str) -> Result<QueueName, Fault> {
        if name.is_empty() {
            return self.last_queue.clone().ok_or_else(|| Refusal::NoPreviousQueue.into());
        }
        Ok(QueueName::from(&*strip_name(name)))
    }

    pub(super) fn consume(
        &mut self,
        consume: &basic::Consume<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let channel = self.open_key()?;
        let replies = consume.queue == REPLY_TO_QUEUE;
        self.check_consumer(consume, replies, turn.link.options.consumers_per_channel_max)?;
        let request = if replies {
            let token = ReplyToken((turn.context.random)());
            let consumer = self.add_consumer(consume, turn);
            self.replies = Some(ReplyConsumer { token, consumer });
            (consumer, Request::ConsumeReplies { channel, consumer, token })
        } else {
            let queue = self.meant_queue(consume.queue)?;
            let consumer = self.add_consumer(consume, turn);
            let request = Consume {
                channel,
                consumer,
                queue,
                no_ack: consume.no_ack,
                exclusive: consume.exclusive,
                prefetch: self.prefetch,
                arguments: consume.arguments.to_owned(),
            };
            (consumer, Request::Consume(request))
        };
        let (consumer, request) = request;
        let asked = Asked::Consume(consumer);
        let outstanding = Outstanding { method: basic::Consume::ID, no_wait: consume.no_wait, asked };
        turn.ask(self, request, outstanding);
        Ok(())
    }

    /// What can be said against one more consumer before its queue is looked at. As with `RabbitMQ`, the limit
    /// holds for the reply consumer too, which does not count towards it.
    fn check_consumer(&self, consume: &basic::Consume<'_>, replies: bool, max: u32) -> Result<(), Fault> {
        let reply_consumer = self.replies.as_ref().map(|replies| replies.consumer);
        let tag_of = self.consumer_keys.get(consume.consumer_tag).copied();
        if tag_of.is_some() && !(replies && tag_of == reply_consumer) {
            let text = format!("attempt to reuse consumer tag '{}'", consume.consumer_tag);
            return Err(Fault::new(ReplyCode::NotAllowed, text));
        }
        let counted = self.consumers.len() - usize::from(reply_consumer.is_some());
        if max > 0 && counted as u64 >= u64::from(max) {
            let text = format!("reached maximum ({max}) of consumers per channel");
            return Err(Fault::new(ReplyCode::NotAllowed, text));
        }
        match (replies, consume.no_ack, reply_consumer) {
            (true, false, _) => Err(Refusal::ReplyConsumerAcknowledges.into()),
            (true, true, Some(_)) => Err(Refusal::ReplyConsumerSet.into()),
            _ => Ok(()),
        }
    }

    fn add_consumer(&mut self, consume: &basic::Consume<'_>, turn: &mut Turn<'_, '_>) -> ConsumerKey {
        let tag: Box<str> = if consume.consumer_tag.is_empty() {
            format!("amq.ctag-{}", URL_SAFE_NO_PAD.encode((turn.context.random)())).into()
        } else {
            consume.consumer_tag.into()
        };
        let index = self.consumers.insert(Consumer { tag: tag.clone(), no_ack: consume.no_ack });
        let key = ConsumerKey(u32::try_from(index).expect("a channel has fewer than 2^32 consumers"));
        self.consumer_keys.insert(tag, key);
        key
    }

    /// Forgets a consumer; `None` if it is not known.
    pub(super) fn remove_consumer(&mut self, key: ConsumerKey) -> Option<Consumer> {
        let consumer = self.consumers.try_remove(slab_index(key))?;
        self.consumer_keys.remove(&consumer.tag);
        self.replies.take_if(|replies| replies.consumer == key);
        Some(consumer)
    }

    pub(super) fn consumer(&self, key: ConsumerKey) -> Option<&Consumer> {
        self.consumers.get(slab_index(key))
    }

    pub(super) fn cancel(
        &mut self,
        cancel: &basic::Cancel<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let channel = self.open_key()?;
        let Some(consumer) = self.consumer_keys.get(cancel.consumer_tag).copied() else {
            // Not an error: the broker's own cancel may have crossed the client's.
            if !cancel.no_wait {
                turn.send(self.number, basic::CancelOk { consumer_tag: cancel.consumer_tag });
            }
            return Ok(());
        };
        let asked = Asked::Cancel(consumer);
        let outstanding = Outstanding { method: basic::Cancel::ID, no_wait: cancel.no_wait, asked };
        turn.ask(self, Request::Cancel { channel, consumer }, outstanding);
        Ok(())
    }

    pub(super) fn get(&mut self, get: &basic::Get<'_>, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let channel = self.open_key()?;
        let queue = self.meant_queue(get.queue)?;
        quorum::check_get(&queue, turn)?;
        let request = Request::Get(Get { channel, queue, no_ack: get.no_ack });
        let asked = Asked::Get { no_ack: get.no_ack };
        let outstanding = Outstanding { method: basic::Get::ID, no_wait: false, asked };
        turn.ask(self, request, outstanding);
        Ok(())
    }

    pub(super) fn qos(&mut self, qos: &basic::Qos, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let channel = self.open_key()?;
        if qos.prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(Fault::new(ReplyCode::NotImplemented, text));
        }
        if qos.global {
            turn.emit(Command::LimitChannel { channel, prefetch: qos.prefetch_count });
        } else {
            self.prefetch = qos.prefetch_count;
        }
        turn.send(self.number, basic::QosOk {});
        Ok(())
    }

    pub(super) fn ack(&mut self, ack: &basic::Ack, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        self.settle(ack.delivery_tag, ack.multiple, Outcome::Ack, turn)
    }

    pub(super) fn nack(&mut self, nack: &basic::Nack, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let outcome = if nack.requeue { turn.link.returned() } else { Outcome::Discard };
        self.settle(nack.delivery_tag, nack.multiple, outcome, turn)
    }

    pub(super) fn reject(&mut self, reject: &basic::Reject, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let outcome = if reject.requeue { Outcome::Requeue } else { Outcome::Discard };
        self.settle(reject.delivery_tag, false, outcome, turn)
    }

    fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let channel = self.open_key()?;
        let unknown = || Fault::precondition(format!("unknown delivery tag {tag}"));
        if !multiple {
            let delivery = self.tags.take(tag).ok_or_else(unknown)?;
            if matches!(self.mode, Mode::Transaction(_)) {
                return self.settle_all(channel, vec![delivery], outcome, turn);
            }
            self.counters.ack += u64::from(outcome == Outcome::Ack);
            turn.emit(Command::Settle(settlement(channel, delivery, outcome)));
            return Ok(());
        }
        let deliveries =
            if tag == 0 { self.tags.take_all() } else { self.tags.take_up_to(tag).ok_or_else(unknown)? };
        self.settle_all(channel, deliveries, outcome, turn)
    }

    fn settle_all(
        &mut self,
        channel: ChannelKey,
        deliveries: Vec<Unacked>,
        outcome: Outcome,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        let count = deliveries.len();
        if let Mode::Transaction(transaction) = &mut self.mode {
            for delivery in deliveries {
                transaction.settle(delivery, settlement(channel, delivery, outcome));
            }
            return turn.link.count_settlements(count);
        }
        if outcome == Outcome::Ack {
            self.counters.ack += count as u64;
        }
        settle_together(channel, deliveries, outcome, turn);
        Ok(())
    }

    /// Puts everything unacknowledged back into its queues.
    pub(super) fn recover(&mut self, requeue: bool, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let channel = self.open_key()?;
        if !requeue {
            return Err(Fault::new(ReplyCode::NotImplemented, "requeue=false"));
        }
        let outcome = turn.link.returned();
        settle_together(channel, self.tags.take_all(), outcome, turn);
        Ok(())
    }
}

impl Link {
    /// How a delivery ends that the client gives back without saying that it has failed.
    fn returned(&self) -> Outcome {
        if self.options.nack_counts_as_failure { Outcome::Requeue } else { Outcome::Return }
    }
}

/// What returns together takes effect together: nothing behind it in a queue may be delivered between.
fn settle_together(channel: ChannelKey, deliveries: Vec<Unacked>, outcome: Outcome, turn: &mut Turn<'_, '_>) {
    let commands =
        deliveries.into_iter().map(|delivery| Command::Settle(settlement(channel, delivery, outcome)));
    if matches!(outcome, Outcome::Requeue | Outcome::Return) && commands.len() > 1 {
        turn.emit(Command::Transaction(commands.collect()));
    } else {
        commands.for_each(|command| turn.emit(command));
    }
}

fn settlement(channel: ChannelKey, delivery: Unacked, outcome: Outcome) -> Settlement {
    Settlement { channel, queue: delivery.queue, seq: delivery.seq, outcome }
}

fn slab_index(key: ConsumerKey) -> usize {
    usize::try_from(key.0).unwrap_or(usize::MAX)
}
