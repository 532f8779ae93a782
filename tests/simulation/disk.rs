//! The disk of the relay's machine: the spool's simulated one behind a power switch.
//!
//! The power goes at an operation, in the middle of whatever the spool does: that one and all later ones fail and do nothing, until the process
//! has been ended and [`Disk::restore_power`] has decided what of the unflushed survived.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use postroad_spool::sim::{Fault, SimDisk};
use postroad_spool::{File, FileSystem, Space};

use crate::dice::Dice;

/// No cut is planned.
const NEVER: u64 = u64::MAX;

/// The disk. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    disk: SimDisk,
    /// So many operations from now the power goes; 0 once it has gone.
    left: Arc<AtomicU64>,
}

impl Disk {
    pub(crate) fn new(disk: SimDisk) -> Self {
        let left = Arc::new(AtomicU64::new(NEVER));
        Self { disk, left }
    }

    /// Lets the power go at the operation after so many others.
    pub(crate) fn cut_power_in(&self, operations: u64) {
        self.left.store(operations + 1, Ordering::Relaxed);
    }

    pub(crate) fn has_power(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// The power is back, and so is what survived.
    pub(crate) fn restore_power(&self, dice: &Dice) {
        self.disk.crash(|| dice.share());
        self.left.store(NEVER, Ordering::Relaxed);
    }

    /// The next so many operations of a kind fail.
    pub(crate) fn fail(&self, fault: Fault, times: u32) {
        self.disk.fail(fault, times);
    }

    pub(crate) fn fill(&self) {
        self.disk.fill();
    }

    /// Everything fits again.
    pub(crate) fn empty(&self) {
        self.disk.unbound();
    }

    /// Nothing fails any more.
    pub(crate) fn mend(&self) {
        self.disk.mend();
    }

    /// No cut is to come any more.
    pub(crate) fn keep_power(&self) {
        if self.has_power() {
            self.left.store(NEVER, Ordering::Relaxed);
        }
    }

    fn operation(&self) -> io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        if left != NEVER && left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
        }
        match self.has_power() {
            true => Ok(()),
            false => Err(io::Error::other("the power is gone")),
        }
    }

    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        let disk = self.clone();
        Arc::new(DiskFile { disk, file })
    }
}

impl FileSystem for Disk {
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.operation()?;
        self.disk.create_dir(directory)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.operation()?;
        self.disk.list(directory)
    }

    fn create(&self, path: &Path, room: u64) -> io::Result<Arc<dyn File>> {
        self.operation()?;
        self.disk.create(path, room).map(|file| self.wrap(file))
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        self.operation()?;
        self.disk.reserve(path, bytes).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.operation()?;
        self.disk.open(path).map(|file| self.wrap(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operation()?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.operation()?;
        self.disk.sync_dir(directory)
    }

    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.operation()?;
        self.disk.lock(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation()?;
        self.disk.rename(from, to)
    }

    fn random(&self) -> io::Result<[u8; 8]> {
        self.disk.random()
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        self.disk.space(directory)
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    file: Arc<dyn File>,
}

impl File for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.operation()?;
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.operation()?;
        self.file.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.operation()?;
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.operation()?;
        self.file.size()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.operation()?;
        self.file.truncate(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.disk.operation()?;
        self.file.allocate(length)
    }
}
