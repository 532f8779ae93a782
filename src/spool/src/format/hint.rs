//! The bytes of a hint: what recovery would find in a segment, without the content.
//! ```text
//! header   8  magic "POSTHINT"
//!          4  version (3)
//!          8  sequence of the segment
//!          8  mark of the segment
//!          8  up to where it is told of the segment
//! entry*   1  kind, as the type of a record
//!             message: id, arrival, offset (4), length (4), bytes of the content (4), priority (1), not before, optional deadline,
//!             domain of the sender, credential, whether the relay has written it (1), whether its sender may have to be told of
//!             it (1), number of runs (4), and per run domain and recipients (4)
//!             attempt, done: as in a record
//! end      4  CRC-32 of all before
//! ```

use std::borrow::Cow;

use super::read::{Reader, Version, author};
use super::write::{encode_attempt, number, optional, text};
use super::{Mark, TYPE_ATTEMPT, TYPE_DONE, TYPE_MESSAGE};
use crate::index::Place;
use crate::record::{Author, DomainRun, Queued};
use crate::scan::Found;

const MAGIC: &[u8; 8] = b"POSTHINT";
const VERSION: u32 = 3;

/// Length of the header.
const HEADER: usize = 36;

/// Length of the checksum at the end.
const CHECKSUM: usize = 4;

/// Which segment a hint is of, and how much of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HintOf {
    pub(crate) sequence: u64,
    pub(crate) mark: Mark,
    pub(crate) end: u64,
}

/// Appends an entry; begins with the room for the header.
pub(crate) fn encode_hint(found: &Found<'_>, out: &mut Vec<u8>) {
    if out.is_empty() {
        out.resize(HEADER, 0);
    }
    match found {
        Found::Attempt(attempt) => {
            out.push(TYPE_ATTEMPT);
            encode_attempt(attempt, out);
        }
        Found::Done(id) => {
            out.push(TYPE_DONE);
            out.extend_from_slice(&id.to_bytes());
        }
        Found::Message(queued, place) => {
            out.push(TYPE_MESSAGE);
            encode_message(queued, *place, out);
        }
    }
}

/// Puts the header before the entries, and the checksum behind.
pub(crate) fn seal_hint(of: HintOf, out: &mut Vec<u8>) {
    let HintOf {
        sequence,
        mark,
        end,
    } = of;
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&sequence.to_le_bytes());
    header.extend_from_slice(&mark);
    header.extend_from_slice(&end.to_le_bytes());
    out.resize(out.len().max(HEADER), 0);
    out[..HEADER].copy_from_slice(&header);
    let crc = crc32fast::hash(out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The entries of a hint of this segment; `None` if it is damaged or of something else. All is read before any of it is used.
pub(crate) fn parse_hint(bytes: &[u8], of: HintOf) -> Option<Vec<Found<'_>>> {
    let (summed, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    let mut reader = Reader(summed);
    let header = (reader.array()?, reader.u32()?);
    let told = HintOf {
        sequence: reader.u64()?,
        mark: reader.array()?,
        end: reader.u64()?,
    };
    let intact = header == (*MAGIC, VERSION) && checksum == crc32fast::hash(summed).to_le_bytes();
    if !intact || told != of {
        return None;
    }
    let mut found = Vec::new();
    while !reader.is_empty() {
        found.push(entry(&mut reader, of)?);
    }
    Some(found)
}

fn entry<'a>(reader: &mut Reader<'a>, of: HintOf) -> Option<Found<'a>> {
    match reader.u8()? {
        TYPE_ATTEMPT => reader.attempt(Version::Two).map(Found::Attempt),
        TYPE_DONE => reader.id().map(Found::Done),
        TYPE_MESSAGE => message(reader, of.sequence),
        _ => None,
    }
}

fn encode_message(queued: &Queued<'_>, place: Place, out: &mut Vec<u8>) {
    out.extend_from_slice(&queued.id.to_bytes());
    out.extend_from_slice(&queued.arrival_ms.to_le_bytes());
    for number in [place.offset, place.length.into(), queued.bytes] {
        // None of them is larger: see `GROUP_MAX`.
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&queued.priority.to_le_bytes());
    out.extend_from_slice(&queued.not_before_ms.to_le_bytes());
    let deadline =
        |deadline: u64, out: &mut Vec<u8>| out.extend_from_slice(&deadline.to_le_bytes());
    optional(queued.deliver_by_ms, deadline, out);
    text(&queued.sender_domain, out);
    text(&queued.credential, out);
    out.push(u8::from(queued.author == Author::Relay));
    out.push(u8::from(queued.reportable));
    out.extend_from_slice(&number(queued.domains.len()).to_le_bytes());
    for run in &queued.domains {
        text(&run.domain, out);
        out.extend_from_slice(&run.recipients.to_le_bytes());
    }
}

fn message<'a>(reader: &mut Reader<'a>, segment: u64) -> Option<Found<'a>> {
    let (id, arrival_ms) = (reader.id()?, reader.u64()?);
    let place = Place {
        segment,
        offset: reader.u32()?.into(),
        length: reader.u32()?,
    };
    let bytes = reader.u32()?.into();
    let (priority, not_before_ms) = (reader.i8()?, reader.u64()?);
    let deliver_by_ms = reader.optional(Reader::u64)?;
    let (sender_domain, credential) = (reader.str()?, reader.str()?);
    let author = author(reader.bit()?);
    let reportable = reader.bit()?;
    let mut domains = Vec::with_capacity(1);
    for _ in 0..reader.u32()? {
        domains.push(DomainRun {
            domain: reader.str()?.into(),
            recipients: reader.u32()?,
        });
    }
    let queued = Queued {
        id,
        arrival_ms,
        bytes,
        recipients: domains.iter().map(|run| run.recipients).sum(),
        reportable,
        next_attempt_ms: not_before_ms.max(arrival_ms),
        attempts: 0,
        delay_notified: false,
        settled: Cow::default(),
        sender_domain: sender_domain.into(),
        credential: credential.into(),
        author,
        priority,
        not_before_ms,
        deliver_by_ms,
        domains,
    };
    Some(Found::Message(queued, place))
}
