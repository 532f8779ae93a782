//! What came of the hosts of a domain so far, and what that says about the domain. Pure.
//!
//! - A host that turns out to be this relay ends the list at its preference, as an address of ours in the DNS does (RFC 5321
//!   §5.1); if nothing else was there to be tried, the mail loops: 554 5.4.6.
//! - Anything that may be over later holds the mail. Of several failures the most telling one is remembered: what a server
//!   said before what the network said, and of two alike the one of the preferred host.
//! - A host to which we have as many connections as we allow ourselves has neither failed nor refused anything: unless a server has
//!   spoken, the domain is to be tried again soon, and is none the worse for it.
//! - A message with a demand that each host was asked for and none meets is returned: 550 5.7.30 (RFC 8689 §4.2.1).

use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_smtp::{EnhancedStatus, Reply};

use super::{DirectFailure, Setback};
use crate::mx::{self, Target};
use crate::upstreams::failure;

/// What was tried so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The preference at which this relay itself stands.
    own: Option<u16>,
    /// The host that has refused us last.
    refusing: Option<String>,
    failure: Option<UpstreamFailure>,
    lack: Option<Lack>,
    /// Whether a host could not be tried for our own bound.
    is_busy: bool,
}

/// What keeps a message with REQUIRETLS from a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Lack {
    /// Nobody vouches for the MX records.
    Authenticity,
    /// There is no TLS with a host of this name; the text says why.
    Tls(String),
    /// This host does not offer REQUIRETLS.
    RequireTls(String),
}

impl Tally {
    /// Whether a target may still make a difference.
    pub(super) fn is_worth_a_try(&self, target: &Target) -> bool {
        let is_cut_off = self.own.is_some_and(|own| target.preference >= own);
        !is_cut_off && self.refusing.as_ref() != Some(&target.host)
    }

    /// A target did not do.
    pub(super) fn note(&mut self, target: &Target, setback: Setback) {
        match setback {
            Setback::Failed(failed) => self.failed(target, failed),
            Setback::Lacking(lack) => self.lacks(lack),
            Setback::Own => self.is_own(target),
            Setback::Busy => self.is_busy = true,
        }
    }

    /// No connection came about.
    fn failed(&mut self, target: &Target, failed: UpstreamFailure) {
        if has_answered(failed.reason) {
            self.refusing = Some(target.host.clone());
        }
        let known = self.failure.as_ref().map(|known| telling(known.reason));
        if known.is_none_or(|known| telling(failed.reason) > known) {
            self.failure = Some(failed);
        }
    }

    /// A host does not offer what the message demands.
    fn lacks(&mut self, lack: Lack) {
        self.lack.get_or_insert(lack);
    }

    /// The target is this relay.
    fn is_own(&mut self, target: &Target) {
        let own = self.own.unwrap_or(target.preference);
        self.own = Some(own.min(target.preference));
    }

    /// What follows when no target is left.
    pub(super) fn verdict(self, domain: &str) -> DirectFailure {
        match self {
            Self {
                failure: Some(failed),
                is_busy,
                ..
            } if !is_busy || has_spoken(failed.reason) => DirectFailure::Hold(failed),
            Self { is_busy: true, .. } => DirectFailure::Busy,
            Self {
                lack: Some(lack), ..
            } => DirectFailure::Final(lacking(&lack)),
            Self { own: Some(_), .. } => DirectFailure::Final(mx::loops(domain)),
            Self { .. } => {
                let text = format!("no host of {domain} could be tried in time");
                DirectFailure::Hold(failure(FailureReason::ConnectionTimedOut, text))
            }
        }
    }
}

/// The reply for a message whose demand nobody meets.
pub(super) fn lacking(lack: &Lack) -> Reply {
    let status = EnhancedStatus::new(5, 7, 30);
    let why = match lack {
        Lack::Authenticity => {
            "nobody vouches for the MX records of the domain (no DNSSEC, no MTA-STS)".to_owned()
        }
        Lack::Tls(why) => why.clone(),
        Lack::RequireTls(host) => format!("{host} does not offer it"),
    };
    Reply::new(550, status, format!("REQUIRETLS cannot be met: {why}"))
}

/// Whether a server has spoken: it says the same at its other addresses.
const fn has_answered(reason: FailureReason) -> bool {
    matches!(reason, FailureReason::Throttled | FailureReason::Refused)
}

/// Whether a failure is about what a server does, and not about silence.
const fn has_spoken(reason: FailureReason) -> bool {
    telling(reason) > telling(FailureReason::ConnectionTimedOut)
}

/// How much a failure says about why mail does not flow.
const fn telling(reason: FailureReason) -> u8 {
    match reason {
        FailureReason::Throttled | FailureReason::Refused => 4,
        FailureReason::TlsFailed => 3,
        FailureReason::ProtocolError => 2,
        FailureReason::ConnectionTimedOut => 1,
        // Most often a family of addresses that the pod does not have.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(preference: u16, host: &str) -> Target {
        Target {
            host: host.into(),
            preference,
            address: "192.0.2.1".parse().unwrap(),
        }
    }

    #[test]
    fn the_most_telling_failure_of_the_preferred_host_is_remembered() {
        use FailureReason::{ConnectionRefused, ConnectionTimedOut, Refused, Throttled, TlsFailed};
        for (reasons, expected) in [
            (vec![ConnectionRefused, ConnectionTimedOut], 1),
            (vec![ConnectionTimedOut, ConnectionTimedOut], 0),
            (vec![ConnectionTimedOut, TlsFailed, ConnectionRefused], 1),
            (vec![TlsFailed, Throttled, Refused], 1),
        ] {
            let mut tally = Tally::default();
            for (number, reason) in reasons.iter().enumerate() {
                tally.failed(&target(1, "a"), failure(*reason, number.to_string()));
            }
            let expected = failure(reasons[expected], expected.to_string());
            assert_eq!(tally.verdict("example.org"), DirectFailure::Hold(expected));
        }
    }

    #[test]
    fn a_host_that_has_refused_us_is_not_asked_again() {
        let mut tally = Tally::default();
        tally.failed(
            &target(1, "a"),
            failure(FailureReason::ConnectionTimedOut, ""),
        );
        assert!(tally.is_worth_a_try(&target(1, "a")));
        tally.failed(&target(1, "a"), failure(FailureReason::Refused, ""));
        assert!(!tally.is_worth_a_try(&target(1, "a")));
        assert!(tally.is_worth_a_try(&target(1, "b")));
    }

    #[test]
    fn this_relay_ends_the_list_at_its_preference() {
        let mut tally = Tally::default();
        tally.is_own(&target(20, "me"));
        tally.is_own(&target(30, "me too"));
        let worth = [10, 20, 30].map(|at| tally.is_worth_a_try(&target(at, "b")));
        assert_eq!(worth, [true, false, false]);
        let DirectFailure::Final(reply) = tally.verdict("example.org") else {
            panic!("held")
        };
        assert_eq!(reply.status(), Some(EnhancedStatus::new(5, 4, 6)));
        // A better host that fails now: we are its backup.
        let mut tally = Tally::default();
        let failed = failure(FailureReason::ConnectionRefused, "");
        tally.failed(&target(10, "a"), failed.clone());
        tally.is_own(&target(20, "me"));
        assert_eq!(tally.verdict("example.org"), DirectFailure::Hold(failed));
    }

    #[test]
    fn a_host_that_is_busy_counts_more_than_silence_and_less_than_words() {
        use FailureReason::{ConnectionRefused, ConnectionTimedOut, Throttled, TlsFailed};
        for (reason, is_busy) in [
            (ConnectionRefused, true),
            (ConnectionTimedOut, true),
            (TlsFailed, false),
            (Throttled, false),
        ] {
            let mut tally = Tally::default();
            tally.failed(&target(1, "a"), failure(reason, ""));
            tally.note(&target(2, "b"), Setback::Busy);
            let verdict = tally.verdict("example.org");
            assert_eq!(verdict == DirectFailure::Busy, is_busy, "{reason:?}");
        }
        // It was not asked what it offers, or whether it is this relay.
        for setback in [Setback::Lacking(Lack::Authenticity), Setback::Own] {
            let mut tally = Tally::default();
            tally.note(&target(1, "a"), Setback::Busy);
            tally.note(&target(2, "b"), setback);
            assert_eq!(tally.verdict("example.org"), DirectFailure::Busy);
        }
    }

    #[test]
    fn a_demand_is_refused_only_when_every_host_was_asked() {
        let mut tally = Tally::default();
        tally.lacks(Lack::RequireTls("a".into()));
        tally.failed(
            &target(1, "b"),
            failure(FailureReason::ConnectionRefused, ""),
        );
        assert!(matches!(
            tally.verdict("example.org"),
            DirectFailure::Hold(_)
        ));
        let mut tally = Tally::default();
        tally.lacks(Lack::RequireTls("a".into()));
        tally.lacks(Lack::Tls("b".into()));
        let DirectFailure::Final(reply) = tally.verdict("example.org") else {
            panic!("held")
        };
        assert_eq!(reply.status(), Some(EnhancedStatus::new(5, 7, 30)));
        assert!(reply.lines()[0].contains("a does not offer it"), "{reply}");
    }
}
