//! Copies of segments and of pieces of them. The original stays until the copy is on stable storage.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::segment_path;
use crate::format::{SEGMENT_HEADER, SegmentHeader};
use crate::sys::{File, FileSystem};

/// How the name of a segment ends that is not complete yet.
pub(super) const UNFINISHED: &str = ".new";

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
        Ok(names) => Ok(u64::try_from(names.len()).unwrap_or(u64::MAX)),
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

/// Writes a segment anew, up to `end`, and puts it in the place of the old one: nothing in it moves.
pub(super) fn anew(
    fs: &dyn FileSystem,
    directory: &Path,
    file: &dyn File,
    header: SegmentHeader,
    end: u64,
) -> io::Result<Arc<dyn File>> {
    let path = segment_path(directory, header.sequence);
    let unfinished = path.with_extension(&UNFINISHED[1..]);
    let copy = create_anew(fs, &unfinished, end)?;
    copy.write_at(&header.to_bytes(), 0)?;
    let start = u64::try_from(SEGMENT_HEADER).unwrap_or(u64::MAX);
    chunks(file, (start, end), Unreadable::Fails, |at, bytes| {
        copy.write_at(bytes, at)
    })?;
    copy.sync_data()?;
    fs.rename(&unfinished, &path)?;
    // The next one's header is going to rely on it.
    fs.sync_dir(directory)?;
    Ok(copy)
}

fn create_anew(fs: &dyn FileSystem, path: &Path, room: u64) -> io::Result<Arc<dyn File>> {
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
        at += u64::try_from(read).unwrap_or(0);
    }
    Ok(())
}
