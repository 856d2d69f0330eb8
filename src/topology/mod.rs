//! Exchanges, bindings, queue names and policies of one vhost, and where a publish goes.
//!
//! In: declarations and deletions from the vhost that owns the one writable [`Topology`].
//! Out: cheap clones of it, immutable snapshots through which sessions route.

mod arguments;
mod binding;
mod change;
mod consistent;
mod delay;
mod direct;
mod durable;
mod equivalence;
mod exchange;
mod hash;
mod headers;
mod map;
mod name;
mod policy;
mod ranked;
mod recent;
mod refusal;
mod route;
mod target;
mod topic;
// The room's main type, in a file of its own like every other.
#[allow(clippy::module_inception)]
mod topology;
mod value;

pub use arguments::{QueueType, arguments_without_effect};
pub use change::{Change, Changes, Declared};
pub use delay::{DELAY, delay_of};
pub use exchange::{exchange_kind_name, parse_exchange_kind};
pub use name::{
    REPLY_TO_QUEUE, generated_queue_name, is_generated_queue_name, is_reply_to, reply_to_address,
    reply_to_token, strip_name,
};
pub use policy::{AppliedPolicies, apply_to_name, check_pattern, lower_limit, parse_apply_to};
pub use refusal::Refusal;
pub use route::{ExchangeId, Features, Recorded, Recorder, Route, Targets};
pub use topology::{QueueEntry, Topology};

#[cfg(test)]
mod tests;
