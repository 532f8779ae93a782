//! What the handles and the writer share: the waiting groups, the index, the health.
//!
//! Lock order: `waiting`, then `state`, then `health`; none is held while the disk is written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use crate::answer::{Answer, Done};
use crate::disk::Room;
use crate::format::{ENVELOPE_MAX, GROUP_MAX, envelope_bytes, record_bytes};
use crate::index::{Index, Place};
use crate::read::{read_envelope, read_message};
use crate::record::{Message, Record};
use crate::recover::{Recovered, Segment, copy};
use crate::sys::{File, FileSystem};
use crate::waiting::{Group, Waiting};
use crate::{Config, Failure, Health, MessageId, Mode, ReadError, Recovery, SubmitError};

/// What every record costs beside its content.
const RECORD_OVERHEAD: u64 = 256;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) index: Index,
    /// Every segment on disk, the active one included.
    pub(crate) segments: BTreeMap<u64, Segment>,
}

impl State {
    /// What all segments hold, dead or alive.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// What all hints take. Apart: none of it is waste that moving messages would free.
    pub(crate) fn hint_bytes(&self) -> u64 {
        let hints = self.segments.values().map(|segment| segment.hint_bytes);
        hints.sum()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Why the last write failed.
    pub(crate) write_failure: Option<Failure>,
    /// The writer is gone, and the spool was not closed.
    pub(crate) writer_died: bool,
    pub(crate) corrupt: u64,
    /// Damaged messages that keep the oldest segment, and of which nobody has heard since.
    pub(crate) damaged: Vec<MessageId>,
    /// Since when something is answered and not flushed.
    pub(crate) unsynced: Option<Instant>,
    pub(crate) syncs: u64,
    pub(crate) commits: u64,
}

impl Counts {
    fn failure(&self) -> Option<Failure> {
        if self.writer_died {
            return Some(Failure::WriterDied);
        }
        self.write_failure.clone()
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) directory: PathBuf,
    pub(crate) room: Room,
    pub(crate) mode: Mode,
    waiting: Mutex<Waiting>,
    /// The writer has something to do.
    work: Condvar,
    state: RwLock<State>,
    counts: Mutex<Counts>,
    /// Held for as long as anything of the spool lives.
    _lock: Box<dyn fmt::Debug + Send + Sync>,
}

impl Shared {
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        config: Config,
        room: Room,
        lock: Box<dyn fmt::Debug + Send + Sync>,
        recovered: Recovered,
    ) -> (Self, Recovery) {
        let Recovered {
            index,
            segments,
            durable: _,
            told: _,
            report,
        } = recovered;
        let shared = Self {
            fs,
            directory: config.directory,
            room,
            mode: config.mode,
            waiting: Mutex::default(),
            work: Condvar::new(),
            state: RwLock::new(State { index, segments }),
            counts: Mutex::new(Counts {
                corrupt: report.corrupt,
                ..Counts::default()
            }),
            _lock: lock,
        };
        (shared, report)
    }

    pub(crate) fn submit(&self, records: Vec<Record>, done: Done) -> Result<(), SubmitError> {
        if !fits(&records) {
            return Err(SubmitError::TooLarge);
        }
        let group = Group {
            bytes: records.iter().map(size).sum(),
            records,
            done: Answer::new(done),
        };
        let mut waiting = self.waiting();
        waiting.push(group)?;
        self.wake(waiting);
        Ok(())
    }

    pub(crate) fn hurry(&self) {
        let mut waiting = self.waiting();
        waiting.hurry();
        self.wake(waiting);
    }

    pub(crate) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.close();
        self.wake(waiting);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting().is_closed()
    }

    /// Takes what waits, up to a batch; at least one group if there is any.
    pub(crate) fn take(&self, bytes_max: u64) -> Vec<Group> {
        self.waiting().take(bytes_max)
    }

    /// Sleeps until there is work, for as long as [`Waiting::sleep`] says at most; `false` once closed and empty.
    pub(crate) fn wait(&self, idle: Duration, linger: Duration) -> bool {
        let mut waiting = self.waiting();
        if let Some(patience) = waiting.sleep(idle, linger) {
            let woken = self.work.wait_timeout(waiting, patience);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            waiting.woken();
        }
        !(waiting.is_empty() && waiting.is_closed())
    }

    /// As long as [`Self::wait`] would sleep.
    #[cfg(feature = "simulation")]
    pub(crate) fn sleep(&self, idle: Duration, linger: Duration) -> Option<Duration> {
        self.waiting().sleep(idle, linger)
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn ignore_hurry(&self) {
        self.waiting().ignore_hurry();
    }

    /// Wakes the writer if that sleeps and should not.
    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let wakes = waiting.wake();
        drop(waiting);
        if wakes {
            self.work.notify_one();
        }
    }

    pub(crate) fn read(&self, id: MessageId) -> Result<Message, ReadError> {
        let (place, file) = self.find(id)?;
        read_message(file.as_ref(), place)
    }

    pub(crate) fn read_envelope(&self, id: MessageId) -> Result<Message, ReadError> {
        let (place, file) = self.find(id)?;
        read_envelope(file.as_ref(), place)
    }

    pub(crate) fn set_aside(&self, id: MessageId) -> Result<(), ReadError> {
        let (place, file) = self.find(id)?;
        let Place {
            segment,
            offset,
            length,
        } = place;
        let piece = (offset, offset + u64::from(length));
        copy::aside(
            self.fs.as_ref(),
            &self.directory,
            file.as_ref(),
            segment,
            piece,
            copy::Unreadable::Zeros,
        )
        .map_err(ReadError::Io)?;
        tracing::error!(%id, segment, offset, "an unreadable message, kept in corrupt/");
        let kept = copy::kept_aside(self.fs.as_ref(), &self.directory).map_err(ReadError::Io)?;
        self.counts().corrupt = kept;
        Ok(())
    }

    fn find(&self, id: MessageId) -> Result<(Place, Arc<dyn File>), ReadError> {
        let state = self.state();
        let place = state.index.place(id).ok_or(ReadError::Unknown)?;
        let segment = state.segments.get(&place.segment);
        // An open file can be read even after the segment is gone.
        let file = Arc::clone(&segment.ok_or(ReadError::Unknown)?.file);
        Ok((place, file))
    }

    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let waiting = self.waiting().bytes();
        self.room.admits(waiting.saturating_add(bytes))
    }

    /// Room for one more segment is what tells a disk that takes mail from one that is full: so a message that is let
    /// begin has room by the time it ends, unless it is larger than that.
    pub(crate) fn is_full(&self) -> bool {
        !self.has_room(self.room.segment_bytes)
    }

    pub(crate) fn measure(&self) {
        let state = self.state();
        let disk_bytes = state.disk_bytes().saturating_add(state.hint_bytes());
        drop(state);
        self.room
            .measure(self.fs.as_ref(), &self.directory, disk_bytes);
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state();
        let (segments, live_bytes) = (state.segments.len(), state.index.live_bytes());
        let beside = state.hint_bytes().saturating_add(self.room.spare());
        let disk_bytes = state.disk_bytes().saturating_add(beside);
        drop(state);
        let disk_full = self.is_full();
        let counts = self.counts();
        Health {
            failure: counts.failure(),
            mode: self.mode,
            unsynced: counts.unsynced.map(|since| since.elapsed()),
            corrupt: counts.corrupt,
            segments,
            live_bytes,
            disk_bytes,
            free_bytes: self.room.free(),
            disk_full,
            syncs: counts.syncs,
            commits: counts.commits,
        }
    }

    // A panic while one of these is held can only come from a failed allocation: the values are whole.

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a group can be written such that it can be read back.
fn fits(records: &[Record]) -> bool {
    let readable = |record: &Record| match record {
        Record::Message(message) => envelope_bytes(message) <= ENVELOPE_MAX,
        Record::Attempt(_) | Record::Done(_) => true,
    };
    let bytes: u64 = records.iter().map(record_bytes).sum();
    bytes < GROUP_MAX && records.iter().all(readable)
}

/// What a record costs while it waits.
fn size(record: &Record) -> u64 {
    record_bytes(record).saturating_add(RECORD_OVERHEAD)
}
