//! A queue on a directory of its own with all that stands around it, for tests. Its disk can be made to fail.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use postroad_config::{Delivery, Upstream};
use postroad_spool::{
    Config, Envelope, File, FileSystem, Message, RealFileSystem, Recipient, Record, SEGMENT_BYTES,
    Space, Spool,
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

use crate::clock;
use crate::context::{Context, Ending};
use crate::live::{Files, Live, resolve};
use crate::metrics::Metrics;
use crate::queue::{AcceptError, Queue};

/// Age at which mail expires, in seconds.
pub(crate) const LIFETIME_SECONDS: u64 = 3600;

/// Content that is easy to find on the disk.
pub(crate) const BODY: &[u8] = b"Subject: find me\r\n\r\nhere\r\n";

/// A relay without sockets.
pub(crate) struct Rig {
    pub(crate) context: Context,
    pub(crate) disk: Disk,
    directory: TempDir,
    writer: Option<JoinHandle<()>>,
    publish: watch::Sender<Arc<Live>>,
}

impl Rig {
    /// With an empty queue and a budget of so many bytes for content.
    pub(crate) fn new(memory_bytes: u64) -> Self {
        Self::with_segments(memory_bytes, SEGMENT_BYTES)
    }

    /// The same with segments of so many bytes.
    pub(crate) fn with_segments(memory_bytes: u64, segment_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.yaml");
        std::fs::write(&path, CONFIG).unwrap();
        let (files, config) = Files::read(&path).unwrap();
        let live = resolve(&files, config, None);
        let disk = Disk::default();
        let (spool, writer) = open(&disk, directory.path(), segment_bytes);
        let (publish, live) = watch::channel(Arc::new(live));
        let context = Context {
            live,
            ending: Ending::default(),
            queue: Queue::new(
                spool,
                memory_bytes,
                postroad_spool::Queue::default(),
                postroad_config::memory::INDEX_BYTES,
                Arc::default(),
            ),
            metrics: Arc::new(Metrics::default()),
            guesses: Arc::default(),
            conversion: Arc::new(Semaphore::new(1)),
        };
        Self {
            context,
            disk,
            directory,
            writer: Some(writer),
            publish,
        }
    }

    /// Puts a configuration in force in which the upstream differs.
    pub(crate) fn change_upstream(&self, change: impl FnOnce(&mut Upstream)) {
        self.change_delivery(|delivery| change(&mut delivery.upstreams[0]));
    }

    /// Puts a configuration in force in which delivery differs.
    pub(crate) fn change_delivery(&self, change: impl FnOnce(&mut Delivery)) {
        let (files, _) = Files::read(&self.directory.path().join("relay.yaml")).unwrap();
        let before = self.context.live();
        let mut config = before.config.clone();
        change(&mut config.delivery);
        let live = resolve(&files, config, Some(&before));
        self.publish.send_replace(Arc::new(live));
    }

    /// A message to so many recipients that arrived so many seconds ago.
    pub(crate) fn message(&self, recipients: usize, age_seconds: u64) -> Message {
        let now_ms = clock::now_ms() - age_seconds * 1000;
        let recipient = |number| Recipient {
            address: format!("r{number}@example.org"),
            notify: None,
            orcpt: None,
        };
        Message {
            id: self.context.queue.next_id(now_ms),
            arrival_ms: now_ms,
            envelope: Envelope {
                sender: "s@example.com".into(),
                recipients: (0..recipients).map(recipient).collect(),
                ..Envelope::default()
            },
            headers: Bytes::new(),
            body: Bytes::from_static(BODY),
        }
    }

    /// Accepts a message, and forgets its content: it is on disk alone.
    pub(crate) async fn accept(&self, message: &Message) -> Result<(), AcceptError> {
        let queue = &self.context.queue;
        let room = queue.memory().try_reserve(0).unwrap();
        queue.accept(message.clone(), room).await?;
        drop(queue.memory().take(message.id));
        Ok(())
    }

    /// Changes a byte somewhere in the first place where these bytes stand on the disk.
    pub(crate) fn damage(&self, bytes: &[u8]) {
        let mut segments = std::fs::read_dir(self.spool()).unwrap();
        let hit = segments.find_map(|entry| {
            let path = entry.unwrap().path();
            let content = std::fs::read(&path).unwrap_or_default();
            let at = content
                .windows(bytes.len())
                .position(|some| some == bytes)?;
            Some((path, content, at))
        });
        let (path, mut content, at) = hit.expect("these bytes are on no segment");
        content[at] ^= 0x20;
        std::fs::write(path, content).unwrap();
    }

    /// The contents of the files in `corrupt/`.
    pub(crate) fn corrupt(&self) -> Vec<Vec<u8>> {
        let Ok(entries) = std::fs::read_dir(self.spool().join("corrupt")) else {
            return Vec::new();
        };
        entries
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }

    /// Puts a file where the directory `corrupt/` would be, so that nothing can be kept there.
    pub(crate) fn block_corrupt(&self) {
        std::fs::write(self.spool().join("corrupt"), "").unwrap();
    }

    /// Lets the spool's writer die of a panic.
    pub(crate) fn kill_writer(&mut self) {
        let id = self.context.queue.next_id(0);
        let fatal = |_| panic!("as if the writer had a bug");
        let spool = self.context.queue.spool();
        spool.submit(vec![Record::Done(id)], fatal).unwrap();
        assert!(self.writer.take().unwrap().join().is_err());
    }

    fn spool(&self) -> PathBuf {
        self.directory.path().join("spool")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.context.queue.spool().close();
        if let Some(writer) = self.writer.take() {
            // What became of it is a test's business, and it has looked.
            let _ = writer.join();
        }
    }
}

fn open(disk: &Disk, directory: &Path, segment_bytes: u64) -> (Spool, JoinHandle<()>) {
    let config = Config {
        directory: directory.join("spool"),
        segment_bytes,
        bytes_max: None,
        mode: postroad_spool::Mode::default(),
    };
    let (spool, _, writer) = Spool::open_on(Arc::new(disk.clone()), config).unwrap();
    (spool, std::thread::spawn(move || writer.run()))
}

/// A disk on which reads can be made to fail, and that can say that it is full. Clones share that.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    readable_max: Arc<AtomicUsize>,
    /// Bytes that were asked for.
    read: Arc<AtomicUsize>,
    free: Arc<AtomicU64>,
    /// Whether nothing becomes durable.
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            readable_max: Arc::new(AtomicUsize::new(usize::MAX)),
            read: Arc::default(),
            free: Arc::new(AtomicU64::new(u64::MAX)),
            held: Arc::default(),
        }
    }
}

impl Disk {
    /// Reads of more bytes at once than these fail.
    pub(crate) fn fail_reads_beyond(&self, bytes: usize) {
        self.readable_max.store(bytes, Ordering::SeqCst);
    }

    /// How much has been read, in bytes.
    pub(crate) fn read_bytes(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }

    /// From now on syncs wait, or do so no longer.
    pub(crate) fn hold(&self, held: bool) {
        *self.held.0.lock().unwrap() = held;
        self.held.1.notify_all();
    }

    /// Says that no more than so many bytes can be written.
    pub(crate) fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    file: Arc<dyn File>,
}

impl Disk {
    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        let disk = self.clone();
        Arc::new(DiskFile { disk, file })
    }
}

impl FileSystem for Disk {
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        RealFileSystem.create_dir(directory)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        RealFileSystem.list(directory)
    }

    fn create(&self, path: &Path, _room: u64) -> io::Result<Arc<dyn File>> {
        RealFileSystem.create(path, 0).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealFileSystem.open(path).map(|file| self.wrap(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFileSystem.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        RealFileSystem.sync_dir(directory)
    }

    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        RealFileSystem.lock(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFileSystem.rename(from, to)
    }

    fn random(&self) -> io::Result<[u8; 8]> {
        RealFileSystem.random()
    }

    fn space(&self, _directory: &Path) -> io::Result<Space> {
        Ok(Space {
            total: u64::MAX,
            free: self.free.load(Ordering::SeqCst),
        })
    }
}

impl File for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if buffer.len() > self.disk.readable_max.load(Ordering::SeqCst) {
            return Err(io::Error::other("simulated failure"));
        }
        self.disk.read.fetch_add(buffer.len(), Ordering::SeqCst);
        self.file.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (held, changed) = &*self.disk.held;
        drop(
            changed
                .wait_while(held.lock().unwrap(), |held| *held)
                .unwrap(),
        );
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
}

pub(crate) const CONFIG: &str = "
version: 1
hostname: mail.example.com
listeners:
- {name: smtp, listen: '127.0.0.1:0', tls: Disabled, auth: Disabled}
tls: {certificate: /nowhere/tls.crt, key: /nowhere/tls.key}
access: {trustedNetworks: [], credentials: /nowhere/credentials.yaml}
limits: {messageBytes: 1000000, recipients: 1000, connections: 10, connectionsPerSource: 10, memoryBytes: 2000000}
delivery:
  upstreams:
  - name: provider
    host: 127.0.0.1
    port: 9
    tls: Disabled
    ca: null
    auth: null
    limits: {connections: 1, messagesPerConnection: 1, recipientsPerMessage: 1}
  retry: {initialSeconds: 60, maximumSeconds: 600, lifetimeSeconds: 3600}
spool: {directory: /nowhere/spool, persistent: true}
admin: {listen: '127.0.0.1:0', certificate: /nowhere/a.crt, key: /nowhere/a.key, clientCa: /nowhere/ca.crt}
health: {listen: '127.0.0.1:0'}
";
