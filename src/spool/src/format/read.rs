//! Bytes to records. Never panics, never trusts a length before it has been checked.

use bytes::Bytes;

use super::{
    Damage, Durable, ENVELOPE_MAX, GROUP_HEADER, GROUP_MAGIC, Mark, RECORD_HEADER, RECORD_VERSION,
    SEGMENT_HEADER, SEGMENT_MAGIC, SegmentHeader, TYPE_ATTEMPT, TYPE_DONE, TYPE_MESSAGE,
};
use crate::MessageId;
use crate::record::{Attempt, BodyType, Envelope, Message, Recipient, RecipientResult, Ret};

/// The header of a segment with its format version, if it is intact.
pub(super) fn segment_header(bytes: &[u8]) -> Option<(u32, SegmentHeader)> {
    let header = bytes.first_chunk::<SEGMENT_HEADER>()?;
    let mut reader = Reader(&header[8..]);
    let (version, sequence, mark) = (reader.u32()?, reader.u64()?, reader.array()?);
    let before = Durable {
        sequence: reader.u64()?,
        end: reader.u64()?,
    };
    let crc = reader.u32()?;
    let intact = &header[..8] == SEGMENT_MAGIC && crc32fast::hash(&header[..44]) == crc;
    let header = SegmentHeader {
        sequence,
        mark,
        before,
    };
    intact.then_some((version, header))
}

/// The header of a group, intact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupHeader {
    /// The mark of its segment, if it is one.
    pub(crate) mark: Mark,
    /// How many records follow.
    pub(crate) records: u32,
    /// Their length together.
    pub(crate) length: u64,
}

impl GroupHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<GROUP_HEADER>()?;
        let mut reader = Reader(&header[4..]);
        let (mark, records) = (reader.array()?, reader.u32()?);
        let (length, crc) = (reader.u64()?, reader.u32()?);
        let intact = &header[..4] == GROUP_MAGIC && crc32fast::hash(&header[..24]) == crc;
        intact.then_some(Self {
            mark,
            records,
            length,
        })
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Attempt,
    Done,
    Message,
}

/// The header of a record; its payload is not checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

impl RecordHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<RECORD_HEADER>()?;
        let kind = match header[0] {
            TYPE_MESSAGE => Kind::Message,
            TYPE_ATTEMPT => Kind::Attempt,
            TYPE_DONE => Kind::Done,
            _ => return None,
        };
        let mut reader = Reader(&header[4..]);
        let (length, crc) = (reader.u32()?, reader.u32()?);
        (header[1] == RECORD_VERSION).then_some(Self { kind, length, crc })
    }
}

/// What recovery needs to know of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MessageHead {
    pub(crate) id: MessageId,
    pub(crate) arrival_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) recipients: u32,
    /// Checksum of the envelope part with the length before it.
    pub(crate) envelope_crc: u32,
}

/// Length of the envelope part, from the first bytes of a message's payload.
pub(crate) fn envelope_length(payload: &[u8]) -> Result<usize, Damage> {
    let length = Reader(payload).u32().ok_or(Damage("message cut off"))?;
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= ENVELOPE_MAX)
        .ok_or(Damage("envelope too long"))
}

/// Reads the head of a message from the beginning of its payload; `Ok(None)` if that is not all of the envelope part.
pub(crate) fn parse_head(payload: &[u8]) -> Result<Option<MessageHead>, Damage> {
    let length = envelope_length(payload)?;
    let Some(part) = payload.get(4..4 + length) else {
        return Ok(None);
    };
    let (message, header_length, body_length) = parse_envelope(part).ok_or(Damage("envelope"))?;
    let recipients = u32::try_from(message.envelope.recipients.len()).unwrap_or(u32::MAX);
    let bytes = u64::from(header_length) + u64::from(body_length);
    Ok(Some(MessageHead {
        id: message.id,
        arrival_ms: message.arrival_ms,
        bytes,
        recipients,
        envelope_crc: crc32fast::hash(&payload[..4 + length]),
    }))
}

/// Reads the envelope from the beginning of a message's payload, whatever has become of the content: headers and body
/// are empty. Only the checksum of the envelope part, kept apart from the record's, can tell that it is what was written.
pub(crate) fn parse_envelope_alone(payload: &[u8], envelope_crc: u32) -> Result<Message, Damage> {
    let length = envelope_length(payload)?;
    let part = payload.get(..4 + length).ok_or(Damage("message cut off"))?;
    if crc32fast::hash(part) != envelope_crc {
        return Err(Damage("checksum of an envelope"));
    }
    let (message, _, _) = parse_envelope(&part[4..]).ok_or(Damage("envelope"))?;
    Ok(message)
}

/// Reads a whole message.
pub(crate) fn parse_message(payload: &Bytes) -> Result<Message, Damage> {
    let length = envelope_length(payload)?;
    let part = payload
        .get(4..4 + length)
        .ok_or(Damage("message cut off"))?;
    let (mut message, headers, body) = parse_envelope(part).ok_or(Damage("envelope"))?;
    let start = 4 + length;
    let middle = usize::try_from(headers)
        .ok()
        .and_then(|headers| start.checked_add(headers));
    let middle = middle.ok_or(Damage("message too long"))?;
    let end = usize::try_from(body)
        .ok()
        .and_then(|body| middle.checked_add(body));
    if end != Some(payload.len()) {
        return Err(Damage("message length"));
    }
    message.headers = payload.slice(start..middle);
    message.body = payload.slice(middle..);
    Ok(message)
}

fn parse_envelope(part: &[u8]) -> Option<(Message, u32, u32)> {
    let mut reader = Reader(part);
    let (id, arrival_ms, flags) = (reader.id()?, reader.u64()?, reader.u8()?);
    let (headers, body) = (reader.u32()?, reader.u32()?);
    let (sender, credential, envid) = (reader.text()?, reader.text()?, reader.optional()?);
    let count = reader.u32()?;
    let mut recipients = Vec::new();
    for _ in 0..count {
        recipients.push(Recipient {
            address: reader.text()?,
            notify: reader.optional()?,
            orcpt: reader.optional()?,
        });
    }
    let envelope = Envelope {
        sender,
        recipients,
        body: if flags & 1 == 1 {
            BodyType::EightBitMime
        } else {
            BodyType::SevenBit
        },
        smtputf8: flags & 2 == 2,
        credential,
        envid,
        ret: match (flags >> 2) & 3 {
            1 => Some(Ret::Full),
            2 => Some(Ret::Headers),
            _ => None,
        },
    };
    let message = Message {
        id,
        arrival_ms,
        envelope,
        headers: Bytes::new(),
        body: Bytes::new(),
    };
    reader.0.is_empty().then_some((message, headers, body))
}

/// Reads an attempt.
pub(crate) fn parse_attempt(payload: &[u8]) -> Result<Attempt, Damage> {
    let parse = || {
        let mut reader = Reader(payload);
        let (id, next_attempt_ms) = (reader.id()?, reader.u64()?);
        let (attempts, count) = (reader.u32()?, reader.u32()?);
        let mut results = Vec::new();
        for _ in 0..count {
            let (index, kind, _reply) = (reader.u32()?, reader.u8()?, reader.text()?);
            results.push((
                index,
                match kind {
                    0 => RecipientResult::Deferred,
                    1 => RecipientResult::Delivered,
                    2 => RecipientResult::Failed,
                    _ => return None,
                },
            ));
        }
        reader.0.is_empty().then_some(Attempt {
            id,
            next_attempt_ms,
            attempts,
            results,
        })
    };
    parse().ok_or(Damage("attempt"))
}

/// Reads the id of a finished message.
pub(crate) fn parse_done(payload: &[u8]) -> Result<MessageId, Damage> {
    payload
        .try_into()
        .map(MessageId::from_bytes)
        .map_err(|_| Damage("done"))
}

/// Takes values off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<MessageId> {
        self.array().map(MessageId::from_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(front.to_vec()).ok()
    }

    fn optional(&mut self) -> Option<Option<String>> {
        match self.u8()? {
            0 => Some(None),
            1 => self.text().map(Some),
            _ => None,
        }
    }
}
