//! Between the words of SMTP and those of the spool. Pure.
//!
//! SMTP counts times from the command that names them; the spool keeps moments. What is kept is what goes out again: [`keep`] and
//! [`transaction`] lose nothing between them but fractions of a second.

use postroad_smtp::client::Transaction;
use postroad_smtp::server::{ReceivedMessage, Sender};
use postroad_smtp::{
    BodyKind, DeliverBy, Envid, ForwardPath, Hold, MailParameters, Notify, OnExpiry,
    OriginalRecipient, Priority, Recipient, RequireTls, Ret, ReversePath,
};
use postroad_spool::{self as spool, Author, BodyType, ByMode, Envelope, Message, TlsDemand};

#[cfg(test)]
mod tests;

/// Whether the message itself says that TLS is not needed (RFC 8689 §3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsRequired {
    /// It says nothing, or nothing clear.
    Unsaid,
    /// `TLS-Required: No`.
    No,
}

/// What to keep of the envelope of a message that arrived at `now_ms`.
#[must_use]
pub fn keep(
    received: &ReceivedMessage,
    user: Option<&str>,
    tls_required: TlsRequired,
    now_ms: u64,
) -> Envelope {
    let Sender {
        path,
        parameters,
        declared_size: _,
        hold,
    } = &received.sender;
    let MailParameters {
        body,
        smtputf8,
        ret,
        envid,
        require_tls,
        deliver_by,
        priority,
    } = parameters;
    Envelope {
        sender: path.to_string(),
        recipients: received.recipients.iter().map(keep_recipient).collect(),
        body: match body {
            BodyKind::SevenBit => BodyType::SevenBit,
            BodyKind::EightBit => BodyType::EightBitMime,
            BodyKind::Binary => BodyType::BinaryMime,
        },
        smtputf8: *smtputf8,
        credential: user.unwrap_or_default().to_owned(),
        author: Author::Submitter,
        envid: envid.as_ref().map(|envid| envid.as_str().to_owned()),
        ret: ret.map(|ret| match ret {
            Ret::Full => spool::Ret::Full,
            Ret::Headers => spool::Ret::Headers,
        }),
        tls: match (require_tls, tls_required) {
            // RFC 8689 §4.1: who says REQUIRETLS is not contradicted by a header field.
            (RequireTls::Yes, _) => TlsDemand::Required,
            (RequireTls::No, TlsRequired::No) => TlsDemand::Optional,
            (RequireTls::No, TlsRequired::Unsaid) => TlsDemand::Default,
        },
        deliver_by: deliver_by.map(|by| keep_deadline(by, now_ms)),
        not_before_ms: match hold {
            None => 0,
            Some(Hold::For(seconds)) => now_ms.saturating_add(u64::from(*seconds) * 1000),
            Some(Hold::Until(seconds)) => seconds.saturating_mul(1000),
        },
        priority: priority.get(),
    }
}

fn keep_recipient(recipient: &Recipient) -> spool::Recipient {
    let Recipient {
        path,
        notify,
        orcpt,
    } = recipient;
    spool::Recipient {
        address: path.to_string(),
        notify: notify.map(|notify| notify.to_string()),
        orcpt: orcpt.as_ref().map(|orcpt| orcpt.as_str().to_owned()),
    }
}

fn keep_deadline(by: DeliverBy, now_ms: u64) -> spool::DeliverBy {
    spool::DeliverBy {
        deadline_ms: now_ms.saturating_add_signed(by.seconds().saturating_mul(1000)),
        on_expiry: match by.on_expiry() {
            OnExpiry::Return => ByMode::Return,
            OnExpiry::Notify => ByMode::Notify,
        },
        trace: by.trace(),
    }
}

/// The transaction that hands a message to the next hop at `now_ms`, for these recipients by index.
///
/// Whatever cannot be read back is left out: it was written from parsed values, so only a damaged or foreign spool has any.
#[must_use]
pub fn transaction(message: &Message, to: Vec<(u32, ForwardPath)>, now_ms: u64) -> Transaction {
    let envelope = &message.envelope;
    let recipients = to.into_iter().map(|(index, path)| {
        let index = usize::try_from(index).ok();
        match index.and_then(|index| envelope.recipients.get(index)) {
            Some(kept) => recipient(path, kept),
            None => path.into(),
        }
    });
    Transaction {
        // An unreadable sender could not be told anything either way.
        sender: envelope
            .sender
            .parse()
            .map_or(ReversePath::Null, ReversePath::Mailbox),
        recipients: recipients.collect(),
        parameters: parameters(envelope, now_ms),
        content: vec![message.headers.clone(), message.body.clone()],
    }
}

/// What the message demands of the way to its next hop. A report demands nothing, whatever it was sent with: REQUIRETLS goes with it
/// where it can, and where not, nobody could be told that it is lost (RFC 8689 §5).
pub fn demand(envelope: &Envelope) -> TlsDemand {
    match envelope.tls {
        TlsDemand::Required if envelope.sender.is_empty() => TlsDemand::Default,
        demand => demand,
    }
}

fn recipient(path: ForwardPath, kept: &spool::Recipient) -> Recipient {
    let notify: Option<Notify> = kept.notify.as_deref().and_then(|text| text.parse().ok());
    Recipient {
        path,
        notify,
        orcpt: kept.orcpt.as_deref().and_then(OriginalRecipient::new),
    }
}

fn parameters(envelope: &Envelope, now_ms: u64) -> MailParameters {
    MailParameters {
        body: match envelope.body {
            BodyType::SevenBit => BodyKind::SevenBit,
            BodyType::EightBitMime => BodyKind::EightBit,
            BodyType::BinaryMime => BodyKind::Binary,
        },
        smtputf8: envelope.smtputf8,
        ret: envelope.ret.map(|ret| match ret {
            spool::Ret::Full => Ret::Full,
            spool::Ret::Headers => Ret::Headers,
        }),
        envid: envelope.envid.as_deref().and_then(Envid::new),
        require_tls: match envelope.tls {
            TlsDemand::Required => RequireTls::Yes,
            TlsDemand::Default | TlsDemand::Optional => RequireTls::No,
        },
        deliver_by: envelope.deliver_by.and_then(|by| deliver_by(by, now_ms)),
        priority: Priority::new(envelope.priority).unwrap_or_default(),
    }
}

/// Counted from now on (RFC 2852 §4.1.4). A message that is to be returned and whose time is up must not get here; if it
/// does within its last second, it has that second.
fn deliver_by(by: spool::DeliverBy, now_ms: u64) -> Option<DeliverBy> {
    let left_ms = i128::from(by.deadline_ms) - i128::from(now_ms);
    let seconds = i64::try_from(left_ms.div_euclid(1000)).ok()?;
    let (on_expiry, seconds) = match by.on_expiry {
        ByMode::Return => (OnExpiry::Return, seconds.max(1)),
        ByMode::Notify => (OnExpiry::Notify, seconds),
    };
    DeliverBy::new(seconds, on_expiry, by.trace)
}
