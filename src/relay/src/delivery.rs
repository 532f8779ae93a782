//! Delivery: one manager that decides when to open connections, and workers that each serve one connection.
//!
//! The manager opens a connection only where mail is ready that no idle worker is about to take, or to check an
//! upstream over which nothing has been tried for long. For mail that goes to upstreams it asks [`Upstreams`], for mail that goes to domains
//! the schedule. Everything a worker learns goes through three doors: the state of where it leads ([`hop`]), the queue (an outcome per
//! recipient), and the metrics.
//!
//! A recipient is taken by one worker at a time. If the process dies with a message under way, the
//! message is still in the spool; if it dies between the server's 250 and our record of it, that
//! transaction is repeated: the one window in which mail is delivered twice. For each connection it holds the transaction under way and
//! the one before it, whose record may be on its way to the disk: see [`worker`].
//!
//! # Changes of the configuration
//! Routes, overrides, limits and rates are in force for all mail within moments ([`Queue::review`](crate::queue::Queue::review)); a connection
//! that was opened under other limits, or in another way than mail would go now (TLS, networks, our name), ends with the message under way.

mod attempt;
pub(crate) mod connect;
mod content;
mod course;
mod direct;
mod expiry;
mod holds;
mod hop;
mod look;
mod plan;
mod returns;
mod senders;
mod transmit;
mod worker;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroad_config::status::{DestinationStatus, RateOf, UpstreamFailure, UpstreamStatus};
use postroad_config::{Direct, Target};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::clock;
use crate::context::{Context, Phase};
use crate::live::{Live, LiveUpstream};
use crate::queue::{Door, Queue};
use crate::route::{Key, Table};
use crate::schedule::{Destination, Place, SiteLimits, Wake};
use crate::upstreams::{Change, Reconfigured, Upstreams};

pub(crate) use course::report;

use direct::Opener;
use holds::Holds;
use hop::{DomainHop, Hop, UpstreamHop};
use worker::Worker;

/// How often messages are looked for that have waited for too long without an attempt; the first time when a start has given each its chance.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

/// The longest sleep of the manager. Everything that matters wakes it; this bounds the effect of a clock that jumps.
const NAP_MAX: Duration = Duration::from_secs(5);

/// The shortest: what is due within it becomes ready together.
const NAP_MIN: Duration = Duration::from_millis(2);

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
        let mut upstreams = self.lock();
        upstreams.forget_senders(clock::now_ms());
        upstreams.status()
    }

    /// The destinations with the most mail, for the status.
    #[must_use]
    pub fn destinations(&self, queue: &Queue) -> Vec<DestinationStatus> {
        self.note_failures(queue);
        let top = queue.top(postroad_config::status::DESTINATIONS_MAX);
        let table = queue.table();
        let status = top.into_iter().map(|found| DestinationStatus {
            destination: found.key.label().to_owned(),
            messages: u64::from(found.messages),
            deferred: u64::from(found.deferred),
            oldest_arrival: i64::try_from(found.oldest_ms / 1000).ok(),
            failing: found.failure.as_deref().cloned(),
            rate: self.rate_of(&table, &found),
            answer: found
                .answer
                .filter(|_| found.deferred > 0)
                .map(|answer| answer.to_string()),
        });
        status.collect()
    }

    /// Whose rate keeps the mail of a destination.
    fn rate_of(&self, table: &Table, found: &Destination) -> Option<RateOf> {
        if found.is_held_up {
            return Some(RateOf::Domain);
        }
        let upstreams = self.lock();
        let target = table.target(&found.key)?;
        let name = upstreams.held_up_by(target, found.ready, clock::now_ms())?;
        Some(RateOf::Upstream(name.to_owned()))
    }

    /// Tells the schedule which routes do not work.
    fn note_failures(&self, queue: &Queue) {
        let upstreams = self.lock();
        queue.note_failures(|table, key| {
            let target = table.target(key)?;
            upstreams.all_failing(target).cloned()
        });
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
    /// The way to domains, and the configuration that it is made of.
    direct: Mutex<Option<(Arc<Opener>, Direct)>>,
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
            direct: Mutex::default(),
        }
    }

    /// Delivers until [`Phase::Stopping`], then waits for the transactions in flight.
    pub async fn run(self) {
        let mut live = self.context.live.clone();
        let first = Arc::clone(&live.borrow_and_update());
        self.configure(&first).await;
        let mut expiry =
            tokio::time::interval_at(Instant::now() + EXPIRY_INTERVAL, EXPIRY_INTERVAL);
        let mut expiring = None;
        loop {
            self.open_connections();
            self.start_checks();
            if self.context.hands_on() {
                // Clients that wait need not wait for what does not work.
                self.upstreams.note_failures(&self.context.queue);
            }
            let nap = self.nap();
            tokio::select! {
                biased;
                () = self.context.reached(Phase::Stopping) => break,
                changed = live.changed() => match changed {
                    Ok(()) => {
                        let now = Arc::clone(&live.borrow_and_update());
                        self.configure(&now).await;
                    }
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

    async fn configure(&self, live: &Live) {
        let delivery = &live.config.delivery;
        let routes = delivery.routes.iter().map(|route| &route.to);
        let targets: Vec<&Target> = routes.chain([&delivery.default_route]).collect();
        let upstreams = live
            .upstreams
            .iter()
            .map(|one| (&one.config, one.fingerprint.as_str()));
        let reconfigured = self
            .upstreams
            .lock()
            .configure(upstreams, &targets, clock::now_ms());
        let is_direct_changed = self.configure_direct(live);
        let table = Arc::new(Table::new(delivery));
        let limits = site_limits(live);
        let queue = &self.context.queue;
        let before = queue.configure(Arc::clone(&table), limits, live.config.limits.index_bytes);
        queue.share(live.sharing());
        let wake = match reconfigured == Reconfigured::Known || is_direct_changed {
            true => Wake::All,
            false => Wake::Flushed,
        };
        if delivery.retry.sender_hold().is_zero() {
            self.upstreams.lock().clear_senders();
        } else if *before != *table {
            // It may be a flush: whoever writes one wants to know.
            self.upstreams.lock().try_senders();
        }
        if wake == Wake::All || *before != *table {
            queue.review(&before, wake).await;
        }
    }

    /// Says whether what was known has changed.
    fn configure_direct(&self, live: &Live) -> bool {
        let mut direct = self.direct();
        let before = direct.take();
        let opener = Opener::new(&live.config, before.as_ref().map(|(opener, _)| &**opener));
        let config = live.config.delivery.direct.clone();
        let changed = before.is_some_and(|(_, before)| {
            let limits = config.limits.clone();
            Direct { limits, ..before } != config
        });
        *direct = Some((Arc::new(opener), config));
        changed
    }

    /// Opens what connections may be opened. One to an upstream whose state is not known is opened alone; its worker wakes the manager.
    fn open_connections(&self) {
        let queue = &self.context.queue;
        let live = self.context.live();
        if let Some((opener, config)) = &*self.direct() {
            for (door, domain, owner) in queue.open_domains() {
                let hop = Hop::Domain(DomainHop {
                    context: self.context.clone(),
                    domain,
                    place: door.place(),
                    opener: Arc::clone(opener),
                    owner,
                    limits: config.limits.clone(),
                });
                self.spawn(self.worker(hop, door).run());
            }
        }
        let table = queue.table();
        for (place, key) in queue.wanting() {
            if let Some(target) = table.target(&key) {
                self.open_upstreams(&live, place, &key, target);
            } else if let Key::Bounce(name) = key {
                self.give_back(name, place);
            }
        }
    }

    fn open_upstreams(&self, live: &Live, place: Place, key: &Key, target: &Target) {
        loop {
            let mut upstreams = self.upstreams.lock();
            let chosen = upstreams.choose(target, clock::now_ms());
            let Some(upstream) = chosen.and_then(|name| find(live, name)) else {
                return self.context.queue.block(place);
            };
            let Some(door) = self.context.queue.open(place) else {
                return;
            };
            upstreams.opened(&upstream.config.name);
            drop(upstreams);
            let hop = Hop::Upstream {
                upstream: self.upstream_hop(upstream),
                key: key.clone(),
                target: target.clone(),
            };
            self.spawn(self.worker(hop, door).run());
        }
    }

    fn give_back(&self, name: Arc<str>, place: Place) {
        if let Some(door) = self.context.queue.open_alone(place) {
            self.spawn(returns::give_back(self.context.clone(), name, door));
        }
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
            self.spawn(self.upstream_hop(upstream).check());
        }
    }

    fn worker(&self, hop: Hop, door: Door) -> Worker {
        Worker {
            context: self.context.clone(),
            upstreams: self.upstreams.clone(),
            hop,
            door,
        }
    }

    fn upstream_hop(&self, upstream: Arc<LiveUpstream>) -> UpstreamHop {
        UpstreamHop::new(self.context.clone(), self.upstreams.clone(), upstream)
    }

    /// Looks for what has expired, unless the last look still goes on.
    fn start_expiry(&self, last: &mut Option<JoinHandle<()>>) {
        if last.as_ref().is_none_or(JoinHandle::is_finished) {
            let look = expiry::expire(self.context.clone(), self.upstreams.clone());
            *last = Some(self.spawn(look));
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.workers.spawn(or_aborted(work, self.abort.clone()))
    }

    /// How long nothing can change by itself.
    fn nap(&self) -> Duration {
        let now_ms = clock::now_ms();
        let upstream_ms = self.upstreams.lock().next_ms(now_ms);
        let due_ms = self.context.queue.advance();
        let next_ms = upstream_ms.into_iter().chain(due_ms).min();
        let nap = next_ms.map_or(NAP_MAX, |next_ms| {
            Duration::from_millis(next_ms.saturating_sub(now_ms))
        });
        nap.clamp(NAP_MIN, NAP_MAX)
    }

    fn direct(&self) -> MutexGuard<'_, Option<(Arc<Opener>, Direct)>> {
        self.direct.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that ends at the latest when this is cancelled. It is on the heap, where it is once: what is moved into a future that selects takes its room
/// twice, and the work of a connection takes some 18 kB.
fn or_aborted(
    work: impl Future<Output = ()> + Send,
    abort: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let mut work = Box::pin(work);
    async move {
        tokio::select! {
            biased;
            () = &mut work => {}
            () = abort.cancelled() => {}
        }
    }
}

fn site_limits(live: &Live) -> SiteLimits {
    let delivery = &live.config.delivery;
    SiteLimits {
        connections: delivery.direct.limits.connections,
        rate: delivery.direct.limits.rate,
        backoff: Backoff {
            initial: Duration::from_secs(delivery.retry.initial_seconds),
            maximum: Duration::from_secs(delivery.retry.maximum_seconds),
        },
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
