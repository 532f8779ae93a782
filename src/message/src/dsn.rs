//! The report that tells a sender what became of a message (RFC 3464, in the container of RFC 6522).
//!
//! Three parts: a text for people that says what happened and what to do, `message/delivery-status` for programs, and the
//! message that it is about, or its headers, or not even these. One report has recipients of any [`Kind`]: what one attempt leads to is told at once.
//!
//! # Contract
//! - Send it with the null reverse-path, so that it is never answered by another report (RFC 3461 §6.1, RFC 5321 §4.5.5), and as
//!   what [`Written::width`] says.
//! - It is canonical, and ASCII but for a message that is returned whole. Addresses that need SMTPUTF8 are written in the escaped
//!   form of RFC 6533 §3; such a sender does not stand in `To:`, where no escaped form exists.
//! - Size is bounded: the headers by [`HEADERS_MAX`], the message by [`WHOLE_MAX`], each diagnostic by [`DIAGNOSTIC_MAX`], the
//!   text by [`LISTED_MAX`] recipients of a kind.
//!
//! # What is returned
//! The whole message if the sender asked for it with RET=FULL, somebody will not get it (RFC 3461 §4.3), and it is sure to arrive: up
//! to [`WHOLE_MAX`], and in a form that every next hop takes or that [`crate::convert`] can make one of. Else its headers, or nothing
//! where [`Returned::Nothing`] says so.
//!
//! A report about delivery in a mailbox is not written here: this is a relay. For the same reason nothing is *expanded*.

mod original;
mod people;
mod programs;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use bytes::Bytes;
use jiff::Timestamp;
use postroad_smtp::{EnhancedStatus, ReversePath};

use crate::convert::Width;
use crate::text;
use original::Holds;

/// Octets of the original headers that are returned; real header sections are mostly under 10 KiB.
pub const HEADERS_MAX: usize = 32 << 10;
/// Largest message that is returned whole, in octets: letters without attachments. Reports are made in memory, and a large one comes
/// back to a mailbox that may have no room for it (RFC 3461 §6.2 leaves the bound to us; Postfix takes 50,000).
pub const WHOLE_MAX: usize = 64 << 10;
/// Longest diagnostic in octets.
pub const DIAGNOSTIC_MAX: usize = 1024;
/// Recipients of a kind that the text for people lists; the part for programs has all.
pub const LISTED_MAX: usize = 50;
/// Longest address or name in octets, escapes included.
const NAME_MAX: usize = 800;
/// Octets of the id that go into the boundary, which may have 70 (RFC 2046 §5.1.1).
const BOUNDARY_ID_MAX: usize = 40;

/// What is to be reported.
#[derive(Clone, Debug)]
pub struct Report {
    /// Our name.
    pub reporting_mta: String,
    /// When the message arrived here.
    pub arrival: Timestamp,
    /// Until when the sender wanted it held (RFC 4865 §5.1.2), whether it gave the moment or a time.
    pub held_until: Option<Timestamp>,
    /// The reverse-path of the message, to whom the report goes. Not empty.
    pub sender: String,
    /// The value of the ENVID parameter, decoded.
    pub envid: Option<String>,
    /// Whom it is about; at least one.
    pub recipients: Vec<Reported>,
    /// How much of the message the sender wants back.
    pub returned: Returned,
    /// The message in pieces, canonical together. What is not returned may be missing.
    pub message: Vec<Bytes>,
    /// Unique at this host, and nobody could know it before: becomes the Message-ID and the boundary.
    pub id: String,
    /// When the report is written.
    pub now: Timestamp,
}

/// How much of a message a report returns if it can (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Returned {
    /// Nothing: it was not to travel without TLS, and reports are not to be lost for that (RFC 8689 §5).
    Nothing,
    /// Its headers.
    Headers,
    /// All of it.
    Whole,
}

/// One recipient of the message.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The forward-path.
    pub address: String,
    /// The value of the ORCPT parameter, decoded: `rfc822;user@example.com`.
    pub orcpt: Option<String>,
    /// What became of the message.
    pub kind: Kind,
    /// Why.
    pub status: EnhancedStatus,
    /// Which time has passed, if that is why it failed: then what was said last was only to put it off.
    pub expired: Option<Expired>,
    /// What the other server said last: `550 5.1.1 no such user`; empty for nothing.
    pub diagnostic: String,
    /// The server that said so; `None` if it was this one.
    pub remote_mta: Option<String>,
}

/// What became of a message for one recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It will never arrive.
    Failed,
    /// It is still on the way.
    Delayed {
        /// When it will have failed.
        retry_until: Timestamp,
    },
    /// A server has it that does not pass on requests for reports (RFC 3461 §5.2.2): nothing more will be heard of its arrival.
    Relayed,
}

/// A time to deliver in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expired {
    /// The one for which this server tries.
    Lifetime,
    /// The one that the sender gave (RFC 2852).
    DeliverBy,
}

/// A report as a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// Headers and body, canonical.
    pub content: Bytes,
    /// What a server has to take to get it as it is.
    pub width: Width,
}

/// Writes the report.
#[must_use]
pub fn build(report: &Report) -> Written {
    let host = text::host(&report.reporting_mta);
    let mut id = text::token(&report.id).replace('?', "_");
    let message_id = id.clone();
    id.truncate(BOUNDARY_ID_MAX);
    let boundary = format!("=_postroad_{id}");
    let original = original::part(report, &boundary);
    let (width, holds) = original
        .as_ref()
        .map_or((Width::SevenBit, Holds::Nothing), |one| {
            (one.width, one.holds)
        });
    let mut out = String::new();
    push_headers(&mut out, report, &host, &message_id);
    push_type(&mut out, &boundary, width);
    let _ = write!(out, "\r\n--{boundary}\r\n");
    people::push(&mut out, report, &host, holds);
    let _ = write!(out, "\r\n--{boundary}\r\n");
    programs::push(&mut out, report, &host);
    let mut out = out.into_bytes();
    if let Some(original) = original {
        out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        out.extend_from_slice(&original.octets);
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Written {
        content: Bytes::from(out),
        width,
    }
}

fn push_headers(out: &mut String, report: &Report, host: &str, id: &str) {
    let to = match report.sender.parse() {
        Ok(ReversePath::Mailbox(mailbox)) if mailbox.is_ascii() => format!("<{mailbox}>"),
        // An empty group: valid, and it names nobody.
        _ => "undisclosed-recipients:;".to_owned(),
    };
    let subject = subject(&report.recipients);
    let date = text::date(report.now);
    let _ = write!(
        out,
        "From: Mail Delivery System <MAILER-DAEMON@{host}>\r\n\
         To: {to}\r\n\
         Subject: {subject}\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{host}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n"
    );
}

/// The worst that is to be told.
fn subject(recipients: &[Reported]) -> &'static str {
    let has = |wanted: fn(Kind) -> bool| recipients.iter().any(|one| wanted(one.kind));
    if has(|kind| kind == Kind::Failed) {
        "Your message could not be delivered"
    } else if has(|kind| matches!(kind, Kind::Delayed { .. })) {
        "Your message is delayed"
    } else {
        "Your message was passed on"
    }
}

fn push_type(out: &mut String, boundary: &str, width: Width) {
    let _ = write!(
        out,
        "Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"{boundary}\"\r\n"
    );
    if width == Width::EightBit {
        out.push_str("Content-Transfer-Encoding: 8bit\r\n");
    }
    out.push_str("\r\nThis is a delivery report in MIME format.\r\n");
}
