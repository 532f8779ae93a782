//! From the files on disk to an index: what a start does.
//!
//! Segments are read in order, each once. The tail that a crash tore off the newest segment is cut: it belongs to groups
//! that nobody was told of. Unreadable bytes anywhere else are copied to `corrupt/`, counted and
//! reported, and never deleted.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::{self, MessageHead, SEGMENT_HEADER};
use crate::index::Index;
use crate::record::Queued;
use crate::scan::{Found, Piece, Scanner};
use crate::sys::{File, FileSystem};
use crate::{Error, MessageId, Recovery};

/// How much of a damaged piece is copied at once.
const COPY_CHUNK: usize = 1 << 20;

/// A sealed segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u64,
}

/// What was found.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(crate) report: Recovery,
}

/// File name of a segment.
pub(crate) fn segment_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:016x}.seg"))
}

/// Reads every segment of a directory.
pub(crate) fn recover(fs: &dyn FileSystem, directory: &Path) -> Result<Recovered, Error> {
    let read = |source| Error::Read {
        path: directory.to_owned(),
        source,
    };
    let names = fs.list(directory).map_err(read)?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
    sequences.sort_unstable();
    let newest = sequences.last().copied();
    let mut recovery = Replay {
        fs,
        directory,
        index: Index::default(),
        heads: HashMap::new(),
        corrupt: 0,
        truncated: 0,
    };
    let mut segments = BTreeMap::new();
    for sequence in sequences {
        let path = segment_path(directory, sequence);
        let failed = |source| Error::Read {
            path: path.clone(),
            source,
        };
        let file = fs.open(&path).map_err(failed)?;
        recovery
            .segment(file.as_ref(), sequence, Some(sequence) == newest)
            .map_err(failed)?;
        let bytes = file.size().map_err(failed)?;
        segments.insert(sequence, Segment { file, bytes });
    }
    Ok(recovery.finish(segments))
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
    corrupt: u64,
    truncated: u64,
}

impl Replay<'_> {
    fn segment(&mut self, file: &dyn File, sequence: u64, newest: bool) -> io::Result<()> {
        let mut header = [0; SEGMENT_HEADER];
        let read = file.read_at(&mut header, 0)?;
        // A crash between creation and the first flush leaves a header of zeros: nothing was promised in that file.
        let begun = header[..read].iter().any(|byte| *byte != 0);
        if format::check_segment_header(&header[..read])?.is_err() && begun && !newest {
            self.keep_aside(file, sequence, 0, u64::try_from(read).unwrap_or(0))?;
        }
        let mut scanner = Scanner::new(file, sequence)?;
        while let Some(piece) = scanner.next()? {
            match piece {
                Piece::Group(found) => self.replay(found),
                Piece::Damage { start, end } => self.keep_aside(file, sequence, start, end)?,
                Piece::Tail { start, torn } => self.tail(file, sequence, start, torn, newest)?,
            }
        }
        Ok(())
    }

    fn replay(&mut self, found: Vec<Found>) {
        for one in found {
            match one {
                Found::Message(head, place) => {
                    self.heads.insert(head.id, head);
                    self.index.insert(head.id, place);
                }
                Found::Attempt(attempt) => self.index.merge(attempt),
                Found::Done(id) => {
                    self.heads.remove(&id);
                    self.index.remove(id);
                }
            }
        }
    }

    fn tail(
        &mut self,
        file: &dyn File,
        sequence: u64,
        start: u64,
        torn: bool,
        newest: bool,
    ) -> io::Result<()> {
        if torn {
            let bytes = file.size()?.saturating_sub(start);
            tracing::warn!(
                sequence,
                start,
                bytes,
                "cutting what a crash left of an unfinished write"
            );
            self.truncated += bytes;
            if !newest {
                self.keep_aside(file, sequence, start, start + bytes)?;
            }
        }
        file.truncate(start)
    }

    fn keep_aside(
        &mut self,
        file: &dyn File,
        sequence: u64,
        start: u64,
        end: u64,
    ) -> io::Result<()> {
        self.corrupt += 1;
        tracing::error!(
            sequence,
            start,
            end,
            "damaged bytes in the spool, kept in corrupt/"
        );
        let aside = self.directory.join("corrupt");
        self.fs.create_dir(&aside)?;
        let path = aside.join(format!("{sequence:016x}-{start:x}.bin"));
        // Kept by an earlier start already.
        let Ok(copy) = self.fs.create(&path, end - start) else {
            return Ok(());
        };
        let mut buffer = vec![0; COPY_CHUNK];
        let mut at = start;
        while at < end {
            let want = usize::try_from(end - at)
                .unwrap_or(COPY_CHUNK)
                .min(COPY_CHUNK);
            let read = file.read_at(&mut buffer[..want], at)?;
            if read == 0 {
                break;
            }
            copy.write_at(&buffer[..read], at - start)?;
            at += u64::try_from(read).unwrap_or(0);
        }
        copy.sync_data()?;
        self.fs.sync_dir(&aside)
    }

    fn finish(self, segments: BTreeMap<u64, Segment>) -> Recovered {
        let mut queued: Vec<Queued> = self
            .heads
            .into_values()
            .map(|head| self.index.queued(head))
            .collect();
        queued.sort_unstable_by_key(|message| message.id);
        let report = Recovery {
            queued,
            corrupt: self.corrupt,
            truncated_bytes: self.truncated,
            segments: segments.len(),
        };
        Recovered {
            index: self.index,
            segments,
            report,
        }
    }
}
