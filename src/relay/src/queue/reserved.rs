//! What is on its way to the disk, by whom it counts for.

use std::ops::{AddAssign, SubAssign};

use crate::room::{Account, Load};
use crate::schedule;
use crate::share::Holdings;

/// What is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    pub(super) all: Amounts,
    accounts: Holdings<Account, Amounts>,
}

/// What something takes, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Amounts {
    /// Of the bound on the queue.
    pub(super) memory: u64,
    /// Of the disk, by its content.
    pub(super) content: u64,
    /// Of the disk, by the reports that it may lead to.
    pub(super) owed: u64,
}

impl Amounts {
    pub(super) fn disk(self) -> u64 {
        self.content.saturating_add(self.owed)
    }
}

impl From<Load> for Amounts {
    fn from(load: Load) -> Self {
        Self {
            memory: schedule::bytes(load.weight),
            content: load.bytes,
            owed: load.owed,
        }
    }
}

impl Reserved {
    pub(super) fn of(&self, account: &Account) -> Amounts {
        self.accounts.of(account)
    }

    pub(super) fn add(&mut self, account: Account, amounts: Amounts) {
        self.all += amounts;
        self.accounts.change(account, |held| *held += amounts);
    }

    pub(super) fn remove(&mut self, account: Account, amounts: Amounts) {
        self.all -= amounts;
        self.accounts.change(account, |held| *held -= amounts);
    }

    /// Whether nothing is on its way.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all == Amounts::default() && self.accounts.count() == 0
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.memory += other.memory;
        self.content += other.content;
        self.owed += other.owed;
    }
}

impl SubAssign for Amounts {
    fn sub_assign(&mut self, other: Self) {
        self.memory -= other.memory;
        self.content -= other.content;
        self.owed -= other.owed;
    }
}
