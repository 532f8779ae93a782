//! What the handles and the writer share: the waiting groups, the index, the health.
//!
//! Lock order: `waiting`, then `state`, then `health`; none is held while the disk is written.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use crate::answers::{Answer, Answers, Done, Giver};
use crate::disk::Room;
use crate::format::{ENVELOPE_MAX, GROUP_MAX, envelope_bytes, record_bytes};
use crate::index::{Index, Place};
use crate::read::{read_envelope, read_message};
use crate::record::{Message, Record};
use crate::recover::{Recovered, Segment, copy};
use crate::sys::{File, FileSystem};
use crate::{
    CommitError, Config, Failure, Health, MessageId, Mode, ReadError, Recovery, SubmitError,
    WAITING_BYTES_MAX, WAITING_GROUPS_MAX,
};

/// What every record costs beside its content.
const RECORD_OVERHEAD: u64 = 256;

/// Records that are to be stored together.
pub(crate) struct Group {
    pub(crate) records: Vec<Record>,
    pub(crate) bytes: u64,
    pub(crate) done: Answer,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) groups: VecDeque<Group>,
    pub(crate) bytes: u64,
    pub(crate) closed: bool,
}

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
    wake: Condvar,
    pub(crate) giver: Giver,
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
            wake: Condvar::new(),
            giver: Giver::default(),
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
        let bytes = records.iter().map(size).sum();
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(SubmitError::Closed);
        }
        // A group that is alone is admitted whatever its size, or it could never be written.
        let full = waiting.bytes.saturating_add(bytes) > WAITING_BYTES_MAX
            || waiting.groups.len() >= WAITING_GROUPS_MAX;
        if full && !waiting.groups.is_empty() {
            return Err(SubmitError::Full);
        }
        waiting.bytes += bytes;
        waiting.groups.push_back(Group {
            records,
            bytes,
            done: Answer::new(done),
        });
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Tells those who wait for a batch what became of it.
    pub(crate) fn answer(&self, groups: Vec<Group>, result: Result<(), CommitError>) {
        self.giver.give(Answers::new(groups, result));
    }

    pub(crate) fn close(&self) {
        self.waiting().closed = true;
        self.wake.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting().closed
    }

    /// Takes what waits, up to a batch; at least one group if there is any.
    pub(crate) fn take(&self, bytes_max: u64) -> Vec<Group> {
        let mut waiting = self.waiting();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(group) = waiting.groups.front() {
            if !batch.is_empty() && bytes + group.bytes > bytes_max {
                break;
            }
            bytes += group.bytes;
            batch.extend(waiting.groups.pop_front());
        }
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        batch
    }

    /// Sleeps until something waits, for `patience` at most; `false` once closed and empty.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let mut waiting = self.waiting();
        if waiting.groups.is_empty() && !waiting.closed {
            let woken = self.wake.wait_timeout(waiting, patience);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        !(waiting.groups.is_empty() && waiting.closed)
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
        let waiting = self.waiting().bytes;
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
