//! What a sender wants to hear of: NOTIFY (RFC 3461 §4.1), DELIVERBY (RFC 2852) and the configuration. Pure.
//!
//! | | failed | delayed | relayed |
//! |---|---|---|---|
//! | no NOTIFY | yes | if the configuration says so, or DELIVERBY with N | DELIVERBY with T, or N and the next hop lacks it |
//! | NOTIFY=NEVER | no | no | no |
//! | FAILURE | yes | no | as without NOTIFY |
//! | DELAY | no | yes | as without NOTIFY |
//! | SUCCESS | no | no | yes, if the next hop lacks DSN; and as without NOTIFY |
//!
//! Nobody is told of mail with the null reverse-path: that is how reports cannot call forth reports (RFC 3461 §6.1).

use std::time::Duration;

use postroad_smtp::client::Peer;
use postroad_smtp::{Extension, Notify};
use postroad_spool::{ByMode, Envelope, Recipient};

use crate::clock;

/// Age at which a delay is told to those who ask for it with NOTIFY=DELAY, if the configuration says nothing: that of Sendmail and
/// the default of the configuration.
const DELAY_ON_REQUEST: Duration = Duration::from_secs(4 * 3600);

/// When senders are told that mail is still on the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DelayNotices {
    /// Never: there is no room for messages that nobody needs.
    Off,
    /// When the sender asks for it.
    OnRequest,
    /// When mail is of this age, unless the sender does not want it.
    After(Duration),
}

impl DelayNotices {
    /// Mail that is younger is not told of, its own deadlines apart; `None` if none is.
    #[must_use]
    pub const fn earliest(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::OnRequest => Some(DELAY_ON_REQUEST),
            Self::After(age) => Some(age),
        }
    }
}

/// Whether the server that took a message announced an extension.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Offer {
    /// It did: what was asked of us is asked of it.
    Offered,
    /// It did not.
    #[default]
    Missing,
}

/// What the next hop promised to see to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NextHop {
    /// DSN.
    pub dsn: Offer,
    /// DELIVERBY.
    pub deliver_by: Offer,
}

impl NextHop {
    /// What a server announced.
    #[must_use]
    pub fn of(peer: &Peer) -> Self {
        let offer = |extension| match peer.offers(extension) {
            true => Offer::Offered,
            false => Offer::Missing,
        };
        Self {
            dsn: offer(Extension::Dsn),
            deliver_by: offer(Extension::DeliverBy),
        }
    }
}

/// Whether a report is wanted that this recipient will not get the message.
#[must_use]
pub fn wants_failed(envelope: &Envelope, recipient: &Recipient) -> bool {
    !envelope.sender.is_empty() && notify(recipient).is_none_or(Notify::failure)
}

/// Whether a report is owed that the message was passed on (RFC 3461 §5.2.2, RFC 2852 §4.1.4).
#[must_use]
pub fn wants_relayed(envelope: &Envelope, recipient: &Recipient, hop: NextHop) -> bool {
    let notify = notify(recipient);
    if envelope.sender.is_empty() || notify.is_some_and(Notify::never) {
        return false;
    }
    let ends_here = hop.dsn == Offer::Missing && notify.is_some_and(Notify::success);
    let is_traced = envelope.deliver_by.is_some_and(|by| {
        by.trace || (by.on_expiry == ByMode::Notify && hop.deliver_by == Offer::Missing)
    });
    ends_here || is_traced
}

/// When a report is due that this recipient has not got the message yet, in milliseconds since the epoch; `None` for never.
/// `waiting_ms` is since when it could have been delivered.
#[must_use]
pub fn delay_due_ms(
    envelope: &Envelope,
    recipient: &Recipient,
    notices: DelayNotices,
    waiting_ms: u64,
) -> Option<u64> {
    let asked = notify(recipient);
    if envelope.sender.is_empty() || asked.is_some_and(|notify| !notify.delay()) {
        return None;
    }
    let age = match notices {
        DelayNotices::Off => return None,
        DelayNotices::After(age) => Some(age),
        DelayNotices::OnRequest => asked.map(|_| DELAY_ON_REQUEST),
    };
    let by_age = age.map(|age| clock::after(waiting_ms, age));
    let by_deadline = envelope
        .deliver_by
        .filter(|by| by.on_expiry == ByMode::Notify)
        .map(|by| by.deadline_ms);
    by_age.into_iter().chain(by_deadline).min()
}

/// `None` if the sender did not say. Neither did one whose words cannot be read: they were accepted by the same parser, so only
/// a damaged or foreign spool has any.
fn notify(recipient: &Recipient) -> Option<Notify> {
    recipient.notify.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use postroad_spool::DeliverBy;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn envelope(deliver_by: Option<DeliverBy>) -> Envelope {
        Envelope {
            sender: "s@example.com".into(),
            deliver_by,
            ..Envelope::default()
        }
    }

    fn recipient(notify: &str) -> Recipient {
        Recipient {
            notify: (!notify.is_empty()).then(|| notify.to_owned()),
            ..Recipient::default()
        }
    }

    fn by(on_expiry: ByMode, trace: bool) -> Option<DeliverBy> {
        Some(DeliverBy {
            deadline_ms: HOUR_MS,
            on_expiry,
            trace,
        })
    }

    #[test]
    fn every_wish_is_heard() {
        let after = DelayNotices::After(Duration::from_secs(2 * 3600));
        // NOTIFY; whether a failure is told, when a delay is told (always, on request), whether it is told that mail was relayed.
        let cases = [
            ("", true, Some(2), None, false),
            ("NEVER", false, None, None, false),
            ("FAILURE", true, None, None, false),
            ("DELAY", false, Some(2), Some(4), false),
            ("SUCCESS", false, None, None, true),
            ("success,Failure", true, None, None, true),
            ("FAILURE,DELAY", true, Some(2), Some(4), false),
            ("SUCCESS,FAILURE,DELAY", true, Some(2), Some(4), true),
            ("unreadable", true, Some(2), None, false),
        ];
        let envelope = envelope(None);
        for (notify, failed, delayed, on_request, relayed) in cases {
            let one = recipient(notify);
            let hours = |notices| delay_due_ms(&envelope, &one, notices, 0).map(|ms| ms / HOUR_MS);
            assert_eq!(wants_failed(&envelope, &one), failed, "{notify}");
            assert_eq!(hours(after), delayed, "{notify}");
            assert_eq!(hours(DelayNotices::OnRequest), on_request, "{notify}");
            assert_eq!(hours(DelayNotices::Off), None, "{notify}");
            let hop = NextHop::default();
            assert_eq!(wants_relayed(&envelope, &one, hop), relayed, "{notify}");
            let hop = NextHop {
                dsn: Offer::Offered,
                ..hop
            };
            assert!(!wants_relayed(&envelope, &one, hop), "{notify}");
        }
    }

    #[test]
    fn a_deadline_has_wishes_of_its_own() {
        let with_dsn = NextHop {
            dsn: Offer::Offered,
            deliver_by: Offer::Missing,
        };
        let with_both = NextHop {
            deliver_by: Offer::Offered,
            ..with_dsn
        };
        // NOTIFY, BY; when a delay is told, whether it is told that mail was relayed to a server without and with DELIVERBY.
        let cases = [
            ("", by(ByMode::Notify, false), Some(1), true, false),
            ("", by(ByMode::Notify, true), Some(1), true, true),
            ("", by(ByMode::Return, false), None, false, false),
            ("", by(ByMode::Return, true), None, true, true),
            ("NEVER", by(ByMode::Notify, true), None, false, false),
            ("FAILURE", by(ByMode::Notify, true), None, true, true),
            ("DELAY", by(ByMode::Notify, false), Some(1), true, false),
        ];
        for (notify, deliver_by, delayed, without, with) in cases {
            let (envelope, one) = (envelope(deliver_by), recipient(notify));
            let due_ms = delay_due_ms(&envelope, &one, DelayNotices::OnRequest, 0);
            let shown = format!("{notify} {deliver_by:?}");
            assert_eq!(due_ms.map(|ms| ms / HOUR_MS), delayed, "{shown}");
            assert_eq!(wants_relayed(&envelope, &one, with_dsn), without, "{shown}");
            assert_eq!(wants_relayed(&envelope, &one, with_both), with, "{shown}");
        }
    }

    #[test]
    fn nobody_is_told_of_mail_from_nobody() {
        let envelope = Envelope {
            deliver_by: by(ByMode::Notify, true),
            ..Envelope::default()
        };
        let one = recipient("SUCCESS,FAILURE,DELAY");
        assert!(!wants_failed(&envelope, &one));
        assert!(!wants_relayed(&envelope, &one, NextHop::default()));
        let notices = DelayNotices::After(Duration::ZERO);
        assert_eq!(delay_due_ms(&envelope, &one, notices, 0), None);
    }
}
