//! The one writer: takes all that waits, writes it in one go, flushes once, answers everyone.
//!
//! It never waits on purpose: while one flush runs, the next batch gathers by itself. [`Writer::step`] does one batch
//! without blocking for more, so that a simulation can drive it without threads.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::format::{Durable, END_MARK, Encoded, GROUP_HEADER, SEGMENT_HEADER, record_bytes};
use crate::index::Place;
use crate::record::Record;
use crate::shared::{Group, Shared};
use crate::sys::is_full;
use crate::{CommitError, Failure};

mod compact;
mod flush;
mod full;
mod reclaim;
mod segment;
mod spares;
mod window;

use compact::Compaction;
use full::Reserve;
use segment::{Active, AppendError, Blank, append, begin, leave_hint};
use spares::Spares;
use window::Window;

/// Most bytes of one batch: bounds the memory for it, and the time until the first of it is answered.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// How often a failing disk is tried while no mail comes that would try it.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the disk is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// The write side of a spool.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    next_sequence: u64,
    /// The last segment before the active one that holds anything.
    before: Durable,
    /// Whether the newest segment tells that already, and holds nothing.
    told: bool,
    reserve: Reserve,
    spares: Spares,
    /// A segment was removed, and the directory not flushed since.
    removal_unsynced: bool,
    window: Window,
    compaction: Compaction,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, durable: Durable, told: bool) -> Self {
        let last = shared
            .state()
            .segments
            .last_key_value()
            .map(|(sequence, _)| *sequence);
        let spares = Spares::found(&shared);
        let mut writer = Self {
            shared,
            active: None,
            next_sequence: last.map_or(1, |last| last + 1),
            before: durable,
            told,
            reserve: Reserve::Missing,
            spares,
            removal_unsynced: false,
            window: Window::default(),
            compaction: Compaction::Idle,
        };
        writer.tick();
        writer
    }

    /// Works until the spool is closed and nothing waits. Blocking: for a thread of its own.
    pub fn run(mut self) {
        self.reclaim();
        let mut measured = Instant::now();
        loop {
            // What else fills the volume, or makes it larger, says nothing.
            if measured.elapsed() >= MEASURE_INTERVAL {
                self.tick();
                measured = Instant::now();
            }
            let worked = self.step();
            let due = self.flush_if_due();
            if worked {
                continue;
            }
            let failing = self.shared.counts().write_failure.is_some();
            let patience = if failing {
                PROBE_INTERVAL
            } else {
                MEASURE_INTERVAL
            };
            if !self
                .shared
                .wait(due.map_or(patience, |due| due.min(patience)))
            {
                break;
            }
            if failing {
                self.probe();
            }
        }
        self.finish();
    }

    /// What [`Self::run`] does once a second, for those who call [`Self::step`] themselves: measures the disk, and tries one that
    /// has failed.
    pub fn tend(&mut self) {
        self.tick();
        if self.shared.counts().write_failure.is_some() {
            self.probe();
        }
    }

    /// Commits one batch of what waits, and moves a little of what keeps old segments if nothing waits or if much of the
    /// disk is waste. Returns whether there was anything to do.
    pub fn step(&mut self) -> bool {
        let batch = self.shared.take(BATCH_BYTES_MAX);
        if self.is_saving() {
            return self.step_saving(batch);
        }
        let slice = if batch.is_empty() || self.is_compaction_urgent() {
            self.slice()
        } else {
            None
        };
        if batch.is_empty() && slice.is_none() {
            return false;
        }
        // What is moved comes first: a `Done` in the batch must come after the message it is about.
        let (mut groups, moved) = slice.map_or((Vec::new(), None), |slice| {
            (slice.groups, Some(slice.compaction))
        });
        groups.extend(batch);
        // After a failure the same slice is tried again.
        if (groups.is_empty() || self.commit(groups))
            && let Some(compaction) = moved
        {
            self.compaction = compaction;
        }
        self.reclaim();
        true
    }

    /// Writes groups and answers them; returns whether all of them are stored.
    fn commit(&mut self, batch: Vec<Group>) -> bool {
        if self.is_saving() || self.must_save() {
            return self.commit_outcomes(batch);
        }
        let result = self.store(&batch).map_err(|error| self.fail(&error));
        match &result {
            Ok(()) => self.count(batch.len()),
            Err(CommitError::DiskFull) => return self.commit_outcomes(batch),
            Err(CommitError::Write(_)) => {}
        }
        let is_stored = result.is_ok();
        self.shared.answer(batch, result);
        is_stored
    }

    /// Makes groups known once they are written, and flushed if that is the mode.
    fn store(&mut self, batch: &[Group]) -> io::Result<()> {
        let length = batch.iter().map(group_bytes).sum();
        self.make_way(length)?;
        let places = self.window.encode(batch);
        let stored = self.write().and_then(|(segment, offset)| {
            if self.is_flush_owed() {
                self.flush_active()?;
            } else {
                self.promise(batch, &places);
            }
            Ok((segment, offset))
        });
        match stored {
            Ok((segment, offset)) => {
                self.apply(batch, &places, segment, offset);
                Ok(())
            }
            Err(error) => {
                self.window.refuse();
                Err(error)
            }
        }
    }

    /// Sees to a segment that so many bytes may be added to.
    fn make_way(&mut self, length: u64) -> io::Result<()> {
        let length = length + wide(self.window.bytes.len());
        let full = self.active.as_ref().is_some_and(|active| {
            active.durable > wide(SEGMENT_HEADER) && active.durable + length > active.limit
        });
        if full {
            self.seal();
        }
        if self.active.is_none() {
            let room = self.shared.room.segment_bytes;
            self.active = Some(self.begin_anew(room.max(length + wide(SEGMENT_HEADER)))?);
        }
        Ok(())
    }

    /// Writes what of the window is not written; returns where the window lies.
    fn write(&mut self) -> io::Result<(u64, u64)> {
        let Some(active) = &mut self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.window.mark(active.mark);
        let from = self.window.written;
        let offset = active.durable + wide(from);
        if let Err(error) = append(active, &mut self.window.bytes, from, offset) {
            if !matches!(error, AppendError::CutBack(_)) {
                self.give_up();
            }
            let (AppendError::CutBack(error) | AppendError::Failed(error)) = error;
            return Err(error);
        }
        let (sequence, offset) = (active.sequence, active.durable);
        self.window.written = self.window.bytes.len();
        self.shared.room.spend(wide(self.window.written - from));
        if let Some(known) = self.shared.state_mut().segments.get_mut(&sequence) {
            known.bytes = known.bytes.max(offset + wide(self.window.written));
        }
        Ok((sequence, offset))
    }

    fn apply(
        &mut self,
        batch: &[Group],
        places: &[(u64, Vec<Encoded>)],
        segment: u64,
        offset: u64,
    ) {
        let mut state = self.shared.state_mut();
        for (group, (start, encoded)) in batch.iter().zip(places) {
            for (record, encoded) in group.records.iter().zip(encoded) {
                let place = Place {
                    segment,
                    offset: offset + start + encoded.offset,
                    length: encoded.length,
                };
                if let Some(active) = &mut self.active {
                    active.hint.record(record, place);
                }
                match record {
                    Record::Message(message) => state.index.insert(message.id, place),
                    Record::Attempt(attempt) => state.index.merge(attempt),
                    Record::Done(id) => state.index.remove(*id),
                }
            }
        }
    }

    fn count(&self, groups: usize) {
        let mut counts = self.shared.counts();
        counts.commits += wide(groups);
        // That the last few bytes were taken does not make a full disk less full.
        let full = counts.write_failure == Some(Failure::DiskFull);
        if full && !self.shared.room.has_segment() {
            return;
        }
        if counts.write_failure.take().is_some() {
            tracing::info!("the spool can be written again");
        }
    }

    /// Tells that nothing could be written.
    fn fail(&mut self, error: &io::Error) -> CommitError {
        tracing::error!(%error, "cannot write the spool");
        let (failure, error) = if is_full(error) {
            self.spares.give_up(&self.shared);
            // Other numbers may be up to a second old.
            self.shared.measure();
            (Failure::DiskFull, CommitError::DiskFull)
        } else {
            let text = error.to_string();
            (Failure::Write(text.clone()), CommitError::Write(text))
        };
        self.shared.counts().write_failure = Some(failure);
        error
    }

    /// Tries a fresh segment, so that the failure ends when the disk is mended and not only when mail comes.
    fn probe(&mut self) {
        if self.shared.counts().write_failure == Some(Failure::DiskFull) {
            self.tick();
            return;
        }
        match self.rewrite() {
            Ok(()) => self.count(0),
            Err(error) => {
                self.fail(&error);
            }
        }
        self.reclaim();
    }

    /// The end of an orderly life: the header of a segment that holds nothing tells the next start how far the last one is
    /// durable, which is true whether that header is durable or not. So there is nothing to copy.
    fn finish(&mut self) {
        self.flush();
        self.seal();
        if self.told || self.before == Durable::default() {
            return;
        }
        // What was answered lies behind the end that the header would tell, and the next start would cut it.
        if self.window.is_promised() {
            tracing::error!("the disk did not take all that was answered: a power cut can take it");
            return;
        }
        let sequence = self.spend_sequence();
        // Not in a spare file, which is of more use to the next start.
        let begun = begin(&self.shared, sequence, self.before, |path| {
            let file = self.shared.fs.create(path, wide(SEGMENT_HEADER))?;
            Ok(Blank { file, filled: 0 })
        });
        match begun {
            Ok(_) => self.told = true,
            Err(error) => tracing::warn!(%error, "the next start has a segment to copy"),
        }
    }

    fn spend_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        // Even if nothing comes of it the name is spent: a file may be there.
        self.next_sequence += 1;
        self.told = false;
        sequence
    }

    fn begin_anew(&mut self, room: u64) -> io::Result<Active> {
        let sequence = self.spend_sequence();
        // That they were segments must be undone before they are written.
        let usable = self.sync_removal();
        let Self { shared, spares, .. } = self;
        begin(shared, sequence, self.before, |path| {
            let spare = usable.then(|| spares.take(shared, path, room));
            match spare.flatten() {
                Some(spare) => Ok(spare),
                None => {
                    let file = shared.fs.create(path, room)?;
                    Ok(Blank { file, filled: 0 })
                }
            }
        })
    }

    /// Ends the active segment; what was preallocated and not used is given back.
    pub(crate) fn seal(&mut self) {
        if self.window.is_promised()
            && let Err(error) = self.flush_active()
        {
            self.fail(&error);
        }
        if let Some(active) = self.active.take() {
            let _ = active.file.truncate(active.durable);
            if let Some(segment) = self.shared.state_mut().segments.get_mut(&active.sequence) {
                segment.bytes = active.durable;
            }
            self.passed(&active);
            leave_hint(&self.shared, active);
        }
    }

    /// The active segment is no longer that; the next one's header tells how far it came.
    fn passed(&mut self, active: &Active) {
        if active.durable > wide(SEGMENT_HEADER) {
            self.before = Durable {
                sequence: active.sequence,
                end: active.durable,
            };
        }
    }
}

impl Drop for Writer {
    /// Whatever ends the writer, a panic too: nobody waits in vain.
    fn drop(&mut self) {
        if std::thread::panicking() || !self.shared.is_closed() {
            tracing::error!("the spool's writer has died");
            self.shared.counts().writer_died = true;
        }
        self.shared.close();
        self.shared.take(u64::MAX);
    }
}

/// What a group takes in a segment.
fn group_bytes(group: &Group) -> u64 {
    let records = group.records.iter().map(record_bytes).sum::<u64>();
    records.saturating_add(wide(GROUP_HEADER + END_MARK))
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
