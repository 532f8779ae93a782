//! What every run is made of: a server started afresh, a load in front of it, a sink behind it, and the ledger of both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::client::Target;
use crate::ledger::Ledger;
use crate::load::{self, Load};
use crate::measure::{Group, Meter};
use crate::server::{Ports, Running, Server};
use crate::sink;
use crate::tls::Tls;
use crate::workload::{Manner, Workload};

/// The next promise, or the next arrival, may take so long; then something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The login of the load; the scripts know it too.
const LOGIN: (&str, &str) = ("load", "bench");

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

/// One server between load and sink.
pub(crate) struct Rig<'a> {
    place: &'a Place,
    workload: Workload,
    ports: Ports,
    running: Running,
    sink: Option<Sink>,
    ledger: Arc<Ledger>,
    is_direct: bool,
}

impl<'a> Rig<'a> {
    /// Everything but the sink, for so many messages.
    ///
    /// # Errors
    /// If the server does not start.
    pub(crate) fn without_sink(
        server: Server,
        workload: Workload,
        place: &'a Place,
        ids: usize,
    ) -> anyhow::Result<Self> {
        let directory = place.directory(server);
        let settings = settings(workload.manner());
        Ok(Self {
            place,
            workload,
            ports: Ports::of(server),
            running: Running::start(server, &place.scripts, directory, settings)?,
            sink: None,
            ledger: Arc::new(Ledger::new(ids)),
            is_direct: server.is_direct(),
        })
    }

    /// Everything, for so many messages.
    ///
    /// # Errors
    /// As [`Self::without_sink`]; or if the sink's port cannot be had.
    pub(crate) fn start(
        server: Server,
        workload: Workload,
        place: &'a Place,
        ids: usize,
    ) -> anyhow::Result<Self> {
        let mut rig = Self::without_sink(server, workload, place, ids)?;
        rig.start_sink()?;
        Ok(rig)
    }

    /// The next hop comes back.
    ///
    /// # Errors
    /// If its port cannot be had.
    pub(crate) fn start_sink(&mut self) -> anyhow::Result<()> {
        let Manner {
            sink_tls,
            body,
            faults,
            ..
        } = self.workload.manner();
        let rules: Result<_, _> = faults.iter().map(|rule| rule.parse()).collect();
        let manner = sink::Manner {
            tls: sink_tls,
            chunking: body == load::Body::Bdat,
            faults: rules.map_err(anyhow::Error::msg)?,
        };
        let sink = Sink::start(self.ports.sink, manner, Arc::clone(&self.ledger))?;
        self.sink = Some(sink);
        Ok(())
    }

    /// The server.
    #[must_use]
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// Its processes.
    #[must_use]
    pub(crate) fn group(&self) -> &Group {
        self.running.group()
    }

    /// The ledger of load and sink.
    #[must_use]
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Measures from now on.
    ///
    /// # Errors
    /// If the kernel does not count.
    pub(crate) fn meter(&self) -> anyhow::Result<Meter<'_>> {
        Meter::start(self.group(), &self.place.disk)
    }

    /// Where sessions go.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        let Manner { tls, login, .. } = self.workload.manner();
        let port = self.ports.server + u16::from(tls == Tls::Implicit);
        let mut target = Target::plain(([127, 0, 0, 1], port).into())?;
        target.tls = tls;
        target.login = login.then(|| (LOGIN.0.to_owned(), LOGIN.1.to_owned()));
        Ok(target)
    }

    /// Sends these ids as the workload says.
    ///
    /// # Errors
    /// If one of them is refused, or nothing is promised for too long.
    pub(crate) fn send(&self, ids: std::ops::Range<usize>) -> anyhow::Result<load::Report> {
        let Manner {
            body, aborts, rate, ..
        } = self.workload.manner();
        let load = Load {
            target: self.target()?,
            sessions: self.workload.sessions,
            size: self.workload.size,
            ids,
            reuse: self.workload.reuse,
            pipelining: self.place.pipelining,
            body,
            rate,
            aborts,
            domains: self.workload.domains,
        };
        let report = local(async {
            tokio::select! {
                report = load::run(load, Arc::clone(&self.ledger)) => report,
                () = self.no_promises() => bail!("no message was accepted for {PATIENCE:?}"),
            }
        })??;
        if let Some(refusal) = report.first_refusal {
            bail!(
                "{} messages were not accepted, the first because of: {refusal}",
                report.refused
            );
        }
        Ok(report)
    }

    /// Ends once there has been no promise for too long.
    async fn no_promises(&self) {
        let mut heard = Instant::now();
        while heard.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_secs(1)).await;
            heard = heard.max(self.ledger.last_promise());
        }
    }

    /// Waits until so many have arrived.
    ///
    /// # Errors
    /// If nothing arrives for too long.
    pub(crate) fn all_arrived(&self, count: usize) -> anyhow::Result<()> {
        let (mut seen, mut deadline) = (0, Instant::now() + PATIENCE);
        loop {
            let arrivals = self.ledger.arrivals();
            if arrivals >= count as u64 {
                return Ok(());
            }
            if arrivals > seen {
                (seen, deadline) = (arrivals, Instant::now() + PATIENCE);
            }
            if Instant::now() > deadline {
                bail!("{arrivals} of {count} messages arrived; then none for {PATIENCE:?}");
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    /// Stops everything and closes the books. A promise that was not kept makes every other figure worthless.
    ///
    /// # Errors
    /// If something is missing, came twice, or never was in the server's hands.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        let Self {
            running,
            sink,
            ledger,
            is_direct,
            ..
        } = self;
        drop(running);
        drop(sink);
        let balance = ledger.balance();
        let went_round = balance.unrelayed > 0 && !is_direct;
        if balance.missing > 0 || balance.duplicates > 0 || went_round {
            bail!("the ledger does not balance: {balance:?}");
        }
        Ok(())
    }
}

impl Place {
    /// Removes what a run has left on the disk.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn clear(&self, server: Server) -> anyhow::Result<()> {
        let directory: &Path = &self.directory(server);
        if directory.exists() {
            std::fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        Ok(())
    }

    fn directory(&self, server: Server) -> PathBuf {
        self.disk.join(server.name)
    }
}

/// What the server's script is told by its environment.
fn settings(manner: Manner) -> Vec<(&'static str, String)> {
    let sink_tls = match manner.sink_tls {
        Tls::None => "Disabled",
        Tls::Starttls => "Opportunistic",
        Tls::Implicit => "Implicit",
    };
    // What was deferred on purpose is to come again within the run.
    let retry = if manner.faults.is_empty() { 60 } else { 1 };
    vec![
        ("SINK_TLS", sink_tls.to_owned()),
        ("RETRY_SECONDS", retry.to_string()),
    ]
}

/// The sink on a thread of its own.
struct Sink {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sink {
    fn start(port: u16, manner: sink::Manner, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let served = local(async {
                let listener = match sink::listen(([127, 0, 0, 1], port).into()) {
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
                    served = sink::run(listener, manner, ledger) => served,
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
///
/// # Errors
/// If there can be no runtime.
pub(crate) fn local<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(LocalSet::new().block_on(&runtime, future))
}
