//! `/livez`, `/readyz` and `/metrics` of the relay.

use std::sync::Arc;

use postroad_telemetry::http::{Health, Probes};
use prometheus_client::registry::Registry;

use crate::admin::Admin;
use crate::clock;
use crate::context::Phase;

/// Answers the kubelet and Prometheus.
pub struct RelayProbes(pub Admin);

impl Probes for RelayProbes {
    /// A relay that can answer works. A failing disk is no reason to restart it: what is queued is delivered on.
    fn live(&self) -> Health {
        Ok(())
    }

    fn ready(&self) -> Health {
        if self.0.context.phase() > Phase::Serving {
            return Err("draining".into());
        }
        match self.0.context.queue.spool().health().failure {
            Some(failure) => Err(format!("the spool cannot be written: {failure}")),
            None => Ok(()),
        }
    }

    fn registry(&self) -> Arc<Registry> {
        let metrics = &self.0.context.metrics;
        let (totals, oldest_ms) = self.0.context.queue.totals();
        let spool = self.0.context.queue.spool().health();
        let age = oldest_ms.map_or(0, |oldest_ms| clock::now_ms().saturating_sub(oldest_ms));
        let queue = &metrics.queue;
        queue.messages.set(signed(totals.messages));
        queue.bytes.set(signed(totals.bytes));
        queue.deferred.set(signed(totals.deferred));
        queue
            .oldest_age
            .set(std::time::Duration::from_millis(age).as_secs_f64());
        queue.spool_failing.set(i64::from(spool.failure.is_some()));
        queue.corrupt.set(signed(spool.corrupt));
        queue.syncs.set(signed(spool.syncs));
        for upstream in self.0.upstreams.status() {
            metrics.set_upstream(&upstream.name, upstream.state);
        }
        Arc::clone(&metrics.registry)
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
