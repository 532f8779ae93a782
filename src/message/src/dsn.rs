//! The report to the sender of a message that could not be delivered (RFC 3464, in the container of RFC 6522).
//!
//! Three parts: a text for people that says what happened and what to do, `message/delivery-status` for programs,
//! and the headers of the message that came back. The body is not returned: the sender has it, and it may be
//! large.
//!
//! # Contract
//! - Send it with the null reverse-path, so that it is never answered by another report (RFC 5321 §6.1).
//! - It is ASCII and canonical, so that it can go anywhere. Addresses that need SMTPUTF8 are written in the escaped
//!   form of RFC 6533 §3; such a sender does not stand in `To:`, where no escaped form exists.
//! - Size is bounded: the headers by [`HEADERS_MAX`], each diagnostic by [`DIAGNOSTIC_MAX`], the text by
//!   [`LISTED_MAX`] recipients.

mod encode;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use bytes::Bytes;
use jiff::Timestamp;
use postroad_smtp::{EnhancedStatus, ReversePath};

use crate::text;

/// Octets of the original headers that are returned; real header sections are mostly under 10 KiB.
pub const HEADERS_MAX: usize = 32 << 10;
/// Longest diagnostic in octets.
pub const DIAGNOSTIC_MAX: usize = 1024;
/// Recipients that the text for people lists; the part for programs has all.
pub const LISTED_MAX: usize = 50;
/// Longest address or name in octets, escapes included.
const NAME_MAX: usize = 800;
/// Octets of the id that go into the boundary, which may have 70 (RFC 2046 §5.1.1).
const BOUNDARY_ID_MAX: usize = 40;

/// What is to be reported.
#[derive(Clone, Debug)]
pub struct Bounce {
    /// Our name.
    pub reporting_mta: String,
    /// When the message arrived here.
    pub arrival: Timestamp,
    /// The reverse-path of the message, to whom the report goes. Not empty.
    pub sender: String,
    /// Who did not get it; at least one.
    pub recipients: Vec<FailedRecipient>,
    /// The header section of the message, canonical.
    pub original_headers: Bytes,
    /// Unique at this host: becomes the Message-ID and the boundary.
    pub id: String,
    /// When the report is written.
    pub now: Timestamp,
}

/// One recipient that will never get the message.
#[derive(Clone, Debug)]
pub struct FailedRecipient {
    /// The forward-path.
    pub address: String,
    /// The value of the ORCPT parameter, decoded: `rfc822;user@example.com`.
    pub orcpt: Option<String>,
    /// What kind of failure.
    pub status: EnhancedStatus,
    /// What the other server said: `550 5.1.1 no such user`.
    pub diagnostic: String,
    /// The server that said so; `None` if it was this one.
    pub remote_mta: Option<String>,
}

/// Writes the report: headers and body, canonical and ASCII.
#[must_use]
pub fn build(bounce: &Bounce) -> Bytes {
    let host = text::host(&bounce.reporting_mta);
    let mut id = text::token(&bounce.id).replace('?', "_");
    let message_id = id.clone();
    id.truncate(BOUNDARY_ID_MAX);
    let boundary = format!("=_postroad_{id}");
    let mut out = String::new();
    push_headers(&mut out, bounce, &host, &message_id, &boundary);
    push_text(&mut out, bounce, &host, &boundary);
    push_status(&mut out, bounce, &host, &boundary);
    push_original(&mut out, &bounce.original_headers, &boundary);
    let _ = write!(out, "\r\n--{boundary}--\r\n");
    Bytes::from(out)
}

fn push_headers(out: &mut String, bounce: &Bounce, host: &str, id: &str, boundary: &str) {
    let to = match bounce.sender.parse() {
        Ok(ReversePath::Mailbox(mailbox)) if mailbox.is_ascii() => format!("<{mailbox}>"),
        // An empty group: valid, and it names nobody.
        _ => "undisclosed-recipients:;".to_owned(),
    };
    let date = text::date(bounce.now);
    let _ = write!(
        out,
        "From: Mail Delivery System <MAILER-DAEMON@{host}>\r\n\
         To: {to}\r\n\
         Subject: Your message could not be delivered\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{host}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"{boundary}\"\r\n\
         \r\n\
         This is a delivery report in MIME format.\r\n"
    );
}

fn push_text(out: &mut String, bounce: &Bounce, host: &str, boundary: &str) {
    let arrival = text::date(bounce.arrival);
    let _ = write!(
        out,
        "\r\n--{boundary}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         This is the mail server {host}.\r\n\
         \r\n\
         The message that you sent on {arrival}\r\n\
         could not be delivered to everyone. These did not get it, and no further\r\n\
         attempt will be made:\r\n"
    );
    for recipient in bounce.recipients.iter().take(LISTED_MAX) {
        push_person(out, recipient);
    }
    if let Some(more @ 1..) = bounce.recipients.len().checked_sub(LISTED_MAX) {
        let _ = write!(
            out,
            "\r\nAnd {more} more, listed in the second part of this report.\r\n"
        );
    }
    out.push_str("\r\nThe third part of this report holds the headers of your message.\r\n");
}

fn push_person(out: &mut String, recipient: &FailedRecipient) {
    let address = text::ascii(&recipient.address, NAME_MAX);
    let _ = write!(out, "\r\n  <{address}>\r\n");
    let said = text::ascii(&recipient.diagnostic, DIAGNOSTIC_MAX);
    if !said.is_empty() {
        let who = match &recipient.remote_mta {
            Some(remote) => format!("The server {} said:", text::host(remote)),
            None => "The reason:".to_owned(),
        };
        let _ = write!(out, "    {who}\r\n      ");
        text::fold(out, 6, &said, "      ");
    }
    out.push_str("    What to do: ");
    text::fold(out, 16, advice(recipient.status), "      ");
}

/// What a sender can do about a failure, by what RFC 3463 says it is about.
fn advice(status: EnhancedStatus) -> &'static str {
    match (status.subject, status.detail) {
        (1, 7 | 8) => "The other side did not accept your own address; check how you are set up.",
        (1, _) => "Check the address for typing errors, then send the message again.",
        (2, 2) => "The mailbox is full. Reach the recipient another way, or try again later.",
        (2, 3) | (3, 4) => "The message is too big. Send it with smaller attachments, or a link.",
        (4, 6) => "The message went in circles. Tell the administrator of the recipient's domain.",
        (4, 7) => "The other side could not be reached in time. Try again later.",
        (6, _) => "The other side cannot take this kind of content. Send it in another format.",
        (7, _) => {
            "The other side refused the message by its rules. Ask the recipient, or the administrator of \
             the mail server, to allow it."
        }
        _ => "Forward this report to the administrator of your mail server.",
    }
}

fn push_status(out: &mut String, bounce: &Bounce, host: &str, boundary: &str) {
    let arrival = text::date(bounce.arrival);
    let _ = write!(
        out,
        "\r\n--{boundary}\r\n\
         Content-Type: message/delivery-status\r\n\
         \r\n\
         Reporting-MTA: dns; {host}\r\n\
         Arrival-Date: {arrival}\r\n"
    );
    let attempt = text::date(bounce.now);
    for recipient in &bounce.recipients {
        out.push_str("\r\n");
        push_recipient(out, recipient);
        let _ = write!(out, "Last-Attempt-Date: {attempt}\r\n");
    }
}

fn push_recipient(out: &mut String, recipient: &FailedRecipient) {
    let FailedRecipient {
        address,
        orcpt,
        status,
        diagnostic,
        remote_mta,
    } = recipient;
    if let Some(orcpt) = orcpt {
        let _ = write!(
            out,
            "Original-Recipient: {}\r\n",
            text::ascii(orcpt, NAME_MAX)
        );
    }
    let _ = write!(
        out,
        "Final-Recipient: {}\r\n",
        encode::typed_address(address, NAME_MAX)
    );
    let _ = write!(out, "Action: failed\r\nStatus: {status}\r\n");
    if let Some(remote) = remote_mta {
        let _ = write!(out, "Remote-MTA: dns; {}\r\n", text::host(remote));
    }
    let said = text::ascii(diagnostic, DIAGNOSTIC_MAX);
    if !said.is_empty() {
        let label = "Diagnostic-Code: smtp; ";
        out.push_str(label);
        text::fold(out, label.len(), &said, "    ");
    }
}

fn push_original(out: &mut String, headers: &[u8], boundary: &str) {
    let headers = encode::whole_lines(headers, HEADERS_MAX);
    let _ = write!(
        out,
        "\r\n--{boundary}\r\nContent-Type: text/rfc822-headers\r\n"
    );
    match encode::as_it_is(headers, boundary) {
        Some(headers) => {
            out.push_str("\r\n");
            out.push_str(headers);
        }
        None => {
            out.push_str("Content-Transfer-Encoding: quoted-printable\r\n\r\n");
            encode::quoted_printable(out, headers);
        }
    }
}
