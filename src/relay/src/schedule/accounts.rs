//! What each tenant has in the queue.

use super::Schedule;
use crate::names::Name;
use crate::room::Load;

impl Schedule {
    /// What a tenant has in the queue: a login, or the network if that is empty ([`crate::room`]).
    #[must_use]
    pub fn held(&self, tenant: &str) -> Load {
        let name = self.names.find(tenant);
        name.map_or_else(Load::default, |name| self.tenants.of(name))
    }

    /// Counts a message that has been filed, or of which something has been settled.
    pub(super) fn charge(&mut self, index: u32) {
        let message = &self.messages[index];
        let (tenant, load) = (message.credential, message.load(self.nobody));
        self.totals.weight += load.weight;
        self.totals.owed += load.owed;
        self.tenants.add(tenant, load);
    }

    /// Counts a message no more that was counted as this.
    pub(super) fn uncharge(&mut self, tenant: Name, load: Load) {
        self.totals.weight -= load.weight;
        self.totals.owed -= load.owed;
        self.tenants.remove(tenant, load);
    }
}
