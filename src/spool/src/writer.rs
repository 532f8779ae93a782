//! The one writer: takes all that waits, writes it in one go, flushes once, answers everyone.
//!
//! It never waits on purpose: while one flush runs, the next batch gathers by itself. [`Writer::step`] does one batch
//! without blocking for more, so that a simulation can drive it without threads.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::format::{Durable, Encoded, SEGMENT_HEADER, encode_group, mark_group};
use crate::index::Place;
use crate::record::Record;
use crate::recover::segment_path;
use crate::shared::{Group, Shared};
use crate::sys::is_full;
use crate::{CommitError, Failure};

mod compact;
mod full;
mod segment;

use compact::Compaction;
use full::Reserve;
use segment::{Active, AppendError, append, begin, remove};

/// Most bytes of one batch: bounds the memory for it, and the time until the first of it is answered.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// A buffer that grew past this for one large batch is given back.
const BUFFER_KEPT: usize = 32 << 20;

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
    /// A segment was removed, and the directory not flushed since.
    removal_unsynced: bool,
    buffer: Vec<u8>,
    compaction: Compaction,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, durable: Durable, told: bool) -> Self {
        let last = shared
            .state()
            .segments
            .last_key_value()
            .map(|(sequence, _)| *sequence);
        let mut writer = Self {
            shared,
            active: None,
            next_sequence: last.map_or(1, |last| last + 1),
            before: durable,
            told,
            reserve: Reserve::Missing,
            removal_unsynced: false,
            buffer: Vec::new(),
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
            if self.step() {
                continue;
            }
            let failing = self.shared.counts().write_failure.is_some();
            let patience = if failing {
                PROBE_INTERVAL
            } else {
                MEASURE_INTERVAL
            };
            if !self.shared.wait(patience) {
                break;
            }
            if failing {
                self.probe();
            }
        }
        self.finish();
    }

    /// Commits one batch of what waits, and moves a little of what keeps old segments if nothing waits or if much of the
    /// disk is waste. Returns whether there was anything to do.
    pub fn step(&mut self) -> bool {
        let batch = self.shared.take(BATCH_BYTES_MAX);
        let slice = if self.is_saving() {
            None
        } else if batch.is_empty() || self.is_compaction_urgent() {
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
        answer(batch, &result);
        result.is_ok()
    }

    /// Makes groups durable and known.
    fn store(&mut self, batch: &[Group]) -> io::Result<()> {
        self.buffer.clear();
        let mut places = Vec::with_capacity(batch.len());
        for group in batch {
            let start = wide(self.buffer.len());
            places.push((start, encode_group(&group.records, &mut self.buffer)));
        }
        let starts: Vec<u64> = places.iter().map(|(start, _)| *start).collect();
        let stored = self.write(&starts).map(|(segment, offset)| {
            self.apply(batch, &places, segment, offset);
        });
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        stored
    }

    /// Makes the buffer with groups at these offsets durable; returns where it lies.
    fn write(&mut self, starts: &[u64]) -> io::Result<(u64, u64)> {
        let length = wide(self.buffer.len());
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
        let Some(active) = &mut self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        for start in starts {
            let start = usize::try_from(*start).unwrap_or(usize::MAX);
            mark_group(
                self.buffer.get_mut(start..).unwrap_or_default(),
                active.mark,
            );
        }
        if let Err(error) = append(active, &self.buffer) {
            if !matches!(error, AppendError::CutBack(_)) {
                self.give_up();
            }
            let (AppendError::CutBack(error) | AppendError::Failed(error)) = error;
            return Err(error);
        }
        let offset = active.durable;
        active.durable += length;
        self.shared.room.spend(length);
        Ok((active.sequence, offset))
    }

    fn apply(&self, batch: &[Group], places: &[(u64, Vec<Encoded>)], segment: u64, offset: u64) {
        let mut state = self.shared.state_mut();
        if let Some(known) = state.segments.get_mut(&segment) {
            known.bytes = known.bytes.max(offset + wide(self.buffer.len()));
        }
        for (group, (start, encoded)) in batch.iter().zip(places) {
            for (record, encoded) in group.records.iter().zip(encoded) {
                match record {
                    Record::Message(message) => {
                        let offset = offset + start + encoded.offset;
                        let place = Place {
                            segment,
                            offset,
                            length: encoded.length,
                            envelope_crc: encoded.envelope_crc,
                        };
                        state.index.insert(message.id, place);
                    }
                    Record::Attempt(attempt) => state.index.merge(attempt),
                    Record::Done(id) => state.index.remove(*id),
                }
            }
        }
    }

    fn count(&self, groups: usize) {
        let mut counts = self.shared.counts();
        counts.syncs += 1;
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

    /// Gives the active segment up. What was durable in it stays; what was not is cut off if that works, so that what was
    /// refused does not come back.
    fn give_up(&mut self) {
        if let Some(active) = self.active.take() {
            self.passed(&active);
            // A disk that fails for long would fill with files that hold nothing.
            let empty = active.durable == wide(SEGMENT_HEADER);
            if !empty || remove(&self.shared, active.sequence).is_err() {
                let _ = active.file.truncate(active.durable);
            }
        }
    }

    /// Tries a fresh segment, so that the failure ends when the disk is mended and not only when mail comes.
    fn probe(&mut self) {
        if self.shared.counts().write_failure == Some(Failure::DiskFull) {
            self.tick();
            return;
        }
        self.buffer.clear();
        match self.write(&[]) {
            Ok(_) => self.count(0),
            Err(error) => {
                self.fail(&error);
            }
        }
        self.reclaim();
    }

    /// The end of an orderly life: the header of a segment that holds nothing tells the next start how far the last one is
    /// durable, which is true whether that header is durable or not. So there is nothing to copy.
    fn finish(&mut self) {
        self.seal();
        if self.told || self.before == Durable::default() {
            return;
        }
        match self.begin_anew(wide(SEGMENT_HEADER)) {
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
        let path = segment_path(&self.shared.directory, sequence);
        let file = self.shared.fs.create(&path, room)?;
        begin(&self.shared, sequence, self.before, file)
    }

    /// Ends the active segment; what was preallocated and not used is given back.
    fn seal(&mut self) {
        if let Some(active) = self.active.take() {
            let _ = active.file.truncate(active.durable);
            if let Some(segment) = self.shared.state_mut().segments.get_mut(&active.sequence) {
                segment.bytes = active.durable;
            }
            self.passed(&active);
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

    /// Removes the oldest segments while nothing in them is alive.
    fn reclaim(&mut self) {
        loop {
            // Durable before the next one goes: a `Done` must not vanish before the message it is about.
            if self.removal_unsynced {
                if let Err(error) = self.shared.fs.sync_dir(&self.shared.directory) {
                    tracing::warn!(%error, "cannot make the removal of a segment durable");
                    return;
                }
                self.removal_unsynced = false;
            }
            let Some((sequence, 0)) = self.oldest() else {
                return;
            };
            if let Err(error) = remove(&self.shared, sequence) {
                tracing::warn!(%error, sequence, "cannot remove a segment that is not needed");
                return;
            }
            self.removal_unsynced = true;
        }
    }

    /// The oldest segment that is sealed, and how many messages in it are alive.
    fn oldest(&self) -> Option<(u64, u64)> {
        let state = self.shared.state();
        let (sequence, _) = state.segments.first_key_value()?;
        let active = self.active.as_ref().map(|active| active.sequence);
        (active != Some(*sequence)).then(|| (*sequence, state.index.live(*sequence).messages))
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

fn answer(groups: Vec<Group>, result: &Result<(), CommitError>) {
    for group in groups {
        group.done.give(result.clone());
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
