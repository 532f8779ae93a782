//! A message as its client sent it: who may get it, who may be told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use postroad_smtp::{BodyKind, DeliverBy, Notify, OnExpiry};

use crate::plan::{Hop, Routing};

/// A message as its client sent it.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) sender: String,
    pub(crate) login: Option<&'static str>,
    /// With what its client wants to hear of each.
    pub(crate) recipients: BTreeMap<String, Option<Notify>>,
    /// By when it is to be delivered.
    pub(crate) deliver_by: Option<DeliverBy>,
    /// For how long it is to be held, in seconds, and until when it is at least.
    pub(crate) hold: Option<(u64, Duration)>,
    pub(crate) content: Vec<u8>,
}

/// A message as a next hop got it, for one recipient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried<'a> {
    pub(crate) routing: Routing,
    pub(crate) hop: Hop,
    pub(crate) sender: &'a str,
    pub(crate) notify: Passed,
    pub(crate) declared: BodyKind,
    pub(crate) deliver_by: Option<DeliverBy>,
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
    /// Whether this is the message.
    pub(crate) fn is_carried_right(&self, recipient: &str, carried: &Carried<'_>) -> bool {
        let Carried {
            routing: _,
            hop: _,
            sender,
            notify,
            declared,
            deliver_by,
            content,
        } = *carried;
        let asked = self.recipients.get(recipient);
        let is_passed = |asked: &Option<Notify>| match notify {
            Passed::Nothing => true,
            Passed::Notify(told) => told == *asked,
        };
        asked.is_some_and(is_passed)
            && self.sender == sender
            && (content.is_ascii() || declared == BodyKind::EightBit)
            && (content.ends_with(&self.content) || self.is_converted_to(content))
            && self.is_in_time(deliver_by)
    }

    /// Whether this is what becomes of it where only ASCII is taken: its body is quoted-printable (RFC 2045 §6.7).
    pub(crate) fn is_converted_to(&self, content: &[u8]) -> bool {
        let ((sent_header, sent), (header, body)) = (halves(&self.content), halves(content));
        let is_there = |line: &str| header.contains(&format!("{line}\r\n"));
        !self.content.is_ascii()
            && content.is_ascii()
            && sent_header.lines().all(is_there)
            && is_there("Content-Transfer-Encoding: quoted-printable")
            && unquoted(body) == sent.as_bytes()
    }

    /// Whether it comes too early.
    pub(crate) fn is_held_at(&self, at: Duration) -> bool {
        self.hold.is_some_and(|(_, until)| at < until)
    }

    /// Whether a next hop is told by when, and no more time than there was.
    fn is_in_time(&self, told: Option<DeliverBy>) -> bool {
        match (self.deliver_by, told) {
            (Some(asked), Some(told)) => {
                told.on_expiry() == asked.on_expiry() && told.seconds() <= asked.seconds()
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether somebody wants to hear that a recipient has not got it in time. In no run is a message as old as one that is told of by its age.
    pub(crate) fn wants_delay(&self, recipient: &str, who: &str) -> bool {
        let asked = self.recipients.get(recipient);
        let mode = self.deliver_by.map(DeliverBy::on_expiry);
        self.sender == who
            && mode == Some(OnExpiry::Notify)
            && asked.is_some_and(|notify| notify.is_none_or(Notify::delay))
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

/// Header and body.
fn halves(content: &[u8]) -> (&str, &str) {
    let content = std::str::from_utf8(content).unwrap();
    let end = content
        .find("\r\n\r\n")
        .map_or(content.len(), |end| end + 2);
    let (header, body) = content.split_at(end);
    (header, body.get(2..).unwrap_or_default())
}

/// What quoted-printable stands for.
fn unquoted(body: &str) -> Vec<u8> {
    let body = body.replace("=\r\n", "");
    let mut pieces = body.split('=');
    let mut octets = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at(2);
        octets.push(u8::from_str_radix(code, 16).unwrap());
        octets.extend_from_slice(rest.as_bytes());
    }
    octets
}
