//! One message back from the disk.

use bytes::Bytes;

use crate::ReadError;
use crate::format::{
    Damage, Kind, RECORD_HEADER, RecordHeader, envelope_length, parse_envelope_alone, parse_message,
};
use crate::index::Place;
use crate::record::Message;
use crate::sys::File;

/// Length of the length before an envelope part.
const LENGTH: usize = 4;

/// Reads and checks the record of a message.
pub(crate) fn read_message(file: &dyn File, place: Place) -> Result<Message, ReadError> {
    let buffer = read(file, place.offset, wide(place.length))?;
    let header = RecordHeader::parse(&buffer).filter(|header| header.kind == Kind::Message);
    let header = header.ok_or(ReadError::Damaged(Damage("record header")))?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&buffer[..8]);
    crc.update(&buffer[RECORD_HEADER..]);
    if crc.finalize() != header.crc {
        return Err(ReadError::Damaged(Damage("checksum of a message")));
    }
    parse_message(&Bytes::from(buffer).slice(RECORD_HEADER..)).map_err(ReadError::Damaged)
}

/// Reads and checks only the envelope of a message, by its own checksum.
pub(crate) fn read_envelope(file: &dyn File, place: Place) -> Result<Message, ReadError> {
    let payload = place.offset + RECORD_HEADER as u64;
    let length = read(file, payload, LENGTH)?;
    let length = LENGTH + envelope_length(&length).map_err(ReadError::Damaged)?;
    if RECORD_HEADER + length > wide(place.length) {
        return Err(ReadError::Damaged(Damage("envelope too long")));
    }
    let part = read(file, payload, length)?;
    parse_envelope_alone(&part, place.envelope_crc).map_err(ReadError::Damaged)
}

fn read(file: &dyn File, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
    let mut buffer = vec![0; length];
    let (mut rest, mut at) = (&mut buffer[..], offset);
    while !rest.is_empty() {
        match file.read_at(rest, at).map_err(ReadError::Io)? {
            0 => return Err(ReadError::Damaged(Damage("message cut off"))),
            read => {
                rest = &mut rest[read..];
                at += read as u64;
            }
        }
    }
    Ok(buffer)
}

fn wide(length: u32) -> usize {
    // Records are written whole from memory.
    usize::try_from(length).unwrap_or(usize::MAX)
}
