//! The bytes on disk. Pure.
//!
//! All numbers are little endian, ids are 16 bytes big endian (so that they sort). A segment file:
//! ```text
//! header   8  magic "POSTROAD"
//!          4  format version (2)
//!          8  sequence of the segment
//!          8  mark: random, another one in every segment
//!          8  sequence of the last segment before this one that held anything durable; 0 for none
//!          8  up to where it did
//!          4  CRC-32 of the 44 bytes before
//! group*   4  magic "GRP1"
//!          8  mark of the segment
//!          4  number of records
//!          8  length of all records together
//!          4  CRC-32 of the 24 bytes before
//!             records
//!          4  end mark "1PRG"
//! rest        zero (preallocated), or what a crash left of a group that nobody was told of
//! ```
//! A record:
//! ```text
//!          1  type: 1 message, 2 attempt, 3 done
//!          1  version of the type: 2 of messages and attempts, 1 of dones
//!          2  zero
//!          4  length of the payload
//!          4  CRC-32 of the 8 bytes before and the payload
//!             payload
//! ```
//! A group counts only whole: every record intact and the end mark in place. That is what makes the records that
//! were submitted together atomic.
//!
//! The mark is why a body cannot be taken for records: after damage the next group is looked for byte by byte, through
//! whatever strangers sent, and nobody outside knows the mark.
//!
//! What a header tells of the segment before it settles that one: what lies behind the durable end was refused, even if
//! it can still be seen.
//!
//! Payloads. Text is a length (4) and UTF-8; what is optional has a byte 0 or 1 before it.
//! ```text
//! message  4  length of the envelope part
//!             envelope part
//!          4  CRC-32 of the two before
//!             headers, body
//! envelope 16 id
//!          8  arrival
//!          1  flags: bit 0 8BITMIME, bit 1 SMTPUTF8, bits 2 and 3 RET (1 full, 2 headers), bit 4 BINARYMIME,
//!             bits 5 and 6 TLS (1 required, 2 optional), bit 7 written by the relay
//!          4  length of the headers
//!          4  length of the body
//!             sender, credential, optional envid
//!          1  priority
//!          8  not before
//!             optional: 8 deadline, 1 flags (bit 0 notify, bit 1 trace)
//!          4  number of recipients
//!             per recipient: address, optional notify, optional orcpt
//! attempt  16 id
//!          8  next attempt
//!          4  attempts
//!          1  flags: bit 0 the sender has been told of the delay
//!          4  number of results
//!             per result: 4 index, 1 kind (0 deferred, 1 delivered, 2 failed)
//! done     16 id
//! ```
//! When a message is moved, one attempt stands for all before: its results have kind 1, and say only which recipients are
//! settled, either way.
//!
//! # Format 1
//! What the first release wrote is read: a message (version 1) has no CRC of its envelope part, and neither priority nor what
//! comes between that and the recipients; an attempt (version 1) has no flags, and per result a text behind it. It is never
//! written again: a segment that goes on, or a message that is moved, is in format 2 from then on. The first release refuses
//! to start on a segment of format 2, rather than to take what it does not know for damage.

mod hint;
mod read;
mod write;

pub(crate) use hint::{HintOf, encode_hint, parse_hint, seal_hint};
pub(crate) use read::{
    GroupHeader, Kind, RecordHeader, Version, envelope_end, parse_attempt, parse_done,
    parse_envelope_alone, parse_message, parse_queued,
};
pub(crate) use write::{
    ATTEMPT_BYTES, Encoded, RESULT_BYTES, encode_group, envelope_bytes, mark_group, record_bytes,
};

use std::io;

/// Length of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 48;
/// Length of a group's header.
pub(crate) const GROUP_HEADER: usize = 28;
/// Length of a record's header.
pub(crate) const RECORD_HEADER: usize = 12;
/// Length of the mark behind a group.
pub(crate) const END_MARK: usize = 4;

const SEGMENT_MAGIC: &[u8; 8] = b"POSTROAD";
pub(crate) const GROUP_MAGIC: &[u8; 4] = b"GRP1";
pub(crate) const GROUP_END: &[u8; 4] = b"1PRG";
/// Of the segments that are written.
const FORMAT_VERSION: u32 = 2;
/// Of the segments that can be read.
const FORMAT_VERSIONS: std::ops::RangeInclusive<u32> = 1..=FORMAT_VERSION;
/// Of the messages and attempts that are written.
const RECORD_VERSION: u8 = 2;
/// Of dones, and of the messages and attempts of the first release.
const RECORD_VERSION_1: u8 = 1;

const TYPE_MESSAGE: u8 = 1;
const TYPE_ATTEMPT: u8 = 2;
const TYPE_DONE: u8 = 3;

/// Longest envelope part: 50,000 recipients of 320 bytes, and far more than any session admits.
pub(crate) const ENVELOPE_MAX: usize = 16 << 20;

/// Largest group: twice the largest message. What is moved and a batch behind it can be two of them, and fit into a segment whose
/// offsets have four bytes.
pub(crate) const GROUP_MAX: u64 = 0x7f00_0000;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("damaged: {0}")]
pub struct Damage(pub(crate) &'static str);

/// Random bytes that tell the groups of a segment from what merely looks like one.
pub(crate) type Mark = [u8; 8];

/// A segment, and up to where it is durable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Durable {
    pub(crate) sequence: u64,
    pub(crate) end: u64,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SegmentHeader {
    pub(crate) sequence: u64,
    pub(crate) mark: Mark,
    /// The last segment before this one that held anything durable.
    pub(crate) before: Durable,
}

impl SegmentHeader {
    pub(crate) fn to_bytes(self) -> [u8; SEGMENT_HEADER] {
        let Self {
            sequence,
            mark,
            before,
        } = self;
        let mut header = [0; SEGMENT_HEADER];
        header[..8].copy_from_slice(SEGMENT_MAGIC);
        header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        header[12..20].copy_from_slice(&sequence.to_le_bytes());
        header[20..28].copy_from_slice(&mark);
        header[28..36].copy_from_slice(&before.sequence.to_le_bytes());
        header[36..44].copy_from_slice(&before.end.to_le_bytes());
        let crc = crc32fast::hash(&header[..44]);
        header[44..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Reads the header of a segment. A whole header of another version is no damage: it was written by another
    /// release, and reading on would misread mail.
    pub(crate) fn parse(header: &[u8]) -> io::Result<Result<Self, Damage>> {
        read::segment_header(header)
            .map(|read| match read {
                (version, header) if FORMAT_VERSIONS.contains(&version) => Ok(Ok(header)),
                (other, _) => Err(io::Error::other(format!(
                    "written in format {other}, this program reads formats 1 to {FORMAT_VERSION}: use the release that wrote it"
                ))),
            })
            .unwrap_or(Ok(Err(Damage("segment header"))))
    }
}
