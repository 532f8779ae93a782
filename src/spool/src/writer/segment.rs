//! The segment that the writer appends to: how it begins, and how a batch gets into it.
//!
//! A flush is as cheap as the blocks under it let it be. Where they were written before, whatever was written, it is one flush of the
//! device; where they were only set aside, or are new, the file system commits its journal besides: twice the flushes and half
//! the speed. So a file is written [`STRIDE`] by stride, zeros behind the batch that enters a new one, and the files of segments
//! that are gone are used again ([`super::spares`]).

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::format::{Durable, Mark, SEGMENT_HEADER, SegmentHeader};
use crate::hint::{self, Hint};
use crate::number::wide;
use crate::recover::{Segment, segment_path};
use crate::shared::Shared;
use crate::sys::{File, is_full};

/// How much of a new file is written at once, in bytes: a fiftieth of the flushes of small messages meet new blocks then, and the zeros
/// take less time than such a flush does.
const STRIDE: u64 = 256 << 10;

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) sequence: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) mark: Mark,
    /// Everything before this is on stable storage.
    pub(super) durable: u64,
    /// Where it is full, in bytes.
    pub(super) limit: u64,
    pub(super) purpose: Purpose,
    /// Its length: what lies before takes no more room when it is written.
    pub(super) allocated: u64,
    /// Blocks before this were written once.
    pub(super) filled: u64,
    pub(super) hint: Hint,
}

/// What may be written to a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    Anything,
    /// It was set aside for them.
    Outcomes,
}

/// The file that a segment begins in.
pub(super) struct Blank {
    pub(super) file: Arc<dyn File>,
    /// Blocks before this were written once.
    pub(super) filled: u64,
}

/// Removes the file of a segment in which nothing is alive; the directory is not flushed.
pub(super) fn remove(shared: &Shared, sequence: u64) -> io::Result<()> {
    match shared.fs.remove(&segment_path(&shared.directory, sequence)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => {
            hint::remove(shared.fs.as_ref(), &shared.directory, sequence);
            shared.state_mut().segments.remove(&sequence);
            shared.measure();
            Ok(())
        }
    }
}

/// Leaves a hint of a segment that is sealed, if the next start has any use for it and there is room.
pub(super) fn leave_hint(shared: &Shared, active: Active) {
    let Active {
        sequence,
        durable,
        hint,
        ..
    } = active;
    let is_alive = shared.state().index.live(sequence).messages > 0;
    if is_alive && !shared.room.is_tight() {
        let bytes = hint.write(shared.fs.as_ref(), &shared.directory, durable);
        if let Some(segment) = shared.state_mut().segments.get_mut(&sequence) {
            segment.hint_bytes = bytes;
        }
        shared.room.spend(bytes);
    }
}

/// Begins a segment in the file that `place` puts at its path: its name is durable before anything is promised in it.
pub(super) fn begin(
    shared: &Shared,
    sequence: u64,
    before: Durable,
    place: impl FnOnce(&Path) -> io::Result<Blank>,
) -> io::Result<Active> {
    // First, so that there is no file yet if there is none.
    let mark = shared.fs.random()?;
    let Blank { file, filled } = place(&segment_path(&shared.directory, sequence))?;
    let segment = segment(&file, mark, wide(SEGMENT_HEADER));
    let header = SegmentHeader {
        sequence,
        mark,
        before,
    };
    shared.state_mut().segments.insert(sequence, segment);
    let written = file
        .write_at(&header.to_bytes(), 0)
        // Where a start finds more than a torn header there was a whole one.
        .and_then(|()| file.sync_data())
        .and_then(|()| shared.fs.sync_dir(&shared.directory));
    if let Err(error) = written {
        let _ = remove(shared, sequence);
        return Err(error);
    }
    shared.measure();
    Ok(Active {
        sequence,
        mark,
        durable: wide(SEGMENT_HEADER),
        limit: shared.room.segment_bytes,
        purpose: Purpose::Anything,
        allocated: file.size().unwrap_or_default(),
        filled,
        hint: Hint::new(sequence, mark),
        file,
    })
}

/// Makes a segment of a file that is at `from`: it gets its name when header and content are on stable storage. There is no moment in which a
/// start finds the header alone, which tells that nothing else was promised.
///
/// # Errors
/// After the last step the file may have its name all the same, until the directory is flushed; it holds what it should.
pub(super) fn begin_holding(
    shared: &Shared,
    header: SegmentHeader,
    (from, file): (&Path, Arc<dyn File>),
    content: &[u8],
) -> io::Result<Active> {
    let SegmentHeader { sequence, mark, .. } = header;
    let durable = wide(SEGMENT_HEADER + content.len());
    file.write_at(&header.to_bytes(), 0)?;
    file.write_at(content, wide(SEGMENT_HEADER))?;
    file.sync_data()?;
    let path = segment_path(&shared.directory, sequence);
    shared.fs.rename(from, &path)?;
    if let Err(error) = shared.fs.sync_dir(&shared.directory) {
        let _ = shared.fs.remove(&path);
        return Err(error);
    }
    let known = segment(&file, mark, durable);
    shared.state_mut().segments.insert(sequence, known);
    shared.measure();
    let mut hint = Hint::new(sequence, mark);
    hint.give_up();
    Ok(Active {
        sequence,
        mark,
        durable,
        limit: shared.room.segment_bytes,
        purpose: Purpose::Anything,
        allocated: file.size().unwrap_or_default(),
        filled: durable,
        hint,
        file,
    })
}

fn segment(file: &Arc<dyn File>, mark: Mark, bytes: u64) -> Segment {
    Segment {
        file: Arc::clone(file),
        bytes,
        mark: Some(mark),
        hint_bytes: 0,
    }
}

/// Why a batch is not in the segment.
pub(super) enum AppendError {
    /// The disk is full, and what was written of it is cut off: the segment can be used on.
    CutBack(io::Error),
    /// What is behind the durable end cannot be told.
    Failed(io::Error),
}

/// Writes at an offset, which is the end of what was written; nothing is flushed. `bytes` come back as they were.
///
/// A write that finds the disk full is no failed flush: nothing was flushed, and no page was given up by the system. Cut
/// back, the file ends where it did; the next flush is the first one for what is written there then, and takes the new length
/// with it. A flush that finds the disk full is a failed flush like any other.
pub(super) fn append(
    active: &mut Active,
    bytes: &mut Vec<u8>,
    from: usize,
    offset: u64,
) -> Result<(), AppendError> {
    let length = bytes.len();
    let end = offset + wide(length - from);
    let filled = fill_to(end, active.filled, active.allocated);
    let zeros = usize::try_from(filled - end).unwrap_or_default();
    bytes.resize(length + zeros, 0);
    let written = active.file.write_at(&bytes[from..], offset);
    bytes.truncate(length);
    match written {
        Ok(()) => {
            active.filled = active.filled.max(filled);
            Ok(())
        }
        Err(error) => {
            let holds = offset > wide(SEGMENT_HEADER);
            let cut = is_full(&error) && holds && active.file.truncate(offset).is_ok();
            if !cut {
                return Err(AppendError::Failed(error));
            }
            (active.allocated, active.filled) = (offset, active.filled.min(offset));
            Err(AppendError::CutBack(error))
        }
    }
}

/// Where what is written shall end if the batch ends at `end`: with the last stride that it enters, unless that was written before
/// (`filled`) or would make the file longer than it is (`allocated`).
fn fill_to(end: u64, filled: u64, allocated: u64) -> u64 {
    if end <= filled {
        return end;
    }
    let stride = end.checked_next_multiple_of(STRIDE).unwrap_or(end);
    stride.min(allocated).max(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_fill_the_stride_that_a_batch_enters_and_take_no_room() {
        let all = 10 * STRIDE;
        for ((end, filled, allocated), expected) in [
            ((100, 0, all), STRIDE),
            ((STRIDE, 0, all), STRIDE),
            ((STRIDE + 1, STRIDE, all), 2 * STRIDE),
            // Written before.
            ((100, STRIDE, all), 100),
            ((STRIDE, STRIDE, all), STRIDE),
            // The end of the file, and a file that grows.
            ((all - 5, 0, all - 3), all - 3),
            ((100, 0, 0), 100),
            ((all + 7, 0, all), all + 7),
            ((u64::MAX, 0, all), u64::MAX),
        ] {
            assert_eq!(
                fill_to(end, filled, allocated),
                expected,
                "{end} {filled} {allocated}"
            );
        }
    }
}
