//! The segment that the writer appends to: how it begins, and how a batch gets into it.

use std::io;
use std::sync::Arc;

use crate::format::{Durable, Mark, SEGMENT_HEADER, SegmentHeader};
use crate::recover::{Segment, segment_path};
use crate::shared::Shared;
use crate::sys::{File, is_full};

use super::wide;

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
}

/// What may be written to a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    Anything,
    /// It was set aside for them.
    Outcomes,
}

/// Removes the file of a segment in which nothing is alive; the directory is not flushed.
pub(super) fn remove(shared: &Shared, sequence: u64) -> io::Result<()> {
    match shared.fs.remove(&segment_path(&shared.directory, sequence)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => {
            shared.state_mut().segments.remove(&sequence);
            shared.measure();
            Ok(())
        }
    }
}

/// Begins a segment: its name is durable before anything is promised in it.
pub(super) fn begin(
    shared: &Shared,
    sequence: u64,
    before: Durable,
    file: Arc<dyn File>,
) -> io::Result<Active> {
    let mark = shared.fs.random()?;
    let segment = Segment {
        file: Arc::clone(&file),
        bytes: wide(SEGMENT_HEADER),
        mark: Some(mark),
    };
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
        file,
        mark,
        durable: wide(SEGMENT_HEADER),
        limit: shared.room.segment_bytes,
        purpose: Purpose::Anything,
    })
}

/// Why a batch is not in the segment.
pub(super) enum AppendError {
    /// The disk is full, and what was written of it is cut off: the segment can be used on.
    CutBack(io::Error),
    /// What is behind the durable end cannot be told.
    Failed(io::Error),
}

/// Writes and flushes.
///
/// A write that finds the disk full is no failed flush: nothing was flushed, and no page was given up by the system. Cut
/// back, the file ends where it did; the next flush is the first one for what is written there then, and takes the new length
/// with it. A flush that finds the disk full is a failed flush like any other.
pub(super) fn append(active: &Active, bytes: &[u8]) -> Result<(), AppendError> {
    let written = active.file.write_at(bytes, active.durable);
    if let Err(error) = written {
        let holds = active.durable > wide(SEGMENT_HEADER);
        return Err(
            if is_full(&error) && holds && active.file.truncate(active.durable).is_ok() {
                AppendError::CutBack(error)
            } else {
                AppendError::Failed(error)
            },
        );
    }
    active.file.sync_data().map_err(AppendError::Failed)
}
