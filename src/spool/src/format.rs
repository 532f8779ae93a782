//! The bytes on disk. Pure.
//!
//! All numbers are little endian, ids are 16 bytes big endian (so that they sort). A segment file:
//! ```text
//! header   8  magic "POSTROAD"
//!          4  format version (1)
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
//!          1  version of the type (1)
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
//! Payloads: a message is the length of its envelope part (4), the envelope part, the headers, the body; the envelope part is
//! id, arrival (8), flags (1), length of the headers (4), length of the body (4), sender, credential, envid, number of recipients (4), and
//! per recipient address, notify, orcpt. An attempt is id, next attempt (8), attempts (4), number of results (4), and per
//! result index (4), kind (1: 0 deferred, 1 delivered, 2 failed), reply (empty today). When a message is moved, one attempt stands for all before:
//! its results have kind 1, and say only which recipients are settled, either way. Done is an id. Text is a length (4) and UTF-8;
//! optional text has a byte 0 or 1 before it.

mod read;
mod write;

pub(crate) use read::{
    GroupHeader, Kind, MessageHead, RecordHeader, envelope_length, parse_attempt, parse_done,
    parse_envelope_alone, parse_head, parse_message,
};
pub(crate) use write::{Encoded, encode_group, envelope_bytes, mark_group, record_bytes};

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
const FORMAT_VERSION: u32 = 1;
const RECORD_VERSION: u8 = 1;

const TYPE_MESSAGE: u8 = 1;
const TYPE_ATTEMPT: u8 = 2;
const TYPE_DONE: u8 = 3;

/// Longest envelope part: 50,000 recipients of 320 bytes, and far more than any session admits.
pub(crate) const ENVELOPE_MAX: usize = 16 << 20;

/// Largest group: lengths are written in four bytes.
pub(crate) const GROUP_MAX: u64 = 0xffff_ffff;

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
                (FORMAT_VERSION, header) => Ok(Ok(header)),
                (other, _) => Err(io::Error::other(format!(
                    "written in format {other}, this program reads format {FORMAT_VERSION}: use the release that wrote it"
                ))),
            })
            .unwrap_or(Ok(Err(Damage("segment header"))))
    }
}
