//! One run: a fresh server, a warm-up, the load, and what it cost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::ledger::Ledger;
use crate::load::{self, Load};
use crate::measure::{Memory, flushes};
use crate::server::{Ports, Running, Server};
use crate::sink;
use crate::workload::Workload;

/// Messages sent before anything is measured.
const WARM_UP: usize = 200;

/// How long the rest may take to arrive once everything is accepted.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(120);

/// Between two looks at the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Where and with what.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Holds the scripts that start servers.
    pub(crate) scripts: PathBuf,
    /// An empty directory on the disk under test.
    pub(crate) disk: PathBuf,
    /// Whether the load pipelines.
    pub(crate) pipelining: bool,
}

/// What one run gave; the names are those of the columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Sent after the warm-up.
    pub(crate) messages: usize,
    pub(crate) accepted_per_s: f64,
    pub(crate) delivered_per_s: f64,
    pub(crate) cpu_s_per_1000: f64,
    pub(crate) peak_pss_mib: f64,
    pub(crate) syncs_per_message: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Measures one server once.
///
/// # Errors
/// If the server does not start, refuses a message, or loses one.
pub(crate) fn measure(
    server: Server,
    workload: Workload,
    place: &Place,
) -> anyhow::Result<Figures> {
    let messages = workload.messages * server.percent / 100;
    let ledger = Arc::new(Ledger::new(WARM_UP + messages));
    let ports = ports(server)?;
    let sink = Sink::start(ports.sink, Arc::clone(&ledger))?;
    let running = Running::start(server, &place.scripts, place.disk.join(server.name), ports)?;
    let load = |ids| Load {
        target: ([127, 0, 0, 1], ports.server).into(),
        sessions: workload.sessions,
        size: workload.size,
        ids,
        reuse: workload.reuse,
        pipelining: place.pipelining,
    };
    send(load(0..WARM_UP), &ledger)?;
    all_arrived(&ledger, WARM_UP)?;

    let (cpu, synced) = (running.group().cpu()?, flushes(&place.disk)?);
    let memory = Memory::watch(running.group().door());
    let begin = Instant::now();
    let report = send(load(WARM_UP..WARM_UP + messages), &ledger)?;
    all_arrived(&ledger, WARM_UP + messages)?;
    let accepted = ledger.last_promise().duration_since(begin);
    let delivered = ledger.last_arrival().duration_since(begin);
    let (cpu, synced) = (running.group().cpu()? - cpu, flushes(&place.disk)? - synced);
    let peak_kib = memory.peak_kib();
    drop(running);
    drop(sink);
    check(&ledger)?;

    let count = as_f64(messages);
    Ok(Figures {
        messages,
        accepted_per_s: count / accepted.as_secs_f64(),
        delivered_per_s: count / delivered.as_secs_f64(),
        cpu_s_per_1000: cpu.as_secs_f64() * 1000.0 / count,
        peak_pss_mib: as_f64(usize::try_from(peak_kib)?) / 1024.0,
        syncs_per_message: as_f64(usize::try_from(synced)?) / count,
        p50_ms: report.percentile_ms(50),
        p99_ms: report.percentile_ms(99),
    })
}

fn send(load: Load, ledger: &Arc<Ledger>) -> anyhow::Result<load::Report> {
    let report = local(load::run(load, Arc::clone(ledger)))??;
    if let Some(refusal) = report.first_refusal {
        bail!(
            "{} messages were not accepted, the first because of: {refusal}",
            report.refused
        );
    }
    Ok(report)
}

fn all_arrived(ledger: &Ledger, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    while ledger.arrivals() < count as u64 {
        if Instant::now() > deadline {
            bail!(
                "{} of {count} messages arrived within {ARRIVAL_TIMEOUT:?}",
                ledger.arrivals()
            );
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    Ok(())
}

/// A promise that was not kept makes every other figure worthless.
fn check(ledger: &Ledger) -> anyhow::Result<()> {
    let balance = ledger.balance();
    if balance.missing > 0 || balance.duplicates > 0 {
        bail!("the ledger does not balance: {balance:?}");
    }
    Ok(())
}

/// The sink on a thread of its own.
struct Sink {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sink {
    fn start(port: u16, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let served = local(async {
                let listener = sink::listen(([127, 0, 0, 1], port).into());
                let listener = match listener {
                    Ok(listener) => {
                        let _ = ready.send(Ok(()));
                        listener
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return Ok(());
                    }
                };
                tokio::select! {
                    served = sink::run(listener, ledger) => served,
                    _ = stopped => Ok(()),
                }
            });
            if let Ok(Err(error)) | Err(error) = served {
                crate::say(&format!("the sink ended: {error:#}"));
            }
        });
        is_ready.recv().context("the sink did not start")??;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Either may have ended before; then there is nothing to stop.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs on one thread: the load and the sink are to cost little, and the same for everybody.
fn local<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(LocalSet::new().block_on(&runtime, future))
}

/// Ports that nobody has; without a server in between the load goes straight to the sink.
fn ports(server: Server) -> anyhow::Result<Ports> {
    let free = || {
        anyhow::Ok(
            std::net::TcpListener::bind("127.0.0.1:0")?
                .local_addr()?
                .port(),
        )
    };
    let sink = free()?;
    let server = if server.is_direct() { sink } else { free()? };
    Ok(Ports { server, sink })
}

/// Counts here are far below 2^52.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of messages and bytes are far below 2^52"
)]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Removes what a run has left on the disk.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn clear(place: &Place, server: Server) -> anyhow::Result<()> {
    let directory: &Path = &place.disk.join(server.name);
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    Ok(())
}
