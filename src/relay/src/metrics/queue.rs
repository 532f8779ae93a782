//! The state of the queue and of its disk.

use std::sync::atomic::AtomicU64;

use postroad_telemetry::metrics::{register, register_with_unit};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The state of the queue; brought up to date when read.
#[derive(Debug)]
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
}

impl QueueGauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let r = registry;
        Self {
            messages: register(r, "queue_messages", "Messages accepted and not finished"),
            bytes: register_with_unit(
                r,
                "queue_size",
                "Bytes of the messages accepted and not finished",
                Unit::Bytes,
            ),
            deferred: register(r, "queue_deferred", "Messages with a failed attempt"),
            unreadable: register(r, "queue_unreadable", "Messages the disk does not return"),
            held: register(r, "queue_held", "Messages that an override holds"),
            connections: register(r, "outgoing_connections_open", "Connections to servers"),
            failing_domains: register(r, "failing_domains", "Direct domains that do not work"),
            fill: register(r, "queue_fill_ratio", "How full the queue is, 0 to 1"),
            oldest_age: register_with_unit(
                r,
                "queue_oldest_age",
                "Age of the oldest message in the queue",
                Unit::Seconds,
            ),
        }
    }
}

/// The state of the spool and of its disk; brought up to date when read.
#[derive(Debug)]
pub struct SpoolGauges {
    /// 1 while the spool cannot be written.
    pub failing: Gauge,
    /// 1 while there is no room for another message on the disk.
    pub disk_full: Gauge,
    /// Bytes that can still be written, or may be.
    pub disk_free: Gauge,
    /// Damaged records kept aside.
    pub corrupt: Gauge,
    /// Flushes to stable storage since the start.
    pub syncs: Counter,
    /// 1 if a 250 means stable storage.
    pub durable: Gauge,
    /// How long the oldest write that was answered and is not on stable storage has been waiting for that, in seconds.
    pub unsynced_age: Gauge<f64, AtomicU64>,
}

impl SpoolGauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let r = registry;
        Self {
            failing: register(r, "spool_failing", "Whether the spool cannot be written"),
            disk_full: register(r, "spool_disk_full", "1 if no message fits on the disk"),
            disk_free: register_with_unit(
                r,
                "spool_disk_free",
                "Bytes that can still be written",
                Unit::Bytes,
            ),
            corrupt: register(r, "spool_corrupt_records", "Damaged records kept aside"),
            syncs: register(r, "spool_syncs", "Flushes to stable storage"),
            durable: register(r, "spool_durable", "1 if a 250 means stable storage"),
            unsynced_age: register_with_unit(
                r,
                "spool_unsynced_age",
                "How long the oldest answered write has been waiting to be on stable storage",
                Unit::Seconds,
            ),
        }
    }
}
