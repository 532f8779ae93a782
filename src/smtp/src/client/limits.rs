//! LIMITS (RFC 9422 §4), and what fits within.
//!
//! A domain counts in the session once RCPT has named it (§4.3): not where MAIL was refused, nor for a recipient that the server is never
//! told of. A connection that has named as many as it may can go on with those.

use std::collections::HashSet;

use crate::{ForwardPath, Mailbox};

/// What the server allows, as far as it says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Limits {
    pub(super) recipients: Option<u32>,
    pub(super) domains: Option<u32>,
    pub(super) messages: Option<u32>,
}

/// The domains of recipients that were named over a connection; none of a server that does not limit them.
#[derive(Clone, Debug, Default)]
pub(super) struct Domains(HashSet<String>);

/// What is left for the recipients of one transaction.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    recipients: u32,
    named: Domains,
}

impl Limits {
    /// Limits that are unknown or malformed are passed over, as RFC 9422 §3 asks for; so is one of 0.
    pub(super) fn add(&mut self, limit: &str) {
        let Some((name, value)) = limit.split_once('=') else {
            return;
        };
        let value = value.parse().ok().filter(|value| *value > 0);
        match name.to_ascii_uppercase().as_str() {
            "RCPTMAX" => self.recipients = value,
            "RCPTDOMAINMAX" => self.domains = value,
            "MAILMAX" => self.messages = value,
            _ => {}
        }
    }
}

impl Room {
    pub(super) fn new(limits: Limits, named: &Domains) -> Self {
        Self {
            limits,
            recipients: 0,
            named: named.clone(),
        }
    }

    /// Whether another recipient fits (§4.2, §4.3). Then it counts.
    pub(super) fn take(&mut self, path: &ForwardPath) -> bool {
        let Limits {
            recipients: most,
            domains: most_domains,
            ..
        } = self.limits;
        let fits = most.is_none_or(|most| self.recipients < most)
            && most_domains.is_none_or(|most| self.named.add(path, most));
        self.recipients += u32::from(fits);
        fits
    }

    /// The domains of the session once all who fit have been named.
    pub(super) fn into_named(self) -> Domains {
        self.named
    }
}

impl Domains {
    /// Whether the recipient's is among the first so many.
    fn add(&mut self, path: &ForwardPath, most: u32) -> bool {
        let domain = path.mailbox().map(Mailbox::domain);
        let domain = domain.unwrap_or_default().to_ascii_lowercase();
        let fits = self.0.contains(&domain) || (self.0.len() as u64) < u64::from(most);
        if fits {
            self.0.insert(domain);
        }
        fits
    }
}
