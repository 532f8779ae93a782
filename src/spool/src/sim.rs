//! A file system that forgets: for tests.
//!
//! What was written and not flushed may be there after a crash, whole, in part, or not at all; a name that was created or
//! removed and whose directory was not flushed may be back. A flush that fails drops what it should have kept, as Linux does: a later
//! flush of the same file succeeds and means nothing for those bytes.

#![expect(clippy::unwrap_used, reason = "for tests: a panic is how it says no")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::sys::File;

mod system;

/// The disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// What a program sees now.
    names: BTreeMap<PathBuf, usize>,
    /// What would be there after a crash.
    durable_names: BTreeMap<PathBuf, usize>,
    files: Vec<Content>,
    /// Who holds the lock: the process with this number.
    locked: Option<u64>,
    processes: u64,
    /// Random numbers given out: they count.
    randoms: u64,
    /// Fails the operation with this number, counted down; all kinds of writes count.
    fail_in: Option<u64>,
    /// The disk is full from the operation with this number on, counted down as the one above.
    fill_in: Option<u64>,
    /// The next so many operations of a kind fail.
    faults: BTreeMap<Fault, u32>,
    /// How much fits; `None` for no bound.
    capacity: Option<u64>,
    /// A file is created as long as the room for it.
    preallocates: bool,
    /// A flush does nothing, and says that it did.
    lies: bool,
    syncs: u64,
}

/// What can be made to fail.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    Create,
    Read,
    Remove,
    Sync,
    SyncDirectory,
    Truncate,
    Write,
}

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Set aside when it was created.
    room: u64,
    /// Not flushed yet.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(length) => content.truncate(*length),
        }
    }
}

impl Disk {
    fn used(&self) -> u64 {
        let taken = |file: &usize| self.files[*file].taken();
        self.names.values().map(taken).sum()
    }

    fn free(&self) -> u64 {
        self.capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }
}

impl Content {
    fn taken(&self) -> u64 {
        self.room.max(self.seen.len() as u64)
    }

    /// Zeros up to a length.
    fn extend(&mut self, length: u64) {
        let (offset, length) = (self.seen.len(), usize::try_from(length).unwrap());
        let mut seen = vec![0; length.max(offset)];
        seen[..offset].copy_from_slice(&self.seen);
        self.seen = seen;
        let bytes = vec![0; length.saturating_sub(offset)];
        self.pending.push(Change::Write { offset, bytes });
    }
}

impl SimDisk {
    /// A disk of so many bytes.
    pub fn of_size(bytes: u64) -> Self {
        let disk = Self::default();
        disk.resize(bytes);
        disk
    }

    /// A disk whose files have their length from the start, as where room can be set aside.
    pub fn preallocating() -> Self {
        let disk = Self::default();
        disk.0.lock().unwrap().preallocates = true;
        disk
    }

    /// From now on no flush does anything, and all say that they did.
    pub fn lie(&self) {
        self.0.lock().unwrap().lies = true;
    }

    /// Makes the volume larger or smaller.
    pub fn resize(&self, bytes: u64) {
        self.0.lock().unwrap().capacity = Some(bytes);
    }

    /// Nothing more fits, but for what is removed.
    pub fn fill(&self) {
        let mut disk = self.0.lock().unwrap();
        disk.capacity = Some(disk.used());
    }

    /// So much more fits than now.
    pub fn grow(&self, bytes: u64) {
        let mut disk = self.0.lock().unwrap();
        disk.capacity = disk.capacity.map(|capacity| capacity + bytes);
    }

    /// Everything fits.
    pub fn unbound(&self) {
        self.0.lock().unwrap().capacity = None;
    }

    /// Lets the operation after so many others find the disk full; so it stays.
    pub fn fill_in(&self, operations: u64) {
        self.0.lock().unwrap().fill_in = Some(operations);
    }

    /// Lets the operation after so many others fail, once.
    pub fn fail_in(&self, operations: u64) {
        self.0.lock().unwrap().fail_in = Some(operations);
    }

    /// Lets the next so many operations of a kind fail.
    pub fn fail(&self, fault: Fault, times: u32) {
        self.0.lock().unwrap().faults.insert(fault, times);
    }

    /// Nothing fails any more.
    pub fn mend(&self) {
        let mut disk = self.0.lock().unwrap();
        disk.fail_in = None;
        disk.fill_in = None;
        disk.faults.clear();
    }

    /// Flushes so far.
    pub fn syncs(&self) -> u64 {
        self.0.lock().unwrap().syncs
    }

    /// The power goes. `chance` decides for each unflushed change how much of it survives (0.0..=1.0).
    pub fn crash(&self, mut chance: impl FnMut() -> f64) {
        let mut disk = self.0.lock().unwrap();
        disk.locked = None;
        disk.fail_in = None;
        disk.fill_in = None;
        disk.faults.clear();
        let (seen, durable) = (disk.names.clone(), disk.durable_names.clone());
        let all: BTreeSet<PathBuf> = seen.keys().chain(durable.keys()).cloned().collect();
        let mut after = BTreeMap::new();
        for path in all {
            let keep_new = chance() < 0.5;
            let source = if keep_new { &seen } else { &durable };
            if let Some(file) = source.get(&path) {
                after.insert(path, *file);
            }
        }
        disk.names = after.clone();
        disk.durable_names = after;
        for content in &mut disk.files {
            for change in std::mem::take(&mut content.pending) {
                survive(&change, chance(), &mut content.durable);
            }
            content.seen = content.durable.clone();
        }
    }

    /// Changes one byte of a file.
    pub fn damage(&self, path: &Path, offset: usize) {
        let mut disk = self.0.lock().unwrap();
        let file = disk.names[path];
        disk.files[file].seen[offset] ^= 0x55;
        disk.files[file].durable = disk.files[file].seen.clone();
    }

    /// Leaves zeros of a file from an offset on.
    pub fn blank(&self, path: &Path, from: usize) {
        let mut disk = self.0.lock().unwrap();
        let file = disk.names[path];
        disk.files[file].seen[from..].fill(0);
        disk.files[file].durable = disk.files[file].seen.clone();
    }

    /// Cuts a file.
    pub fn cut(&self, path: &Path, length: usize) {
        let mut disk = self.0.lock().unwrap();
        let file = disk.names[path];
        disk.files[file].seen.truncate(length);
        disk.files[file].durable = disk.files[file].seen.clone();
    }

    /// The names and contents of all files.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.0.lock().unwrap();
        disk.names
            .iter()
            .map(|(path, file)| (path.clone(), disk.files[*file].seen.clone()))
            .collect()
    }

    /// A disk of its own with the same content.
    pub fn copy(&self) -> Self {
        let disk = self.0.lock().unwrap();
        Self(Arc::new(Mutex::new(Disk {
            names: disk.names.clone(),
            durable_names: disk.names.clone(),
            files: disk.files.clone(),
            ..Disk::default()
        })))
    }

    fn operation(&self, fault: Fault) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if let Some(left) = disk.faults.get_mut(&fault).filter(|left| **left > 0) {
            *left -= 1;
            return Err(io::Error::other("simulated failure"));
        }
        // Neither is a write: they do not count.
        if matches!(fault, Fault::Truncate | Fault::Read) {
            return Ok(());
        }
        match disk.fill_in {
            Some(0) => {
                disk.fill_in = None;
                disk.capacity = Some(disk.used());
                return Err(io::ErrorKind::StorageFull.into());
            }
            Some(left) => disk.fill_in = Some(left - 1),
            None => {}
        }
        match disk.fail_in {
            Some(0) => {
                disk.fail_in = None;
                Err(io::Error::other("simulated failure"))
            }
            Some(left) => {
                disk.fail_in = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn open_file(&self, file: usize) -> Arc<dyn File> {
        Arc::new(system::SimFile {
            disk: self.clone(),
            file,
        })
    }
}

fn survive(change: &Change, share: f64, content: &mut Vec<u8>) {
    match change {
        Change::Truncate(_) if share >= 0.5 => change.apply(content),
        Change::Truncate(_) => {}
        Change::Write { offset, bytes } => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a test's dice"
            )]
            let kept = (share * 1.3 * bytes.len() as f64) as usize;
            let bytes = bytes[..kept.min(bytes.len())].to_vec();
            Change::Write {
                offset: *offset,
                bytes,
            }
            .apply(content);
        }
    }
}
