//! A message as its client sent it: who may get it, who may be told of it.

use std::collections::BTreeMap;

use postroad_smtp::Notify;

use crate::plan::{Hop, Routing};

/// A message as its client sent it.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) sender: String,
    pub(crate) login: Option<&'static str>,
    /// With what its client wants to hear of each.
    pub(crate) recipients: BTreeMap<String, Option<Notify>>,
    pub(crate) content: Vec<u8>,
}

/// A message as a next hop got it, for one recipient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried<'a> {
    pub(crate) routing: Routing,
    pub(crate) hop: Hop,
    pub(crate) sender: &'a str,
    pub(crate) notify: Passed,
    pub(crate) content: &'a [u8],
}

/// What a next hop is told of what the client wants to hear of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Passed {
    /// It knows of no such thing.
    Nothing,
    Notify(Option<Notify>),
}

impl Letter {
    /// Whether this is the message, and where it belongs.
    pub(crate) fn is_carried_right(&self, recipient: &str, carried: &Carried<'_>) -> bool {
        let Carried {
            routing,
            hop,
            sender,
            notify,
            content,
        } = *carried;
        let asked = self.recipients.get(recipient);
        let (_, domain) = recipient.split_once('@').unwrap_or_default();
        let is_passed = |asked: &Option<Notify>| match notify {
            Passed::Nothing => true,
            Passed::Notify(told) => told == *asked,
        };
        asked.is_some_and(is_passed)
            && self.sender == sender
            && content.ends_with(&self.content)
            && routing.leads_to(hop, domain, self.login)
    }

    /// Whether somebody wants to hear that a recipient failed.
    pub(crate) fn wants_failure(&self, recipient: &str, who: &str) -> bool {
        let asked = self.recipients.get(recipient);
        self.sender == who && asked.is_some_and(|notify| notify.is_none_or(Notify::failure))
    }

    /// Whether somebody wants to hear that a recipient has got it.
    pub(crate) fn wants_success(&self, recipient: &str, who: &str) -> bool {
        let asked = self.recipients.get(recipient).copied().flatten();
        self.sender == who && asked.is_some_and(Notify::success)
    }
}
