//! `/livez`, `/readyz` and the metrics of the operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postroad_telemetry::http::{Health, Probes};
use postroad_telemetry::metrics::register;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::watch::WatchHealth;

/// What the operator counts.
#[derive(Clone)]
pub(crate) struct Metrics {
    reconciliations: Family<Reconciliation, Counter>,
    durations: Family<Controller, Histogram, fn() -> Histogram>,
    watch_errors: Family<Watch, Counter>,
    writes: Family<Write, Counter>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Reconciliation {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Watch {
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Write {
    kind: String,
}

/// From 5 ms, a visit with nothing to do, to 40 s, one that runs into every timeout.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

impl Metrics {
    pub(crate) fn new() -> (Self, Registry) {
        let mut registry = Registry::with_prefix("postroad_operator");
        let r = &mut registry;
        let metrics = Self {
            reconciliations: register(
                r,
                "reconciliations",
                "Visits to an object, by how they ended",
            ),
            durations: Family::new_with_constructor(durations),
            watch_errors: register(r, "watch_errors", "Failed lists and watches"),
            writes: register(r, "writes", "Objects written to the API server"),
        };
        registry.register_with_unit(
            "reconciliation_duration",
            "Time of a visit",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        (metrics, registry)
    }

    pub(crate) fn reconciled(&self, controller: &'static str, succeeded: bool, took: Duration) {
        let result = if succeeded { "success" } else { "error" };
        self.reconciliations
            .get_or_create(&Reconciliation { controller, result })
            .inc();
        self.durations
            .get_or_create(&Controller { controller })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&Watch { kind }).inc();
    }

    pub(crate) fn wrote(&self, kind: &str) {
        let kind = kind.to_owned();
        self.writes.get_or_create(&Write { kind }).inc();
    }
}

/// What the probes answer with.
pub(crate) struct OperatorProbes {
    registry: Arc<Registry>,
    watches: Arc<WatchHealth>,
    ready: AtomicBool,
}

impl OperatorProbes {
    pub(crate) fn new(registry: Registry, watches: Arc<WatchHealth>) -> Self {
        Self {
            registry: Arc::new(registry),
            watches,
            ready: AtomicBool::new(false),
        }
    }

    /// All caches are filled: from here on objects are kept.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl Probes for OperatorProbes {
    fn live(&self) -> Health {
        self.watches.check(std::time::Instant::now())
    }

    fn ready(&self) -> Health {
        if self.is_ready() {
            Ok(())
        } else {
            Err("waiting for the first answers of the API server".into())
        }
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }
}
