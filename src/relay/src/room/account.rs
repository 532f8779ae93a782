//! Who a message counts for. Pure.
//!
//! What a login submits counts for that login; what comes without one counts for the *network*: all clients without login together. Their
//! addresses tell nothing about who they are where pods come and go, and are not kept with a message. A report counts for whoever
//! submitted what it tells of: else a login whose mail bounces to a dead address could fill the queue with reports that are nobody's. Who
//! has written a message is another question ([`postroad_spool::Author`]): routes and overrides choose by who submitted it, and at a
//! destination reports have turns of their own.
//!
//! The spool, the configuration and the status know names only: there the network's is empty.

use std::sync::Arc;

/// Who mail counts for: a tenant. Cheap to clone.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Account {
    /// All clients without login.
    #[default]
    Network,
    /// Who has this login.
    Login(Arc<str>),
}

impl Account {
    /// The name by which others know it; empty for the network.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Network => "",
            Self::Login(login) => login,
        }
    }
}

impl From<&str> for Account {
    /// Of this login, or of none if it is empty.
    fn from(name: &str) -> Self {
        match name {
            "" => Self::Network,
            login => Self::Login(login.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_known_by_its_login_and_the_network_by_none() {
        for (name, expected) in [
            ("", Account::Network),
            ("shop.mail", Account::Login("shop.mail".into())),
        ] {
            assert_eq!(Account::from(name), expected);
            assert_eq!(expected.name(), name);
        }
    }
}
