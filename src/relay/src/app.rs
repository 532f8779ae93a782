//! Puts the relay together, runs it, and takes it apart in order.
//!
//! The end of the process, in phases (see [`Phase`]): the first signal makes readiness false; after [`LAME_DUCK`] clients
//! get 421 between transactions while DATA in flight finishes, for [`SESSION_GRACE`] at most; then
//! delivery finishes its transactions, for [`DELIVERY_GRACE`] at most; then the spool is closed. A second signal cuts all
//! of it short, which costs no mail: what was answered with 250 is on disk.
//!
//! Delivery and the reloader must not end before the process does. If one of them panics, the process ends in the same order
//! and fails, so that it is started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use postroad_config::SpoolMode;
use postroad_spool::{Mode, SEGMENT_BYTES, Spool};
use postroad_telemetry::http;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::context::{Context, Ending, Phase};
use crate::delivery::{Delivery, SharedUpstreams};
use crate::descriptors;
use crate::listener::Listeners;
use crate::live::{Files, Live};
use crate::metrics::Metrics;
use crate::net;
use crate::probes::RelayProbes;
use crate::queue::Queue;
use crate::reload::{self, Reloader, SharedListeners};
use crate::route::Table;

/// How long Services may take to notice that a pod is going: clients that come meanwhile are served.
const LAME_DUCK: Duration = Duration::from_secs(2);
/// For sessions to end by themselves. Together with the others below the pod's grace period of 60 seconds.
const SESSION_GRACE: Duration = Duration::from_secs(30);
/// For the transactions of delivery to end by themselves.
const DELIVERY_GRACE: Duration = Duration::from_secs(20);

/// Blocking work: password checks, reads of queued messages, looks at the configuration. More threads than this
/// only queue up behind the same disk and cores.
const BLOCKING_THREADS_MAX: usize = 16;

/// Runs the relay to its end.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: &Path) -> anyhow::Result<()> {
    let (files, live) = reload::load(config)?;
    let spool_config = postroad_spool::Config {
        directory: live.config.spool.directory.clone(),
        segment_bytes: SEGMENT_BYTES,
        bytes_max: live.config.spool.bytes_max,
        mode: spool_mode(live.config.spool.mode),
    };
    let (spool, recovery, writer) = Spool::open(spool_config).context("cannot open the spool")?;
    tracing::info!(
        messages = recovery.queued.len(),
        segments = recovery.segments,
        corrupt = recovery.corrupt,
        truncated_bytes = recovery.truncated_bytes,
        "spool open"
    );
    let writer = std::thread::Builder::new()
        .name("spool".into())
        .spawn(move || writer.run())
        .context("cannot start the spool's writer")?;
    let queue = Queue::new(
        spool.clone(),
        postroad_config::memory::usable(live.config.limits.memory_bytes),
        recovery.queued,
        live.config.limits.index_bytes,
        Arc::new(Table::new(&live.config.delivery)),
    );
    queue.limit_connections(descriptors::raise(&live.config));
    queue.share(live.sharing());
    if !queue.has_room() {
        tracing::warn!("as much mail is queued as may be: none is accepted until some has gone");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(config.to_owned(), files, live, queue));
    // Whatever still runs must not keep the spool from being closed in order.
    runtime.shutdown_timeout(Duration::from_secs(1));
    spool.close();
    if writer.join().is_err() {
        anyhow::bail!("the spool's writer has panicked");
    }
    result
}

fn spool_mode(mode: SpoolMode) -> Mode {
    match mode {
        // What is not handed on is stored as if there were no other way.
        SpoolMode::Durable | SpoolMode::Passthrough => Mode::Durable,
        SpoolMode::Relaxed { sync_ms } => Mode::Relaxed {
            sync_interval: Duration::from_millis(u64::from(sync_ms)),
        },
    }
}

async fn serve(path: PathBuf, files: Files, live: Live, queue: Queue) -> anyhow::Result<()> {
    let (publish, live_receiver) = watch::channel(Arc::new(live));
    let context = Context {
        live: live_receiver,
        ending: Ending::default(),
        queue,
        metrics: Arc::new(Metrics::default()),
        guesses: Arc::default(),
        conversion: Arc::new(Semaphore::new(1)),
    };
    let upstreams = SharedUpstreams::default();
    let admin = Admin {
        context: context.clone(),
        upstreams: upstreams.clone(),
    };
    let abort = CancellationToken::new();
    let sockets = Sockets::bind(&context)?;
    let mut listeners = Listeners::new(context.clone(), &abort);
    listeners.apply(&context.live().config.listeners)?;
    // Ready is what serves.
    let servers = Servers::open(sockets, &admin);
    let listeners = SharedListeners::new(Mutex::new(Some(listeners)));
    let broken = CancellationToken::new();
    let delivery = Delivery::new(context.clone(), upstreams, abort.clone());
    let delivery = spawn_vital(&broken, delivery.run());
    let reloader = Reloader {
        path,
        files,
        publish,
        context: context.clone(),
        listeners: listeners.clone(),
    };
    let reloader = spawn_vital(&broken, reloader.run());
    tracing::info!(hostname = context.live().config.hostname, "serving");

    let end = End {
        context,
        abort,
        listeners,
        delivery,
        signalled: CancellationToken::new(),
        broken,
    };
    end.run().await?;
    reloader.await.context("the reloader has panicked")?;
    servers.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Spawns a task that must not end before the process does: `broken` is cancelled when it ends, however it ends.
fn spawn_vital(
    broken: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let guard = broken.clone().drop_guard();
    tokio::spawn(async move {
        let _guard = guard;
        task.await;
    })
}

/// Bound before anything serves, so that a port that is taken stops the program before it has promised anything.
struct Sockets {
    health: TcpListener,
    admin: TcpListener,
}

impl Sockets {
    fn bind(context: &Context) -> anyhow::Result<Self> {
        let config = &context.live().config;
        Ok(Self {
            health: net::bind(config.health.listen)?,
            admin: net::bind(config.admin.listen)?,
        })
    }
}

/// The HTTP servers: probes, metrics, admin API.
struct Servers {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Servers {
    fn open(sockets: Sockets, admin: &Admin) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let probes = Arc::new(RelayProbes(admin.clone()));
        tasks.spawn(http::serve(sockets.health, probes, stop.clone()));
        tasks.spawn(admin.clone().serve(sockets.admin, stop.clone()));
        Self { stop, tasks }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The orderly end.
struct End {
    context: Context,
    abort: CancellationToken,
    listeners: SharedListeners,
    delivery: JoinHandle<()>,
    /// A signal has come and clients have had time to notice.
    signalled: CancellationToken,
    /// A task has ended without which the process is of no use.
    broken: CancellationToken,
}

impl End {
    async fn run(self) -> anyhow::Result<()> {
        let (ending, abort) = (self.context.ending.clone(), self.abort.clone());
        let (signalled, broken) = (self.signalled.clone(), self.broken.clone());
        tokio::select! {
            result = self.finish() => result,
            result = signals(&ending, &abort, &signalled, &broken) => result,
        }
    }

    /// A drain that the operator asked for ends the sessions, but delivery goes on until a signal comes.
    async fn finish(self) -> anyhow::Result<()> {
        self.context.reached(Phase::Draining).await;
        if let Some(listeners) = self.listeners.lock().await.take() {
            listeners.stop(SESSION_GRACE).await;
        }
        self.signalled.cancelled().await;
        self.context.ending.advance(Phase::Stopping);
        let mut delivery = self.delivery;
        let ended = match tokio::time::timeout(DELIVERY_GRACE, &mut delivery).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!("ending the deliveries that have not finished in time");
                self.abort.cancel();
                delivery.await
            }
        };
        ended.context("the delivery manager has panicked")
    }
}

/// Turns signals, and the end of what must not end, into phases; never returns unless it cannot wait for them.
async fn signals(
    ending: &Ending,
    abort: &CancellationToken,
    signalled: &CancellationToken,
    broken: &CancellationToken,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = broken.cancelled() => tracing::error!("a task has ended that the relay cannot do without"),
    }
    tracing::info!("stopping");
    if ending.phase() < Phase::Draining {
        ending.advance(Phase::LameDuck);
        tokio::time::sleep(LAME_DUCK).await;
        ending.advance(Phase::Draining);
    }
    signalled.cancel();
    tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
    tracing::warn!("second signal: stopping at once");
    abort.cancel();
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;

    /// Long before it would end without the panic: never.
    const SOON: Duration = Duration::from_secs(10);

    fn end(rig: &Rig, broken: CancellationToken, delivery: JoinHandle<()>) -> End {
        End {
            context: rig.context.clone(),
            abort: CancellationToken::new(),
            listeners: SharedListeners::default(),
            delivery,
            signalled: CancellationToken::new(),
            broken,
        }
    }

    #[tokio::test]
    async fn a_panic_of_delivery_ends_the_process_in_order_and_fails() {
        let rig = Rig::new(1 << 20);
        // So that no client needs time to notice.
        rig.context.ending.advance(Phase::Draining);
        let broken = CancellationToken::new();
        let delivery = spawn_vital(&broken, async { panic!("as if delivery had a bug") });
        let run = end(&rig, broken, delivery).run();
        let result = tokio::time::timeout(SOON, run).await.unwrap();
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "the delivery manager has panicked");
        assert_eq!(rig.context.phase(), Phase::Stopping);
    }

    #[tokio::test]
    async fn a_panic_of_another_vital_task_stops_delivery_in_order() {
        let rig = Rig::new(1 << 20);
        rig.context.ending.advance(Phase::Draining);
        let broken = CancellationToken::new();
        let context = rig.context.clone();
        let delivery = spawn_vital(
            &broken,
            async move { context.reached(Phase::Stopping).await },
        );
        let reloader = spawn_vital(&broken, async { panic!("as if the reloader had a bug") });
        let run = end(&rig, broken, delivery).run();
        tokio::time::timeout(SOON, run).await.unwrap().unwrap();
        assert!(reloader.await.is_err());
    }
}
