//! What `/metrics` shows.

mod queue;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use postroad_config::status::{Totals, UpstreamState, UpstreamStatus};
use postroad_telemetry::metrics::register;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::memory::Full;
use crate::queue::Resource;
pub use queue::{QueueGauges, SpoolGauges};

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

/// What somebody's share of which is used up.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ShareLabel {
    /// `queue` or `disk`.
    pub of: &'static str,
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
    /// Transactions in which an upstream rejected the sender, and the mail was held.
    pub sender_rejections: Counter,
    /// SMTP connections by listener.
    pub connections: Family<ListenerLabel, Counter>,
    /// SMTP connections turned away.
    pub refused_connections: Family<RefusalLabel, Counter>,
    /// Open SMTP connections.
    pub open_connections: Gauge,
    /// Logins that were refused.
    pub authentication_failures: Counter,
    /// MAIL and RCPT refused because the client may not relay: MAIL where a login is required, RCPT elsewhere.
    pub relaying_denied: Counter,
    /// Messages refused because the spool could not take them.
    pub spool_refusals: Counter,
    /// Messages refused because as much is queued as may be.
    pub queue_refusals: Counter,
    /// Messages refused because the disk is full.
    pub disk_refusals: Counter,
    /// Messages refused because so much mail of their tenant waits: a login, or all clients without one.
    pub share_refusals: Family<ShareLabel, Counter>,
    /// Messages and recipients refused for lack of memory.
    pub memory_refusals: Family<MemoryLabel, Counter>,
    /// Brought up to date when read.
    pub queue: QueueGauges,
    /// Brought up to date when read.
    pub spool: SpoolGauges,
    /// 1 where mail flows, 0 where it does not. Brought up to date when read.
    upstream_ready: Family<UpstreamLabel, Gauge>,
    /// The names that this has: a family cannot be asked.
    upstreams_shown: Mutex<BTreeSet<String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("postroad_relay");
        let r = &mut registry;
        Self {
            accepted: register(r, "messages_accepted", "Messages that got 250"),
            passed: register(r, "passed_through", "Messages never stored"),
            delivered: register(r, "recipients_delivered", "Recipients an upstream took"),
            deferred: register(r, "recipients_deferred", "Recipients put off, per attempt"),
            failed: register(r, "recipients_failed", "Recipients refused for good"),
            bounced: register(r, "bounces", "Bounces written to senders"),
            sender_rejections: register(r, "sender_rejections", "Attempts with a rejected sender"),
            connections: register(r, "connections", "SMTP connections"),
            refused_connections: register(r, "connections_refused", "SMTP connections turned away"),
            open_connections: register(r, "connections_open", "Open SMTP connections"),
            authentication_failures: register(r, "authentication_failures", "Logins refused"),
            relaying_denied: register(
                r,
                "relaying_denied",
                "Commands of clients that may not relay",
            ),
            spool_refusals: register(r, "spool_refusals", "Messages the spool could not take"),
            queue_refusals: register(r, "queue_refusals", "Messages refused: the queue is full"),
            disk_refusals: register(r, "disk_refusals", "Messages refused: the disk is full"),
            share_refusals: register(r, "share_refusals", "Messages refused: a share is used up"),
            memory_refusals: register(r, "memory_refusals", "Refusals for lack of memory"),
            queue: QueueGauges::register(r),
            spool: SpoolGauges::register(r),
            upstream_ready: register(r, "upstream_ready", "1 where mail flows, else 0"),
            upstreams_shown: Mutex::default(),
            registry: Arc::new(registry),
        }
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

    /// Counts a refusal because of a share.
    pub fn refused_for_share(&self, resource: Resource) {
        let of = resource.as_str();
        self.share_refusals.get_or_create(&ShareLabel { of }).inc();
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
            sender_rejected: None,
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
