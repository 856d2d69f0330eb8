//! Transactions and confirm mode: the ways in which a channel's publishes take effect.
//!
//! Invariant: what a transaction holds is counted against the connection's limit and reaches the vhost as one
//! command, or not at all.

use ferrymq_protocol::method::{confirm, tx};

use super::channel::{Asked, Channel, Mode, Outstanding};
use super::confirms::Confirms;
use super::errors::Fault;
use super::link::{Link, Turn};
use super::publish::send_back;
use super::tags::Unacked;
use crate::model::LogPosition;
use crate::vhost::{Command, Publish, Settlement};

/// What one settlement counts for, in bytes.
const SETTLEMENT_BYTES: usize = 64;

/// What a transaction has gathered.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    commands: Vec<Command>,
    /// Deliveries it settles, for a rollback.
    taken: Vec<Unacked>,
    bytes: usize,
}

impl Transaction {
    pub(super) fn publish(&mut self, publish: Publish, cost: usize) {
        self.bytes += cost;
        self.commands.push(Command::Publish(publish));
    }

    pub(super) fn settle(&mut self, delivery: Unacked, settlement: Settlement) {
        self.bytes += SETTLEMENT_BYTES;
        self.taken.push(delivery);
        self.commands.push(Command::Settle(settlement));
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Link {
    /// A transaction of the connection has grown.
    pub(super) fn count_transaction(&mut self, bytes: usize) -> Result<(), Fault> {
        self.transaction_bytes += bytes;
        let max = self.options.transaction_bytes_max;
        if self.transaction_bytes > max {
            let text = format!("transaction is larger than the configured limit of {max} bytes");
            return Err(Fault::precondition(text));
        }
        Ok(())
    }

    pub(super) fn count_settlements(&mut self, count: usize) -> Result<(), Fault> {
        self.count_transaction(count * SETTLEMENT_BYTES)
    }
}

impl Channel {
    pub(super) fn select_confirms(
        &mut self,
        select: &confirm::Select,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), Fault> {
        match self.mode {
            Mode::Transaction(_) => return Err(Fault::precondition("cannot switch from tx to confirm mode")),
            Mode::Plain => self.mode = Mode::Confirm(Confirms::default()),
            Mode::Confirm(_) => {}
        }
        if !select.no_wait {
            turn.send(self.number, confirm::SelectOk {});
        }
        Ok(())
    }

    pub(super) fn select_transactions(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        match self.mode {
            Mode::Confirm(_) => return Err(Fault::precondition("cannot switch from confirm to tx mode")),
            Mode::Plain => self.mode = Mode::Transaction(Transaction::default()),
            Mode::Transaction(_) => {}
        }
        turn.send(self.number, tx::SelectOk {});
        Ok(())
    }

    fn take_transaction(&mut self, link: &mut Link) -> Result<Transaction, Fault> {
        let Mode::Transaction(transaction) = &mut self.mode else {
            return Err(Fault::precondition("channel is not transactional"));
        };
        let transaction = std::mem::take(transaction);
        link.transaction_bytes -= transaction.bytes;
        Ok(transaction)
    }

    pub(super) fn commit(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let transaction = self.take_transaction(turn.link)?;
        for command in &transaction.commands {
            if let Command::Publish(publish) = command {
                self.count_unroutable(publish.route.targets.is_empty(), publish.returned);
                send_back(self.number, &publish.message, publish.returned, turn.link);
            }
        }
        self.counters.ack += transaction.taken.len() as u64;
        if transaction.commands.is_empty() {
            self.reply(tx::CommitOk {}, LogPosition::START, false, turn.link);
            return Ok(());
        }
        self.outstanding = Some(Outstanding {
            method: tx::Commit::ID,
            no_wait: false,
            asked: Asked::Commit { partial: false },
        });
        turn.emit(Command::Transaction(transaction.commands));
        turn.link.in_turn.push(self.number);
        turn.link.requested = true;
        turn.link.attention = true;
        Ok(())
    }

    pub(super) fn roll_back(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), Fault> {
        let transaction = self.take_transaction(turn.link)?;
        self.tags.restore(transaction.taken);
        turn.send(self.number, tx::RollbackOk {});
        Ok(())
    }
}
