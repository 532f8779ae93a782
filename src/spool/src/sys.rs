//! The file system, behind a trait small enough to be simulated.

use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use rustix::rand::{GetRandomFlags, getrandom};

/// The file by which a directory is locked. It stays: whoever finds it knows that a spool was open there.
pub(crate) const LOCK: &str = "lock";

/// What the spool needs of a file system. All paths lie in one directory and its `corrupt/`.
pub trait FileSystem: Debug + Send + Sync {
    /// Creates a directory and those above it; fine if it exists.
    ///
    /// # Errors
    /// What the system says; so for all of these.
    fn create_dir(&self, directory: &Path) -> io::Result<()>;
    /// Names of the files in a directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Creates a file that must not exist, with room for so many bytes if the system can make it.
    fn create(&self, path: &Path, room: u64) -> io::Result<Arc<dyn File>>;
    /// Creates a file of zeros that must not exist and whose room is its own: writing it cannot find the disk full.
    ///
    /// # Errors
    /// As all; `Unsupported` if the file system cannot promise that. Then no file is left.
    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        let _ = (path, bytes);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Opens a file for reading and cutting.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations and removals in a directory durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
    /// Locks a directory for this process for as long as the result lives; `WouldBlock` if another has it.
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Debug + Send + Sync>>;
    /// Gives a file another name, in place of the file that has it, at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Bytes that nobody can foretell.
    fn random(&self) -> io::Result<[u8; 8]>;
    /// How large the volume is, and how much of it can still be written.
    fn space(&self, directory: &Path) -> io::Result<Space>;
}

/// Room on a volume, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What can still be written.
    pub free: u64,
}

/// An open file.
pub trait File: Debug + Send + Sync {
    /// Writes all of it at an offset.
    ///
    /// # Errors
    /// What the system says; so for all of these.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to the length of the buffer; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes what was written durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts the file.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes the room for so many bytes the file's own, and the file so long if it is shorter; what is added reads as zeros.
    ///
    /// # Errors
    /// As all; `Unsupported` if the file system cannot promise that.
    fn allocate(&self, length: u64) -> io::Result<()> {
        let _ = length;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Whether it says that nothing more fits: that is no fault of the disk, and passes.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFileSystem;

#[derive(Debug)]
struct RealFile(fs::File);

impl FileSystem for RealFileSystem {
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, path: &Path, room: u64) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        // With the length settled beforehand a flush need not write the inode. Where this is not supported, or the disk is too
        // full for a whole segment, the file grows as it is written; what a file system took before it gave up is given back.
        if fallocate(&file, FallocateFlags::empty(), 0, room).is_err() {
            let _ = file.set_len(0);
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            fs::remove_file(path)?;
            return Err(error.into());
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::File::open(path)?)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(directory)?.sync_all()
    }

    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        let path: PathBuf = directory.join(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn random(&self) -> io::Result<[u8; 8]> {
        let mut bytes = [0; 8];
        // The system never gives less than asked for as little as this.
        match getrandom(&mut bytes, GetRandomFlags::empty())? {
            8 => Ok(bytes),
            _ => Err(io::Error::other("too few random bytes")),
        }
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let stat = statvfs(directory)?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

impl File for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        Ok(fallocate(&self.0, FallocateFlags::empty(), 0, length)?)
    }
}
