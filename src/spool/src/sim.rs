//! A file system that forgets: for tests.
//!
//! What was written and not flushed may be there after a crash, whole, in part, or not at all; a name that was created or
//! removed and whose directory was not flushed may be back. A flush that fails drops what it should have kept, as Linux does: a later
//! flush of the same file succeeds and means nothing for those bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::sys::{File, FileSystem, Space};

/// The disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Disk>>);

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
    pub(crate) syncs: u64,
}

/// What can be made to fail.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
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
}

impl SimDisk {
    /// A disk of so many bytes.
    pub(crate) fn of_size(bytes: u64) -> Self {
        let disk = Self::default();
        disk.resize(bytes);
        disk
    }

    /// Makes the volume larger or smaller.
    pub(crate) fn resize(&self, bytes: u64) {
        self.0.lock().unwrap().capacity = Some(bytes);
    }

    /// Nothing more fits, but for what is removed.
    pub(crate) fn fill(&self) {
        let mut disk = self.0.lock().unwrap();
        disk.capacity = Some(disk.used());
    }

    /// Everything fits.
    pub(crate) fn unbound(&self) {
        self.0.lock().unwrap().capacity = None;
    }

    /// Lets the operation after so many others find the disk full; so it stays.
    pub(crate) fn fill_in(&self, operations: u64) {
        self.0.lock().unwrap().fill_in = Some(operations);
    }

    /// Lets the operation after so many others fail, once.
    pub(crate) fn fail_in(&self, operations: u64) {
        self.0.lock().unwrap().fail_in = Some(operations);
    }

    /// Lets the next so many operations of a kind fail.
    pub(crate) fn fail(&self, fault: Fault, times: u32) {
        self.0.lock().unwrap().faults.insert(fault, times);
    }

    /// Nothing fails any more.
    pub(crate) fn mend(&self) {
        let mut disk = self.0.lock().unwrap();
        disk.fail_in = None;
        disk.fill_in = None;
        disk.faults.clear();
    }

    /// Flushes so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.lock().unwrap().syncs
    }

    /// The power goes. `chance` decides for each unflushed change how much of it survives (0.0..=1.0).
    pub(crate) fn crash(&self, mut chance: impl FnMut() -> f64) {
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
    pub(crate) fn damage(&self, path: &Path, offset: usize) {
        let mut disk = self.0.lock().unwrap();
        let file = disk.names[path];
        disk.files[file].seen[offset] ^= 0x55;
        disk.files[file].durable = disk.files[file].seen.clone();
    }

    /// Leaves zeros of a file from an offset on.
    pub(crate) fn blank(&self, path: &Path, from: usize) {
        let mut disk = self.0.lock().unwrap();
        let file = disk.names[path];
        disk.files[file].seen[from..].fill(0);
        disk.files[file].durable = disk.files[file].seen.clone();
    }

    /// Cuts a file.
    pub(crate) fn cut(&self, path: &Path, length: usize) {
        let mut disk = self.0.lock().unwrap();
        let file = disk.names[path];
        disk.files[file].seen.truncate(length);
        disk.files[file].durable = disk.files[file].seen.clone();
    }

    /// The names and contents of all files.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.0.lock().unwrap();
        disk.names
            .iter()
            .map(|(path, file)| (path.clone(), disk.files[*file].seen.clone()))
            .collect()
    }

    /// A disk of its own with the same content.
    pub(crate) fn copy(&self) -> Self {
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
        Arc::new(SimFile {
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

impl FileSystem for SimDisk {
    fn create_dir(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let disk = self.0.lock().unwrap();
        let inside = disk
            .names
            .keys()
            .filter(|path| path.parent() == Some(directory));
        Ok(inside
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect())
    }

    fn create(&self, path: &Path, room: u64) -> io::Result<Arc<dyn File>> {
        self.operation(Fault::Create)?;
        let mut disk = self.0.lock().unwrap();
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let room = if room <= disk.free() { room } else { 0 };
        disk.files.push(Content {
            room,
            ..Content::default()
        });
        let file = disk.files.len() - 1;
        disk.names.insert(path.to_owned(), file);
        drop(disk);
        Ok(self.open_file(file))
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        self.operation(Fault::Create)?;
        let mut disk = self.0.lock().unwrap();
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if bytes > disk.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; usize::try_from(bytes).unwrap()];
        disk.files.push(Content {
            seen: zeros.clone(),
            room: bytes,
            pending: vec![Change::Write {
                offset: 0,
                bytes: zeros,
            }],
            ..Content::default()
        });
        let file = disk.files.len() - 1;
        disk.names.insert(path.to_owned(), file);
        drop(disk);
        Ok(self.open_file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.0.lock().unwrap().names.get(path).copied();
        file.map(|file| self.open_file(file))
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operation(Fault::Remove)?;
        self.0
            .lock()
            .unwrap()
            .names
            .remove(path)
            .map(|_| ())
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
        self.operation(Fault::SyncDirectory)?;
        let mut disk = self.0.lock().unwrap();
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn lock(&self, _directory: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        let mut disk = self.0.lock().unwrap();
        if disk.locked.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        disk.processes += 1;
        disk.locked = Some(disk.processes);
        Ok(Box::new(Lock(self.clone(), disk.processes)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation(Fault::Create)?;
        let mut disk = self.0.lock().unwrap();
        let file = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn random(&self) -> io::Result<[u8; 8]> {
        let mut disk = self.0.lock().unwrap();
        disk.randoms += 1;
        Ok(disk.randoms.to_be_bytes())
    }

    fn space(&self, _directory: &Path) -> io::Result<Space> {
        let disk = self.0.lock().unwrap();
        Ok(Space {
            total: disk.capacity.unwrap_or(u64::MAX),
            free: disk.free(),
        })
    }
}

#[derive(Debug)]
struct Lock(SimDisk, u64);

impl Drop for Lock {
    fn drop(&mut self) {
        let mut disk = self.0.0.lock().unwrap();
        // After a crash the next process may have it already.
        if disk.locked == Some(self.1) {
            disk.locked = None;
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl SimFile {
    fn change(&self, change: Change) {
        let mut disk = self.disk.0.lock().unwrap();
        let content = &mut disk.files[self.file];
        if matches!(change, Change::Truncate(_)) {
            content.room = 0;
        }
        change.apply(&mut content.seen);
        content.pending.push(change);
    }
}

impl File for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut failed = self.disk.operation(Fault::Write);
        let fits = {
            let disk = self.disk.0.lock().unwrap();
            let end = disk.files[self.file].taken().saturating_add(disk.free());
            usize::try_from(end.saturating_sub(offset)).unwrap()
        };
        // A write that fails may have written some of it.
        let mut kept = if failed.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        if kept > fits {
            kept = fits;
            failed = Err(io::ErrorKind::StorageFull.into());
        }
        let offset = usize::try_from(offset).unwrap();
        self.change(Change::Write {
            offset,
            bytes: bytes[..kept].to_vec(),
        });
        failed
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.operation(Fault::Read)?;
        let disk = self.disk.0.lock().unwrap();
        let seen = &disk.files[self.file].seen;
        let from = usize::try_from(offset).unwrap().min(seen.len());
        let length = buffer.len().min(seen.len() - from);
        buffer[..length].copy_from_slice(&seen[from..from + length]);
        Ok(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let failed = self.disk.operation(Fault::Sync);
        let mut disk = self.disk.0.lock().unwrap();
        disk.syncs += 1;
        let content = &mut disk.files[self.file];
        let pending = std::mem::take(&mut content.pending);
        if failed.is_ok() {
            pending
                .iter()
                .for_each(|change| change.apply(&mut content.durable));
        }
        failed
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().unwrap().files[self.file].seen.len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.operation(Fault::Truncate)?;
        self.change(Change::Truncate(usize::try_from(length).unwrap()));
        Ok(())
    }
}
