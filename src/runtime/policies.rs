//! Policies through the broker's handle: set, deleted, listed, and what they amount to for one queue.

use ferrymq_protocol::table::Table;

use super::VhostHandle;
use super::vhost_handle::TurnBuffers;
use crate::model::{LogPosition, PolicyDefinition, PolicyKind, PolicyName};
use crate::topology::{AppliedPolicies, Refusal};
use crate::vhost::{Effects, Vhost};

/// The policies in force for a queue or an exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EffectivePolicy {
    /// The user's.
    pub policy: Option<PolicyName>,
    /// The operator's.
    pub operator_policy: Option<PolicyName>,
    /// The settings of both, merged. What the object's own arguments say is not among them.
    pub definition: Table,
}

impl From<AppliedPolicies<'_>> for EffectivePolicy {
    fn from(applied: AppliedPolicies<'_>) -> Self {
        Self {
            policy: applied.user.map(|policy| policy.name.clone()),
            operator_policy: applied.operator.map(|policy| policy.name.clone()),
            definition: applied.definition(),
        }
    }
}

impl VhostHandle {
    /// Sets a policy, or replaces the one of its kind and name. When this returns, everything that exists follows it;
    /// with very many queues that takes a while, in which other turns are taken. What it returns is the position in
    /// the log that has to be durable before the policy is promised to anybody.
    ///
    /// # Errors
    /// [`Refusal::InvalidPolicy`]; [`Refusal::PolicyOfFile`] if the configuration file declares it otherwise.
    pub fn set_policy(&self, policy: PolicyDefinition) -> Result<LogPosition, Refusal> {
        self.change_policies(|vhost, effects| vhost.set_policy(policy, effects))
    }

    /// Deletes a policy, as [`Self::set_policy`] sets one.
    ///
    /// # Errors
    /// [`Refusal::NoPolicy`]; [`Refusal::PolicyOfFile`] if the configuration file declares it.
    pub fn delete_policy(&self, kind: PolicyKind, name: &PolicyName) -> Result<LogPosition, Refusal> {
        self.change_policies(|vhost, effects| vhost.delete_policy(kind, name, effects))
    }

    fn change_policies(
        &self,
        change: impl FnOnce(&mut Vhost, &mut Effects) -> Result<(), Refusal>,
    ) -> Result<LogPosition, Refusal> {
        let (mut result, mut more) = (Ok(()), false);
        let turned = self.change(&mut TurnBuffers::default(), |vhost, effects| {
            result = change(vhost, effects);
            more = std::mem::take(&mut effects.more_work);
        });
        if more {
            self.finish_work();
        }
        result.map(|()| turned.gate)
    }

    /// All policies: users' before operators', each in the order in which they are tried.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyDefinition> {
        self.topology().policies().cloned().collect()
    }

    /// What policies set for a queue; none if there is no such queue.
    #[must_use]
    pub fn effective_policy(&self, queue: &str) -> Option<EffectivePolicy> {
        let topology = self.topology();
        let definition = &topology.queue(queue)?.definition;
        Some(topology.policies_of_queue(definition).into())
    }

    /// What policies set for an exchange; none if there is no such exchange.
    #[must_use]
    pub fn effective_policy_of_exchange(&self, exchange: &str) -> Option<EffectivePolicy> {
        let topology = self.topology();
        topology.exchange(exchange)?;
        Some(topology.policies_of_exchange(exchange).into())
    }
}
