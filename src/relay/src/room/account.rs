//! Who a message counts for. Pure.
//!
//! What a login submits counts for that login; what comes without one counts for the *network*: all clients without login together. Their
//! addresses tell nothing about who they are where pods come and go, and are not kept with a message. A report counts for whoever
//! submitted what it tells of: else a login whose mail bounces to a dead address could fill the queue with reports that are nobody's.
//!
//! The spool keeps the login with the envelope. With a report it keeps a mark before it, so that what belongs to a login and what was
//! submitted by it stay two things: routes and overrides choose by the latter. And so a client that names the null reverse-path gets no turn
//! among the reports.

/// Stands before the login that a report counts for. No client can send it: a user name with a control character is refused at AUTH,
/// whatever the mechanism (`sasl.rs` in `postroad-smtp`).
const REPORT: char = '\0';

/// Whose a message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Account<'a> {
    /// The login that it counts for; empty for the network.
    pub tenant: &'a str,
    /// Who has written it.
    pub author: Author,
}

/// Who has written a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Author {
    /// The tenant.
    #[default]
    Tenant,
    /// The relay, about mail of the tenant.
    Relay,
}

impl<'a> Account<'a> {
    /// From what the spool keeps with the envelope.
    #[must_use]
    pub fn read(credential: &'a str) -> Self {
        match credential.strip_prefix(REPORT) {
            Some(tenant) => Self {
                tenant,
                author: Author::Relay,
            },
            None => Self {
                tenant: credential,
                author: Author::Tenant,
            },
        }
    }

    /// The login that submitted the message; empty for none.
    #[must_use]
    pub fn submitter(self) -> &'a str {
        match self.author {
            Author::Tenant => self.tenant,
            Author::Relay => "",
        }
    }
}

/// What the spool is to keep with a report on mail with which it keeps `credential`.
#[must_use]
pub fn of_report(credential: &str) -> String {
    format!("{REPORT}{}", Account::read(credential).tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_for_who_submitted_what_it_tells_of_and_was_submitted_by_nobody() {
        for (credential, tenant) in [("shop.mail", "shop.mail"), ("", "")] {
            let original = Account::read(credential);
            assert_eq!((original.tenant, original.submitter()), (tenant, tenant));
            let kept = of_report(credential);
            let report = Account::read(&kept);
            assert_eq!((report.tenant, report.submitter()), (tenant, ""));
            assert_eq!(report.author, Author::Relay);
            assert_eq!(of_report(&kept), kept);
        }
    }
}
