//! What `/metrics` shows.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use postroad_config::status::{Totals, UpstreamState, UpstreamStatus};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::memory::Full;

/// Names a listener.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ListenerLabel {
    /// As in the configuration.
    pub listener: &'static str,
}

/// Names an upstream.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct UpstreamLabel {
    /// As in the configuration.
    pub upstream: String,
}

impl UpstreamLabel {
    fn new(name: &str) -> Self {
        Self {
            upstream: name.to_owned(),
        }
    }
}

/// Why a connection was turned away.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct RefusalLabel {
    /// `total` or `source`: the limit that was reached; `displaced`: given to a new client.
    pub reason: &'static str,
}

/// Whose memory is used up.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct MemoryLabel {
    /// `total`: that for all clients together; `client`: the share of one.
    pub reason: &'static str,
}

/// The metrics of a relay. Labels are bounded by the configuration, never by what peers say.
#[derive(Debug)]
pub struct Metrics {
    /// All of them.
    pub registry: Arc<Registry>,
    /// Messages that got 250.
    pub accepted: Counter,
    /// Those of them that the next servers had by then, so that they were never stored.
    pub passed: Counter,
    /// Recipients that an upstream took.
    pub delivered: Counter,
    /// Recipients put off, once per attempt.
    pub deferred: Counter,
    /// Recipients refused for good.
    pub failed: Counter,
    /// Messages given back to their senders.
    pub bounced: Counter,
    /// SMTP connections by listener.
    pub connections: Family<ListenerLabel, Counter>,
    /// SMTP connections turned away.
    pub refused_connections: Family<RefusalLabel, Counter>,
    /// Open SMTP connections.
    pub open_connections: Gauge,
    /// Logins that were refused.
    pub authentication_failures: Counter,
    /// Recipients refused because the client may not relay.
    pub relaying_denied: Counter,
    /// Messages refused because the spool could not take them.
    pub spool_refusals: Counter,
    /// Messages refused because as much is queued as may be.
    pub queue_refusals: Counter,
    /// Messages refused because the disk is full.
    pub disk_refusals: Counter,
    /// Messages and recipients refused for lack of memory.
    pub memory_refusals: Family<MemoryLabel, Counter>,
    /// Brought up to date when read.
    pub queue: QueueGauges,
    /// 1 where mail flows, 0 where it does not. Brought up to date when read.
    upstream_ready: Family<UpstreamLabel, Gauge>,
    /// The names that this has: a family cannot be asked.
    upstreams_shown: Mutex<BTreeSet<String>>,
}

/// The state of the queue; brought up to date when read.
#[derive(Debug, Default)]
pub struct QueueGauges {
    /// Messages accepted and not finished.
    pub messages: Gauge,
    /// Their bytes.
    pub bytes: Gauge,
    /// Those with a failed attempt.
    pub deferred: Gauge,
    /// Those that the disk did not give back when they were last tried.
    pub unreadable: Gauge,
    /// Pieces that an override holds.
    pub held: Gauge,
    /// Connections to other servers, open or being opened.
    pub connections: Gauge,
    /// Domains that mail goes to directly and that fail.
    pub failing_domains: Gauge,
    /// How much of the bound on the queue is used, from 0 to 1.
    pub fill: Gauge<f64, AtomicU64>,
    /// Age of the oldest, in seconds.
    pub oldest_age: Gauge<f64, AtomicU64>,
    /// 1 while the spool cannot be written.
    pub spool_failing: Gauge,
    /// 1 while there is no room for another message on the disk.
    pub disk_full: Gauge,
    /// Bytes that can still be written, or may be.
    pub disk_free: Gauge,
    /// Damaged records kept aside.
    pub corrupt: Gauge,
    /// Flushes to stable storage since the start.
    pub syncs: Gauge,
    /// 1 if a 250 means stable storage.
    pub durable: Gauge,
    /// How long the oldest write that was answered and is not on stable storage has been waiting for that, in seconds.
    pub unsynced_age: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("postroad_relay");
        let r = &mut registry;
        Self {
            accepted: counter(r, "messages_accepted", "Count of messages that got 250"),
            passed: counter(r, "passed_through", "Count of messages never stored"),
            delivered: counter(
                r,
                "recipients_delivered",
                "Count of recipients that an upstream took",
            ),
            deferred: counter(
                r,
                "recipients_deferred",
                "Count of recipients put off, once per attempt",
            ),
            failed: counter(
                r,
                "recipients_failed",
                "Count of recipients refused for good",
            ),
            bounced: counter(r, "bounces", "Count of bounces written to senders"),
            connections: family(r, "connections", "Count of SMTP connections"),
            refused_connections: family(
                r,
                "connections_refused",
                "Count of SMTP connections turned away",
            ),
            open_connections: gauge(r, "connections_open", "Open SMTP connections"),
            authentication_failures: counter(
                r,
                "authentication_failures",
                "Count of logins that were refused",
            ),
            relaying_denied: counter(
                r,
                "relaying_denied",
                "Count of recipients refused because the client may not relay",
            ),
            spool_refusals: counter(
                r,
                "spool_refusals",
                "Count of messages refused because the spool could not take them",
            ),
            queue_refusals: counter(
                r,
                "queue_refusals",
                "Count of messages refused because the queue is full",
            ),
            disk_refusals: counter(
                r,
                "disk_refusals",
                "Count of messages refused because the disk is full",
            ),
            memory_refusals: family(
                r,
                "memory_refusals",
                "Count of messages and recipients refused for lack of memory",
            ),
            queue: QueueGauges::register(r),
            upstream_ready: family(
                r,
                "upstream_ready",
                "Whether mail flows to the upstream: 1 or 0",
            ),
            upstreams_shown: Mutex::default(),
            registry: Arc::new(registry),
        }
    }
}

impl QueueGauges {
    fn register(registry: &mut Registry) -> Self {
        let queue = Self {
            messages: gauge(
                registry,
                "queue_messages",
                "Messages accepted and not finished",
            ),
            bytes: Gauge::default(),
            deferred: gauge(registry, "queue_deferred", "Messages with a failed attempt"),
            unreadable: gauge(
                registry,
                "queue_unreadable",
                "Messages that the disk did not give back when they were last tried",
            ),
            held: gauge(
                registry,
                "queue_held",
                "Messages at destinations that an override holds",
            ),
            connections: gauge(
                registry,
                "outgoing_connections_open",
                "Connections to other servers, open or being opened",
            ),
            failing_domains: gauge(
                registry,
                "failing_domains",
                "Domains without a route whose servers do not work",
            ),
            fill: Gauge::default(),
            oldest_age: Gauge::default(),
            spool_failing: gauge(
                registry,
                "spool_failing",
                "Whether the spool cannot be written",
            ),
            disk_full: gauge(
                registry,
                "spool_disk_full",
                "Whether there is no room for another message on the disk",
            ),
            disk_free: Gauge::default(),
            corrupt: gauge(
                registry,
                "spool_corrupt_records",
                "Damaged records kept aside",
            ),
            syncs: gauge(
                registry,
                "spool_syncs",
                "Flushes to stable storage since the start",
            ),
            durable: gauge(
                registry,
                "spool_durable",
                "Whether a 250 means that the message is on stable storage: 1 or 0",
            ),
            unsynced_age: Gauge::default(),
        };
        queue.register_measures(registry);
        queue
    }

    /// Those with a unit, or that are no whole numbers.
    fn register_measures(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "queue_size",
            "Bytes of the messages accepted and not finished",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "spool_disk_free",
            "Bytes that can still be written",
            Unit::Bytes,
            self.disk_free.clone(),
        );
        registry.register_with_unit(
            "spool_unsynced_age",
            "How long the oldest answered write has been waiting to be on stable storage",
            Unit::Seconds,
            self.unsynced_age.clone(),
        );
        registry.register(
            "queue_fill_ratio",
            "How much of what may be queued is queued, from 0 to 1",
            self.fill.clone(),
        );
        registry.register_with_unit(
            "queue_oldest_age",
            "Age of the oldest message in the queue",
            Unit::Seconds,
            self.oldest_age.clone(),
        );
    }
}

impl Metrics {
    /// Counts a connection that was turned away.
    pub fn refuse_connection(&self, reason: &'static str) {
        let label = RefusalLabel { reason };
        self.refused_connections.get_or_create(&label).inc();
    }

    /// Counts a refusal for lack of memory.
    pub fn refused_for_memory(&self, why: Full) {
        let reason = match why {
            Full::Budget => "total",
            Full::Share => "client",
        };
        let label = MemoryLabel { reason };
        self.memory_refusals.get_or_create(&label).inc();
    }

    /// The counts for the status.
    pub fn totals(&self) -> Totals {
        Totals {
            accepted: self.accepted.get(),
            delivered: self.delivered.get(),
            deferred: self.deferred.get(),
            failed: self.failed.get(),
        }
    }

    /// Records whether mail flows to each upstream; these are all that there are.
    pub fn set_upstreams(&self, upstreams: &[UpstreamStatus]) {
        let mut shown = self
            .upstreams_shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now: BTreeSet<_> = upstreams.iter().map(|one| one.name.clone()).collect();
        for gone in shown.difference(&now) {
            self.upstream_ready.remove(&UpstreamLabel::new(gone));
        }
        for upstream in upstreams {
            let ready = i64::from(upstream.state == UpstreamState::Ready);
            let label = UpstreamLabel::new(&upstream.name);
            self.upstream_ready.get_or_create(&label).set(ready);
        }
        *shown = now;
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn family<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    L: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static,
    M: EncodeMetric + TypedMetric + Default + Debug + Send + Sync + 'static,
{
    let family = Family::default();
    registry.register(name, help, Clone::clone(&family));
    family
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn an_upstream_that_is_gone_is_shown_no_longer() {
        let metrics = Metrics::default();
        let status = |name: &str, state| UpstreamStatus {
            name: name.into(),
            state,
            since: 0,
            failure: None,
        };
        let shown = |upstreams: &[UpstreamStatus]| {
            metrics.set_upstreams(upstreams);
            let mut text = String::new();
            encode(&mut text, &metrics.registry).unwrap();
            let lines = text.lines().filter(|line| line.contains("upstream="));
            let mut lines: Vec<_> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let (a, b) = (
            status("a", UpstreamState::Failing),
            status("b", UpstreamState::Ready),
        );
        let line =
            |name, value| format!("postroad_relay_upstream_ready{{upstream=\"{name}\"}} {value}");
        assert_eq!(shown(&[a, b.clone()]), [line("a", 0), line("b", 1)]);
        assert_eq!(shown(&[b]), [line("b", 1)]);
        assert!(shown(&[]).is_empty());
    }
}
