//! The second part: fields for programs (RFC 3464 §2, RFC 4865 §5.1.2).

use std::fmt::Write as _;

use super::{DIAGNOSTIC_MAX, Kind, NAME_MAX, Report, Reported};
use crate::text;

pub(super) fn push(out: &mut String, report: &Report, host: &str) {
    out.push_str("Content-Type: message/delivery-status\r\n\r\n");
    if let Some(envid) = &report.envid {
        let envid = text::ascii(envid, NAME_MAX);
        let _ = write!(out, "Original-Envelope-Id: {envid}\r\n");
    }
    let arrival = text::date(report.arrival);
    let _ = write!(
        out,
        "Reporting-MTA: dns; {host}\r\n\
         Arrival-Date: {arrival}\r\n"
    );
    if let Some(held_until) = report.held_until {
        let until = held_until.strftime("%Y-%m-%dT%H:%M:%SZ");
        let _ = write!(out, "Future-Release-Request: until;{until}\r\n");
    }
    let attempt = text::date(report.now);
    for recipient in &report.recipients {
        out.push_str("\r\n");
        push_recipient(out, recipient);
        let _ = write!(out, "Last-Attempt-Date: {attempt}\r\n");
        if let Kind::Delayed { retry_until } = recipient.kind {
            let until = text::date(retry_until);
            let _ = write!(out, "Will-Retry-Until: {until}\r\n");
        }
    }
}

fn push_recipient(out: &mut String, recipient: &Reported) {
    let Reported {
        address,
        orcpt,
        kind,
        status,
        expired,
        diagnostic,
        remote_mta,
    } = recipient;
    if let Some(orcpt) = orcpt {
        let _ = write!(out, "Original-Recipient: {}\r\n", original_address(orcpt));
    }
    let _ = write!(out, "Final-Recipient: {}\r\n", final_address(address));
    let action = match kind {
        Kind::Failed => "failed",
        Kind::Delayed { .. } => "delayed",
        Kind::Relayed => "relayed",
    };
    let _ = write!(out, "Action: {action}\r\nStatus: {status}\r\n");
    if let Some(remote) = remote_mta {
        let _ = write!(out, "Remote-MTA: dns; {}\r\n", text::host(remote));
    }
    let said = text::ascii(diagnostic, DIAGNOSTIC_MAX);
    if !said.is_empty() {
        // Why nothing was tried before the time had passed is nobody's reply.
        let is_ours = expired.is_some() && remote_mta.is_none();
        let label = match is_reply(&said) && !is_ours {
            true => "Diagnostic-Code: smtp; ",
            false => "Diagnostic-Code: x-postroad; ",
        };
        out.push_str(label);
        text::fold(out, label.len(), &said, "    ");
    }
}

/// Whether it is of the form of an SMTP reply: only that is of the type `smtp` (RFC 3464 §2.3.6, RFC 3461 §9.2).
fn is_reply(said: &str) -> bool {
    let octets = said.as_bytes();
    matches!(octets, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'])
        || matches!(
            octets,
            [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ' | b'-', ..]
        )
}

/// `rfc822; address`, or `utf-8; escaped` for what is not ASCII (RFC 6533 §3).
fn final_address(address: &str) -> String {
    match address.is_ascii() {
        true => format!("rfc822; {}", text::ascii(address, NAME_MAX)),
        false => format!("utf-8; {}", escaped(address)),
    }
}

/// ORCPT has its type in it; an address of the type `utf-8` is escaped.
fn original_address(orcpt: &str) -> String {
    match orcpt.split_once(';') {
        Some((kind, address)) if kind.trim().eq_ignore_ascii_case("utf-8") => {
            format!("utf-8;{}", escaped(address.trim_start()))
        }
        _ => text::ascii(orcpt, NAME_MAX),
    }
}

/// `utf-8-addr-xtext` (RFC 6533 §3).
fn escaped(address: &str) -> String {
    let mut out = String::new();
    for c in address.chars() {
        let before = out.len();
        match c {
            // These three introduce escapes and must be escaped themselves.
            '\\' | '+' | '=' => text::escape(&mut out, c),
            '!'..='~' => out.push(c),
            c => text::escape(&mut out, c),
        }
        if out.len() > NAME_MAX {
            out.truncate(before);
            break;
        }
    }
    out
}
