//! The one writer: takes all that waits, writes it in one go, flushes once, answers everyone.
//!
//! It never waits on purpose: while one flush runs, the next batch gathers by itself. [`Writer::step`] does one batch
//! without blocking for more, so that a simulation can drive it without threads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::CommitError;
use crate::format::{
    Durable, Encoded, Mark, SEGMENT_HEADER, SegmentHeader, encode_group, mark_group,
};
use crate::index::Place;
use crate::record::Record;
use crate::recover::{Segment, segment_path};
use crate::shared::{Group, Shared};
use crate::sys::File;

mod compact;

use compact::Compaction;

/// Most bytes of one batch: bounds the memory for it, and the time until the first of it is answered.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// A buffer that grew past this for one large batch is given back.
const BUFFER_KEPT: usize = 32 << 20;

/// How often a failing disk is tried while no mail comes that would try it.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The write side of a spool.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    next_sequence: u64,
    /// The last segment before the active one that holds anything.
    before: Durable,
    /// A segment was removed, and the directory not flushed since.
    removal_unsynced: bool,
    buffer: Vec<u8>,
    compaction: Compaction,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active {
    sequence: u64,
    file: Arc<dyn File>,
    mark: Mark,
    /// Everything before this is on stable storage.
    durable: u64,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, durable: Durable) -> Self {
        let last = shared
            .state()
            .segments
            .last_key_value()
            .map(|(sequence, _)| *sequence);
        Self {
            shared,
            active: None,
            next_sequence: last.map_or(1, |last| last + 1),
            before: durable,
            removal_unsynced: false,
            buffer: Vec::new(),
            compaction: Compaction::Idle,
        }
    }

    /// Works until the spool is closed and nothing waits. Blocking: for a thread of its own.
    pub fn run(mut self) {
        self.reclaim();
        loop {
            if self.step() {
                continue;
            }
            let failing = self.shared.counts().write_failure.is_some();
            if !self.shared.wait(failing.then_some(PROBE_INTERVAL)) {
                break;
            }
            if failing {
                self.probe();
            }
        }
        self.seal();
    }

    /// Commits one batch of what waits, and moves a little of what keeps old segments if nothing waits or if much of the
    /// disk is waste. Returns whether there was anything to do.
    pub fn step(&mut self) -> bool {
        let batch = self.shared.take(BATCH_BYTES_MAX);
        let slice = if batch.is_empty() || compact::is_wasteful(&self.shared.state()) {
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

    /// Writes groups and answers them; returns whether they are stored.
    fn commit(&mut self, batch: Vec<Group>) -> bool {
        self.buffer.clear();
        let mut places = Vec::with_capacity(batch.len());
        for group in &batch {
            let start = wide(self.buffer.len());
            places.push((start, encode_group(&group.records, &mut self.buffer)));
        }
        let starts: Vec<u64> = places.iter().map(|(start, _)| *start).collect();
        let stored = match self.write(&starts) {
            Ok((segment, offset)) => {
                self.apply(&batch, &places, segment, offset);
                self.count(batch.len());
                for group in batch {
                    group.done.give(Ok(()));
                }
                true
            }
            Err(error) => {
                let error = self.fail(&error);
                for group in batch {
                    group.done.give(Err(error.clone()));
                }
                false
            }
        };
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        stored
    }

    /// Makes the buffer with groups at these offsets durable; returns where it lies.
    fn write(&mut self, starts: &[u64]) -> io::Result<(u64, u64)> {
        let length = wide(self.buffer.len());
        let full = self.active.as_ref().is_some_and(|active| {
            active.durable > wide(SEGMENT_HEADER)
                && active.durable + length > self.shared.segment_bytes
        });
        if full {
            self.seal();
        }
        let active = match &mut self.active {
            Some(active) => active,
            none => {
                let sequence = self.next_sequence;
                // Even if this fails the name is spent: a file may be there.
                self.next_sequence += 1;
                none.insert(begin(&self.shared, sequence, self.before, length)?)
            }
        };
        for start in starts {
            let start = usize::try_from(*start).unwrap_or(usize::MAX);
            mark_group(
                self.buffer.get_mut(start..).unwrap_or_default(),
                active.mark,
            );
        }
        active.file.write_at(&self.buffer, active.durable)?;
        active.file.sync_data()?;
        let offset = active.durable;
        active.durable += length;
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
        if counts.write_failure.take().is_some() {
            tracing::info!("the spool can be written again");
        }
    }

    /// Gives the active segment up. What was durable in it stays; what was not is cut off if that works, so that what was
    /// refused does not come back.
    fn fail(&mut self, error: &io::Error) -> CommitError {
        tracing::error!(%error, "cannot write the spool");
        if let Some(active) = self.active.take() {
            self.passed(&active);
            // A disk that fails for long would fill with files that hold nothing.
            let empty = active.durable == wide(SEGMENT_HEADER);
            if !empty || remove(&self.shared, active.sequence).is_err() {
                let _ = active.file.truncate(active.durable);
            }
        }
        self.shared.counts().write_failure = Some(error.to_string());
        CommitError(error.to_string())
    }

    /// Tries a fresh segment, so that the failure ends when the disk is mended and not only when mail comes.
    fn probe(&mut self) {
        self.buffer.clear();
        match self.write(&[]) {
            Ok(_) => self.count(0),
            Err(error) => {
                self.fail(&error);
            }
        }
        self.reclaim();
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

/// Removes the file of a segment in which nothing is alive; the directory is not flushed.
fn remove(shared: &Shared, sequence: u64) -> io::Result<()> {
    match shared.fs.remove(&segment_path(&shared.directory, sequence)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => {
            shared.state_mut().segments.remove(&sequence);
            Ok(())
        }
    }
}

/// Begins a segment: its name is durable before anything is promised in it.
fn begin(shared: &Shared, sequence: u64, before: Durable, needed: u64) -> io::Result<Active> {
    let mark = shared.fs.random()?;
    let room = shared.segment_bytes.max(needed + wide(SEGMENT_HEADER));
    let file = shared
        .fs
        .create(&segment_path(&shared.directory, sequence), room)?;
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
        .and_then(|()| shared.fs.sync_dir(&shared.directory));
    if let Err(error) = written {
        let _ = remove(shared, sequence);
        return Err(error);
    }
    Ok(Active {
        sequence,
        file,
        mark,
        durable: wide(SEGMENT_HEADER),
    })
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
