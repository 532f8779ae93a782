//! One message back from the disk.

use bytes::Bytes;

use crate::ReadError;
use crate::format::{
    Damage, Kind, RECORD_HEADER, RecordHeader, Version, envelope_end, parse_envelope_alone,
    parse_message,
};
use crate::index::Place;
use crate::number::wide;
use crate::record::Message;
use crate::sys::File;

/// Length of the length before an envelope part.
const LENGTH: usize = 4;

/// Reads and checks the record of a message.
pub(crate) fn read_message(file: &dyn File, place: Place) -> Result<Message, ReadError> {
    let buffer = read(file, place.offset, in_memory(place.length))?;
    let header = RecordHeader::parse(&buffer).filter(|header| header.kind == Kind::Message);
    let header = header.ok_or(ReadError::Damaged(Damage("record header")))?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&buffer[..8]);
    crc.update(&buffer[RECORD_HEADER..]);
    if crc.finalize() != header.crc {
        return Err(ReadError::Damaged(Damage("checksum of a message")));
    }
    let payload = Bytes::from(buffer).slice(RECORD_HEADER..);
    parse_message(&payload, header.version).map_err(ReadError::Damaged)
}

/// Reads and checks only the envelope of a message, by its own checksum. What the first release wrote has none: of that, the
/// envelope is known only while all of the message is.
pub(crate) fn read_envelope(file: &dyn File, place: Place) -> Result<Message, ReadError> {
    let begin = read(file, place.offset, RECORD_HEADER + LENGTH)?;
    // A header that is damaged itself does not matter.
    let header = RecordHeader::parse(&begin);
    if header.is_some_and(|header| header.version == Version::One) {
        let message = read_message(file, place)?;
        return Ok(Message {
            headers: Bytes::new(),
            body: Bytes::new(),
            ..message
        });
    }
    let end = envelope_end(&begin[RECORD_HEADER..], Version::Two).map_err(ReadError::Damaged)?;
    if RECORD_HEADER + end > in_memory(place.length) {
        return Err(ReadError::Damaged(Damage("envelope too long")));
    }
    let part = read(file, place.offset + wide(RECORD_HEADER), end)?;
    parse_envelope_alone(&part).map_err(ReadError::Damaged)
}

fn read(file: &dyn File, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
    let mut buffer = vec![0; length];
    let (mut rest, mut at) = (&mut buffer[..], offset);
    while !rest.is_empty() {
        match file.read_at(rest, at).map_err(ReadError::Io)? {
            0 => return Err(ReadError::Damaged(Damage("message cut off"))),
            read => {
                rest = &mut rest[read..];
                at += wide(read);
            }
        }
    }
    Ok(buffer)
}

/// Records are written whole from memory.
fn in_memory(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
