//! What every task of the relay shares.

use std::sync::Arc;

use postroad_config::SpoolMode;
use tokio::sync::{Semaphore, watch};

use crate::guesses::Guesses;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::queue::Queue;

/// How far the end of the process has come. Only ever moves forward.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Everything works.
    #[default]
    Serving,
    /// Readiness is false, so that clients go elsewhere; those that come nevertheless are served.
    LameDuck,
    /// Clients get 421 between transactions; delivery goes on.
    Draining,
    /// Delivery finishes the transactions in flight and stops.
    Stopping,
}

/// What every task of the relay shares. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The configuration in force.
    pub live: watch::Receiver<Arc<Live>>,
    /// How far the end has come.
    pub phase: watch::Receiver<Phase>,
    /// The queue.
    pub queue: Queue,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The failed logins.
    pub guesses: Arc<Guesses>,
    /// Whose turn it is to convert a message for its next hop.
    pub conversion: Arc<Semaphore>,
}

impl Context {
    /// The configuration as of now.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    /// The phase as of now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether mail is handed on while its client waits ([`crate::passthrough`]). Not by a relay that is on its way out: its clients are to be
    /// gone soon.
    #[must_use]
    pub fn hands_on(&self) -> bool {
        let mode = self.live().config.spool.mode;
        mode == SpoolMode::Passthrough && self.phase() < Phase::Draining
    }

    /// Waits until a phase is reached.
    pub async fn reached(&self, phase: Phase) {
        let mut receiver = self.phase.clone();
        // An error means that the sender is gone, and with it the process.
        let _ = receiver.wait_for(|now| *now >= phase).await;
    }
}
