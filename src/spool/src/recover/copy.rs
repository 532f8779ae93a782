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

/// Copies a damaged piece to `corrupt/`. A copy that an earlier start left is made again: it may be in part, or in memory only.
pub(super) fn aside(
    fs: &dyn FileSystem,
    directory: &Path,
    file: &dyn File,
    sequence: u64,
    (start, end): (u64, u64),
) -> io::Result<()> {
    let aside = directory.join("corrupt");
    fs.create_dir(&aside)?;
    fs.sync_dir(directory)?;
    let mut crc = crc32fast::Hasher::new();
    chunks(file, start, end, |_, bytes| {
        crc.update(bytes);
        Ok(())
    })?;
    // With the checksum in the name nothing else can have it.
    let crc = crc.finalize();
    let path = aside.join(format!("{sequence:016x}-{start:x}-{crc:08x}.bin"));
    let copy = create_anew(fs, &path, end - start)?;
    chunks(file, start, end, |at, bytes| {
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
    chunks(file, start, end, |at, bytes| copy.write_at(bytes, at))?;
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
    start: u64,
    end: u64,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let read = file.read_at(&mut buffer[..want], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        take(at, &buffer[..read])?;
        at += u64::try_from(read).unwrap_or(0);
    }
    Ok(())
}
