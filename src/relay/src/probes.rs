//! `/livez`, `/readyz` and `/metrics` of the relay.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use postroad_config::SpoolMode;
use postroad_spool::Failure;
use postroad_telemetry::http::{Health, Probes};
use prometheus_client::registry::Registry;

use crate::admin::Admin;
use crate::clock;
use crate::context::Phase;
use crate::metrics::SpoolGauges;

/// Answers the kubelet and Prometheus.
pub struct RelayProbes(pub Admin);

impl Probes for RelayProbes {
    /// A relay that can answer works, unless its spool's writer has died, which only a restart mends. A failing disk is no
    /// reason for one: what is queued is delivered on.
    fn live(&self) -> Health {
        match self.0.context.queue.spool().health().failure {
            Some(Failure::WriterDied) => Err(format!("the spool: {}", Failure::WriterDied)),
            Some(Failure::Write(_) | Failure::DiskFull) | None => Ok(()),
        }
    }

    /// A full queue, or a full disk, is ready: the 452 that it answers says more than a refused connection.
    fn ready(&self) -> Health {
        if self.0.context.phase() > Phase::Serving {
            return Err("draining".into());
        }
        match self.0.context.queue.spool().health().failure {
            Some(failure @ (Failure::Write(_) | Failure::WriterDied)) => {
                Err(format!("the spool cannot be written: {failure}"))
            }
            Some(Failure::DiskFull) | None => Ok(()),
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
        queue.unreadable.set(signed(totals.unreadable));
        queue.held.set(signed(totals.held));
        let delivering = &self.0.context.queue;
        queue.connections.set(i64::from(delivering.connections()));
        let domains = delivering.direct_status();
        queue.failing_domains.set(signed(domains.failing));
        queue.fill.set(self.0.context.queue.fill());
        queue
            .oldest_age
            .set(std::time::Duration::from_millis(age).as_secs_f64());
        let disk_full = self.0.context.queue.is_disk_full();
        metrics.spool.disk_full.set(i64::from(disk_full));
        let mode = self.0.context.live().config.spool.mode;
        show_spool(&metrics.spool, &spool, mode);
        metrics.set_upstreams(&self.0.upstreams.status());
        Arc::clone(&metrics.registry)
    }
}

fn show_spool(shown: &SpoolGauges, spool: &postroad_spool::Health, mode: SpoolMode) {
    shown.failing.set(i64::from(spool.failure.is_some()));
    shown.disk_free.set(signed(spool.free_bytes));
    shown.corrupt.set(signed(spool.corrupt));
    shown.syncs.inner().store(spool.syncs, Ordering::Relaxed);
    shown.durable.set(i64::from(mode.is_durable()));
    let unsynced = spool.unsynced.unwrap_or_default();
    shown.unsynced_age.set(unsynced.as_secs_f64());
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postroad_smtp::Reply;
    use postroad_spool::SEGMENT_BYTES;

    use super::*;
    use crate::accept;
    use crate::delivery::SharedUpstreams;
    use crate::metrics::Metrics;
    use crate::refusal::Refusal;
    use crate::rig::Rig;
    use crate::room::Account;

    fn probes(rig: &Rig) -> RelayProbes {
        RelayProbes(Admin {
            context: rig.context.clone(),
            upstreams: SharedUpstreams::default(),
        })
    }

    #[tokio::test]
    async fn a_dead_writer_fails_liveness_and_turns_mail_away_with_451() {
        let mut rig = Rig::new(1 << 20);
        let probes = probes(&rig);
        assert_eq!((probes.live(), probes.ready()), (Ok(()), Ok(())));
        rig.kill_writer();
        let problem = "the spool: the writer has died";
        assert_eq!(probes.live(), Err(problem.into()));
        assert!(probes.ready().is_err());
        let status = probes.0.status();
        assert_eq!(status.spool.failure.as_deref(), Some("the writer has died"));
        let early = accept::check_room(&rig.context, None).map_err(Refusal::reply);
        assert_eq!(early.as_ref().map_err(Reply::code), Err(451));
        let late = rig.accept(&rig.message(1, 0)).await.unwrap_err();
        let late = accept::refuse(&rig.context, &late, &Account::Network).reply();
        assert_eq!(late.code(), 451);
    }

    #[tokio::test]
    async fn a_full_disk_is_ready_says_so_and_takes_mail_again() {
        let rig = Rig::new(1 << 20);
        let (probes, spool) = (probes(&rig), rig.context.queue.spool().clone());
        assert_eq!(accept::check_room(&rig.context, None), Ok(()));
        rig.disk.set_free(3 * SEGMENT_BYTES);
        spool.measure();
        assert_eq!(
            accept::check_room(&rig.context, None),
            Err(Refusal::DiskFull),
            "nobody can tell how large it gets"
        );
        assert_eq!((probes.live(), probes.ready()), (Ok(()), Ok(())));
        assert!(probes.0.status().spool.disk_full);
        probes.registry();
        let metrics = &rig.context.metrics;
        assert_eq!(
            (metrics.spool.disk_full.get(), metrics.disk_refusals.get()),
            (1, 1)
        );
        rig.disk.set_free(u64::MAX);
        spool.measure();
        assert_eq!(accept::check_room(&rig.context, None), Ok(()));
        assert!(!probes.0.status().spool.disk_full);
    }

    #[test]
    fn what_is_answered_and_not_on_stable_storage_shows() {
        let metrics = Metrics::default();
        let mut spool = postroad_spool::Health::default();
        let mut shown = |mode, unsynced| {
            spool.unsynced = unsynced;
            show_spool(&metrics.spool, &spool, mode);
            (
                metrics.spool.durable.get(),
                metrics.spool.unsynced_age.get(),
            )
        };
        let (relaxed, waits) = (
            SpoolMode::Relaxed { sync_ms: 100 },
            Duration::from_millis(1500),
        );
        assert_eq!(shown(relaxed, Some(waits)), (0, 1.5));
        assert_eq!(shown(relaxed, None), (0, 0.0));
        assert_eq!(shown(SpoolMode::Durable, None), (1, 0.0));
    }

    #[tokio::test]
    async fn a_full_queue_is_ready_and_says_so() {
        let mut rig = Rig::new(1 << 20);
        rig.context.queue = rig.context.queue.with_room_for(1);
        let probes = probes(&rig);
        assert!(!probes.0.status().queue.full);
        rig.accept(&rig.message(1, 0)).await.unwrap();
        assert_eq!((probes.live(), probes.ready()), (Ok(()), Ok(())));
        let status = probes.0.status();
        assert!(status.queue.full && status.spool.failure.is_none());
        let refusal = accept::check_room(&rig.context, None).unwrap_err();
        assert_eq!(refusal, Refusal::QueueFull);
        let late = rig.accept(&rig.message(1, 0)).await.unwrap_err();
        assert_eq!(
            accept::refuse(&rig.context, &late, &Account::Network),
            Refusal::QueueFull
        );
        assert_eq!(rig.context.metrics.queue_refusals.get(), 2);
        assert_eq!(rig.context.metrics.spool_refusals.get(), 0);
    }
}
