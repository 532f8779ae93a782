//! Records to bytes.

use super::{
    END_MARK, FORMAT_VERSION, GROUP_END, GROUP_HEADER, GROUP_MAGIC, Mark, RECORD_HEADER,
    RECORD_VERSION, RECORD_VERSION_1, TYPE_ATTEMPT, TYPE_DONE, TYPE_MESSAGE,
};
use crate::number::wide;
use crate::record::{
    Attempt, Author, BodyType, ByMode, DeliverBy, Envelope, Message, RecipientResult, Record, Ret,
    TlsDemand,
};

/// What an attempt takes beside its results: id, next attempt, attempts, flags and the number of results.
pub(crate) const ATTEMPT_BYTES: usize = 16 + 8 + 4 + 1 + 4;

/// What a result takes in an attempt.
pub(crate) const RESULT_BYTES: usize = 4 + 1;

const _: () = assert!(FORMAT_VERSION == 2, "this file writes version 2");

/// Where a record of a group lies, counted from the start of the group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Encoded {
    /// Offset of the record's header.
    pub(crate) offset: u64,
    /// Length with the header.
    pub(crate) length: u32,
}

/// Appends a group to `out` and tells where each record of it lies. It is not whole before [`mark_group`].
pub(crate) fn encode_group(records: &[Record], out: &mut Vec<u8>) -> Vec<Encoded> {
    let start = out.len();
    out.resize(start + GROUP_HEADER, 0);
    let places: Vec<Encoded> = records
        .iter()
        .map(|record| encode_record(record, start, out))
        .collect();
    debug_assert!(
        records
            .iter()
            .map(record_bytes)
            .eq(places.iter().map(|place| u64::from(place.length))),
        "the length of a record is not what was admitted"
    );
    let length = out.len() - start - GROUP_HEADER;
    out.extend_from_slice(GROUP_END);
    let header = &mut out[start..start + GROUP_HEADER];
    header[..4].copy_from_slice(GROUP_MAGIC);
    header[12..16].copy_from_slice(&number(records.len()).to_le_bytes());
    header[16..24].copy_from_slice(&wide(length).to_le_bytes());
    const { assert!(END_MARK == GROUP_END.len()) };
    places
}

/// Puts the mark of the segment it goes to into the header of a group.
pub(crate) fn mark_group(group: &mut [u8], mark: Mark) {
    let Some(header) = group.first_chunk_mut::<GROUP_HEADER>() else {
        return;
    };
    header[4..12].copy_from_slice(&mark);
    let crc = crc32fast::hash(&header[..24]);
    header[24..].copy_from_slice(&crc.to_le_bytes());
}

fn encode_record(record: &Record, group: usize, out: &mut Vec<u8>) -> Encoded {
    let start = out.len();
    out.resize(start + RECORD_HEADER, 0);
    let (kind, version) = match record {
        Record::Message(message) => {
            encode_message(message, out);
            (TYPE_MESSAGE, RECORD_VERSION)
        }
        Record::Attempt(attempt) => {
            encode_attempt(attempt, out);
            (TYPE_ATTEMPT, RECORD_VERSION)
        }
        Record::Done(id) => {
            out.extend_from_slice(&id.to_bytes());
            (TYPE_DONE, RECORD_VERSION_1)
        }
    };
    let payload = out.len() - start - RECORD_HEADER;
    out[start] = kind;
    out[start + 1] = version;
    out[start + 4..start + 8].copy_from_slice(&number(payload).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[start..start + 8]);
    crc.update(&out[start + RECORD_HEADER..]);
    out[start + 8..start + 12].copy_from_slice(&crc.finalize().to_le_bytes());
    Encoded {
        offset: wide(start - group),
        length: number(out.len() - start),
    }
}

fn encode_message(message: &Message, out: &mut Vec<u8>) {
    let Message {
        id,
        arrival_ms,
        envelope,
        headers,
        body,
    } = message;
    let Envelope {
        sender,
        recipients,
        body: _,
        smtputf8: _,
        credential,
        author: _,
        envid,
        ret: _,
        tls: _,
        deliver_by,
        not_before_ms,
        priority,
    } = envelope;
    out.reserve(headers.len() + body.len() + 1024);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&id.to_bytes());
    out.extend_from_slice(&arrival_ms.to_le_bytes());
    out.push(flags(envelope));
    out.extend_from_slice(&number(headers.len()).to_le_bytes());
    out.extend_from_slice(&number(body.len()).to_le_bytes());
    text(sender, out);
    text(credential, out);
    optional(envid.as_deref(), text, out);
    out.extend_from_slice(&priority.to_le_bytes());
    out.extend_from_slice(&not_before_ms.to_le_bytes());
    optional(*deliver_by, encode_deliver_by, out);
    out.extend_from_slice(&number(recipients.len()).to_le_bytes());
    for recipient in recipients {
        text(&recipient.address, out);
        optional(recipient.notify.as_deref(), text, out);
        optional(recipient.orcpt.as_deref(), text, out);
    }
    let envelope_length = number(out.len() - start - 4);
    out[start..start + 4].copy_from_slice(&envelope_length.to_le_bytes());
    let envelope_crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&envelope_crc.to_le_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(body);
}

fn encode_deliver_by(by: DeliverBy, out: &mut Vec<u8>) {
    let DeliverBy {
        deadline_ms,
        on_expiry,
        trace,
    } = by;
    out.extend_from_slice(&deadline_ms.to_le_bytes());
    out.push(u8::from(on_expiry == ByMode::Notify) | (u8::from(trace) << 1));
}

/// Appends the payload of an attempt.
pub(crate) fn encode_attempt(attempt: &Attempt, out: &mut Vec<u8>) {
    let Attempt {
        id,
        next_attempt_ms,
        attempts,
        delay_notified,
        results,
    } = attempt;
    out.extend_from_slice(&id.to_bytes());
    out.extend_from_slice(&next_attempt_ms.to_le_bytes());
    out.extend_from_slice(&attempts.to_le_bytes());
    out.push(u8::from(*delay_notified));
    out.extend_from_slice(&number(results.len()).to_le_bytes());
    for (index, result) in results {
        let kind = match result {
            RecipientResult::Deferred => 0,
            RecipientResult::Delivered => 1,
            RecipientResult::Failed => 2,
        };
        out.extend_from_slice(&index.to_le_bytes());
        out.push(kind);
    }
}

/// Length of the envelope part of a message.
pub(crate) fn envelope_bytes(message: &Message) -> usize {
    let text = |text: &String| 4 + text.len();
    let optional = |value: &Option<String>| 1 + value.as_ref().map_or(0, text);
    let envelope = &message.envelope;
    let recipients = envelope.recipients.iter().map(|recipient| {
        text(&recipient.address) + optional(&recipient.notify) + optional(&recipient.orcpt)
    });
    // Id, arrival, flags, two lengths, priority, not before, whether there is a deadline, and the number of recipients.
    let fixed = 16 + 8 + 1 + 4 + 4 + 1 + 8 + 1 + 4;
    fixed
        + text(&envelope.sender)
        + text(&envelope.credential)
        + optional(&envelope.envid)
        + envelope.deliver_by.map_or(0, |_| 8 + 1)
        + recipients.sum::<usize>()
}

/// Length of a record.
pub(crate) fn record_bytes(record: &Record) -> u64 {
    let payload = match record {
        Record::Message(message) => {
            4 + envelope_bytes(message) + 4 + message.headers.len() + message.body.len()
        }
        Record::Attempt(attempt) => ATTEMPT_BYTES + RESULT_BYTES * attempt.results.len(),
        Record::Done(_) => 16,
    };
    wide(RECORD_HEADER + payload)
}

/// See [`super`].
fn flags(envelope: &Envelope) -> u8 {
    let body = match envelope.body {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
        BodyType::BinaryMime => 0b1_0000,
    };
    let ret = match envelope.ret {
        None => 0,
        Some(Ret::Full) => 1,
        Some(Ret::Headers) => 2,
    };
    let tls = match envelope.tls {
        TlsDemand::Default => 0,
        TlsDemand::Required => 1,
        TlsDemand::Optional => 2,
    };
    let author = match envelope.author {
        Author::Submitter => 0,
        Author::Relay => 0b1000_0000,
    };
    body | (u8::from(envelope.smtputf8) << 1) | (ret << 2) | (tls << 5) | author
}

pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&number(text.len()).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn optional<T>(value: Option<T>, encode: impl Fn(T, &mut Vec<u8>), out: &mut Vec<u8>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        encode(value, out);
    }
}

/// `submit` admits no group of [`super::GROUP_MAX`].
pub(super) fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
