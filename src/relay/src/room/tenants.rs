//! What each tenant has in the queue. Pure.
//!
//! There is an entry for each login of which something waits, and one for the network: never more than names are kept. A start files
//! everything anew, and so counts it anew.

use std::collections::BTreeMap;

use super::Load;
use crate::names::Name;

/// What each tenant has in the queue.
#[derive(Debug, Default)]
pub struct Tenants {
    /// By number: numbers are given out from the lowest, and logins are few.
    held: BTreeMap<Name, Load>,
}

impl Tenants {
    /// What a tenant has.
    #[must_use]
    pub fn of(&self, tenant: Name) -> Load {
        self.held.get(&tenant).copied().unwrap_or_default()
    }

    /// A message of a tenant was filed.
    pub fn add(&mut self, tenant: Name, load: Load) {
        *self.held.entry(tenant).or_default() += load;
    }

    /// A message of a tenant is gone, or was counted as this and is not any more.
    pub fn remove(&mut self, tenant: Name, load: Load) {
        if let Some(held) = self.held.get_mut(&tenant) {
            *held -= load;
            if *held == Load::default() {
                self.held.remove(&tenant);
            }
        }
    }

    /// How many have anything.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.held.len()
    }
}
