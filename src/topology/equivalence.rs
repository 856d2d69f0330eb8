//! Whether a declaration asks for what exists already.
//!
//! Invariant: the first difference is the one refused, in `RabbitMQ`'s order: properties before arguments.

use ferrymq_protocol::table::{Table, Value};

use super::arguments::{QueueType, compared, effective};
use super::exchange::{ALTERNATE_EXCHANGE, exchange_kind_name};
use super::refusal::Refusal;
use super::value;
use crate::model::{ExchangeDefinition, QueueDefinition, VhostName};

/// One object declared twice.
struct Comparison<'a> {
    subject: String,
    vhost: &'a VhostName,
}

/// Refuses a redeclaration of an exchange that differs from what exists.
pub(super) fn check_exchange(
    received: &ExchangeDefinition,
    current: &ExchangeDefinition,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    let comparison = Comparison { subject: format!("exchange '{}'", current.name), vhost };
    let (received_kind, current_kind) = (exchange_kind_name(received.kind), exchange_kind_name(current.kind));
    if received.kind != current.kind {
        return Err(comparison.refuse("type", quoted(&atom(received_kind)), quoted(&atom(current_kind))));
    }
    comparison.flag("durable", received.durable, current.durable)?;
    comparison.flag("auto_delete", received.auto_delete, current.auto_delete)?;
    comparison.flag("internal", received.internal, current.internal)?;
    let argument = |arguments: &Table| arguments.get(ALTERNATE_EXCHANGE).cloned();
    comparison.argument(
        ALTERNATE_EXCHANGE,
        argument(&received.arguments).as_ref(),
        argument(&current.arguments).as_ref(),
    )
}

/// Refuses a redeclaration of a queue that differs from what exists. Who owns it is checked elsewhere.
pub(super) fn check_queue(
    received: &QueueDefinition,
    current: &QueueDefinition,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    let comparison = Comparison { subject: format!("queue '{}'", current.name), vhost };
    comparison.flag("durable", received.durable, current.durable)?;
    comparison.flag("auto_delete", received.auto_delete, current.auto_delete)?;
    if received.arguments.is_empty() && current.arguments.is_empty() {
        return Ok(());
    }
    let classic = Value::from(QueueType::Classic.name());
    compared(QueueType::of(&current.arguments)).try_for_each(|name| {
        let received = effective(&received.arguments, name, &classic);
        comparison.argument(name, received, effective(&current.arguments, name, &classic))
    })
}

impl Comparison<'_> {
    fn refuse(&self, argument: &str, received: String, current: String) -> Refusal {
        Refusal::Inequivalent {
            argument: argument.to_owned(),
            subject: self.subject.clone(),
            vhost: self.vhost.clone(),
            received,
            current,
        }
    }

    fn flag(&self, name: &str, received: bool, current: bool) -> Result<(), Refusal> {
        if received == current {
            return Ok(());
        }
        Err(self.refuse(name, format!("'{received}'"), format!("'{current}'")))
    }

    fn argument(&self, name: &str, received: Option<&Value>, current: Option<&Value>) -> Result<(), Refusal> {
        match (received, current) {
            (None, None) => Ok(()),
            (Some(received), Some(current)) if value::same(received, current) => Ok(()),
            (Some(received), Some(current)) => {
                Err(self.refuse(name, quoted(&value::bare(received)), quoted(&value::bare(current))))
            }
            (received, current) => {
                Err(self.refuse(name, value::with_type(received), value::with_type(current)))
            }
        }
    }
}

/// The name of an exchange type as Erlang prints the atom that it is there.
fn atom(name: &str) -> String {
    if name.contains('-') { quoted(name) } else { name.to_owned() }
}

fn quoted(text: &str) -> String {
    format!("'{text}'")
}

#[cfg(test)]
mod tests;
