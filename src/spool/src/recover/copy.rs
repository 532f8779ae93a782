//! Copies of segments and of pieces of them. The original stays until the copy is on stable storage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::segment_path;
use crate::format::{SEGMENT_HEADER, SegmentHeader};
use crate::number::wide;
use crate::sys::{File, FileSystem, is_full};

/// How the name of a segment ends that is not complete yet.
pub(super) const UNFINISHED: &str = ".new";

/// Where a segment is until it may be taken for one: a start removes what is left there.
pub(crate) fn unfinished(segment: &Path) -> PathBuf {
    segment.with_extension(&UNFINISHED[1..])
}

/// How much is copied at once.
const CHUNK: usize = 1 << 20;

/// How much is given up where the disk does not give bytes back: what disks and file systems count in.
const BLOCK: usize = 4096;

/// What becomes of bytes that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unreadable {
    /// The copy fails with them: they may be readable another time.
    Fails,
    /// Zeros stand for them: no better copy is to be had.
    Zeros,
}

/// Where damaged pieces are kept, below the spool's directory.
const ASIDE: &str = "corrupt";

/// How many damaged pieces are kept, from this start and from earlier ones.
pub(crate) fn kept_aside(fs: &dyn FileSystem, directory: &Path) -> io::Result<u64> {
    match fs.list(&directory.join(ASIDE)) {
        Ok(names) => Ok(wide(names.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Copies a damaged piece to `corrupt/`. A copy that an earlier start left is made again: it may be in part, or in memory only.
pub(crate) fn aside(
    fs: &dyn FileSystem,
    directory: &Path,
    file: &dyn File,
    sequence: u64,
    (start, end): (u64, u64),
    unreadable: Unreadable,
) -> io::Result<()> {
    let aside = directory.join(ASIDE);
    fs.create_dir(&aside)?;
    fs.sync_dir(directory)?;
    let mut crc = crc32fast::Hasher::new();
    chunks(file, (start, end), unreadable, |_, bytes| {
        crc.update(bytes);
        Ok(())
    })?;
    // With the checksum in the name nothing else can have it.
    let crc = crc.finalize();
    let path = aside.join(format!("{sequence:016x}-{start:x}-{crc:08x}.bin"));
    let copy = create_anew(fs, &path, end - start)?;
    chunks(file, (start, end), unreadable, |at, bytes| {
        copy.write_at(bytes, at - start)
    })?;
    copy.sync_data()?;
    fs.sync_dir(&aside)
}

/// Notes in `corrupt/` that durable bytes of a segment are not there, unless something is there that begins where they did: the
/// damage that they were once found as, or the note of an earlier start.
pub(super) fn missing(
    fs: &dyn FileSystem,
    directory: &Path,
    sequence: u64,
    (start, end): (u64, u64),
) -> io::Result<()> {
    let aside = directory.join(ASIDE);
    fs.create_dir(&aside)?;
    fs.sync_dir(directory)?;
    let name = format!("{sequence:016x}-{start:x}-");
    if fs
        .list(&aside)?
        .iter()
        .any(|known| known.starts_with(&name))
    {
        return Ok(());
    }
    let note = format!(
        "segment {sequence}: bytes {start} to {end} were on stable storage and are missing\n"
    );
    let length = wide(note.len());
    let file = create_anew(fs, &aside.join(format!("{name}missing.txt")), length)?;
    file.write_at(note.as_bytes(), 0)?;
    file.sync_data()?;
    fs.sync_dir(&aside)
}

/// Writes a segment anew, up to `end`, and puts it in the place of the old one: nothing in it moves. Where a copy finds no
/// room the segment is written over itself.
///
/// That needs no room, and is as good: what is seen is written again, whatever became of it before, and flushed. A crash in
/// between leaves of each block what was there or the same bytes. A copy is made where one can be because a disk that
/// fails while it writes may leave neither.
pub(super) fn anew(
    fs: &dyn FileSystem,
    directory: &Path,
    file: &Arc<dyn File>,
    header: SegmentHeader,
    end: u64,
) -> io::Result<Arc<dyn File>> {
    let path = segment_path(directory, header.sequence);
    let unfinished = unfinished(&path);
    let copied = create_anew(fs, &unfinished, end)
        .and_then(|copy| write_all(file.as_ref(), copy.as_ref(), header, end).map(|()| copy));
    let copy = match copied {
        Ok(copy) => copy,
        Err(error) if is_full(&error) => {
            tracing::warn!(%error, sequence = header.sequence, "no room for a copy: writing a segment over itself");
            let _ = fs.remove(&unfinished);
            file.truncate(end)?;
            write_all(file.as_ref(), file.as_ref(), header, end)?;
            return Ok(Arc::clone(file));
        }
        Err(error) => return Err(error),
    };
    fs.rename(&unfinished, &path)?;
    // The next one's header is going to rely on it.
    fs.sync_dir(directory)?;
    Ok(copy)
}

fn write_all(from: &dyn File, to: &dyn File, header: SegmentHeader, end: u64) -> io::Result<()> {
    to.write_at(&header.to_bytes(), 0)?;
    let start = wide(SEGMENT_HEADER);
    chunks(from, (start, end), Unreadable::Fails, |at, bytes| {
        to.write_at(bytes, at)
    })?;
    to.sync_data()
}

pub(crate) fn create_anew(
    fs: &dyn FileSystem,
    path: &Path,
    room: u64,
) -> io::Result<Arc<dyn File>> {
    match fs.create(path, room) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs.remove(path)?;
            fs.create(path, room)
        }
        created => created,
    }
}

/// Reads a piece chunk by chunk, each with its offset.
fn chunks(
    file: &dyn File,
    (start, end): (u64, u64),
    unreadable: Unreadable,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let chunk = match unreadable {
        Unreadable::Fails => CHUNK,
        Unreadable::Zeros => BLOCK,
    };
    let mut buffer = vec![0; chunk];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(chunk).min(chunk);
        let read = match (file.read_at(&mut buffer[..want], at), unreadable) {
            (Ok(read @ 1..), _) => read,
            (Ok(0) | Err(_), Unreadable::Zeros) => {
                buffer.fill(0);
                want
            }
            (Ok(0), Unreadable::Fails) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (Err(error), Unreadable::Fails) => return Err(error),
        };
        take(at, &buffer[..read])?;
        at += wide(read);
    }
    Ok(())
}
