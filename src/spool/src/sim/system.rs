//! What a program sees of the simulated disk.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Change, Content, Fault, SimDisk};
use crate::sys::{File, FileSystem, Space};

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
        let mut content = Content {
            room,
            ..Content::default()
        };
        if disk.preallocates {
            content.extend(room);
        }
        disk.files.push(content);
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
        let mut content = Content {
            room: bytes,
            ..Content::default()
        };
        content.extend(bytes);
        disk.files.push(content);
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
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) file: usize,
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
        if disk.lies {
            return Ok(());
        }
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

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.disk.operation(Fault::Create)?;
        let mut disk = self.disk.0.lock().unwrap();
        let free = disk.free();
        let content = &mut disk.files[self.file];
        if length.saturating_sub(content.taken()) > free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.room = content.room.max(length);
        content.extend(length);
        Ok(())
    }
}
