//! Hints: beside a sealed segment a small file that says what a start would find in it.
//!
//! A start that reads hints reads a fiftieth of what it would have to otherwise. A hint is worth nothing by itself: it is never
//! flushed, and one that is missing, damaged, or of something else than the segment as it is now (sequence, mark, length) is
//! ignored, the segment read, and the hint written anew. What it says is never taken for the content of a message either:
//! that has a checksum of its own, which every read checks. So what a hint costs is that damage to a message shows when it is
//! read and not at the start; [`crate::offline`] reads everything.
//!
//! A segment of which a part is damaged has no hint: each start tells of it.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::{
    END_MARK, GROUP_HEADER, HintOf, Mark, SEGMENT_HEADER, encode_hint, parse_hint, seal_hint,
};
use crate::index::Place;
use crate::number::wide;
use crate::record::Record;
use crate::scan::Found;
use crate::sys::FileSystem;

/// How the name of a hint ends; before that it is that of its segment.
const EXTENSION: &str = "hint";

/// Where a hint would be larger than this part of the segment, it saves too little.
const SEGMENT_PARTS: u64 = 8;

/// Least bytes that a hint may have: segments that are so small are few.
const BYTES_MIN: u64 = 64 << 10;

/// Most bytes that are read of what looks like a hint: of a segment with one message of the largest size all around.
const BYTES_MAX: u64 = 512 << 20;

/// A hint that is being made: grows with its segment, in memory.
///
/// What is in the segment and not in the hint would be lost, so it keeps account of where it is: a hint that does not tell of every byte up to
/// the end is not written.
#[derive(Debug)]
pub(crate) struct Hint {
    sequence: u64,
    mark: Mark,
    entries: Vec<u8>,
    /// Where the last record ends that it tells of.
    end: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Complete,
    /// There is something in the segment that it does not tell.
    Incomplete,
}

/// What lies between two records of different groups.
const BETWEEN: u64 = wide(END_MARK + GROUP_HEADER);

impl Hint {
    pub(crate) fn new(sequence: u64, mark: Mark) -> Self {
        Self {
            sequence,
            mark,
            entries: Vec::new(),
            end: wide(SEGMENT_HEADER - END_MARK),
            state: State::Complete,
        }
    }

    /// A record was stored.
    pub(crate) fn record(&mut self, record: &Record, place: Place) {
        if place.offset != self.end && place.offset != self.end.saturating_add(BETWEEN) {
            self.give_up();
        }
        let found = match record {
            Record::Message(message) => Found::Message(message.queued(), place),
            Record::Attempt(attempt) => Found::Attempt(attempt.clone()),
            Record::Done(id) => Found::Done(*id),
        };
        self.add(&found, place.offset.saturating_add(place.length.into()));
    }

    /// A group was found; it ends here, with its mark.
    pub(crate) fn group(&mut self, found: &[Found<'_>], end: u64) {
        for one in found {
            self.add(one, end.saturating_sub(wide(END_MARK)));
        }
    }

    /// Something in the segment will not be told.
    pub(crate) fn give_up(&mut self) {
        self.state = State::Incomplete;
        self.entries = Vec::new();
    }

    /// Writes it, for a segment that ends here; returns its length. A failure is nobody's concern: the next start is slower.
    pub(crate) fn write(mut self, fs: &dyn FileSystem, directory: &Path, end: u64) -> u64 {
        let complete = self.state == State::Complete && self.end + wide(END_MARK) == end;
        if !complete {
            return 0;
        }
        let sequence = self.sequence;
        let of = HintOf {
            sequence,
            mark: self.mark,
            end,
        };
        seal_hint(of, &mut self.entries);
        match write(fs, &path(directory, sequence), &self.entries) {
            Ok(()) => wide(self.entries.len()),
            Err(error) => {
                tracing::debug!(%error, sequence, "no hint of a segment");
                remove(fs, directory, sequence);
                0
            }
        }
    }

    fn add(&mut self, found: &Found<'_>, end: u64) {
        self.end = end;
        if self.state == State::Incomplete {
            return;
        }
        encode_hint(found, &mut self.entries);
        if wide(self.entries.len()) > BYTES_MIN.max(end / SEGMENT_PARTS) {
            self.give_up();
        }
    }
}

/// The bytes of the hint beside a segment, to be looked at by [`entries`]; `None` if there is none.
pub(crate) fn read(fs: &dyn FileSystem, directory: &Path, sequence: u64) -> Option<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let file = fs.open(&path(directory, sequence))?;
        let length = file.size()?.min(BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], wide(done))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(bytes)
    };
    read().ok()
}

/// What is in a segment that ends here, if that is what the hint is of.
pub(crate) fn entries(hint: &[u8], sequence: u64, mark: Mark, end: u64) -> Option<Vec<Found<'_>>> {
    let of = HintOf {
        sequence,
        mark,
        end,
    };
    parse_hint(hint, of)
}

/// Removes the hint of a segment, if there is one.
pub(crate) fn remove(fs: &dyn FileSystem, directory: &Path, sequence: u64) {
    // One that stays is found by the next start, and is of nothing.
    let _ = fs.remove(&path(directory, sequence));
}

/// The segment that a file is the hint of, by its name.
pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

fn write(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = match fs.create(path, 0) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs.remove(path)?;
            fs.create(path, 0)?
        }
        created => created?,
    };
    file.write_at(bytes, 0)
}

fn path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:016x}.{EXTENSION}"))
}
