//! The first part: a text for people.

use std::fmt::Write as _;

use super::original::Holds;
use super::{DIAGNOSTIC_MAX, Expired, Kind, LISTED_MAX, NAME_MAX, Report, Reported};
use crate::text;

pub(super) fn push(out: &mut String, report: &Report, host: &str, holds: Holds) {
    let arrival = text::date(report.arrival);
    let _ = write!(
        out,
        "Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         This is the mail server {host}.\r\n\
         \r\n\
         This is about the message that you sent on {arrival}.\r\n"
    );
    let of = |wanted: fn(Kind) -> bool| {
        let recipients = report.recipients.iter();
        recipients
            .filter(|one| wanted(one.kind))
            .collect::<Vec<_>>()
    };
    push_failed(out, &of(|kind| kind == Kind::Failed));
    push_delayed(out, &of(|kind| matches!(kind, Kind::Delayed { .. })));
    push_relayed(out, &of(|kind| kind == Kind::Relayed));
    out.push_str(match holds {
        Holds::Nothing => "\r\nYour message demanded TLS. So that this report needs none, it holds nothing of it.\r\n",
        Holds::Headers => {
            "\r\nThe third part of this report holds the headers of your message.\r\n"
        }
        Holds::Message => "\r\nThe third part of this report holds your message.\r\n",
    });
}

fn push_failed(out: &mut String, recipients: &[&Reported]) {
    if recipients.is_empty() {
        return;
    }
    out.push_str(
        "\r\nIt could not be delivered to everyone. These did not get it, and no further\r\n\
         attempt will be made:\r\n",
    );
    push_list(out, recipients, |out, one| {
        push_said(out, one);
        out.push_str("    What to do: ");
        text::fold(out, 16, advice(one), "      ");
    });
}

fn push_delayed(out: &mut String, recipients: &[&Reported]) {
    let until = recipients.iter().find_map(|one| match one.kind {
        Kind::Delayed { retry_until } => Some(text::date(retry_until)),
        Kind::Failed | Kind::Relayed => None,
    });
    let Some(until) = until else { return };
    let _ = write!(
        out,
        "\r\nThese have not got it yet. You need not send it again: it is tried until\r\n\
         {until}, and if that fails you will be told.\r\n"
    );
    push_list(out, recipients, push_said);
}

fn push_relayed(out: &mut String, recipients: &[&Reported]) {
    if recipients.is_empty() {
        return;
    }
    out.push_str(
        "\r\nFor these it was passed on to a server that does not say whether mail arrives.\r\n\
         You may not hear of it again:\r\n",
    );
    push_list(out, recipients, push_said);
}

fn push_list(out: &mut String, recipients: &[&Reported], about: fn(&mut String, &Reported)) {
    for one in recipients.iter().take(LISTED_MAX) {
        let address = text::ascii(&one.address, NAME_MAX);
        let _ = write!(out, "\r\n  <{address}>\r\n");
        about(out, one);
    }
    if let Some(more @ 1..) = recipients.len().checked_sub(LISTED_MAX) {
        let _ = write!(
            out,
            "\r\nAnd {more} more, listed in the second part of this report.\r\n"
        );
    }
}

fn push_said(out: &mut String, one: &Reported) {
    if let Some(expired) = one.expired {
        let passed = match expired {
            Expired::Lifetime => "The time in which this server tries to deliver has passed.",
            Expired::DeliverBy => "The time that you gave for delivery (DELIVERBY) has passed.",
        };
        let _ = write!(out, "    {passed}\r\n");
    }
    let said = text::ascii(&one.diagnostic, DIAGNOSTIC_MAX);
    if said.is_empty() {
        return;
    }
    let who = match (&one.remote_mta, one.expired) {
        (Some(remote), None) => format!("The server {} said:", text::host(remote)),
        (Some(remote), Some(_)) => format!("The server {} said last:", text::host(remote)),
        (None, None) => "The reason:".to_owned(),
        (None, Some(_)) => "Why it was not passed on:".to_owned(),
    };
    let _ = write!(out, "    {who}\r\n      ");
    text::fold(out, 6, &said, "      ");
}

/// What a sender can do about a failure, by what RFC 3463 says it is about, and by who says so.
pub(super) fn advice(one: &Reported) -> &'static str {
    match (one.status.subject, one.status.detail) {
        (1, 7 | 8) => "The other side did not accept your own address; check how you are set up.",
        (1, _) => "Check the address for typing errors, then send the message again.",
        (2, 2) => "The mailbox is full. Reach the recipient another way, or try again later.",
        (2, 3) | (3, 4) => "The message is too big. Send it with smaller attachments, or a link.",
        (4, 6) => "The message went in circles. Tell the administrator of the recipient's domain.",
        (4, 7) if one.expired.is_some() && one.remote_mta.is_some() => {
            "The other side kept putting the message off. Try again later, or reach the recipient another \
             way."
        }
        (4, 7) => "The message could not be passed on in time. Try again later.",
        (6, _) => "The other side cannot take this kind of content. Send it in another format.",
        (7, 10 | 30) => {
            "The other side cannot protect the message with TLS as you demand. Ask its administrator."
        }
        (7, _) if one.remote_mta.is_none() => {
            "This mail server returned the message by its rules. Ask its administrator to allow it."
        }
        (7, _) => {
            "The other side refused the message by its rules. Ask the recipient, or the administrator of \
             the mail server, to allow it."
        }
        _ => "Forward this report to the administrator of your mail server.",
    }
}
