//! A spool that no relay has open, most often a copy of its volume: what is in it, what is damaged, and the messages.
//!
//! Nothing is written, nothing is locked, hints are not asked: all that is there is read and every checksum compared, so that
//! this finds what a start, which goes by hints, leaves for later. What counts is what a start would find: groups behind the durable
//! end of a segment were refused and are not told.
//!
//! A copy that was made while a relay worked is no moment in time. It can hold a message twice or not at all, and lack what later
//! segments rely on; stop the relay, or take a snapshot of the volume.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::SEGMENT_HEADER;
use crate::index::Index;
use crate::number::wide;
use crate::read::{read_envelope, read_message};
use crate::record::{Message, Queue};
use crate::recover::{Settled, Unread, copy, gone, segment_path, sequences, settle};
use crate::scan::{Found, Piece, Rest, Scanner};
use crate::sys::{File, FileSystem, LOCK, RealFileSystem};
use crate::{MessageId, ReadError};

/// Why a spool could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no segment in the directory, and no relay has ever had it open: most likely it is another one.
    #[error("{} is no spool: there are neither segments in it nor the lock of a relay", .0.display())]
    NoSpool(PathBuf),
    /// The system could not read something, or it is in a format of another release.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What all of a spool looks like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Oldest first.
    pub segments: Vec<Segment>,
    /// Segments that are not there, though a later one tells that they held something.
    pub gone: Vec<u64>,
    /// Pieces that earlier starts kept in `corrupt/`.
    pub aside: u64,
}

/// What a segment looks like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Segment {
    /// Its number, which is its name in hexadecimal digits.
    pub sequence: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Intact groups.
    pub groups: u64,
    /// Messages in them, those that are finished too.
    pub messages: u64,
    /// Attempts in them.
    pub attempts: u64,
    /// Ends of messages in them.
    pub done: u64,
    /// Bytes at the end that were never promised to anybody: what a crash left of an unfinished write, or what a failed one did.
    pub unfinished_bytes: u64,
    /// What should be there and is not.
    pub damage: Vec<Damaged>,
}

/// Bytes of a segment that are not what was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damaged {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// What is the matter.
    pub fault: Fault,
}

/// What is the matter with bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The header of the segment. It costs no message.
    Header,
    /// They were on stable storage and are not there.
    Missing,
    /// They are no intact groups.
    Unreadable,
}

impl Report {
    /// Whether nothing is damaged. Pieces in `corrupt/` are another matter: they were damaged once.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let damaged = |segment: &Segment| !segment.damage.is_empty();
        self.gone.is_empty() && !self.segments.iter().any(damaged)
    }
}

/// A spool as it lies on disk.
#[derive(Debug)]
pub struct Volume {
    files: BTreeMap<u64, Arc<dyn File>>,
    index: Index,
    queue: Queue,
    report: Report,
}

impl Volume {
    /// Reads all of the spool in a directory.
    ///
    /// # Errors
    /// [`Error`]; damage is none.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Self::open_on(&RealFileSystem, directory)
    }

    /// The same on any file system.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(fs: &dyn FileSystem, directory: &Path) -> Result<Self, Error> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Read { path, source }
        };
        let names = fs.list(directory).map_err(read(directory))?;
        let mut all = Vec::new();
        for sequence in sequences(&names) {
            let path = segment_path(directory, sequence);
            let file = fs.open_to_read(&path).map_err(read(&path))?;
            all.push(Unread::new(file, sequence).map_err(read(&path))?);
        }
        // A relay that has nothing queued may have no segment.
        if all.is_empty() && !names.iter().any(|name| name == LOCK) {
            return Err(Error::NoSpool(directory.to_owned()));
        }
        settle(&mut all);
        let mut volume = Self {
            files: BTreeMap::new(),
            index: Index::default(),
            queue: Queue::default(),
            report: Report {
                segments: Vec::with_capacity(all.len()),
                gone: gone(&all).iter().map(|gone| gone.sequence).collect(),
                aside: copy::kept_aside(fs, directory).map_err(read(directory))?,
            },
        };
        for unread in all {
            let path = segment_path(directory, unread.sequence);
            volume.segment(unread).map_err(read(&path))?;
        }
        volume.queue.finish(&volume.index);
        Ok(volume)
    }

    /// What it looks like.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The unfinished messages, as a start would find them.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Reads an unfinished message.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, id: MessageId) -> Result<Message, ReadError> {
        let place = self.index.place(id).ok_or(ReadError::Unknown)?;
        let file = self.files.get(&place.segment);
        read_message(file.ok_or(ReadError::Unknown)?.as_ref(), place)
    }

    /// Reads only the envelope of an unfinished message; headers and body are empty.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_envelope(&self, id: MessageId) -> Result<Message, ReadError> {
        let place = self.index.place(id).ok_or(ReadError::Unknown)?;
        let file = self.files.get(&place.segment);
        read_envelope(file.ok_or(ReadError::Unknown)?.as_ref(), place)
    }

    /// Takes in what a start would take in of a segment, and notes what it would complain of.
    fn segment(&mut self, unread: Unread) -> io::Result<()> {
        let mut report = Segment {
            sequence: unread.sequence,
            bytes: unread.file.size()?,
            ..Segment::default()
        };
        let header = wide(SEGMENT_HEADER);
        let promised = match unread.settled {
            Settled::To(end) => Some(end),
            Settled::No | Settled::Long => None,
        };
        let holds = promised.is_none_or(|end| end > header);
        let newest = matches!(unread.settled, Settled::No);
        let limit = promised.map_or(report.bytes, |end| end.min(report.bytes));
        report.unfinished_bytes = report.bytes - limit;
        if unread.header.is_none() && unread.begun && !newest && holds {
            report.damage(0, header.min(report.bytes), Fault::Header);
        }
        let end = self.groups(&unread, limit, &mut report)?;
        if let Some(promised) = promised.filter(|promised| end < *promised) {
            report.damage(end, promised, Fault::Missing);
        }
        self.queue.trim(&self.index);
        self.files.insert(unread.sequence, unread.file);
        self.report.segments.push(report);
        Ok(())
    }

    /// Reads the groups of a segment that end before the limit; returns where they end.
    fn groups(&mut self, unread: &Unread, limit: u64, report: &mut Segment) -> io::Result<u64> {
        let newest = matches!(unread.settled, Settled::No);
        let mark = unread.header.map(|header| header.mark);
        let mut scanner = Scanner::new(unread.file.as_ref(), unread.sequence, mark)?;
        scanner.limit(limit);
        let mut intact = wide(SEGMENT_HEADER);
        while let Some(piece) = scanner.next()? {
            match piece {
                Piece::Group(found) => {
                    report.groups += 1;
                    self.replay(found, report);
                }
                Piece::Damage { start, end } => report.damage(start, end, Fault::Unreadable),
                Piece::Tail {
                    rest: Rest::Zeros, ..
                } => break,
                Piece::Tail {
                    rest: Rest::Stale, ..
                } if newest => break,
                Piece::Tail { start, .. } if newest => {
                    report.unfinished_bytes += limit - start;
                    break;
                }
                Piece::Tail { start, .. } => {
                    report.damage(start, limit, Fault::Unreadable);
                    intact = limit;
                    break;
                }
            }
            intact = scanner.position();
        }
        Ok(intact)
    }

    fn replay(&mut self, found: Vec<Found<'_>>, report: &mut Segment) {
        for one in found {
            match one {
                Found::Message(queued, place) => {
                    report.messages += 1;
                    self.index.insert(queued.id, place);
                    self.queue.add(&queued);
                }
                Found::Attempt(attempt) => {
                    report.attempts += 1;
                    self.index.merge(&attempt);
                }
                Found::Done(id) => {
                    report.done += 1;
                    self.index.remove(id);
                }
            }
        }
    }
}

impl Segment {
    fn damage(&mut self, start: u64, end: u64, fault: Fault) {
        self.damage.push(Damaged { start, end, fault });
    }
}
