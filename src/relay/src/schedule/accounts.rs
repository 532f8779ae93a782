//! What each tenant has in the queue.

use std::sync::Arc;

use super::Schedule;
use crate::names::Name;
use crate::room::{Account, Load};

impl Schedule {
    /// What a tenant has in the queue.
    #[must_use]
    pub fn held(&self, account: &Account) -> Load {
        let name = self.names.find(account.name());
        name.map_or_else(Load::default, |name| self.held.of(&name))
    }

    /// The tenant of this name.
    pub(super) fn account(&self, name: Name) -> Account {
        match name == self.nobody {
            true => Account::Network,
            false => Account::Login(Arc::clone(self.names.text(name))),
        }
    }

    /// Counts a message that has been filed, or of which something has been settled.
    pub(super) fn charge(&mut self, index: u32) {
        let message = &self.messages[index];
        let (account, load) = (message.account, message.load());
        self.totals.weight += load.weight;
        self.totals.owed += load.owed;
        self.held.change(account, |held| *held += load);
    }

    /// Counts a message no more that was counted as this.
    pub(super) fn uncharge(&mut self, account: Name, load: Load) {
        self.totals.weight -= load.weight;
        self.totals.owed -= load.owed;
        self.held.change(account, |held| *held -= load);
    }
}
