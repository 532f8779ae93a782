//! The one writer: takes all that waits, writes it in one go, flushes once, answers everyone.
//!
//! While one flush runs, the next batch gathers by itself; only the ends of messages wait on purpose, for mail ([`crate::waiting`]).
//! [`Writer::run`] is a loop of [`Writer::turn`] and sleep, so that a simulation can do the same without threads and by a clock of its own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::format::{Durable, END_MARK, Encoded, GROUP_HEADER, record_bytes};
use crate::index::Place;
use crate::number::wide;
use crate::record::Record;
use crate::shared::Shared;
use crate::sys::is_full;
use crate::waiting::{Group, LINGER};
use crate::{CommitError, Failure, Mode};

mod compact;
mod flush;
mod full;
mod reclaim;
mod segment;
mod spares;
mod turnover;
mod window;

use compact::Compaction;
use full::Reserve;
use segment::{Active, AppendError, append};
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
    /// For how long ends wait for mail.
    pub(crate) linger: Duration,
    /// When a message was stored last that had been received.
    last_mail: Option<Instant>,
    /// When the disk was measured last.
    pub(crate) measured: Instant,
    pub(crate) clock: fn() -> Instant,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, durable: Durable, told: bool) -> Self {
        let last = shared
            .state()
            .segments
            .last_key_value()
            .map(|(sequence, _)| *sequence);
        let spares = Spares::found(&shared);
        let linger = match shared.mode {
            Mode::Durable => LINGER,
            // Nothing waits for a flush there.
            Mode::Relaxed { .. } => Duration::ZERO,
        };
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
            linger,
            last_mail: None,
            measured: Instant::now(),
            clock: Instant::now,
        };
        writer.tick();
        writer
    }

    /// Works until the spool is closed and nothing waits. Blocking: for a thread of its own.
    pub fn run(mut self) {
        self.reclaim();
        let mut idle = Duration::ZERO;
        while self.shared.wait(idle, self.linger_left()) {
            idle = self.turn(idle);
        }
        self.finish();
    }

    /// What is done between two sleeps, of which the one before was to be no longer than `idle`, and the next may be as long as is returned.
    pub fn turn(&mut self, idle: Duration) -> Duration {
        // What else fills the volume, or makes it larger, says nothing.
        if self.since(self.measured) >= MEASURE_INTERVAL {
            self.tick();
            self.measured = (self.clock)();
        }
        if !idle.is_zero() && self.is_failing() {
            self.probe();
        }
        let worked = self.step();
        let due = self.flush_if_due();
        match worked {
            true => Duration::ZERO,
            false => due.map_or(self.patience(), |due| due.min(self.patience())),
        }
    }

    /// For how long [`Self::run`] would sleep now, if nothing comes and a turn has said that it may for so long; `None` if there is work.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn sleep(&self, idle: Duration) -> Option<Duration> {
        self.shared.sleep(idle, self.linger_left())
    }

    /// Nobody is held up by what waits: so it is seen what comes of a writer that does not hear of it.
    #[cfg(feature = "simulation")]
    pub fn ignore_hurry(&self) {
        self.shared.ignore_hurry();
    }

    /// Goes by another clock, and lets ends wait for mail for so long: a simulation's time is not the system's, and has no grain as
    /// fine as [`LINGER`]. Nothing waits in the relaxed mode.
    #[cfg(feature = "simulation")]
    pub fn simulate(&mut self, clock: fn() -> Instant, linger: Duration) {
        self.clock = clock;
        self.measured = clock();
        if self.shared.mode == Mode::Durable {
            self.linger = linger;
        }
    }

    /// How long nothing has to be done if nothing waits.
    fn patience(&self) -> Duration {
        match self.is_failing() {
            true => PROBE_INTERVAL,
            false => MEASURE_INTERVAL,
        }
    }

    /// For how long ends wait for mail, from now on.
    fn linger_left(&self) -> Duration {
        let since = self.last_mail.map(|at| self.since(at));
        since.map_or(Duration::ZERO, |since| self.linger.saturating_sub(since))
    }

    fn since(&self, at: Instant) -> Duration {
        (self.clock)().saturating_duration_since(at)
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
        let is_mail = batch.iter().any(Group::is_mail);
        groups.extend(batch);
        // After a failure the same slice is tried again.
        if groups.is_empty() || self.commit(groups) {
            self.compaction = moved.unwrap_or(self.compaction);
            if is_mail {
                self.last_mail = Some((self.clock)());
            }
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
        answer(batch, &result);
        is_stored
    }

    /// Makes groups known once they are written, and flushed if that is the mode.
    fn store(&mut self, batch: &[Group]) -> io::Result<()> {
        let length = batch.iter().map(group_bytes).sum();
        self.make_way(length)?;
        let places = self.window.encode(batch);
        let stored = self.write().and_then(|(segment, offset)| {
            if self.is_flush_owed(batch) {
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
            // What was answered may fit where a segment does not.
            if !self.window.is_homeless() {
                return;
            }
        }
        match self.rewrite() {
            Ok(()) => self.count(0),
            Err(error) => {
                self.fail(&error);
            }
        }
        self.reclaim();
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

/// Tells those who wait for a batch what became of it.
fn answer(batch: Vec<Group>, result: &Result<(), CommitError>) {
    for group in batch {
        group.done.give(result.clone());
    }
}

/// What a group takes in a segment.
fn group_bytes(group: &Group) -> u64 {
    let records = group.records.iter().map(record_bytes).sum::<u64>();
    records.saturating_add(wide(GROUP_HEADER + END_MARK))
}
