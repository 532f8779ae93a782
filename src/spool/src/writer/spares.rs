//! Files of segments that are gone, kept to be segments again: their blocks have been written, which makes a flush cheap
//! ([`super::segment`]), and neither removal nor creation moves them.
//!
//! What such a file held is there until it is written over. None of it can be taken for a record of the new segment, whose mark is another one; and
//! where the first group begins is made zero before the file gets its new name, because a start that finds the header damaged takes the
//! mark from that group.
//!
//! They count as room: the next segment takes one before it takes anything of the disk, and when the disk is tight they are removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::segment::Blank;
use crate::format::{GROUP_HEADER, SEGMENT_HEADER};
use crate::hint;
use crate::number::wide;
use crate::recover::segment_path;
use crate::shared::Shared;
use crate::sys::File;

/// Most files that are kept. One is used up while the next segment becomes free; a second one bridges a moment in which none does.
const SPARES_MAX: usize = 2;

/// Bytes that are made zero: the header, and where the first group begins.
const BLANK: usize = SEGMENT_HEADER + GROUP_HEADER;

/// How the name of such a file ends.
const EXTENSION: &str = "spare";

#[derive(Debug)]
struct Spare {
    path: PathBuf,
    file: Arc<dyn File>,
    bytes: u64,
}

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<Spare>);

impl Spares {
    /// Those that an earlier life left; what is no use is removed.
    pub(super) fn found(shared: &Shared) -> Self {
        let mut spares = Self::default();
        let names = shared.fs.list(&shared.directory).unwrap_or_default();
        let paths = names.iter().map(|name| shared.directory.join(name));
        for path in paths.filter(|path| path.extension().is_some_and(|ext| ext == EXTENSION)) {
            let segment = path.with_extension("seg");
            let file = shared.fs.open(&path).ok();
            let bytes = file.as_ref().and_then(|file| file.size().ok());
            // After a crash the old name of it may be back: then it is a segment.
            match (file, bytes, shared.fs.open(&segment)) {
                (Some(file), Some(bytes), Err(_)) if spares.wants(shared, bytes) => {
                    spares.0.push(Spare { path, file, bytes });
                }
                _ => forget(shared, &path),
            }
        }
        spares.count(shared);
        spares
    }

    /// Keeps the file of a segment in which nothing is alive and that nobody reads, if it is of use; whether it did. The directory
    /// is not flushed.
    pub(super) fn keep(&mut self, shared: &Shared, sequence: u64) -> bool {
        let Some((file, bytes)) = unread(shared, sequence) else {
            return false;
        };
        let from = segment_path(&shared.directory, sequence);
        let path = from.with_extension(EXTENSION);
        if !self.wants(shared, bytes) || shared.fs.rename(&from, &path).is_err() {
            return false;
        }
        hint::remove(shared.fs.as_ref(), &shared.directory, sequence);
        shared.state_mut().segments.remove(&sequence);
        self.0.push(Spare { path, file, bytes });
        self.count(shared);
        true
    }

    /// Puts one at the path of a segment, with room for so many bytes if the system can make it. That it was a segment must be undone
    /// on stable storage.
    pub(super) fn take(&mut self, shared: &Shared, path: &Path, room: u64) -> Option<Blank> {
        let mut taken = None;
        while let Some(spare) = self.0.pop() {
            match blank(shared, &spare, path) {
                Ok(()) => {
                    let Spare { file, bytes, .. } = spare;
                    // Where this is not supported, or there is no room, the file grows as it is written.
                    let _ = file.allocate(room);
                    let filled = bytes;
                    taken = Some(Blank { file, filled });
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, path = %spare.path.display(), "cannot use the file of a segment again");
                    forget(shared, &spare.path);
                }
            }
        }
        self.count(shared);
        taken
    }

    /// Removes them all: the disk is short.
    pub(super) fn give_up(&mut self, shared: &Shared) {
        if self.0.is_empty() {
            return;
        }
        for spare in self.0.drain(..) {
            forget(shared, &spare.path);
        }
        self.count(shared);
    }

    /// Whether a file of this length is worth its room: one that is much shorter saves little, and a much longer one, made for a
    /// huge message, keeps too much.
    fn wants(&self, shared: &Shared, bytes: u64) -> bool {
        let usual = shared.room.segment_bytes;
        let least = (usual / 2).max(wide(BLANK));
        let fits = (least..=usual.saturating_mul(2)).contains(&bytes);
        fits && self.0.len() < SPARES_MAX && !shared.room.is_tight()
    }

    fn count(&self, shared: &Shared) {
        let bytes = self.0.iter().map(|spare| spare.bytes).sum();
        shared.room.set_spare(bytes);
        shared.measure();
    }
}

/// The file of a segment and its length, unless somebody reads it: who has it open still reads what it held.
fn unread(shared: &Shared, sequence: u64) -> Option<(Arc<dyn File>, u64)> {
    let state = shared.state();
    let segment = state.segments.get(&sequence)?;
    // Nothing in it is alive, so that nobody can begin to.
    let alone = Arc::strong_count(&segment.file) == 1;
    let bytes = segment.file.size().ok()?;
    alone.then(|| (Arc::clone(&segment.file), bytes))
}

fn blank(shared: &Shared, spare: &Spare, path: &Path) -> io::Result<()> {
    spare.file.write_at(&[0; BLANK], 0)?;
    spare.file.sync_data()?;
    shared.fs.rename(&spare.path, path)
}

fn forget(shared: &Shared, path: &Path) {
    if let Err(error) = shared.fs.remove(path) {
        tracing::warn!(%error, path = %path.display(), "cannot remove a spare file");
    }
}
