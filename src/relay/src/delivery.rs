//! Delivery to the upstreams: one manager that decides when to open connections, and workers that
//! each serve one connection.
//!
//! The manager opens a connection only if a message is due that no idle worker is about to take, or to check an
//! upstream over which nothing has been tried for long, and only where [`Upstreams`] says. Everything a worker
//! learns goes through three doors: the upstream's state, the queue (an outcome per recipient), and the metrics.
//!
//! A message is taken by one worker at a time. If the process dies with a message under way, the
//! message is still in the spool; if it dies between the upstream's 250 and our record of it, that
//! transaction is repeated: the one window in which mail is delivered twice, and it is as long as one
//! group commit, because what a transaction came to is recorded before the next begins ([`course`]).

pub(crate) mod connect;
mod course;
mod expiry;
mod holds;
mod worker;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroad_config::status::{UpstreamFailure, UpstreamStatus};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::context::{Context, Phase};
use crate::live::{Live, LiveUpstream};
use crate::upstreams::{Change, Reconfigured, Upstreams};

use holds::Holds;
use worker::Worker;

/// How often messages are looked for that have waited for too long behind failing upstreams.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

/// The longest sleep of the manager. Everything that matters wakes it; this bounds the effect of a clock that jumps.
const NAP_MAX: Duration = Duration::from_secs(5);

/// The state of the upstreams, shared between the manager, the workers and the status.
#[derive(Clone, Default)]
pub struct SharedUpstreams {
    inner: Arc<Mutex<Upstreams>>,
    holds: Arc<Mutex<Holds>>,
}

impl SharedUpstreams {
    /// The state of each for the status.
    #[must_use]
    pub fn status(&self) -> Vec<UpstreamStatus> {
        self.lock().status()
    }

    fn lock(&self) -> MutexGuard<'_, Upstreams> {
        // Reports are single assignments; a panic cannot leave them half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The delivery manager.
pub struct Delivery {
    context: Context,
    upstreams: SharedUpstreams,
    workers: TaskTracker,
    /// Ends every worker wherever it is.
    abort: CancellationToken,
}

impl Delivery {
    /// A manager that has not begun.
    #[must_use]
    pub fn new(context: Context, upstreams: SharedUpstreams, abort: CancellationToken) -> Self {
        Self {
            context,
            upstreams,
            workers: TaskTracker::new(),
            abort,
        }
    }

    /// Delivers until [`Phase::Stopping`], then waits for the transactions in flight.
    pub async fn run(self) {
        let mut live = self.context.live.clone();
        self.configure(&live.borrow_and_update());
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
        let mut expiring = None;
        loop {
            self.open_connection();
            self.start_checks();
            let nap = self.nap();
            tokio::select! {
                biased;
                () = self.context.reached(Phase::Stopping) => break,
                changed = live.changed() => match changed {
                    Ok(()) => self.configure(&live.borrow_and_update()),
                    Err(_) => break,
                },
                () = self.context.queue.changed() => {}
                _ = expiry.tick() => self.start_expiry(&mut expiring),
                () = tokio::time::sleep_until(Instant::now() + nap) => {}
            }
        }
        self.workers.close();
        self.workers.wait().await;
    }

    fn configure(&self, live: &Live) {
        let upstreams = live
            .upstreams
            .iter()
            .map(|one| (&one.config, one.fingerprint.as_str()));
        let reconfigured = self.upstreams.lock().configure(upstreams, clock::now_ms());
        if reconfigured == Reconfigured::Known {
            self.context.queue.wake_all();
        }
    }

    /// Opens at most one connection: its worker wakes the manager when it has taken a message, so that the number
    /// of connections follows what the upstream bears.
    fn open_connection(&self) {
        if !self.context.queue.wants_worker() {
            return;
        }
        let live = self.context.live();
        let mut upstreams = self.upstreams.lock();
        let chosen = upstreams.choose(clock::now_ms());
        let Some(upstream) = chosen.and_then(|name| find(&live, name)) else {
            return;
        };
        upstreams.opened(&upstream.config.name);
        drop(upstreams);
        self.spawn(self.worker(upstream).run());
    }

    /// Checks every upstream that is due for it. A relay on its way out starts none: nobody would act on the result.
    fn start_checks(&self) {
        let live = self.context.live();
        let now_ms = clock::now_ms();
        while self.context.phase() == Phase::Serving {
            let mut upstreams = self.upstreams.lock();
            let chosen = upstreams.choose_check(now_ms);
            let Some(upstream) = chosen.and_then(|name| find(&live, name)) else {
                return;
            };
            upstreams.opened(&upstream.config.name);
            drop(upstreams);
            self.spawn(self.worker(upstream).check());
        }
    }

    fn worker(&self, upstream: Arc<LiveUpstream>) -> Worker {
        Worker::new(self.context.clone(), self.upstreams.clone(), upstream)
    }

    /// Looks for what has expired, unless the last look still goes on.
    fn start_expiry(&self, last: &mut Option<JoinHandle<()>>) {
        if last.as_ref().is_none_or(JoinHandle::is_finished) {
            let look = expiry::expire(self.context.clone(), self.upstreams.clone());
            *last = Some(self.spawn(look));
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let abort = self.abort.clone();
        self.workers.spawn(async move {
            tokio::select! {
                () = work => {}
                () = abort.cancelled() => {}
            }
        })
    }

    /// How long nothing can change by itself.
    fn nap(&self) -> Duration {
        let now_ms = clock::now_ms();
        let upstream_ms = self.upstreams.lock().next_ms(now_ms);
        // What is due already waits for a connection to end or a probe to come, not for time.
        let due_ms = self
            .context
            .queue
            .next_due_ms()
            .filter(|due_ms| *due_ms > now_ms);
        let next_ms = [upstream_ms, due_ms];
        let nap_ms = next_ms
            .into_iter()
            .flatten()
            .min()
            .map(|next_ms| next_ms - now_ms);
        nap_ms.map_or(NAP_MAX, Duration::from_millis).min(NAP_MAX)
    }
}

fn find(live: &Live, name: &str) -> Option<Arc<LiveUpstream>> {
    live.upstreams
        .iter()
        .find(|upstream| upstream.config.name == name)
        .cloned()
}

/// Tells the log what became of an upstream.
fn announce(name: &str, change: Change, failure: Option<&UpstreamFailure>) {
    match (change, failure) {
        (Change::Failed, Some(failure)) => {
            tracing::warn!(
                upstream = name,
                reason = failure.reason.as_str(),
                error = failure.message,
                "upstream does not work; its mail is held"
            );
        }
        (Change::Crowded, Some(failure)) => tracing::info!(
            upstream = name,
            error = failure.message,
            "upstream takes no further connection for now"
        ),
        (Change::Recovered, _) => tracing::info!(upstream = name, "upstream works"),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
