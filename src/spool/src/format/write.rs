//! Records to bytes.

use super::{
    END_MARK, FORMAT_VERSION, GROUP_END, GROUP_HEADER, GROUP_MAGIC, Mark, RECORD_HEADER,
    RECORD_VERSION, TYPE_ATTEMPT, TYPE_DONE, TYPE_MESSAGE,
};
use crate::record::{Attempt, BodyType, Message, RecipientResult, Record, Ret};

/// Earlier releases of the format wrote what the upstream said. Nothing reads it, and it filled disks.
const NO_REPLY: &str = "";

const _: () = assert!(FORMAT_VERSION == 1, "this file writes version 1");

/// Where a record of a group lies, counted from the start of the group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Encoded {
    /// Offset of the record's header.
    pub(crate) offset: u64,
    /// Length with the header.
    pub(crate) length: u32,
    /// Of a message, the checksum of its envelope part with the length before it.
    pub(crate) envelope_crc: u32,
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
    let mut envelope_crc = 0;
    let kind = match record {
        Record::Message(message) => {
            envelope_crc = encode_message(message, out);
            TYPE_MESSAGE
        }
        Record::Attempt(attempt) => {
            encode_attempt(attempt, out);
            TYPE_ATTEMPT
        }
        Record::Done(id) => {
            out.extend_from_slice(&id.to_bytes());
            TYPE_DONE
        }
    };
    let payload = out.len() - start - RECORD_HEADER;
    out[start] = kind;
    out[start + 1] = RECORD_VERSION;
    out[start + 4..start + 8].copy_from_slice(&number(payload).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[start..start + 8]);
    crc.update(&out[start + RECORD_HEADER..]);
    out[start + 8..start + 12].copy_from_slice(&crc.finalize().to_le_bytes());
    Encoded {
        offset: wide(start - group),
        length: number(out.len() - start),
        envelope_crc,
    }
}

/// Returns the checksum of the envelope part with the length before it.
fn encode_message(message: &Message, out: &mut Vec<u8>) -> u32 {
    let Message {
        id,
        arrival_ms,
        envelope,
        headers,
        body,
    } = message;
    out.reserve(headers.len() + body.len() + 1024);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&id.to_bytes());
    out.extend_from_slice(&arrival_ms.to_le_bytes());
    out.push(flags(envelope.body, envelope.smtputf8, envelope.ret));
    out.extend_from_slice(&number(headers.len()).to_le_bytes());
    out.extend_from_slice(&number(body.len()).to_le_bytes());
    text(&envelope.sender, out);
    text(&envelope.credential, out);
    optional(envelope.envid.as_deref(), out);
    out.extend_from_slice(&number(envelope.recipients.len()).to_le_bytes());
    for recipient in &envelope.recipients {
        text(&recipient.address, out);
        optional(recipient.notify.as_deref(), out);
        optional(recipient.orcpt.as_deref(), out);
    }
    let envelope_length = number(out.len() - start - 4);
    out[start..start + 4].copy_from_slice(&envelope_length.to_le_bytes());
    let envelope_crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(headers);
    out.extend_from_slice(body);
    envelope_crc
}

fn encode_attempt(attempt: &Attempt, out: &mut Vec<u8>) {
    let Attempt {
        id,
        next_attempt_ms,
        attempts,
        results,
    } = attempt;
    out.extend_from_slice(&id.to_bytes());
    out.extend_from_slice(&next_attempt_ms.to_le_bytes());
    out.extend_from_slice(&attempts.to_le_bytes());
    out.extend_from_slice(&number(results.len()).to_le_bytes());
    for (index, result) in results {
        let kind = match result {
            RecipientResult::Deferred => 0,
            RecipientResult::Delivered => 1,
            RecipientResult::Failed => 2,
        };
        out.extend_from_slice(&index.to_le_bytes());
        out.push(kind);
        text(NO_REPLY, out);
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
    // Id, arrival, flags, two lengths and the number of recipients.
    let fixed = 16 + 8 + 1 + 4 + 4 + 4;
    fixed
        + text(&envelope.sender)
        + text(&envelope.credential)
        + optional(&envelope.envid)
        + recipients.sum::<usize>()
}

/// Length of a record.
pub(crate) fn record_bytes(record: &Record) -> u64 {
    let payload = match record {
        Record::Message(message) => {
            4 + envelope_bytes(message) + message.headers.len() + message.body.len()
        }
        Record::Attempt(attempt) => 32 + 9 * attempt.results.len(),
        Record::Done(_) => 16,
    };
    wide(RECORD_HEADER + payload)
}

/// Bit 0: 8BITMIME; bit 1: SMTPUTF8; bits 2 and 3: RET (0 none, 1 full, 2 headers).
fn flags(body: BodyType, smtputf8: bool, ret: Option<Ret>) -> u8 {
    let ret = match ret {
        None => 0,
        Some(Ret::Full) => 1,
        Some(Ret::Headers) => 2,
    };
    u8::from(body == BodyType::EightBitMime) | (u8::from(smtputf8) << 1) | (ret << 2)
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&number(text.len()).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn optional(value: Option<&str>, out: &mut Vec<u8>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        text(value, out);
    }
}

/// `submit` admits no group of [`super::GROUP_MAX`].
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
