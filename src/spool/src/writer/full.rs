//! What the writer does on a full disk: mail is refused, what becomes of the mail that is queued is written on.
//!
//! For that a file is kept, `reserve`, whose room is its own: whatever else fills the volume, it can be written. When a batch
//! finds the disk full, the file becomes the active segment, and only outcomes go there: groups that finish a message or
//! record an attempt, with the bounces that they owe. Once there is room again, another file is set aside and mail taken as before.
//!
//! The oldest segment goes on being compacted meanwhile, if what is alive in it leaves half of that file to outcomes: a disk that others keep full gives
//! back what is waste here. Where there is no room for all of the reserve, less of it is set aside.
//!
//! A file system that cannot set room aside has none of this: there outcomes fail like mail, and are offered again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compact::Slice;
use super::segment::{Active, Blank, Purpose, begin};
use super::{Writer, answer, group_bytes};
use crate::disk::OUTCOME_BYTES_MIN;
use crate::format::SEGMENT_HEADER;
use crate::number::wide;
use crate::record::Record;
use crate::shared::Shared;
use crate::sys::{File, is_full};
use crate::waiting::Group;
use crate::{CommitError, Failure};

/// What is set aside.
#[derive(Debug)]
pub(super) enum Reserve {
    Held(Arc<dyn File>),
    /// There was no room for it, or it is in use.
    Missing,
    /// The file system cannot.
    Unsupported,
}

impl Reserve {
    /// As an earlier start left it, of whatever size, or a new one.
    fn set_aside(shared: &Shared) -> Self {
        let (path, bytes) = (path(shared), shared.room.outcome_bytes());
        if let Ok(file) = shared.fs.open(&path) {
            if is_unused(file.as_ref()) {
                // A volume that was copied has holes where zeros were, and the file may be a small one: what there is no room for stays so.
                let _ = file
                    .allocate(bytes)
                    .or_else(|_| file.allocate(file.size()?));
                return Self::Held(file);
            }
            if let Err(error) = shared.fs.remove(&path) {
                tracing::warn!(%error, "cannot remove what is left of the reserve");
                return Self::Missing;
            }
        }
        Self::of_size(shared, &path, bytes)
    }

    /// Makes one that was made when there was little room as large as it should be.
    fn grow(&self, shared: &Shared) {
        let bytes = shared.room.outcome_bytes();
        if let Self::Held(file) = self
            && matches!(file.size(), Ok(size) if size < bytes)
        {
            // What there is is enough to go on with.
            let _ = file.allocate(bytes);
        }
    }

    /// A new one, of as much as fits.
    fn of_size(shared: &Shared, path: &Path, most: u64) -> Self {
        let mut bytes = most;
        loop {
            match shared.fs.reserve(path, bytes) {
                Ok(file) => return Self::Held(file),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return Self::Unsupported;
                }
                Err(error) if is_full(&error) && bytes > OUTCOME_BYTES_MIN => {
                    bytes = (bytes / 2).max(OUTCOME_BYTES_MIN);
                }
                Err(_) => return Self::Missing,
            }
        }
    }
}

impl Writer {
    /// Looks whether there is room, and for how much of what a full disk stopped.
    pub(crate) fn tick(&mut self) {
        self.shared.measure();
        if matches!(self.reserve, Reserve::Missing) {
            self.reserve = Reserve::set_aside(&self.shared);
            self.shared.measure();
        }
        if self.shared.room.is_tight() {
            self.spares.give_up(&self.shared);
        }
        if !self.shared.room.has_segment() {
            return;
        }
        self.reserve.grow(&self.shared);
        if self.is_saving() {
            // Room without a reserve (a quota, no inode) is none for mail: it goes on being refused, and that shows.
            if matches!(self.reserve, Reserve::Missing) {
                return;
            }
            self.seal();
        }
        let mut counts = self.shared.counts();
        if counts.write_failure == Some(Failure::DiskFull) {
            tracing::info!("the disk of the spool has room again");
            counts.write_failure = None;
        }
    }

    /// Whether only outcomes may be written.
    pub(super) fn is_saving(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.purpose == Purpose::Outcomes)
    }

    /// Whether the next segment is to be the reserve: on a full disk any other is a small one, and each batch could leave one.
    pub(super) fn must_save(&self) -> bool {
        self.active.is_none()
            && matches!(self.reserve, Reserve::Held(_))
            && self.shared.counts().write_failure == Some(Failure::DiskFull)
    }

    /// What may still be written to the reserve, in bytes; `None` unless it is what is written to.
    pub(super) fn saving_left(&self) -> Option<u64> {
        let active = self.active.as_ref().filter(|_| self.is_saving())?;
        let taken = active.durable + wide(self.window.bytes.len());
        Some(active.limit.saturating_sub(taken))
    }

    /// Stores outcomes, and moves some of the oldest segment to the reserve if all of it may go there; returns whether there was
    /// anything to do.
    pub(super) fn step_saving(&mut self, batch: Vec<Group>) -> bool {
        let outcomes = !batch.is_empty();
        if outcomes {
            self.commit_outcomes(batch);
        }
        let moved = self.move_saving();
        let segments = self.shared.state().segments.len();
        self.reclaim();
        if self.shared.state().segments.len() < segments {
            // Before somebody else has the room.
            self.tick();
        }
        outcomes || moved
    }

    /// Moves a slice of the oldest segment to the reserve; returns whether there was one.
    fn move_saving(&mut self) -> bool {
        let (Some(slice), Some(left)) = (self.slice(), self.saving_left()) else {
            return false;
        };
        let Slice { groups, compaction } = slice;
        if groups.iter().map(group_bytes).sum::<u64>() > left {
            if let Some((segment, _)) = self.oldest() {
                self.give_up_compaction(segment);
            }
            return false;
        }
        if groups.is_empty() || self.store_saving(groups) {
            self.compaction = compaction;
        }
        true
    }

    /// Refuses mail and stores as many outcomes as there is room for; returns whether all was stored.
    pub(super) fn commit_outcomes(&mut self, batch: Vec<Group>) -> bool {
        let (outcomes, mut refused): (Vec<Group>, Vec<Group>) =
            batch.into_iter().partition(is_outcome);
        let (mut fitting, mut late) = self.fitting(outcomes);
        if let Some(least) = late.iter().map(group_bytes).min()
            && fitting.is_empty()
        {
            match self.use_reserve(least) {
                Ok(()) => (fitting, late) = self.fitting(late),
                // Without the mail there may be room.
                Err(_) if !refused.is_empty() && !self.is_saving() => {
                    std::mem::swap(&mut fitting, &mut late)
                }
                Err(error) => tracing::error!(%error, "cannot use the reserve"),
            }
        }
        refused.append(&mut late);
        let all = refused.is_empty();
        answer(refused, &Err(CommitError::DiskFull));
        if fitting.is_empty() {
            return all;
        }
        self.store_saving(fitting) && all
    }

    /// Stores what fits, and answers; returns whether that succeeded.
    fn store_saving(&mut self, groups: Vec<Group>) -> bool {
        let result = self.store(&groups);
        if let Ok(()) = &result {
            self.count(groups.len());
        }
        let result = result.map_err(|error| self.fail(&error));
        let is_stored = result.is_ok();
        answer(groups, &result);
        is_stored
    }

    /// Those that fit into the active segment, in their order, and the others. A large bounce must not hold up the rest.
    fn fitting(&self, groups: Vec<Group>) -> (Vec<Group>, Vec<Group>) {
        let mut left = self.saving_left().unwrap_or_default();
        groups.into_iter().partition(|group| {
            let bytes = group_bytes(group);
            let fits = bytes <= left;
            if fits {
                left -= bytes;
            }
            fits
        })
    }

    /// Makes what was set aside the active segment, if so much fits there.
    fn use_reserve(&mut self, least: u64) -> io::Result<()> {
        let Reserve::Held(file) = &self.reserve else {
            return Err(io::ErrorKind::StorageFull.into());
        };
        let file = Arc::clone(file);
        let limit = file.size()?;
        if least.saturating_add(wide(SEGMENT_HEADER)) > limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.seal();
        // What was answered goes before: behind the header of a later segment it would count as cut.
        if self.window.is_homeless() && self.window_bytes().saturating_add(least) > limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.reserve = Reserve::Missing;
        let begun = self.begin_in_reserve(file)?;
        self.active = Some(Active {
            limit,
            purpose: Purpose::Outcomes,
            ..begun
        });
        tracing::warn!("the disk is full: only outcomes are written");
        Ok(())
    }

    fn begin_in_reserve(&mut self, file: Arc<dyn File>) -> io::Result<Active> {
        let from = path(&self.shared);
        if self.window.is_homeless() {
            self.rehome_in((&from, file))?;
            return self.active.take().ok_or(io::ErrorKind::NotFound.into());
        }
        let sequence = self.spend_sequence();
        begin(&self.shared, sequence, self.before, |to| {
            self.shared.fs.rename(&from, to)?;
            Ok(Blank { file, filled: 0 })
        })
    }
}

/// Whether a group is about mail that is queued: it finishes a message or records an attempt, and not as one does that moves
/// the message itself.
fn is_outcome(group: &Group) -> bool {
    let records = &group.records;
    let holds = |id| {
        let message = |record: &Record| matches!(record, Record::Message(one) if one.id == id);
        records.iter().any(message)
    };
    records.iter().any(|record| match record {
        Record::Done(_) => true,
        Record::Attempt(attempt) => !holds(attempt.id),
        Record::Message(_) => false,
    })
}

fn path(shared: &Shared) -> PathBuf {
    shared.directory.join("reserve")
}

/// A crash may have left one that is in part, or that was a segment for a moment.
fn is_unused(file: &dyn File) -> bool {
    let mut header = [0; SEGMENT_HEADER];
    let blank =
        matches!(file.read_at(&mut header, 0), Ok(SEGMENT_HEADER)) && header == [0; SEGMENT_HEADER];
    blank && matches!(file.size(), Ok(size) if size >= OUTCOME_BYTES_MIN)
}
