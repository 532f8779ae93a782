//! The one writer: takes all that waits, writes it in one go, flushes once, answers everyone.
//!
//! It never waits on purpose: while one flush runs, the next batch gathers by itself. [`Writer::step`] does one batch
//! without blocking for more, so that a simulation can drive it without threads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::CommitError;
use crate::format::{Encoded, SEGMENT_HEADER, encode_group, segment_header};
use crate::index::Place;
use crate::record::Record;
use crate::recover::{Segment, segment_path};
use crate::scan::{Found, Piece, Scanner};
use crate::shared::{Group, Shared, read_message};
use crate::sys::File;

/// Most bytes of one batch: bounds the memory for it, and the time until the first of it is answered.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// A buffer that grew past this for one large batch is given back.
const BUFFER_KEPT: usize = 32 << 20;

/// Bytes of messages moved by one step of compaction: short enough that mail that comes meanwhile hardly waits.
const COMPACTION_BYTES: u64 = 1 << 20;

/// With fewer segments than this there is nothing worth compacting for.
const COMPACTION_SEGMENTS_MIN: usize = 4;

/// A segment is compacted when less than one part in so many of it is alive: then it costs less than it frees.
const COMPACTION_LIVE_PARTS: u64 = 4;

/// How often a failing disk is tried while no mail comes that would try it.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The write side of a spool.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    next_sequence: u64,
    buffer: Vec<u8>,
    compaction: Compaction,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active {
    sequence: u64,
    file: Arc<dyn File>,
    /// Everything before this is on stable storage.
    durable: u64,
}

/// How far the compaction of the oldest segment has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Compaction {
    Idle,
    At {
        segment: u64,
        offset: u64,
    },
    /// Something in this segment cannot be moved.
    GivenUp {
        segment: u64,
    },
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let last = shared
            .state()
            .segments
            .last_key_value()
            .map(|(sequence, _)| *sequence);
        Self {
            shared,
            active: None,
            next_sequence: last.map_or(1, |last| last + 1),
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
            let failing = self.shared.counts().failure.is_some();
            if !self.shared.wait(failing.then_some(PROBE_INTERVAL)) {
                break;
            }
            if failing {
                self.probe();
            }
        }
        self.seal();
    }

    /// Commits one batch of what waits, or else does a little of what can be done when nothing waits. Returns
    /// whether there was anything to do.
    pub fn step(&mut self) -> bool {
        let batch = self.shared.take(BATCH_BYTES_MAX);
        if batch.is_empty() {
            return self.compact();
        }
        self.commit(batch);
        self.reclaim();
        true
    }

    fn commit(&mut self, batch: Vec<Group>) {
        self.buffer.clear();
        let mut places = Vec::with_capacity(batch.len());
        for group in &batch {
            let start = wide(self.buffer.len());
            places.push((start, encode_group(&group.records, &mut self.buffer)));
        }
        match self.write() {
            Ok((segment, offset)) => {
                self.apply(&batch, &places, segment, offset);
                self.count(batch.len());
                for group in batch {
                    (group.done)(Ok(()));
                }
            }
            Err(error) => {
                let error = self.fail(&error);
                for group in batch {
                    (group.done)(Err(error.clone()));
                }
            }
        }
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
    }

    /// Makes the buffer durable; returns where it lies.
    fn write(&mut self) -> io::Result<(u64, u64)> {
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
                none.insert(begin(&self.shared, sequence, length)?)
            }
        };
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
                        };
                        state.index.insert(message.id, place);
                    }
                    Record::Attempt(attempt) => state.index.merge(attempt.clone()),
                    Record::Done(id) => state.index.remove(*id),
                }
            }
        }
    }

    fn count(&self, groups: usize) {
        let mut counts = self.shared.counts();
        counts.syncs += 1;
        counts.commits += wide(groups);
        if counts.failure.take().is_some() {
            tracing::info!("the spool can be written again");
        }
    }

    /// Gives the active segment up. What was durable in it stays; what was not is cut off if that works, so that what was
    /// refused does not come back.
    fn fail(&mut self, error: &io::Error) -> CommitError {
        tracing::error!(%error, "cannot write the spool");
        if let Some(active) = self.active.take() {
            let _ = active.file.truncate(active.durable);
        }
        self.shared.counts().failure = Some(error.to_string());
        CommitError(error.to_string())
    }

    /// Tries a fresh segment, so that the failure ends when the disk is mended and not only when mail comes.
    fn probe(&mut self) {
        self.buffer.clear();
        match self.write() {
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
        }
    }

    /// Removes the oldest segments while nothing in them is alive.
    fn reclaim(&mut self) {
        while let Some((sequence, live)) = self.oldest() {
            if live > 0 {
                return;
            }
            let path = segment_path(&self.shared.directory, sequence);
            let removed = self.shared.fs.remove(&path);
            // Durable before the next one goes: a `Done` must not vanish before the message it is about.
            let synced = removed.and_then(|()| self.shared.fs.sync_dir(&self.shared.directory));
            if let Err(error) = synced {
                tracing::warn!(%error, sequence, "cannot remove a segment that is not needed");
                return;
            }
            self.shared.state_mut().segments.remove(&sequence);
        }
    }

    /// The oldest segment that is sealed, and how many messages in it are alive.
    fn oldest(&self) -> Option<(u64, u64)> {
        let state = self.shared.state();
        let (sequence, _) = state.segments.first_key_value()?;
        let active = self.active.as_ref().map(|active| active.sequence);
        (active != Some(*sequence)).then(|| (*sequence, state.index.live(*sequence).messages))
    }

    /// Moves some of what is alive in the oldest segment, if little of it is. Returns whether it did.
    fn compact(&mut self) -> bool {
        let Some((segment, file, offset)) = self.compaction_target() else {
            return false;
        };
        match self.gather(segment, file.as_ref(), offset) {
            Ok((groups, next)) => {
                self.compaction = Compaction::At {
                    segment,
                    offset: next,
                };
                if !groups.is_empty() {
                    self.commit(groups);
                }
                self.reclaim();
                true
            }
            Err(error) => {
                tracing::error!(%error, segment, "cannot compact a segment; it stays");
                self.compaction = Compaction::GivenUp { segment };
                false
            }
        }
    }

    fn compaction_target(&self) -> Option<(u64, Arc<dyn File>, u64)> {
        let (segment, live) = self.oldest()?;
        let state = self.shared.state();
        let Segment { file, bytes } = state.segments.get(&segment)?.clone();
        let sparse = state
            .index
            .live(segment)
            .bytes
            .saturating_mul(COMPACTION_LIVE_PARTS)
            < bytes;
        if live == 0 || !sparse || state.segments.len() < COMPACTION_SEGMENTS_MIN {
            return None;
        }
        // A disk that just failed has better things to do.
        if self.shared.counts().failure.is_some() {
            return None;
        }
        match self.compaction {
            Compaction::GivenUp { segment: given_up } if given_up == segment => None,
            Compaction::At {
                segment: at,
                offset,
            } if at == segment => {
                // Read to its end and still alive: something in it cannot be found again.
                (offset < bytes).then_some((segment, file, offset))
            }
            _ => Some((segment, file, 0)),
        }
    }

    /// The next groups to move, and the offset behind them.
    fn gather(&self, segment: u64, file: &dyn File, offset: u64) -> io::Result<(Vec<Group>, u64)> {
        let mut scanner = Scanner::new(file, segment)?;
        scanner.seek(offset);
        let (mut groups, mut bytes) = (Vec::new(), 0);
        while bytes < COMPACTION_BYTES {
            let Some(piece) = scanner.next()? else { break };
            let Piece::Group(found) = piece else { continue };
            for one in found {
                let Found::Message(head, place) = one else {
                    continue;
                };
                let state = self.shared.state();
                if state.index.place(head.id) != Some(place) {
                    continue;
                }
                let progress = state
                    .index
                    .progress(head.id)
                    .map(|known| known.to_attempt(head.id));
                drop(state);
                let message = read_message(file, place).map_err(io::Error::other)?;
                bytes += place.length;
                let mut records = vec![Record::Message(message)];
                records.extend(progress.map(Record::Attempt));
                groups.push(Group {
                    records,
                    bytes: place.length,
                    done: Box::new(drop),
                });
            }
        }
        Ok((groups, scanner.position()))
    }
}

/// Begins a segment: its name is durable before anything is promised in it.
fn begin(shared: &Shared, sequence: u64, needed: u64) -> io::Result<Active> {
    let room = shared.segment_bytes.max(needed + wide(SEGMENT_HEADER));
    let file = shared
        .fs
        .create(&segment_path(&shared.directory, sequence), room)?;
    let segment = Segment {
        file: Arc::clone(&file),
        bytes: wide(SEGMENT_HEADER),
    };
    shared.state_mut().segments.insert(sequence, segment);
    file.write_at(&segment_header(sequence), 0)?;
    shared.fs.sync_dir(&shared.directory)?;
    Ok(Active {
        sequence,
        file,
        durable: wide(SEGMENT_HEADER),
    })
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
