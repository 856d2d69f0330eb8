//! One vhost: its topology, its queues, channel credits and reply-to tokens, and the only owner of every change.
//!
//! In: ordered bursts of [`Command`]s from the sessions attached to it, and random bytes.
//! Out: [`Event`]s in one outbox per connection, and [`Effects`] for the runtime to perform.
//! Pure: it is called under its lock, once per burst, and never waits.

mod cache;
mod command;
mod connections;
mod counters;
mod death;
mod declarations;
mod delay;
mod dispatch;
mod event;
mod expiry;
mod history;
mod journal;
mod lifecycle;
mod limits;
mod operator;
mod policies;
mod recovery;
mod settings;
mod slot;
mod state;
#[cfg(test)]
mod tests;

pub use crate::model::Outcome;
pub use cache::{Lost, Read, ReadResult};
pub use command::{Awaiting, Command, Consume, Get, Publish, ReplyToken, Request, Settlement};
pub use counters::ExchangeCounters;
pub use delay::Delayed;
pub use event::{Delivery, Effects, Event, Got, IneffectiveArguments, Overdue, Reply};
pub use expiry::priority_of;
pub use journal::{Entry, Freed, Journal, Places};
pub use operator::{Conflict, Declaration, OperatorReport, OperatorTopology};
pub use recovery::{RestoreReport, Restored, RestoredQueue};
pub use settings::{Overflow, Settings};
pub use slot::Keeper;
pub use state::{Vhost, VhostOptions};
