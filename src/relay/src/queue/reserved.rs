//! What is on its way to the disk, by tenant.

use std::collections::HashMap;
use std::ops::{AddAssign, SubAssign};

use crate::room::Load;

/// What is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    pub(super) all: Taken,
    /// By tenant; there is an entry for as long as it has anything on its way.
    tenants: HashMap<Box<str>, Taken>,
}

/// What something takes, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Taken {
    /// Of the bound on the queue.
    pub(super) memory: u64,
    /// Of the disk, by its content.
    pub(super) content: u64,
    /// Of the disk, by the reports that it may lead to.
    pub(super) owed: u64,
}

impl Taken {
    pub(super) fn disk(self) -> u64 {
        self.content.saturating_add(self.owed)
    }
}

impl From<Load> for Taken {
    fn from(load: Load) -> Self {
        Self {
            memory: load.weight.bytes(),
            content: load.bytes,
            owed: load.owed,
        }
    }
}

impl Reserved {
    pub(super) fn of(&self, tenant: &str) -> Taken {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, tenant: &str, taken: Taken) {
        self.all += taken;
        match self.tenants.get_mut(tenant) {
            Some(all) => *all += taken,
            None => drop(self.tenants.insert(tenant.into(), taken)),
        }
    }

    pub(super) fn remove(&mut self, tenant: &str, taken: Taken) {
        self.all -= taken;
        if let Some(all) = self.tenants.get_mut(tenant) {
            *all -= taken;
            if *all == Taken::default() {
                self.tenants.remove(tenant);
            }
        }
    }

    /// Whether nothing is on its way.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all == Taken::default() && self.tenants.is_empty()
    }
}

impl AddAssign for Taken {
    fn add_assign(&mut self, other: Self) {
        self.memory += other.memory;
        self.content += other.content;
        self.owed += other.owed;
    }
}

impl SubAssign for Taken {
    fn sub_assign(&mut self, other: Self) {
        self.memory -= other.memory;
        self.content -= other.content;
        self.owed -= other.owed;
    }
}
