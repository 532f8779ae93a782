//! What is in the segments, one after the other, becomes the index.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Recovered, Segment, Settled, Unread, copy};
use crate::Recovery;
use crate::format::{Durable, Mark, SEGMENT_HEADER, SegmentHeader};
use crate::hint::{self, Hint};
use crate::index::Index;
use crate::number::wide;
use crate::record::Queue;
use crate::scan::{Found, Piece, Rest, Scanner};
use crate::sys::{File, FileSystem};

/// Whether there is room for hints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hints {
    Written,
    Left,
}

/// The state of a start.
pub(super) struct Replay<'a> {
    fs: &'a dyn FileSystem,
    directory: &'a Path,
    hints: Hints,
    index: Index,
    queue: Queue,
    durable: Durable,
    /// Whether the last header read is of a segment that holds nothing, and tells of that one.
    told: bool,
    truncated: u64,
}

/// What reading a segment came to.
struct Content {
    /// Where what is intact ends.
    end: u64,
    mark: Option<Mark>,
    hint: Beside,
}

/// What hint a segment has.
enum Beside {
    /// One of so many bytes that says what is there.
    Fits(u64),
    /// This one is to be written.
    New(Hint),
    /// Part of the segment is damaged: none.
    None,
}

impl<'a> Replay<'a> {
    pub(super) fn new(fs: &'a dyn FileSystem, directory: &'a Path, hints: Hints) -> Self {
        Self {
            fs,
            directory,
            hints,
            index: Index::default(),
            queue: Queue::default(),
            durable: Durable::default(),
            told: false,
            truncated: 0,
        }
    }

    /// Reads a segment and leaves it such that all that was found in it is durable.
    pub(super) fn segment(&mut self, unread: Unread) -> io::Result<Segment> {
        if let Settled::To(end) = unread.settled {
            self.cut_refused(unread.file.as_ref(), unread.sequence, end)?;
        }
        let Content { end, mark, hint } = match self.hinted(&unread)? {
            Some(content) => content,
            None => self.scanned(&unread)?,
        };
        self.queue.trim(&self.index);
        let Unread {
            sequence,
            file,
            header,
            begun: _,
            settled,
        } = unread;
        if let Settled::To(promised) = settled
            && end < promised
        {
            self.missing(sequence, (end, promised));
        }
        let holds = end > wide(SEGMENT_HEADER);
        let newest = matches!(settled, Settled::No);
        let file = match mark {
            Some(mark) if newest && holds => self.write_anew(&file, sequence, mark, end)?,
            _ => {
                file.truncate(end.min(file.size()?))?;
                if newest {
                    // What was refused, and cut in memory only, must not come back after a start that did not see it.
                    file.sync_data()?;
                }
                file
            }
        };
        if holds {
            self.durable = Durable { sequence, end };
        }
        self.told = !holds && header.is_some_and(|header| header.before == self.durable);
        let hint_bytes = match hint {
            Beside::Fits(bytes) => bytes,
            Beside::New(hint) if holds && self.hints == Hints::Written => {
                hint.write(self.fs, self.directory, end)
            }
            Beside::New(_) | Beside::None => 0,
        };
        let bytes = file.size()?;
        Ok(Segment {
            file,
            bytes,
            mark,
            hint_bytes,
        })
    }

    /// Takes the word of a hint for what is in a segment, if it is of all that the segment holds.
    fn hinted(&mut self, unread: &Unread) -> io::Result<Option<Content>> {
        let Some(header) = unread.header else {
            return Ok(None);
        };
        let end = unread.file.size()?;
        let settled = match unread.settled {
            Settled::No => false,
            Settled::To(promised) => promised == end,
            Settled::Long => true,
        };
        if !settled || end <= wide(SEGMENT_HEADER) {
            return Ok(None);
        }
        let hint = hint::read(self.fs, self.directory, unread.sequence).unwrap_or_default();
        let Some(found) = hint::entries(&hint, unread.sequence, header.mark, end) else {
            return Ok(None);
        };
        self.replay(found);
        Ok(Some(Content {
            end,
            mark: Some(header.mark),
            hint: Beside::Fits(wide(hint.len())),
        }))
    }

    /// Reads all of a segment, and keeps aside what is damaged.
    fn scanned(&mut self, unread: &Unread) -> io::Result<Content> {
        let Unread {
            sequence,
            ref file,
            header,
            begun,
            settled,
        } = *unread;
        let newest = matches!(settled, Settled::No);
        let mut scanner = Scanner::new(file.as_ref(), sequence, header.map(|header| header.mark))?;
        let mark = scanner.mark();
        let mut hint = mark.map(|mark| Hint::new(sequence, mark));
        // In one that holds nothing durable, and in the newest, a crash may have torn the header, but nothing that lies
        // behind it: that is begun when the header is durable.
        let empty = matches!(settled, Settled::To(end) if end <= wide(SEGMENT_HEADER));
        if header.is_none() && begun && !newest && !empty {
            let end = file.size()?.min(wide(SEGMENT_HEADER));
            self.keep_aside(file.as_ref(), sequence, (0, end))?;
            hint = None;
        }
        let mut end = wide(SEGMENT_HEADER);
        while let Some(piece) = scanner.next()? {
            match piece {
                Piece::Group(found) => {
                    if let Some(hint) = &mut hint {
                        hint.group(&found, scanner.position());
                    }
                    self.replay(found);
                }
                Piece::Damage { start, end } => {
                    self.keep_aside(file.as_ref(), sequence, (start, end))?;
                    hint = None;
                }
                Piece::Tail {
                    rest: Rest::Zeros, ..
                } => break,
                Piece::Tail {
                    rest: Rest::Stale, ..
                } if newest => break,
                Piece::Tail { start, .. } => {
                    let size = file.size()?;
                    self.torn(sequence, start, size);
                    // A tail that no crash explains is damage.
                    if newest && begun && mark.is_none() {
                        self.keep_aside(file.as_ref(), sequence, (0, size))?;
                    } else if !newest {
                        self.keep_aside(file.as_ref(), sequence, (start, size))?;
                        hint = None;
                    }
                    break;
                }
            }
            end = scanner.position();
        }
        let hint = hint.map_or(Beside::None, Beside::New);
        Ok(Content { end, mark, hint })
    }

    fn replay(&mut self, found: Vec<Found<'_>>) {
        for one in found {
            match one {
                Found::Message(queued, place) => {
                    self.index.insert(queued.id, place);
                    self.queue.add(&queued);
                }
                Found::Attempt(attempt) => self.index.merge(&attempt),
                Found::Done(id) => self.index.remove(id),
            }
        }
    }

    /// Cuts what a failed write left, if cutting it failed then.
    fn cut_refused(&mut self, file: &dyn File, sequence: u64, end: u64) -> io::Result<()> {
        let size = file.size()?;
        if size <= end {
            return Ok(());
        }
        tracing::warn!(sequence, end, "cutting what was refused");
        self.truncated += size - end;
        file.truncate(end)?;
        // The header that told may be gone by the next start.
        file.sync_data()
    }

    fn torn(&mut self, sequence: u64, start: u64, end: u64) {
        tracing::warn!(
            sequence,
            start,
            end,
            "cutting what a crash left of an unfinished write"
        );
        self.truncated += end.saturating_sub(start);
    }

    /// Bytes that were durable are gone: there is nothing to keep, but somebody should know.
    pub(super) fn missing(&self, sequence: u64, (start, end): (u64, u64)) {
        tracing::error!(sequence, start, end, "durable bytes are missing");
        if let Err(error) = copy::missing(self.fs, self.directory, sequence, (start, end)) {
            // The next start finds it again.
            tracing::error!(%error, sequence, "cannot note in corrupt/ that bytes are missing");
        }
    }

    fn keep_aside(&self, file: &dyn File, sequence: u64, piece: (u64, u64)) -> io::Result<()> {
        let (start, end) = piece;
        tracing::error!(
            sequence,
            start,
            end,
            "damaged bytes in the spool, kept in corrupt/"
        );
        let missing = copy::Unreadable::Fails;
        copy::aside(self.fs, self.directory, file, sequence, piece, missing)
    }

    fn write_anew(
        &self,
        file: &Arc<dyn File>,
        sequence: u64,
        mark: Mark,
        end: u64,
    ) -> io::Result<Arc<dyn File>> {
        let header = SegmentHeader {
            sequence,
            mark,
            before: self.durable,
        };
        copy::anew(self.fs, self.directory, file, header, end)
    }

    pub(super) fn finish(mut self, segments: BTreeMap<u64, Segment>, corrupt: u64) -> Recovered {
        self.queue.finish(&self.index);
        let report = Recovery {
            queued: self.queue,
            corrupt,
            truncated_bytes: self.truncated,
            segments: segments.len(),
        };
        Recovered {
            index: self.index,
            segments,
            durable: self.durable,
            told: self.told,
            report,
        }
    }
}
