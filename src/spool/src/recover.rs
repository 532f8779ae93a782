//! From the files on disk to an index: what a start does.
//!
//! Segments are read in order, each once; of those that have a hint, only that: see [`hint`]. The tail that a crash tore off the newest segment is cut: it belongs to groups
//! that nobody was told of. Unreadable bytes anywhere else are copied to `corrupt/`, counted and
//! reported; if that fails, so does the start, and nothing is cut. Where bytes that were durable are not there at all, a file in
//! `corrupt/` says which.
//!
//! What can be read need not be durable: a process that died before its flush leaves it in memory only, and so does a flush
//! that failed. The header of a segment settles those before it: what lies behind the durable end is cut. What no later header
//! settles, in practice the newest segment, is written anew and flushed before anything is removed on its strength; to flush it
//! again would not do, since the system takes pages whose flush failed for clean. After an orderly end a later header settles all,
//! and nothing is written anew. On a full disk the newest segment is written over itself: see [`copy`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::{Durable, Mark, SEGMENT_HEADER, SegmentHeader};
use crate::index::Index;
use crate::number::wide;
use crate::sys::{File, FileSystem};
use crate::{Error, Recovery, hint};

pub(crate) mod copy;
mod replay;

use replay::{Hints, Replay};

/// A sealed segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u64,
    /// The mark of its groups; `None` if there are none.
    pub(crate) mark: Option<Mark>,
    /// Length of the hint beside it; 0 if there is none.
    pub(crate) hint_bytes: u64,
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

/// Reads every segment of a directory. Hints are written for those that have none while so many bytes are free.
pub(crate) fn recover(
    fs: &dyn FileSystem,
    directory: &Path,
    ample_bytes: u64,
) -> Result<Recovered, Error> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let names = fs.list(directory).map_err(read(directory))?;
    let mut all = Vec::new();
    for sequence in sequences(&names) {
        let path = segment_path(directory, sequence);
        let file = fs.open(&path).map_err(read(&path))?;
        all.push(Unread::new(file, sequence).map_err(read(&path))?);
    }
    for unfinished in names.iter().filter(|name| name.ends_with(copy::UNFINISHED)) {
        let path = directory.join(unfinished);
        fs.remove(&path).map_err(read(&path))?;
    }
    settle(&mut all);
    let gone = gone(&all);
    let free = fs.space(directory).map_or(0, |space| space.free);
    let hints = if free >= ample_bytes {
        Hints::Written
    } else {
        Hints::Left
    };
    let mut recovery = Replay::new(fs, directory, hints);
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
    let hints = names.iter().filter_map(|name| hint::sequence_of(name));
    for sequence in hints.filter(|sequence| !segments.contains_key(sequence)) {
        hint::remove(fs, directory, sequence);
    }
    fs.sync_dir(directory).map_err(read(directory))?;
    let corrupt = copy::kept_aside(fs, directory).map_err(read(directory))?;
    Ok(recovery.finish(segments, corrupt))
}

/// What later headers tell of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settled {
    /// Nothing: what is seen may not be durable.
    No,
    /// It was durable up to here.
    To(u64),
    /// A later one is settled, so this one is durable or was settled by an earlier start.
    Long,
}

/// A segment of which only the header was read.
pub(crate) struct Unread {
    pub(crate) sequence: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: Option<SegmentHeader>,
    /// A crash between creation and the first flush leaves a header of zeros: nothing was promised in that file.
    pub(crate) begun: bool,
    pub(crate) settled: Settled,
}

impl Unread {
    pub(crate) fn new(file: Arc<dyn File>, sequence: u64) -> io::Result<Self> {
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
pub(crate) fn settle(all: &mut [Unread]) {
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
pub(crate) fn gone(all: &[Unread]) -> Vec<Durable> {
    let oldest = all.first().map_or(u64::MAX, |unread| unread.sequence);
    let is_there = |sequence| all.iter().any(|unread| unread.sequence == sequence);
    let told = all.iter().filter_map(|unread| unread.header);
    told.map(|header| header.before)
        .filter(|before| before.sequence > oldest && !is_there(before.sequence))
        .collect()
}

/// The segments among these files, in order.
pub(crate) fn sequences(names: &[String]) -> Vec<u64> {
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
    sequences.sort_unstable();
    sequences
}

fn sequence_of(name: &str) -> Option<u64> {
    let digits = name
        .strip_suffix(".seg")
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}
