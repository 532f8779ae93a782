//! From the files on disk to an index: what a start does.
//!
//! Segments are read in order, each once. The tail that a crash tore off the newest segment is cut: it belongs to groups
//! that nobody was told of. Unreadable bytes anywhere else are copied to `corrupt/`, counted and
//! reported; if that fails, so does the start, and nothing is cut. Where bytes that were durable are not there at all, a file in
//! `corrupt/` says which.
//!
//! What can be read need not be durable: a process that died before its flush leaves it in memory only, and so does a flush
//! that failed. The header of a segment settles those before it: what lies behind the durable end is cut. What no later header
//! settles, in practice the newest segment, is written anew and flushed before anything is removed on its strength; to flush it
//! again would not do, since the system takes pages whose flush failed for clean. After an orderly end a later header settles all,
//! and nothing is written anew. On a full disk the newest segment is written over itself: see [`copy`].

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::{Durable, Mark, MessageHead, SEGMENT_HEADER, SegmentHeader};
use crate::index::Index;
use crate::record::Queued;
use crate::scan::{Found, Piece, Scanner};
use crate::sys::{File, FileSystem};
use crate::{Error, MessageId, Recovery};

pub(crate) mod copy;

/// A sealed segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u64,
    /// The mark of its groups; `None` if there are none.
    pub(crate) mark: Option<Mark>,
}

/// What was found.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<u64, Segment>,
    /// The newest segment that holds anything.
    pub(crate) durable: Durable,
    /// Whether a later segment, which holds nothing, tells that: then the next start has nothing to copy.
    pub(crate) told: bool,
    pub(crate) report: Recovery,
}

/// File name of a segment.
pub(crate) fn segment_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:016x}.seg"))
}

/// Reads every segment of a directory.
pub(crate) fn recover(fs: &dyn FileSystem, directory: &Path) -> Result<Recovered, Error> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let names = fs.list(directory).map_err(read(directory))?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
    sequences.sort_unstable();
    let mut all = Vec::new();
    for sequence in sequences {
        let path = segment_path(directory, sequence);
        all.push(Unread::open(fs, &path, sequence).map_err(read(&path))?);
    }
    for unfinished in names.iter().filter(|name| name.ends_with(copy::UNFINISHED)) {
        let path = directory.join(unfinished);
        fs.remove(&path).map_err(read(&path))?;
    }
    settle(&mut all);
    let gone = gone(&all);
    let mut recovery = Replay {
        fs,
        directory,
        index: Index::default(),
        heads: HashMap::new(),
        durable: Durable::default(),
        told: false,
        truncated: 0,
    };
    for Durable { sequence, end } in gone {
        recovery.missing(sequence, (0, end));
    }
    let mut segments = BTreeMap::new();
    for unread in all {
        let sequence = unread.sequence;
        let path = segment_path(directory, sequence);
        let segment = recovery.segment(unread).map_err(read(&path))?;
        segments.insert(sequence, segment);
    }
    fs.sync_dir(directory).map_err(read(directory))?;
    let corrupt = copy::kept_aside(fs, directory).map_err(read(directory))?;
    Ok(recovery.finish(segments, corrupt))
}

/// What later headers tell of a segment.
#[derive(Clone, Copy, Debug)]
enum Settled {
    /// Nothing: what is seen may not be durable.
    No,
    /// It was durable up to here.
    To(u64),
    /// A later one is settled, so this one is durable or was settled by an earlier start.
    Long,
}

/// A segment of which only the header was read.
struct Unread {
    sequence: u64,
    file: Arc<dyn File>,
    header: Option<SegmentHeader>,
    /// A crash between creation and the first flush leaves a header of zeros: nothing was promised in that file.
    begun: bool,
    settled: Settled,
}

impl Unread {
    fn open(fs: &dyn FileSystem, path: &Path, sequence: u64) -> io::Result<Self> {
        let file = fs.open(path)?;
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.read_at(&mut bytes, 0)?;
        let header = SegmentHeader::parse(&bytes[..read])?.ok();
        Ok(Self {
            sequence,
            file,
            header,
            begun: bytes.iter().any(|byte| *byte != 0),
            settled: Settled::No,
        })
    }
}

/// Puts together what the headers tell of the segments before them; the nearest later one counts.
fn settle(all: &mut [Unread]) {
    let mut later: Option<Durable> = None;
    for unread in all.iter_mut().rev() {
        unread.settled = match later {
            None => Settled::No,
            Some(durable) if durable.sequence == unread.sequence => Settled::To(durable.end),
            Some(durable) if durable.sequence < unread.sequence => {
                Settled::To(wide(SEGMENT_HEADER))
            }
            Some(_) => Settled::Long,
        };
        later = unread.header.map(|header| header.before).or(later);
    }
}

/// Segments that held something and are not there, though older ones are: only the oldest is ever removed.
fn gone(all: &[Unread]) -> Vec<Durable> {
    let oldest = all.first().map_or(u64::MAX, |unread| unread.sequence);
    let is_there = |sequence| all.iter().any(|unread| unread.sequence == sequence);
    let told = all.iter().filter_map(|unread| unread.header);
    told.map(|header| header.before)
        .filter(|before| before.sequence > oldest && !is_there(before.sequence))
        .collect()
}

fn sequence_of(name: &str) -> Option<u64> {
    let digits = name
        .strip_suffix(".seg")
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

struct Replay<'a> {
    fs: &'a dyn FileSystem,
    directory: &'a Path,
    index: Index,
    heads: HashMap<MessageId, MessageHead>,
    durable: Durable,
    /// Whether the last header read is of a segment that holds nothing, and tells of that one.
    told: bool,
    truncated: u64,
}

impl Replay<'_> {
    /// Reads a segment and leaves it such that all that was found in it is durable.
    fn segment(&mut self, unread: Unread) -> io::Result<Segment> {
        let Unread {
            sequence,
            file,
            header,
            begun,
            settled,
        } = unread;
        let newest = matches!(settled, Settled::No);
        if let Settled::To(end) = settled {
            self.cut_refused(file.as_ref(), sequence, end)?;
        }
        let mut scanner = Scanner::new(file.as_ref(), sequence, header.map(|header| header.mark))?;
        let mark = scanner.mark();
        // In one that holds nothing durable, and in the newest, a crash may have torn the header, but nothing that lies
        // behind it: that is begun when the header is durable.
        let empty = matches!(settled, Settled::To(end) if end <= wide(SEGMENT_HEADER));
        if header.is_none() && begun && !newest && !empty {
            let end = file.size()?.min(wide(SEGMENT_HEADER));
            self.keep_aside(file.as_ref(), sequence, 0, end)?;
        }
        let untold = newest && begun && mark.is_none();
        let mut end = wide(SEGMENT_HEADER);
        while let Some(piece) = scanner.next()? {
            match piece {
                Piece::Group(found) => self.replay(found),
                Piece::Damage { start, end } => {
                    self.keep_aside(file.as_ref(), sequence, start, end)?;
                }
                Piece::Tail { torn: false, .. } => break,
                Piece::Tail { start, torn: true } => {
                    let size = file.size()?;
                    self.torn(sequence, start, size);
                    // A tail that no crash explains is damage.
                    if untold {
                        self.keep_aside(file.as_ref(), sequence, 0, size)?;
                    } else if !newest {
                        self.keep_aside(file.as_ref(), sequence, start, size)?;
                    }
                    break;
                }
            }
            end = scanner.position();
        }
        if let Settled::To(promised) = settled
            && end < promised
        {
            self.missing(sequence, (end, promised));
        }
        let holds = end > wide(SEGMENT_HEADER);
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
        let bytes = file.size()?;
        Ok(Segment { file, bytes, mark })
    }

    fn replay(&mut self, found: Vec<Found>) {
        for one in found {
            match one {
                Found::Message(head, place) => {
                    self.heads.insert(head.id, head);
                    self.index.insert(head.id, place);
                }
                Found::Attempt(attempt) => self.index.merge(&attempt),
                Found::Done(id) => {
                    self.heads.remove(&id);
                    self.index.remove(id);
                }
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
    fn missing(&self, sequence: u64, (start, end): (u64, u64)) {
        tracing::error!(sequence, start, end, "durable bytes are missing");
        if let Err(error) = copy::missing(self.fs, self.directory, sequence, (start, end)) {
            // The next start finds it again.
            tracing::error!(%error, sequence, "cannot note in corrupt/ that bytes are missing");
        }
    }

    fn keep_aside(
        &mut self,
        file: &dyn File,
        sequence: u64,
        start: u64,
        end: u64,
    ) -> io::Result<()> {
        tracing::error!(
            sequence,
            start,
            end,
            "damaged bytes in the spool, kept in corrupt/"
        );
        let missing = copy::Unreadable::Fails;
        copy::aside(
            self.fs,
            self.directory,
            file,
            sequence,
            (start, end),
            missing,
        )
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

    fn finish(self, segments: BTreeMap<u64, Segment>, corrupt: u64) -> Recovered {
        let mut queued: Vec<Queued> = self
            .heads
            .into_values()
            .map(|head| self.index.queued(head))
            .collect();
        queued.sort_unstable_by_key(|message| message.id);
        let report = Recovery {
            queued,
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

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
