//! The durable queue: an append-only log of segments, one writer, group commit.
//!
//! # Promises
//! - What [`Spool::submit`] reported as done is on stable storage: after any crash it is found again, all records of
//!   the group or (if the crash came first) none.
//! - A message is forgotten only after its [`Record::Done`].
//! - A failed write or flush is never taken for a success later: the segment is given up, its waiters get an error, the
//!   next batch goes to a fresh file. (Linux reports a failed flush once and drops the pages.)
//! - A full disk refuses mail only. What becomes of the mail that is queued is written on, to a file whose room was set aside,
//!   and a start needs no room. Once a segment fits again, so does mail.
//! - Nothing is deleted that could not be read: see [`Recovery::corrupt`].
//! - Memory: what an unfinished message costs is bounded by [`MESSAGE_BYTES`] and [`SETTLED_BYTES`]; how many there may be is for
//!   the caller to decide.
//!
//! A group that was reported as *failed* may still be found by the next start, if the file could not be cut back and nothing
//! was stored after it: the client was told to come again, so that message may be delivered twice, but it is not lost.
//!
//! # States of a segment
//! *active* (the writer appends to it) -> *sealed* (full, poisoned, or from an earlier run) -> gone. Only the oldest
//! segment may go, once nothing in it is alive: a `Done` in a later segment must outlive the message it is about. So that one
//! long-lived message does not keep the whole log, the oldest segment is compacted when little of it, or of the whole log, is
//! alive: what is alive is appended anew through the ordinary commit. What is damaged cannot be: see [`Spool::take_damaged`].
//!
//! In an orderly end the header of one more segment, which stays empty, tells how far the last one is durable.
//!
//! Times are milliseconds since the epoch and come from the caller; nothing here asks for the time of day.

mod answer;
pub mod cost;
mod disk;
mod format;
mod hint;
mod id;
mod index;
mod number;
pub mod offline;
mod read;
mod record;
mod recover;
pub mod runs;
mod scan;
mod shared;
mod sys;
mod waiting;
mod writer;

#[cfg(any(test, feature = "simulation"))]
pub mod sim;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use disk::{RESERVE_SEGMENTS, SEGMENT_BYTES};
pub use format::Damage;
pub use id::{IdError, IdGenerator, MessageId};
pub use index::{MESSAGE_BYTES, SETTLED_BYTES};
pub use record::{
    Attempt, Author, BodyType, ByMode, DeliverBy, DomainRun, Envelope, Message, Queue, Queued,
    Recipient, RecipientResult, Record, Ret, TlsDemand,
};
pub use sys::{File, FileSystem, RealFileSystem, Space};
pub use writer::Writer;

use shared::Shared;

/// Most bytes that may wait for the writer. A disk that is this far behind will not catch up within a client's patience.
pub const WAITING_BYTES_MAX: u64 = 512 << 20;

/// Most groups that may wait for the writer; each is a session or a delivery.
pub const WAITING_GROUPS_MAX: usize = 100_000;

/// Where the spool lives.
#[derive(Clone, Debug)]
pub struct Config {
    /// Created if missing. Nothing else may be kept there.
    pub directory: PathBuf,
    /// Size at which a new segment is begun, in bytes; usually [`SEGMENT_BYTES`]. On a small volume they are smaller.
    pub segment_bytes: u64,
    /// Most bytes to take of the volume, `corrupt/` apart; `None` if all of it is the spool's. A bound on receiving:
    /// [`Spool::is_full`] tells when it is reached.
    pub bytes_max: Option<u64>,
    /// When a group counts as stored.
    pub mode: Mode,
}

/// What has happened to a group that [`Spool::submit`] reports as done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// It is on stable storage.
    #[default]
    Durable,
    /// It is written, and is going to be flushed. The end of the process takes nothing; a power cut, or a crash of the machine, takes what was
    /// stored since the last flush: messages are lost, outcomes forgotten, so that mail is delivered twice. A report ([`Author::Relay`]) is flushed
    /// first: what it is on may be old. What the next start finds of the rest in part is damage, and counts in [`Recovery::corrupt`]: it had been
    /// promised. Of a flush that fails [`Health::failure`] tells, and what it was about is written anew.
    Relaxed {
        /// How long after it was written a group is flushed at the latest, the time of the flush itself apart. More than 16 MiB
        /// are flushed at once.
        sync_interval: Duration,
    },
}

/// What a start found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Every unfinished message, oldest first.
    pub queued: Queue,
    /// Damaged pieces kept in `corrupt/`, those of earlier starts too. Each may have been a message: somebody should look.
    pub corrupt: u64,
    /// Bytes of unfinished writes that were cut off.
    pub truncated_bytes: u64,
    /// Segments found.
    pub segments: usize,
}

/// The state of the spool, for status and metrics.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Why nothing can be written.
    pub failure: Option<Failure>,
    /// When a group counts as stored.
    pub mode: Mode,
    /// How long the oldest write that counts as stored has been waiting to be flushed: always none in [`Mode::Durable`].
    pub unsynced: Option<Duration>,
    /// Damaged pieces found by the start or since.
    pub corrupt: u64,
    /// Segments on disk.
    pub segments: usize,
    /// Bytes of unfinished messages.
    pub live_bytes: u64,
    /// Bytes on disk, those of files that are kept to be segments again too.
    pub disk_bytes: u64,
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Whether there is no room for another message: see [`Spool::is_full`].
    pub disk_full: bool,
    /// Flushes to stable storage.
    pub syncs: u64,
    /// Groups committed.
    pub commits: u64,
}

/// Why nothing can be written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Nothing more fits. Outcomes are written still, for as long as what is set aside for them lasts; it ends when
    /// there is room for a segment.
    #[error("the disk is full")]
    DiskFull,
    /// What the system said to the last write; it ends with the next one that succeeds.
    #[error("{0}")]
    Write(String),
    /// The writer has ended without having been told to, which can only be a panic. It never comes back: only a new
    /// process can write again.
    #[error("the writer has died")]
    WriterDied,
}

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("the spool in {path} is in use by another process", path = .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory could not be prepared.
    #[error("cannot prepare the spool directory {path}", path = .path.display())]
    Prepare {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What is there could not be read, or not be made durable, or what is damaged not kept aside; nothing was lost.
    #[error("cannot read the spool: {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The group was not stored.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommitError {
    /// Nothing more fits.
    #[error("cannot write the spool: the disk is full")]
    DiskFull,
    /// What the system said.
    #[error("cannot write the spool: {0}")]
    Write(String),
}

/// The group was not even queued; `done` is not called.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SubmitError {
    /// The spool has been closed.
    #[error("the spool is closed")]
    Closed,
    /// [`WAITING_BYTES_MAX`] or [`WAITING_GROUPS_MAX`] is reached.
    #[error("too much waits to be written")]
    Full,
    /// An envelope of more than 16 MiB, or a group of nearly 2 GiB: it could not be read back. Permanent.
    #[error("too large to be stored")]
    TooLarge,
}

/// A message could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not what was written.
    #[error("the message is damaged on disk")]
    Damaged(#[source] Damage),
    /// The system could not read them.
    #[error("cannot read the message: {0}")]
    Io(#[source] io::Error),
    /// The message is finished, or never was.
    #[error("no such message")]
    Unknown,
}

/// The spool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
}

impl Spool {
    /// Opens a spool on the machine's file system; run the [`Writer`] on a thread of its own.
    ///
    /// # Errors
    /// [`Error`]: nothing was changed that was not promised.
    pub fn open(config: Config) -> Result<(Self, Recovery, Writer), Error> {
        Self::open_on(Arc::new(RealFileSystem), config)
    }

    /// Opens a spool on any file system.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(
        fs: Arc<dyn FileSystem>,
        config: Config,
    ) -> Result<(Self, Recovery, Writer), Error> {
        let path = config.directory.clone();
        let prepare = |source| Error::Prepare {
            path: path.clone(),
            source,
        };
        fs.create_dir(&config.directory).map_err(prepare)?;
        let lock = fs
            .lock(&config.directory)
            .map_err(|source| match source.kind() {
                io::ErrorKind::WouldBlock => Error::Locked { path: path.clone() },
                _ => prepare(source),
            })?;
        let room = disk::Room::of(fs.as_ref(), &config);
        let recovered = recover::recover(fs.as_ref(), &config.directory, room.ample_bytes())?;
        let (durable, told) = (recovered.durable, recovered.told);
        let (shared, report) = Shared::new(fs, config, room, lock, recovered);
        let shared = Arc::new(shared);
        shared.measure();
        let writer = Writer::new(Arc::clone(&shared), durable, told);
        Ok((Self { shared }, report, writer))
    }

    /// Queues records as one atomic group. `done` is called exactly once, from the writer's thread, after the group is
    /// on stable storage or has failed, or when the [`Writer`] is dropped; it must neither block nor panic. What only ends messages may
    /// wait two milliseconds for mail, to share its flush: see [`Self::hurry`].
    ///
    /// # Errors
    /// [`SubmitError`]: `done` is not called.
    pub fn submit(
        &self,
        records: Vec<Record>,
        done: impl FnOnce(Result<(), CommitError>) + Send + 'static,
    ) -> Result<(), SubmitError> {
        self.shared.submit(records, Box::new(done))
    }

    /// Stores what waits now without waiting for mail: for whoever can do nothing more before it is stored.
    pub fn hurry(&self) {
        self.shared.hurry();
    }

    /// Reads a message back. Blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, id: MessageId) -> Result<Message, ReadError> {
        self.shared.read(id)
    }

    /// Reads only the envelope of a message, which has a checksum of its own: for telling the sender of a message that
    /// [`Self::read`] does not give back. Headers and body are empty. Blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError`]: nothing is left of it.
    pub fn read_envelope(&self, id: MessageId) -> Result<Message, ReadError> {
        self.shared.read_envelope(id)
    }

    /// Copies the record of a message that cannot be read to `corrupt/`, with zeros where the disk gives nothing back, and
    /// counts it in [`Health::corrupt`]. The message stays until its [`Record::Done`]. Blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError`]: there is no copy that would survive a crash.
    pub fn set_aside(&self, id: MessageId) -> Result<(), ReadError> {
        self.shared.set_aside(id)
    }

    /// Damaged messages that keep the oldest segment, and with it all behind, until their [`Record::Done`]: each search for space finds
    /// them, about once a minute, and the next call gives what the last one found, a hundred at most.
    #[must_use]
    pub fn take_damaged(&self) -> Vec<MessageId> {
        std::mem::take(&mut self.shared.counts().damaged)
    }

    /// The state of the spool.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Whether there is no room for another message: less than [`RESERVE_SEGMENTS`] and one more. Touches no disk, as
    /// [`Self::has_room`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.is_full()
    }

    /// Whether a message of so many bytes may be taken, by the time it has been received. What is left below that, [`RESERVE_SEGMENTS`], is for what becomes of
    /// the mail that is queued already: it is never to be asked whether an outcome has room. Touches no disk: the writer
    /// measures once a second and whenever a segment comes or goes.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        self.shared.has_room(bytes)
    }

    /// Measures the disk now instead of within a second. Blocks on the disk.
    pub fn measure(&self) {
        self.shared.measure();
    }

    /// Lets the writer finish what waits and return.
    pub fn close(&self) {
        self.shared.close();
    }
}
