//! Bytes to records. Never panics, never trusts a length before it has been checked.

use bytes::Bytes;

use super::{
    Damage, Durable, ENVELOPE_MAX, GROUP_HEADER, GROUP_MAGIC, Mark, RECORD_HEADER, RECORD_VERSION,
    RECORD_VERSION_1, SEGMENT_HEADER, SEGMENT_MAGIC, SegmentHeader, TYPE_ATTEMPT, TYPE_DONE,
    TYPE_MESSAGE,
};
use crate::MessageId;
use crate::record::{
    Attempt, Author, BodyType, ByMode, DeliverBy, Envelope, Message, Queued, Recipient,
    RecipientResult, Ret, TlsDemand,
};

/// Length of the length before an envelope part.
const LENGTH: usize = 4;

/// Length of the checksum behind one.
const CHECKSUM: usize = 4;

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

/// How the payload of a record is laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    /// By the first release.
    One,
    Two,
}

/// The header of a record; its payload is not checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) version: Version,
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
        let version = match (kind, header[1]) {
            (_, RECORD_VERSION_1) => Version::One,
            (Kind::Attempt | Kind::Message, RECORD_VERSION) => Version::Two,
            _ => return None,
        };
        let mut reader = Reader(&header[4..]);
        Some(Self {
            kind,
            version,
            length: reader.u32()?,
            crc: reader.u32()?,
        })
    }
}

/// Where the envelope part of a message ends, checksum included, from the first bytes of its payload.
pub(crate) fn envelope_end(payload: &[u8], version: Version) -> Result<usize, Damage> {
    let length = Reader(payload).u32().ok_or(Damage("message cut off"))?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= ENVELOPE_MAX)
        .ok_or(Damage("envelope too long"))?;
    Ok(match version {
        Version::One => LENGTH + length,
        Version::Two => LENGTH + length + CHECKSUM,
    })
}

/// The envelope part, and where the content begins. Its checksum is for when that of the record cannot be asked.
fn envelope_part(payload: &[u8], version: Version) -> Result<(&[u8], usize), Damage> {
    let end = envelope_end(payload, version)?;
    let part = payload.get(..end).ok_or(Damage("message cut off"))?;
    Ok(match version {
        Version::One => (&part[LENGTH..], end),
        Version::Two => (&part[LENGTH..end - CHECKSUM], end),
    })
}

/// What recovery needs to know of a message, from the beginning of its payload, which must hold all of the envelope part.
pub(crate) fn parse_queued(payload: &[u8], version: Version) -> Result<Queued<'static>, Damage> {
    let (part, _) = envelope_part(payload, version)?;
    let (message, headers, body) = parse_envelope(part, version).ok_or(Damage("envelope"))?;
    let mut queued = message.queued().into_owned();
    queued.bytes = u64::from(headers) + u64::from(body);
    Ok(queued)
}

/// Reads the envelope from the beginning of a message's payload, whatever has become of the content: headers and body
/// are empty. Only the checksum of the envelope part can tell that it is what was written, so there is none of version 1.
pub(crate) fn parse_envelope_alone(payload: &[u8]) -> Result<Message, Damage> {
    let (part, end) = envelope_part(payload, Version::Two)?;
    let (summed, checksum) = payload[..end].split_at(end - CHECKSUM);
    if checksum != crc32fast::hash(summed).to_le_bytes() {
        return Err(Damage("checksum of an envelope"));
    }
    let parsed = parse_envelope(part, Version::Two);
    let (message, _, _) = parsed.ok_or(Damage("envelope"))?;
    Ok(message)
}

/// Reads a whole message.
pub(crate) fn parse_message(payload: &Bytes, version: Version) -> Result<Message, Damage> {
    let (part, start) = envelope_part(payload, version)?;
    let parsed = parse_envelope(part, version);
    let (mut message, headers, body) = parsed.ok_or(Damage("envelope"))?;
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

/// A message without content, and the lengths of its headers and its body.
fn parse_envelope(part: &[u8], version: Version) -> Option<(Message, u32, u32)> {
    let mut reader = Reader(part);
    let (id, arrival_ms, flags) = (reader.id()?, reader.u64()?, reader.u8()?);
    let (headers, body) = (reader.u32()?, reader.u32()?);
    let mut envelope = from_flags(flags, version)?;
    envelope.sender = reader.text()?;
    envelope.credential = reader.text()?;
    envelope.envid = reader.optional(Reader::text)?;
    if version == Version::Two {
        envelope.priority = reader.i8()?;
        envelope.not_before_ms = reader.u64()?;
        envelope.deliver_by = reader.optional(Reader::deliver_by)?;
    }
    for _ in 0..reader.u32()? {
        envelope.recipients.push(Recipient {
            address: reader.text()?,
            notify: reader.optional(Reader::text)?,
            orcpt: reader.optional(Reader::text)?,
        });
    }
    let message = Message {
        id,
        arrival_ms,
        envelope,
        headers: Bytes::new(),
        body: Bytes::new(),
    };
    reader.0.is_empty().then_some((message, headers, body))
}

/// What the flags of an envelope say.
fn from_flags(flags: u8, version: Version) -> Option<Envelope> {
    if version == Version::One && flags > 0b1111 {
        return None;
    }
    Some(Envelope {
        body: match flags & 0b1_0001 {
            0 => BodyType::SevenBit,
            1 => BodyType::EightBitMime,
            0b1_0000 => BodyType::BinaryMime,
            _ => return None,
        },
        smtputf8: flags & 2 == 2,
        ret: match (flags >> 2) & 3 {
            0 => None,
            1 => Some(Ret::Full),
            2 => Some(Ret::Headers),
            _ => return None,
        },
        tls: match (flags >> 5) & 3 {
            0 => TlsDemand::Default,
            1 => TlsDemand::Required,
            2 => TlsDemand::Optional,
            _ => return None,
        },
        author: author(flags >> 7 == 1),
        ..Envelope::default()
    })
}

pub(super) fn author(is_relay: bool) -> Author {
    match is_relay {
        false => Author::Submitter,
        true => Author::Relay,
    }
}

/// Reads an attempt.
pub(crate) fn parse_attempt(payload: &[u8], version: Version) -> Result<Attempt, Damage> {
    let mut reader = Reader(payload);
    let attempt = reader.attempt(version).filter(|_| reader.is_empty());
    attempt.ok_or(Damage("attempt"))
}

/// Reads the id of a finished message.
pub(crate) fn parse_done(payload: &[u8]) -> Result<MessageId, Damage> {
    payload
        .try_into()
        .map(MessageId::from_bytes)
        .map_err(|_| Damage("done"))
}

/// Takes values off the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn i8(&mut self) -> Option<i8> {
        self.array().map(i8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn id(&mut self) -> Option<MessageId> {
        self.array().map(MessageId::from_bytes)
    }

    pub(super) fn str(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        str::from_utf8(front).ok()
    }

    fn text(&mut self) -> Option<String> {
        self.str().map(str::to_owned)
    }

    pub(super) fn optional<T>(
        &mut self,
        value: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.bit()? {
            false => Some(None),
            true => value(self).map(Some),
        }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn deliver_by(&mut self) -> Option<DeliverBy> {
        let (deadline_ms, flags) = (self.u64()?, self.u8()?);
        Some(DeliverBy {
            deadline_ms,
            on_expiry: if flags & 1 == 1 {
                ByMode::Notify
            } else {
                ByMode::Return
            },
            trace: match flags >> 1 {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }

    pub(super) fn attempt(&mut self, version: Version) -> Option<Attempt> {
        let (id, next_attempt_ms, attempts) = (self.id()?, self.u64()?, self.u32()?);
        let delay_notified = match version {
            Version::One => false,
            Version::Two => self.bit()?,
        };
        let mut results = Vec::new();
        for _ in 0..self.u32()? {
            results.push((self.u32()?, self.result()?));
            if version == Version::One {
                // What the next hop said. Nothing reads it.
                self.str()?;
            }
        }
        Some(Attempt {
            id,
            next_attempt_ms,
            attempts,
            delay_notified,
            results,
        })
    }

    fn result(&mut self) -> Option<RecipientResult> {
        match self.u8()? {
            0 => Some(RecipientResult::Deferred),
            1 => Some(RecipientResult::Delivered),
            2 => Some(RecipientResult::Failed),
            _ => None,
        }
    }
}
