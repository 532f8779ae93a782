//! Reads a segment from end to end in bounded memory.
//!
//! A group is reported only when every record of it is intact. What cannot be read is damage, and the scan goes on
//! at the next place where an intact group begins: one bad record does not lose those behind it. What is unreadable with
//! nothing intact behind it is the tail that a crash left. Groups without the mark of the segment are none.

use std::io;

use crate::format::{
    END_MARK, GROUP_END, GROUP_HEADER, GROUP_MAGIC, GroupHeader, Kind, Mark, RECORD_HEADER,
    RecordHeader, SEGMENT_HEADER, envelope_end, parse_attempt, parse_done, parse_queued,
};
use crate::index::Place;
use crate::number::wide;
use crate::record::{Attempt, Queued};
use crate::{MessageId, sys};

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// What a group holds, without the bodies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Found<'a> {
    Attempt(Attempt),
    Done(MessageId),
    /// As if nothing had become of it.
    Message(Queued<'a>, Place),
}

/// A piece of a segment.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// An intact group.
    Group(Vec<Found<'static>>),
    /// Unreadable bytes with intact groups behind them.
    Damage { start: u64, end: u64 },
    /// Bytes at the end that are no group.
    Tail { start: u64, rest: Rest },
}

/// What lies behind the last group of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rest {
    /// Nothing was written there.
    Zeros,
    /// What the file held when it was another segment: groups with another mark.
    Stale,
    /// What a crash left of an unfinished write, or damage.
    Torn,
}

/// Scans one segment.
pub(crate) struct Scanner<'a> {
    file: &'a dyn sys::File,
    segment: u64,
    /// `None` if it cannot be told: then there are no groups.
    mark: Option<Mark>,
    length: u64,
    position: u64,
    buffer: Vec<u8>,
    /// Where the bytes in `buffer` begin.
    start: u64,
}

impl<'a> Scanner<'a> {
    /// Scans with the mark in the segment's header; if that is damaged, with the one in the first group, which no body
    /// can get at either.
    pub(crate) fn new(
        file: &'a dyn sys::File,
        segment: u64,
        mark: Option<Mark>,
    ) -> io::Result<Self> {
        let length = file.size()?;
        let position = wide(SEGMENT_HEADER).min(length);
        let mut scanner = Self {
            file,
            segment,
            mark,
            length,
            position,
            buffer: Vec::new(),
            start: 0,
        };
        if mark.is_none() {
            let first = GroupHeader::parse(scanner.peek(position, GROUP_HEADER)?);
            scanner.mark = first.map(|header| header.mark);
        }
        Ok(scanner)
    }

    /// Continues at an offset where a group begins.
    pub(crate) fn seek(&mut self, position: u64) {
        self.position = position.max(self.position);
    }

    /// Takes the file for no longer than this.
    pub(crate) fn limit(&mut self, length: u64) {
        self.length = self.length.min(length);
    }

    /// The mark of the groups.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Where the next piece begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next piece; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.position >= self.length {
            return Ok(None);
        }
        let start = self.position;
        if let Some((found, end)) = self.group(start)? {
            self.position = end;
            return Ok(Some(Piece::Group(found)));
        }
        let mut at = start + 1;
        while let Some(candidate) = self.find_magic(at)? {
            if self.group(candidate)?.is_some() {
                self.position = candidate;
                return Ok(Some(Piece::Damage {
                    start,
                    end: candidate,
                }));
            }
            at = candidate + 1;
        }
        self.position = self.length;
        let rest = self.rest(start)?;
        Ok(Some(Piece::Tail { start, rest }))
    }

    /// What lies there and is no group of this segment, intact or not.
    fn rest(&mut self, start: u64) -> io::Result<Rest> {
        if self.is_zero(start, self.length)? {
            return Ok(Rest::Zeros);
        }
        let Some(mark) = self.mark else {
            // Before a file is another segment the place of its first group is made zero: none was begun.
            let first = start.saturating_add(wide(GROUP_HEADER));
            let blank = self.is_zero(start, first.min(self.length))?;
            return Ok(if blank { Rest::Stale } else { Rest::Torn });
        };
        let own: Vec<u8> = GROUP_MAGIC.iter().chain(&mark).copied().collect();
        if self.find(&own, start)?.is_some() {
            return Ok(Rest::Torn);
        }
        let mut at = start;
        while let Some(candidate) = self.find(GROUP_MAGIC, at)? {
            if GroupHeader::parse(self.peek(candidate, GROUP_HEADER)?).is_some() {
                return Ok(Rest::Stale);
            }
            at = candidate + 1;
        }
        Ok(Rest::Torn)
    }

    /// The group at an offset, if an intact one is there, and where it ends.
    fn group(&mut self, start: u64) -> io::Result<Option<(Vec<Found<'static>>, u64)>> {
        let header = GroupHeader::parse(self.peek(start, GROUP_HEADER)?);
        let Some(header) = header.filter(|header| Some(header.mark) == self.mark) else {
            return Ok(None);
        };
        let mut at = start + wide(GROUP_HEADER);
        let Some(end) = at
            .checked_add(header.length)
            .filter(|end| *end <= self.length)
        else {
            return Ok(None);
        };
        let mut found = Vec::new();
        for _ in 0..header.records {
            let Some((one, next)) = self.record(at, end)? else {
                return Ok(None);
            };
            found.push(one);
            at = next;
        }
        let whole = at == end && self.peek(end, END_MARK)? == GROUP_END;
        Ok(whole.then(|| (found, end + wide(END_MARK))))
    }

    fn record(&mut self, start: u64, limit: u64) -> io::Result<Option<(Found<'static>, u64)>> {
        let mut crc = crc32fast::Hasher::new();
        let bytes = self.peek(start, RECORD_HEADER)?;
        let Some(header) = RecordHeader::parse(bytes) else {
            return Ok(None);
        };
        crc.update(&bytes[..8]);
        let payload = start + wide(RECORD_HEADER);
        let end = payload + u64::from(header.length);
        if end > limit {
            return Ok(None);
        }
        let Some(found) = self.payload(header, start)? else {
            return Ok(None);
        };
        let mut at = payload;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let bytes = self.peek(at, want)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            crc.update(bytes);
            at += wide(bytes.len());
        }
        Ok((crc.finalize() == header.crc).then_some((found, end)))
    }

    /// What the payload of the record at `start` says.
    fn payload(&mut self, header: RecordHeader, start: u64) -> io::Result<Option<Found<'static>>> {
        let at = start + wide(RECORD_HEADER);
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        Ok(match header.kind {
            Kind::Done => parse_done(self.peek(at, length.min(CHUNK))?)
                .ok()
                .map(Found::Done),
            Kind::Attempt => parse_attempt(self.peek(at, length)?, header.version)
                .ok()
                .map(Found::Attempt),
            Kind::Message => self.message(header, start)?,
        })
    }

    fn message(&mut self, header: RecordHeader, start: u64) -> io::Result<Option<Found<'static>>> {
        let at = start + wide(RECORD_HEADER);
        let Ok(end) = envelope_end(self.peek(at, 4)?, header.version) else {
            return Ok(None);
        };
        // No further than the record goes, whatever the envelope says.
        let limit = usize::try_from(header.length).unwrap_or(usize::MAX);
        let Ok(queued) = parse_queued(self.peek(at, end.min(limit))?, header.version) else {
            return Ok(None);
        };
        // What this program writes is shorter, so that the length with the header is too.
        let length = u64::from(header.length) + wide(RECORD_HEADER);
        let place = u32::try_from(length).map(|length| Place {
            segment: self.segment,
            offset: start,
            length,
        });
        Ok(place.ok().map(|place| Found::Message(queued, place)))
    }

    /// The bytes at an offset, up to `want` of them; fewer only at the end of the file.
    fn peek(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let buffered = at
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok());
        let have = buffered
            .and_then(|skip| self.buffer.len().checked_sub(skip))
            .unwrap_or(0);
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        if have < want.min(left) {
            self.fill(at, want.max(CHUNK).min(left))?;
        }
        let skip = usize::try_from(at - self.start.min(at)).unwrap_or(usize::MAX);
        let rest = self.buffer.get(skip..).unwrap_or_default();
        Ok(&rest[..want.min(rest.len())])
    }

    fn fill(&mut self, at: u64, want: usize) -> io::Result<()> {
        self.buffer.resize(want, 0);
        self.start = at;
        let mut done = 0;
        while done < want {
            match self
                .file
                .read_at(&mut self.buffer[done..], at + wide(done))?
            {
                0 => break,
                read => done += read,
            }
        }
        self.buffer.truncate(done);
        Ok(())
    }

    fn find_magic(&mut self, at: u64) -> io::Result<Option<u64>> {
        let Some(mark) = self.mark else {
            return Ok(None);
        };
        let begin: Vec<u8> = GROUP_MAGIC.iter().chain(&mark).copied().collect();
        self.find(&begin, at)
    }

    /// Where these bytes stand next.
    fn find(&mut self, begin: &[u8], mut at: u64) -> io::Result<Option<u64>> {
        while at < self.length {
            let bytes = self.peek(at, CHUNK)?;
            if let Some(hit) = bytes
                .windows(begin.len())
                .position(|window| window == begin)
            {
                return Ok(Some(at + wide(hit)));
            }
            let step = wide(bytes.len()).saturating_sub(wide(begin.len() - 1));
            if step == 0 || bytes.len() < CHUNK {
                return Ok(None);
            }
            at += step;
        }
        Ok(None)
    }

    fn is_zero(&mut self, mut at: u64, end: u64) -> io::Result<bool> {
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let bytes = self.peek(at, want)?;
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += wide(bytes.len());
        }
        Ok(true)
    }
}
