//! What a queue does with its messages: its arguments and the policies in force for it, read once.
//!
//! Invariant: whatever has been accepted means something here; what neither an argument nor a policy says is what
//! RabbitMQ does without it. Where both say something, the rule is RabbitMQ's, and stands here.

use std::sync::Arc;

use ferrymq_protocol::table::{Table, Value};

use super::death::DeadLetters;
use crate::model::QueueDefinition;
use crate::queue::{Priorities, Succession};
use crate::topology::{AppliedPolicies, QueueType, lower_limit};

/// Every quorum queue has these.
const OF_QUORUM_QUEUES: Priorities = Priorities { highest: 31, unsaid: 4 };

/// What happens to a message that a full queue has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The first of the queue makes room for it.
    #[default]
    DropHead,
    /// It is refused: its publisher's confirm is a `basic.nack`.
    RejectPublish,
    /// The same, and it is dead-lettered.
    RejectPublishDlx,
}

/// What a queue's arguments and policies amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How long a message stays at most, in milliseconds, unless its own expiration is shorter.
    pub message_ttl: Option<u64>,
    /// How long the queue stays unused, in milliseconds.
    pub expires: Option<u64>,
    /// Ready messages at most.
    pub max_length: Option<u64>,
    /// Octets of bodies of ready messages at most.
    pub max_length_bytes: Option<u64>,
    /// What happens beyond these.
    pub overflow: Overflow,
    /// Without them all messages are equal.
    pub priorities: Option<Priorities>,
    /// One consumer at a time gets messages.
    pub single_active: Option<Succession>,
    /// How often clients may fail with a message before it is dropped or dead-lettered.
    pub delivery_limit: Option<u64>,
    /// Where what is dropped goes.
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    /// Its consumers are told how often clients have failed with a message.
    pub tells_failures: bool,
    /// It is a quorum queue: every message survives a restart, persistent or not.
    pub is_quorum: bool,
}

impl Settings {
    /// What the arguments of an accepted declaration and the policies in force say; quorum queues of which nothing else
    /// is said have the default delivery limit.
    #[must_use]
    pub(super) fn of(
        definition: &QueueDefinition,
        policies: AppliedPolicies<'_>,
        default_delivery_limit: Option<u64>,
    ) -> Self {
        let said = Said { arguments: &definition.arguments, policies };
        let is_quorum = QueueType::of(&definition.arguments) == QueueType::Quorum;
        let highest = said.argument("x-max-priority").and_then(|highest| u8::try_from(highest).ok());
        let single = definition.arguments.get("x-single-active-consumer") == Some(&Value::Boolean(true));
        let succession = if is_quorum { Succession::ByPriority } else { Succession::AtItsEnd };
        let delivery_limit = said.delivery_limit(default_delivery_limit.filter(|_| is_quorum));
        Self {
            message_ttl: said.lower("x-message-ttl"),
            expires: said.lower("x-expires"),
            max_length: said.lower("x-max-length"),
            max_length_bytes: said.lower("x-max-length-bytes"),
            overflow: said.overflow(is_quorum),
            // Neither of these can be set by a policy.
            priorities: match highest {
                _ if is_quorum => Some(OF_QUORUM_QUEUES),
                // A single level is none.
                None | Some(0) => None,
                Some(highest) => Some(Priorities { highest, unsaid: 0 }),
            },
            single_active: single.then_some(succession),
            delivery_limit,
            dead_letters: DeadLetters::of(|name| said.argument_or_policy(name)).map(Arc::new),
            tells_failures: is_quorum || delivery_limit.is_some(),
            is_quorum,
        }
    }
}

/// What is said about a queue. Settings have the names of arguments here; policies leave out the `x-`.
struct Said<'a> {
    arguments: &'a Table,
    policies: AppliedPolicies<'a>,
}

impl<'a> Said<'a> {
    fn policy(&self, name: &str) -> Option<&'a Value> {
        self.policies.get(name.strip_prefix("x-")?)
    }

    /// A number that is an argument and not negative.
    fn argument(&self, name: &str) -> Option<u64> {
        not_negative(self.arguments.get(name))
    }

    /// The lower of two numbers.
    fn lower(&self, name: &str) -> Option<u64> {
        match (self.argument(name), not_negative(self.policy(name))) {
            (Some(argument), Some(policy)) => Some(argument.min(policy)),
            (argument, policy) => argument.or(policy),
        }
    }

    fn argument_or_policy(&self, name: &str) -> Option<&'a str> {
        self.arguments.get(name).or_else(|| self.policy(name)).and_then(Value::as_str)
    }

    /// The argument of a classic queue wins, and the policy of a quorum queue, which cannot reject and dead-letter at
    /// once.
    fn overflow(&self, quorum: bool) -> Overflow {
        const OVERFLOW: &str = "x-overflow";
        let chosen = if quorum {
            self.policy(OVERFLOW).or_else(|| self.arguments.get(OVERFLOW)).and_then(Value::as_str)
        } else {
            self.argument_or_policy(OVERFLOW)
        };
        match chosen {
            Some("reject-publish") => Overflow::RejectPublish,
            Some("reject-publish-dlx") if !quorum => Overflow::RejectPublishDlx,
            _ => Overflow::DropHead,
        }
    }

    /// The lower limit, unless one of the two is negative, which is none; the default if nothing is said.
    fn delivery_limit(&self, default: Option<u64>) -> Option<u64> {
        const DELIVERY_LIMIT: &str = "x-delivery-limit";
        let integer = |value: Option<&Value>| value.and_then(Value::as_integer);
        let limit = match (integer(self.arguments.get(DELIVERY_LIMIT)), integer(self.policy(DELIVERY_LIMIT)))
        {
            (Some(argument), Some(policy)) => lower_limit(argument, policy),
            (None, None) => return default,
            (Some(only), None) | (None, Some(only)) => only,
        };
        u64::try_from(limit).ok()
    }
}

fn not_negative(value: Option<&Value>) -> Option<u64> {
    value.and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ApplyTo, Origin, PolicyDefinition, PolicyKind, QueueName};

    fn settings(arguments: Table) -> Settings {
        with_policies(arguments, None, None)
    }

    fn with_policies(arguments: Table, user: Option<Table>, operator: Option<Table>) -> Settings {
        let queue = QueueDefinition {
            name: QueueName::from("q"),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments,
            origin: Origin::Client,
        };
        let policy = |kind, definition| PolicyDefinition {
            name: "p".into(),
            kind,
            pattern: String::new(),
            apply_to: ApplyTo::All,
            priority: 0,
            definition,
            origin: Origin::Client,
        };
        let user = user.map(|definition| policy(PolicyKind::User, definition));
        let operator = operator.map(|definition| policy(PolicyKind::Operator, definition));
        let policies = AppliedPolicies { user: user.as_ref(), operator: operator.as_ref() };
        Settings::of(&queue, policies, Some(7))
    }

    #[test]
    fn arguments_mean_what_they_say() {
        let arguments = Table::new()
            .with("x-message-ttl", Value::I32(0))
            .with("x-max-length", Value::I64(5))
            .with("x-overflow", "reject-publish-dlx")
            .with("x-max-priority", Value::I32(10))
            .with("x-single-active-consumer", Value::Boolean(true))
            .with("x-delivery-limit", Value::I32(-1));
        let expected = Settings {
            message_ttl: Some(0),
            max_length: Some(5),
            overflow: Overflow::RejectPublishDlx,
            priorities: Some(Priorities { highest: 10, unsaid: 0 }),
            single_active: Some(Succession::AtItsEnd),
            ..Settings::default()
        };
        assert_eq!(settings(arguments), expected);
        assert_eq!(settings(Table::new()), Settings::default());
    }

    /// The settings of a queue of this type that has `name` as an argument, in its policy, and in its operator policy.
    fn said(kind: &str, name: &str, values: [Option<Value>; 3]) -> Settings {
        let [argument, user, operator] = values;
        let table = |name: &str, value| Table::from_pairs([(name, value)]).unwrap();
        let mut arguments = argument.map(|value| table(&format!("x-{name}"), value)).unwrap_or_default();
        arguments.insert("x-queue-type", kind).unwrap();
        with_policies(
            arguments,
            user.map(|value| table(name, value)),
            operator.map(|value| table(name, value)),
        )
    }

    #[test]
    fn the_lowest_number_counts() {
        type Read = fn(&Settings) -> Option<u64>;
        let numbers: [(&str, Read); 4] = [
            ("message-ttl", |settings| settings.message_ttl),
            ("expires", |settings| settings.expires),
            ("max-length", |settings| settings.max_length),
            ("max-length-bytes", |settings| settings.max_length_bytes),
        ];
        for (name, read) in numbers {
            for kind in ["classic", "quorum"] {
                for (argument, user, operator, expected) in [
                    (Some(7), None, None, Some(7)),
                    (None, Some(7), None, Some(7)),
                    (None, None, Some(7), Some(7)),
                    (Some(5), Some(7), None, Some(5)),
                    (Some(7), Some(5), None, Some(5)),
                    (Some(7), Some(8), Some(5), Some(5)),
                    (Some(5), Some(8), Some(7), Some(5)),
                    (Some(8), Some(5), Some(7), Some(5)),
                    (None, None, None, None),
                ] {
                    let values = [argument, user, operator].map(|value: Option<u8>| value.map(Value::U8));
                    assert_eq!(read(&said(kind, name, values)), expected, "{kind} {name}");
                }
            }
        }
    }

    #[test]
    fn a_delivery_limit_is_lifted_by_nobody_alone() {
        for (argument, user, operator, expected) in [
            (Some(5), Some(3), None, Some(3)),
            (Some(3), Some(5), None, Some(3)),
            (Some(-1), Some(5), None, Some(5)),
            (Some(5), Some(-1), None, Some(5)),
            (Some(-1), Some(-1), None, None),
            (None, Some(-1), None, None),
            (None, Some(-1), Some(4), Some(4)),
            (Some(-1), None, None, None),
        ] {
            let values = [argument, user, operator].map(|value| value.map(Value::I64));
            assert_eq!(said("quorum", "delivery-limit", values).delivery_limit, expected);
        }
    }

    #[test]
    fn what_a_full_queue_does_is_the_arguments_word_or_the_policys_by_type() {
        use Overflow::{DropHead, RejectPublish, RejectPublishDlx};
        let (drop, reject, dlx) = (Some("drop-head"), Some("reject-publish"), Some("reject-publish-dlx"));
        for (argument, user, operator, classic, quorum) in [
            (None, None, None, DropHead, DropHead),
            (reject, drop, None, RejectPublish, DropHead),
            (drop, reject, None, DropHead, RejectPublish),
            (None, drop, reject, RejectPublish, RejectPublish),
            (drop, drop, reject, DropHead, RejectPublish),
            (None, dlx, None, RejectPublishDlx, DropHead),
            (reject, dlx, None, RejectPublish, DropHead),
            (dlx, None, None, RejectPublishDlx, DropHead),
        ] {
            let of = |kind| {
                let values = [argument, user, operator].map(|value| value.map(Value::from));
                said(kind, "overflow", values).overflow
            };
            assert_eq!(
                (of("classic"), of("quorum")),
                (classic, quorum),
                "{argument:?} {user:?} {operator:?}"
            );
        }
    }

    #[test]
    fn an_argument_says_where_dead_letters_go_before_a_policy_does() {
        let told = |settings: Settings| {
            settings.dead_letters.map(|to| {
                (
                    to.exchange.to_string(),
                    to.routing_key.as_ref().map(ToString::to_string).unwrap_or_default(),
                )
            })
        };
        let policy =
            Table::new().with("dead-letter-exchange", "theirs").with("dead-letter-routing-key", "their-key");
        let mine = Table::new().with("x-dead-letter-exchange", "mine");
        let keyed = mine.clone().with("x-dead-letter-routing-key", "my-key");
        for (arguments, expected) in [
            (Table::new(), ("theirs", "their-key")),
            // Each of the two by itself, as in RabbitMQ.
            (mine, ("mine", "their-key")),
            (keyed, ("mine", "my-key")),
        ] {
            let settings = with_policies(arguments, Some(policy.clone()), None);
            assert_eq!(told(settings), Some((expected.0.to_owned(), expected.1.to_owned())));
        }
        let key_only = Table::new().with("dead-letter-routing-key", "k");
        assert_eq!(told(with_policies(Table::new(), Some(key_only), None)), None);
    }

    #[test]
    fn what_shapes_a_queue_is_its_arguments_alone() {
        let policy = Table::new().with("max-priority", 5_i64).with("single-active-consumer", true);
        assert_eq!(with_policies(Table::new(), Some(policy), None), Settings::default());
    }

    #[test]
    fn quorum_queues_have_the_default_delivery_limit_unless_they_say_otherwise() {
        let quorum = || Table::new().with("x-queue-type", "quorum");
        let limited = |limit| quorum().with("x-delivery-limit", Value::I32(limit));
        let told = |arguments| {
            let Settings { delivery_limit, tells_failures, .. } = settings(arguments);
            (delivery_limit, tells_failures)
        };
        assert_eq!(told(quorum()), (Some(7), true));
        assert_eq!(told(limited(-1)), (None, true));
        assert_eq!(told(limited(3)), (Some(3), true));
        assert_eq!(told(Table::new().with("x-delivery-limit", Value::I32(0))), (Some(0), true));
    }
}
