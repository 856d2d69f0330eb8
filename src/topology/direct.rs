//! The direct exchange's rule: the binding key equals the routing key.
//!
//! Invariant: a key without bindings has no entry.

use super::map::{Map, new_map};
use super::target::{Target, TargetSet};
use crate::model::RoutingKey;

#[derive(Clone, Debug)]
pub(super) struct Direct(Map<RoutingKey, TargetSet>);

impl Direct {
    pub(super) fn new() -> Self {
        Self(new_map())
    }

    pub(super) fn add(&mut self, key: &RoutingKey, target: Target) {
        if let Some(targets) = self.0.get_mut(key) {
            targets.add(target);
        } else {
            let mut targets = TargetSet::default();
            targets.add(target);
            self.0.insert_mut(key.clone(), targets);
        }
    }

    pub(super) fn remove(&mut self, key: &RoutingKey, target: &Target) {
        let Some(targets) = self.0.get_mut(key) else { return };
        targets.remove(target);
        if targets.is_empty() {
            self.0.remove_mut(key);
        }
    }

    pub(super) fn for_each_match<'a>(&'a self, key: &str, found: &mut impl FnMut(&'a Target)) {
        if let Some(targets) = self.0.get(key) {
            targets.for_each(found);
        }
    }
}
