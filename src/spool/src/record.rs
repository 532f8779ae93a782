//! What the spool keeps.

use std::borrow::Cow;

use bytes::Bytes;

use crate::MessageId;

mod queued;

pub use queued::{DomainRun, Queue, Queued};

/// A message with its envelope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// Arrival, milliseconds since the epoch.
    pub arrival_ms: u64,
    /// Who sends it to whom.
    pub envelope: Envelope,
    /// Header fields that the relay puts before the content; complete lines.
    pub headers: Bytes,
    /// The content as received.
    pub body: Bytes,
}

/// The envelope of a message (RFC 5321 §2.3.1) with the parameters of its extensions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Envelope {
    /// The reverse-path without brackets; empty for the null one.
    pub sender: String,
    /// In the order in which they were named; outcomes refer to them by index.
    pub recipients: Vec<Recipient>,
    /// What the body was declared to be.
    pub body: BodyType,
    /// Whether SMTPUTF8 was asked for (RFC 6531).
    pub smtputf8: bool,
    /// The user who submitted it, or the mail that it is a report on; empty for none.
    pub credential: String,
    /// Who has written it.
    pub author: Author,
    /// ENVID (RFC 3461 §4.4), decoded.
    pub envid: Option<String>,
    /// RET (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// What was demanded of the way to the next hop.
    pub tls: TlsDemand,
    /// By when it must be delivered.
    pub deliver_by: Option<DeliverBy>,
    /// Not to be delivered before, milliseconds since the epoch (RFC 4865); 0 for at once.
    pub not_before_ms: u64,
    /// MT-PRIORITY, -9 to 9 (RFC 6710); 0 unless something else was said.
    pub priority: i8,
}

/// Who has written a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Author {
    /// Whoever submitted it.
    #[default]
    Submitter,
    /// The relay: it is a report on mail of the user.
    Relay,
}

/// One recipient.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recipient {
    /// The forward-path without brackets.
    pub address: String,
    /// NOTIFY as given (RFC 3461 §4.1).
    pub notify: Option<String>,
    /// ORCPT, decoded: `rfc822;user@example.com` (RFC 3461 §4.2).
    pub orcpt: Option<String>,
}

/// The BODY parameter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BodyType {
    /// 7BIT, or nothing said.
    #[default]
    SevenBit,
    /// 8BITMIME (RFC 6152).
    EightBitMime,
    /// BINARYMIME (RFC 3030): lines of any length, and bare CR and LF.
    BinaryMime,
}

/// The RET parameter (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ret {
    /// Return the whole message.
    Full,
    /// Return the headers.
    Headers,
}

/// What the sender demands of TLS towards the next hop (RFC 8689).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsDemand {
    /// Nothing: the policy of the relay holds.
    #[default]
    Default,
    /// REQUIRETLS: nowhere without verified TLS, and nowhere that does not promise the same.
    Required,
    /// `TLS-Required: No`: rather in plaintext than not at all.
    Optional,
}

/// The BY parameter (RFC 2852).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeliverBy {
    /// The deadline, milliseconds since the epoch.
    pub deadline_ms: u64,
    /// What is to happen then.
    pub on_expiry: ByMode,
    /// Whether each relay is to report that it passed the message on.
    pub trace: bool,
}

/// What happens at the deadline of DELIVERBY (RFC 2852 §4.1.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByMode {
    /// It is returned.
    Return,
    /// The sender is told, and it is tried on.
    Notify,
}

impl Envelope {
    /// The user who submitted it; empty for none: nobody submits a report.
    #[must_use]
    pub fn submitter(&self) -> &str {
        match self.author {
            Author::Submitter => &self.credential,
            Author::Relay => "",
        }
    }

    /// Whether the sender may have to be told of any recipient: not if there is no sender, or with NOTIFY=NEVER for all of them (RFC 3461
    /// §4.1).
    #[must_use]
    pub fn is_reportable(&self) -> bool {
        let is_never = |notify: &String| notify.eq_ignore_ascii_case("NEVER");
        let mut all = self.recipients.iter();
        !self.sender.is_empty() && !all.all(|one| one.notify.as_ref().is_some_and(is_never))
    }

    /// The domain of the sender in lower case; empty for the null one.
    #[must_use]
    pub fn sender_domain(&self) -> Cow<'_, str> {
        domain(&self.sender)
    }

    /// The domains of the recipients in lower case, in their order, neighbours at one domain together.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainRun<'_>> {
        let mut runs: Vec<DomainRun<'_>> = Vec::with_capacity(1);
        for recipient in &self.recipients {
            let domain = domain(&recipient.address);
            match runs.last_mut() {
                Some(run) if run.domain == domain => run.recipients += 1,
                _ => runs.push(DomainRun {
                    domain,
                    recipients: 1,
                }),
            }
        }
        runs
    }
}

/// What stands behind the last `@` in lower case; an address without one (`postmaster`) has none.
fn domain(address: &str) -> Cow<'_, str> {
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    if domain.chars().any(char::is_uppercase) {
        Cow::Owned(domain.to_lowercase())
    } else {
        Cow::Borrowed(domain)
    }
}

/// What came of an attempt to deliver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// The message.
    pub id: MessageId,
    /// When to try again, milliseconds since the epoch.
    pub next_attempt_ms: u64,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Whether the sender has been told of the delay (RFC 3461 §4.1, NOTIFY=DELAY), by this attempt or one before.
    pub delay_notified: bool,
    /// By index into the envelope's recipients: those that were tried.
    pub results: Vec<(u32, RecipientResult)>,
}

/// What came of an attempt for one recipient. The reply is not kept: whoever needs it has it at the attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecipientResult {
    /// To be tried again.
    Deferred,
    /// Taken by the next hop.
    Delivered,
    /// Refused for good.
    Failed,
}

impl RecipientResult {
    /// Whether nothing is left to do for the recipient.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Delivered | Self::Failed => true,
            Self::Deferred => false,
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// An attempt that left recipients open.
    Attempt(Attempt),
    /// Nothing is left to do for this message.
    Done(MessageId),
    /// A new message.
    Message(Message),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_may_have_to_be_told_unless_it_does_not_want_to_hear_of_any_recipient() {
        for (sender, notify, expected) in [
            ("s@example.com", [None, None], true),
            ("postmaster", [Some("NEVER"), Some("FAILURE,DELAY")], true),
            ("s@example.com", [Some("NEVER"), Some("never")], false),
            ("", [None, Some("FAILURE")], false),
        ] {
            let recipient = |notify: Option<&str>| Recipient {
                notify: notify.map(str::to_owned),
                ..Recipient::default()
            };
            let envelope = Envelope {
                sender: sender.into(),
                recipients: notify.into_iter().map(recipient).collect(),
                ..Envelope::default()
            };
            assert_eq!(envelope.is_reportable(), expected, "{sender:?} {notify:?}");
        }
    }

    #[test]
    fn neighbours_at_one_domain_are_one_run() {
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, u32)]);
        let cases: [Case<'_>; 5] = [
            (&[], &[]),
            (&["postmaster"], &[("", 1)]),
            (&["a@example.org", "b@EXAMPLE.org"], &[("example.org", 2)]),
            (
                &["a@x.org", "b@y.org", "c@x.org"],
                &[("x.org", 1), ("y.org", 1), ("x.org", 1)],
            ),
            (
                &["\"a@b\"@BÜCHER.example", "c@bücher.example"],
                &[("bücher.example", 2)],
            ),
        ];
        for (addresses, expected) in cases {
            let recipient = |address: &&str| Recipient {
                address: (*address).to_owned(),
                ..Recipient::default()
            };
            let envelope = Envelope {
                recipients: addresses.iter().map(recipient).collect(),
                ..Envelope::default()
            };
            let runs = envelope.domains();
            let runs: Vec<(&str, u32)> = runs
                .iter()
                .map(|run| (run.domain.as_ref(), run.recipients))
                .collect();
            assert_eq!(runs, expected);
        }
    }
}
