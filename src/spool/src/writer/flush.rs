//! When what was written gets onto stable storage, and what becomes of it if it does not.
//!
//! In the durable mode nothing is answered before. In the relaxed mode a group is answered once it is written, and a flush comes within
//! [`Mode::Relaxed`]'s interval, or when [`UNSYNCED_BYTES_MAX`] are waiting for it: that much of what was answered a power cut may take. A
//! report is flushed before it is answered, as in the durable mode.
//! No segment goes, and none is called durable by a header, on the strength of what is not flushed.
//!
//! A flush that fails is told like a failed write, and its segment is given up: a second flush would succeed and mean nothing. What
//! was answered is written anew, to a fresh segment that is flushed at once; until that succeeds nothing else is taken.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Writer;
use super::segment::{begin_holding, remove};
use crate::Mode;
use crate::format::{Encoded, SEGMENT_HEADER, SegmentHeader};
use crate::index::Place;
use crate::number::wide;
use crate::recover::{copy, segment_path};
use crate::sys::File;
use crate::waiting::Group;

/// Most bytes that are answered and not flushed: they are kept in memory, and flushing them holds up the next batch.
const UNSYNCED_BYTES_MAX: usize = 16 << 20;

impl Writer {
    /// Whether a batch that is written may not be answered before it is flushed.
    pub(super) fn is_flush_owed(&self, batch: &[Group]) -> bool {
        match self.shared.mode {
            Mode::Durable => true,
            // After a failure a write proves nothing. And what a report is on may have come long ago: were the report lost, and the end of
            // that message, written behind it, not, nobody would hear of it.
            Mode::Relaxed { .. } => self.is_failing() || batch.iter().any(Group::has_report),
        }
    }

    /// Whether the disk has to be tried, because of what it refused or of what was answered and lies nowhere.
    pub(super) fn is_failing(&self) -> bool {
        self.window.is_homeless() || self.shared.counts().write_failure.is_some()
    }

    /// The batch is going to be answered before it is flushed.
    pub(super) fn promise(&mut self, batch: &[Group], places: &[(u64, Vec<Encoded>)]) {
        self.window.promise(batch, places);
        let mut counts = self.shared.counts();
        counts.unsynced.get_or_insert_with(self.clock);
    }

    /// Makes all that was written to the active segment durable.
    pub(super) fn flush_active(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = active.file.sync_data() {
            self.give_up();
            return Err(error);
        }
        let start = active.durable;
        active.durable += wide(self.window.written);
        let segment = active.sequence;
        self.settle(segment, start);
        let mut counts = self.shared.counts();
        counts.syncs += 1;
        counts.unsynced = None;
        Ok(())
    }

    /// What was answered is durable: where it lies, if it had to be written anew.
    fn settle(&mut self, segment: u64, start: u64) {
        let mut state = self.shared.state_mut();
        for (id, encoded) in self.window.messages() {
            let place = Place {
                segment,
                offset: start + encoded.offset,
                length: encoded.length,
            };
            // It may be finished by now, or have been moved by a later group, which comes later here too.
            let known = state.index.place(*id);
            if known.is_some_and(|known| known.segment != segment) {
                state.index.insert(*id, place);
            }
        }
        drop(state);
        self.window.clear();
    }

    /// Flushes what was answered and is not flushed ([`Mode::Relaxed`]); if that fails, writes it anew.
    pub(crate) fn flush(&mut self) {
        if !self.window.is_promised() {
            return;
        }
        let mut flushed = Ok(());
        if !self.window.is_homeless() {
            flushed = self.flush_active();
        }
        if let Err(error) = &flushed {
            self.fail(error);
        }
        if self.window.is_promised() {
            flushed = self.rewrite();
        }
        match flushed {
            Ok(()) => self.count(0),
            Err(error) => {
                self.fail(&error);
            }
        }
        self.reclaim();
    }

    /// Writes what was answered, if anything, to a segment that is flushed at once.
    pub(super) fn rewrite(&mut self) -> io::Result<()> {
        self.make_way(0)?;
        self.write()?;
        self.flush_active()
    }

    /// Writes what was answered, and lies in no segment, to a fresh one.
    pub(super) fn rehome(&mut self, room: u64) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let from = copy::unfinished(&segment_path(&shared.directory, self.next_sequence));
        let room = room.max(self.window_bytes());
        let file = copy::create_anew(shared.fs.as_ref(), &from, room)?;
        self.rehome_in((&from, file)).inspect_err(|_| {
            let _ = shared.fs.remove(&from);
        })
    }

    /// The same in a file that is there.
    pub(super) fn rehome_in(&mut self, file: (&Path, Arc<dyn File>)) -> io::Result<()> {
        let mark = self.shared.fs.random()?;
        let sequence = self.spend_sequence();
        let header = SegmentHeader {
            sequence,
            mark,
            before: self.before,
        };
        self.window.mark(mark);
        let begun = begin_holding(&self.shared, header, file, &self.window.bytes);
        self.active = Some(begun.inspect_err(|_| self.removal_unsynced = true)?);
        self.settle(sequence, wide(SEGMENT_HEADER));
        let mut counts = self.shared.counts();
        counts.syncs += 1;
        counts.unsynced = None;
        Ok(())
    }

    /// What a segment takes that holds the window.
    pub(super) fn window_bytes(&self) -> u64 {
        wide(SEGMENT_HEADER + self.window.bytes.len())
    }

    /// Flushes if the time has come, or too much waits for it; otherwise how long there is.
    pub(super) fn flush_if_due(&mut self) -> Option<Duration> {
        let Mode::Relaxed { sync_interval } = self.shared.mode else {
            return None;
        };
        let since = self.shared.counts().unsynced?;
        if self.window.is_homeless() {
            // The disk fails, and is tried in its own time.
            return None;
        }
        let left = sync_interval.saturating_sub(self.since(since));
        if left.is_zero() || self.window.bytes.len() > UNSYNCED_BYTES_MAX {
            self.flush();
            return None;
        }
        Some(left)
    }

    /// Gives the active segment up. What was durable in it stays; what was not is cut off if that works, so that what was
    /// refused does not come back, unless it was answered: then it can be read until it is written anew.
    pub(super) fn give_up(&mut self) {
        self.window.written = 0;
        let Some(active) = self.active.take() else {
            return;
        };
        self.passed(&active);
        if self.window.is_promised() {
            return;
        }
        // A disk that fails for long would fill with files that hold nothing.
        let empty = active.durable == wide(SEGMENT_HEADER);
        if !empty || remove(&self.shared, active.sequence).is_err() {
            let _ = active.file.truncate(active.durable);
        }
    }
}
