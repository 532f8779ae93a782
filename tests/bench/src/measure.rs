//! What a server costs: CPU time and memory of a control group, flushes of a disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::host;

/// Between two looks at the memory: each costs a walk through the page tables of every process.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// How long killed processes may take to be gone: their memory has to be given back.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

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
        // Another run at the same time has its own; process ids may be the same in two namespaces.
        for number in 0_u32.. {
            let directory = parent.join(format!("{name}-{number}"));
            match fs::create_dir(&directory) {
                Ok(()) => return Ok(Self { directory, unified }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let what = format!("cannot make the control group {}", directory.display());
                    return Err(error).context(what);
                }
            }
        }
        bail!("there are too many control groups");
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

impl Group {
    /// Kills every process in it, as a power cut would.
    ///
    /// # Errors
    /// If something is still there after a while.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            let processes = fs::read_to_string(self.door())?;
            if processes.trim().is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "still there: {processes}");
            // One that ended meanwhile makes kill fail, which is fine.
            let _ = Command::new("kill")
                .arg("-KILL")
                .args(processes.split_whitespace())
                .stderr(Stdio::null())
                .status()?;
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Proportional set size of all its processes, in MiB.
    #[must_use]
    pub(crate) fn pss_mib(&self) -> f64 {
        mib(pss_kib(&self.door()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails while something is alive in it; the next run has a name of its own.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// What something cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// CPU time of the group.
    pub(crate) cpu: Duration,
    /// Flushes of the disk, whoever asked for them.
    pub(crate) flushes: u64,
    /// Largest proportional set size of the group.
    pub(crate) peak_mib: f64,
}

/// Measures what something costs.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    group: &'a Group,
    disk: &'a Path,
    cpu: Duration,
    flushes: u64,
    memory: Memory,
}

impl<'a> Meter<'a> {
    /// From now on.
    ///
    /// # Errors
    /// If the kernel does not count.
    pub(crate) fn start(group: &'a Group, disk: &'a Path) -> anyhow::Result<Self> {
        Ok(Self {
            group,
            disk,
            cpu: group.cpu()?,
            flushes: flushes(disk)?,
            memory: Memory::watch(group.door()),
        })
    }

    /// Until now.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn stop(self) -> anyhow::Result<Cost> {
        Ok(Cost {
            cpu: self.group.cpu()?.saturating_sub(self.cpu),
            flushes: flushes(self.disk)? - self.flushes,
            peak_mib: mib(self.memory.peak_kib()),
        })
    }
}

/// Watches the largest proportional set size of a group.
#[derive(Debug)]
struct Memory {
    peak_kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Memory {
    fn watch(door: PathBuf) -> Self {
        let peak_kib = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (peak, stopped) = (Arc::clone(&peak_kib), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            loop {
                let is_last = stopped.load(Ordering::Relaxed);
                peak.fetch_max(pss_kib(&door), Ordering::Relaxed);
                if is_last {
                    return;
                }
                std::thread::park_timeout(SAMPLE_INTERVAL);
            }
        });
        Self {
            peak_kib,
            stop,
            thread: Some(thread),
        }
    }

    /// Ends the watch with a last look; the peak in KiB.
    fn peak_kib(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has no way to panic.
            let _ = thread.join();
        }
        self.peak_kib.load(Ordering::Relaxed)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of memory are far below 2^52 KiB"
)]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
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
fn flushes(directory: &Path) -> anyhow::Result<u64> {
    /// Position of "flush requests completed" (Documentation/block/stat.rst).
    const FIELD: usize = 15;
    let path = format!("/sys/dev/block/{}/stat", host::device(directory)?);
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = text
        .split_whitespace()
        .nth(FIELD)
        .context("the kernel counts no flushes")?;
    Ok(field.parse()?)
}
