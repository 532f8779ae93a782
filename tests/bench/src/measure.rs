//! What a server costs: CPU time and memory of a control group, flushes of a disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

/// Between two looks at the memory: each costs a walk through the page tables of every process.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// A control group that the server's processes, and whatever they start, live in.
#[derive(Debug)]
pub(crate) struct Group {
    directory: PathBuf,
    unified: bool,
}

impl Group {
    /// Makes one; needs root.
    ///
    /// # Errors
    /// If the kernel does not let us.
    pub(crate) fn create(name: &str) -> anyhow::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let unified = root.join("cgroup.controllers").exists();
        let parent = if unified {
            root.to_path_buf()
        } else {
            root.join("cpuacct")
        };
        let directory = parent.join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make the control group {}", directory.display()))?;
        Ok(Self { directory, unified })
    }

    /// The file to write a process id to so that it, and its children, join.
    #[must_use]
    pub(crate) fn door(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// CPU time of all processes that were ever in it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        if self.unified {
            let text = fs::read_to_string(self.directory.join("cpu.stat"))?;
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "));
            return Ok(Duration::from_micros(
                line.context("no usage_usec")?.parse()?,
            ));
        }
        let text = fs::read_to_string(self.directory.join("cpuacct.usage"))?;
        Ok(Duration::from_nanos(text.trim().parse()?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails while something is alive in it; the next run has a name of its own.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Watches the largest proportional set size of a group.
#[derive(Debug)]
pub(crate) struct Memory {
    peak_kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Memory {
    /// Starts to watch.
    #[must_use]
    pub(crate) fn watch(door: PathBuf) -> Self {
        let peak_kib = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (peak, stopped) = (Arc::clone(&peak_kib), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                peak.fetch_max(pss_kib(&door), Ordering::Relaxed);
                std::thread::park_timeout(SAMPLE_INTERVAL);
            }
        });
        Self {
            peak_kib,
            stop,
            thread: Some(thread),
        }
    }

    /// Ends the watch; the peak in KiB.
    #[must_use]
    pub(crate) fn peak_kib(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has no way to panic.
            let _ = thread.join();
        }
        self.peak_kib.load(Ordering::Relaxed)
    }
}

fn pss_kib(door: &Path) -> u64 {
    let processes = fs::read_to_string(door).unwrap_or_default();
    let of = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    processes.lines().filter_map(of).sum()
}

/// Flushes that the disk under a directory has completed since boot.
///
/// # Errors
/// If the kernel does not count them for it.
pub(crate) fn flushes(directory: &Path) -> anyhow::Result<u64> {
    /// Position of "flush requests completed" (Documentation/block/stat.rst).
    const FIELD: usize = 15;
    let device = fs::metadata(directory)?.dev();
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff_ff00),
    );
    let path = format!("/sys/dev/block/{major}:{minor}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = text
        .split_whitespace()
        .nth(FIELD)
        .context("the kernel counts no flushes")?;
    Ok(field.parse()?)
}
