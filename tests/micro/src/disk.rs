//! A file system in memory: what is counted is the spool's own work, not the kernel's.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postroad_spool::{File, FileSystem, Space};

/// Room on it, in bytes.
const ROOM: u64 = 64 << 30;

/// The disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: Mutex<BTreeMap<PathBuf, Arc<Content>>>,
}

#[derive(Debug, Default)]
struct Content(Mutex<Vec<u8>>);

impl Disk {
    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Content>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn octets(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileSystem for Disk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let name = |path: &PathBuf| Some(path.strip_prefix(directory).ok()?.to_str()?.to_owned());
        Ok(self.files().keys().filter_map(name).collect())
    }

    fn create(&self, path: &Path, _: u64) -> io::Result<Arc<dyn File>> {
        let content = Arc::<Content>::default();
        self.files().insert(path.to_owned(), Arc::clone(&content));
        Ok(content)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.files().get(path).cloned();
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let file = self.files().remove(path);
        file.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn random(&self) -> io::Result<[u8; 8]> {
        Ok(*b"postroad")
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space {
            total: ROOM,
            free: ROOM,
        })
    }
}

impl File for Content {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let mut octets = self.octets();
        if octets.len() < begin {
            octets.resize(begin, 0);
        }
        // What lies behind the end is not filled with zeros first: that would be counted too.
        let (over, behind) = bytes.split_at(bytes.len().min(octets.len() - begin));
        octets[begin..begin + over.len()].copy_from_slice(over);
        octets.extend_from_slice(behind);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let octets = self.octets();
        let rest = octets.get(begin..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        u64::try_from(self.octets().len()).map_err(io::Error::other)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.octets().resize(length, 0);
        Ok(())
    }
}
