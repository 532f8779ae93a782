//! The report that goes to the sender of a message that could not be delivered. Pure.

use bytes::Bytes;
use postroad_message::dsn::{self, Bounce, FailedRecipient};
use postroad_spool::{BodyType, Envelope, Message, MessageId, Recipient};

use crate::clock;
use crate::outcome::Failed;

/// Writes the bounce of `message` for the recipients that failed; `None` if it may not be answered:
/// its reverse-path is null (RFC 5321 §4.5.5), as it is of a bounce.
pub fn write(
    message: &Message,
    failed: &[Failed],
    hostname: &str,
    remote: Option<&str>,
    id: MessageId,
    now_ms: u64,
) -> Option<Message> {
    if message.envelope.sender.is_empty() || failed.is_empty() {
        return None;
    }
    let bounce = Bounce {
        reporting_mta: hostname.to_owned(),
        arrival: clock::timestamp(message.arrival_ms),
        sender: message.envelope.sender.clone(),
        recipients: failed
            .iter()
            .filter_map(|failed| recipient(message, failed, remote))
            .collect(),
        original_headers: original_headers(message),
        id: id.to_string(),
        now: clock::timestamp(now_ms),
    };
    Some(Message {
        id,
        arrival_ms: now_ms,
        envelope: envelope(&message.envelope),
        headers: Bytes::new(),
        body: dsn::build(&bounce),
    })
}

fn recipient(message: &Message, failed: &Failed, remote: Option<&str>) -> Option<FailedRecipient> {
    let recipient = message
        .envelope
        .recipients
        .get(usize::try_from(failed.index).ok()?)?;
    Some(FailedRecipient {
        address: recipient.address.clone(),
        orcpt: recipient.orcpt.clone(),
        status: failed.status,
        diagnostic: failed.diagnostic.clone(),
        remote_mta: remote.map(str::to_owned),
    })
}

/// To the sender, from nobody: so that it can never be answered by another bounce.
fn envelope(original: &Envelope) -> Envelope {
    Envelope {
        sender: String::new(),
        recipients: vec![Recipient {
            address: original.sender.clone(),
            notify: None,
            orcpt: None,
        }],
        body: BodyType::SevenBit,
        smtputf8: !original.sender.is_ascii(),
        credential: String::new(),
        envid: None,
        ret: None,
    }
}

fn original_headers(message: &Message) -> Bytes {
    let end = memchr::memmem::find(&message.body, b"\r\n\r\n").map_or(0, |at| at + 2);
    let mut headers = Vec::with_capacity(message.headers.len() + end);
    headers.extend_from_slice(&message.headers);
    headers.extend_from_slice(&message.body[..end]);
    Bytes::from(headers)
}
