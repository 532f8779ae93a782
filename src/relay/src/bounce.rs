//! The report that goes to the sender of a message: what failed, what is delayed, what was passed on. Pure.
//!
//! One transaction leads to one report at most, whatever there is to tell. It has the null reverse-path, and what has that is never
//! reported on: neither can a report call forth another (RFC 3461 §6.1, RFC 5321 §4.5.5).

use bytes::Bytes;
use postroad_message::convert::Width;
use postroad_message::dsn::{self, Report, Reported, Returned};
use postroad_spool::{Author, BodyType, Envelope, Message, MessageId, Recipient, Ret, TlsDemand};

use crate::clock;
use crate::notify;
use crate::outcome::{Kind, Notice};
use crate::room::load;

/// Writes the report on `message`; `None` if there is nobody to tell, or nothing that the sender wants to hear of. `remote` is who gave
/// the answers.
pub fn write(
    message: &Message,
    notices: &[Notice],
    hostname: &str,
    remote: Option<&str>,
    id: MessageId,
    now_ms: u64,
) -> Option<Message> {
    let recipients: Vec<Reported> = notices
        .iter()
        .filter_map(|notice| reported(message, notice, remote))
        .collect();
    if message.envelope.sender.is_empty() || recipients.is_empty() {
        return None;
    }
    let held_until_ms = Some(message.envelope.not_before_ms).filter(|until_ms| *until_ms > 0);
    let written = dsn::build(&Report {
        reporting_mta: hostname.to_owned(),
        arrival: clock::timestamp(message.arrival_ms),
        held_until: held_until_ms.map(clock::timestamp),
        sender: message.envelope.sender.clone(),
        envid: message.envelope.envid.clone(),
        recipients,
        returned: returned(message),
        message: original(message),
        id: id.to_string(),
        now: clock::timestamp(now_ms),
    });
    Some(Message {
        id,
        arrival_ms: now_ms,
        envelope: envelope(&message.envelope, written.width),
        headers: Bytes::new(),
        body: written.content,
    })
}

fn reported(message: &Message, notice: &Notice, remote: Option<&str>) -> Option<Reported> {
    let Notice {
        index,
        kind,
        status,
        expired,
        diagnostic,
    } = notice;
    let envelope = &message.envelope;
    let recipient = envelope.recipients.get(usize::try_from(*index).ok()?)?;
    if *kind == Kind::Failed && !notify::wants_failed(envelope, recipient) {
        return None;
    }
    Some(Reported {
        address: recipient.address.clone(),
        orcpt: recipient.orcpt.clone(),
        kind: match kind {
            Kind::Failed => dsn::Kind::Failed,
            Kind::Delayed { retry_until_ms } => dsn::Kind::Delayed {
                retry_until: clock::timestamp(*retry_until_ms),
            },
            Kind::Relayed => dsn::Kind::Relayed,
        },
        status: *status,
        expired: *expired,
        diagnostic: diagnostic.clone(),
        remote_mta: remote.map(str::to_owned),
    })
}

/// How much of the message the report may hold. Of one that was not to travel without TLS only what is safe to travel without it, so
/// that the report arrives wherever the sender's mail is (RFC 8689 §5).
fn returned(message: &Message) -> Returned {
    let original = &message.envelope;
    match (original.tls, original.ret) {
        (TlsDemand::Required, _) => Returned::Nothing,
        (_, Some(Ret::Full)) if length(message) <= share(original) => Returned::Whole,
        (_, Some(Ret::Full | Ret::Headers) | None) => Returned::Headers,
    }
}

/// What each report on a message may return of it, in octets.
fn share(original: &Envelope) -> usize {
    load::returned_share(original.recipients.len())
}

/// The message, or as many of its first lines as a report may return.
fn original(message: &Message) -> Vec<Bytes> {
    let share = share(&message.envelope);
    if length(message) <= share {
        return vec![message.headers.clone(), message.body.clone()];
    }
    let mut left = share;
    let mut begin = Vec::with_capacity(share);
    for piece in [&message.headers, &message.body] {
        begin.extend_from_slice(&piece[..piece.len().min(left)]);
        left = share - begin.len();
    }
    let end = begin.iter().rposition(|octet| *octet == b'\n');
    begin.truncate(end.map_or(0, |end| end + 1));
    vec![Bytes::from(begin)]
}

fn length(message: &Message) -> usize {
    message.headers.len() + message.body.len()
}

/// To the sender, from nobody: so that it can never be answered by another report.
fn envelope(original: &Envelope, width: Width) -> Envelope {
    Envelope {
        recipients: vec![Recipient {
            address: original.sender.clone(),
            ..Recipient::default()
        }],
        body: match width {
            Width::SevenBit => BodyType::SevenBit,
            Width::EightBit => BodyType::EightBitMime,
        },
        smtputf8: !original.sender.is_ascii(),
        credential: original.credential.clone(),
        author: Author::Relay,
        ..Envelope::default()
    }
}

#[cfg(test)]
mod tests;
