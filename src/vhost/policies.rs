//! Policies come and go, and what exists follows them.
//!
//! Invariant: every queue has the settings, and every exchange the alternate exchange, of the policies in force, or
//! stands in the sweep. A sweep that is under way when policies change again begins anew.

use super::Effects;
use super::settings::Settings;
use super::state::Vhost;
use crate::model::{
    Definition, DefinitionChange, ExchangeName, Origin, PolicyDefinition, PolicyKind, PolicyName, QueueId,
};
use crate::topology::{Changes, Refusal};

/// Patterns that one slice of a sweep tries at most: well below a millisecond under the vhost's lock.
const SLICE_PATTERNS: usize = 1_000;

/// What has not followed the policies yet.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Policies have changed since it began.
    due: bool,
    exchanges: Vec<ExchangeName>,
    queues: Vec<QueueId>,
}

impl Sweep {
    /// Looks for policies among what a write to the topology has changed.
    pub(super) fn note(&mut self, changes: &Changes) {
        self.due |= changes.iter().any(|change| {
            let (DefinitionChange::Put(definition) | DefinitionChange::Delete(definition)) = &change.change;
            matches!(definition, Definition::Policy(_))
        });
    }

    fn is_empty(&self) -> bool {
        self.exchanges.is_empty() && self.queues.is_empty()
    }
}

impl Vhost {
    /// Sets a policy, or replaces the one of its kind and name. What exists follows it in this turn, or in slices
    /// ([`Vhost::work`]) if it is much.
    ///
    /// # Errors
    /// [`Refusal::InvalidPolicy`]; [`Refusal::PolicyOfFile`] if the file declares it otherwise.
    pub fn set_policy(&mut self, policy: PolicyDefinition, effects: &mut Effects) -> Result<(), Refusal> {
        self.calendar.begin_turn();
        let changes = self.topology.set_policy(policy)?;
        self.record(changes, effects);
        self.apply_policies(effects);
        self.dispatch_dirty(effects);
        Ok(())
    }

    /// Deletes a policy; what exists follows as in [`Vhost::set_policy`].
    ///
    /// # Errors
    /// [`Refusal::NoPolicy`]; [`Refusal::PolicyOfFile`] if the file declares it.
    pub fn delete_policy(
        &mut self,
        kind: PolicyKind,
        name: &PolicyName,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        self.calendar.begin_turn();
        let changes = self.topology.delete_policy(kind, name.as_str(), Origin::Client)?;
        self.record(changes, effects);
        self.apply_policies(effects);
        self.dispatch_dirty(effects);
        Ok(())
    }

    /// Lets everything that exists follow the policies, if those have changed: one slice of it at once.
    pub(super) fn apply_policies(&mut self, effects: &mut Effects) {
        if std::mem::take(&mut self.sweep.due) {
            self.sweep.exchanges = self.topology.exchanges().map(|exchange| exchange.name.clone()).collect();
            self.sweep.queues = self.queues.keys().copied().collect();
            self.sweep_slice(effects);
        }
    }

    /// Does one slice of a sweep.
    pub(super) fn sweep_slice(&mut self, effects: &mut Effects) {
        if self.sweep.is_empty() {
            return;
        }
        for _ in 0..(SLICE_PATTERNS / (1 + self.topology.policies().count())).max(1) {
            if let Some(name) = self.sweep.exchanges.pop() {
                effects.topology_changed |= self.topology.reroute_by_policy(&name);
            } else if let Some(id) = self.sweep.queues.pop() {
                self.follow_policies(id, effects);
            } else {
                // The room of a large sweep is not kept.
                self.sweep = Sweep::default();
                return;
            }
        }
        effects.more_work |= !self.sweep.is_empty();
    }

    fn follow_policies(&mut self, id: QueueId, effects: &mut Effects) {
        // Messages that wait at an exchange are in no queue of anybody's.
        let Some(slot) = self.queues.get_mut(&id).filter(|slot| slot.delays.is_none()) else { return };
        let policies = self.topology.policies_of_queue(&slot.definition);
        let settings = Settings::of(&slot.definition, policies, self.options.default_delivery_limit);
        if settings != slot.settings {
            slot.settings = settings;
            self.settings_changed(id, effects);
        }
    }
}
