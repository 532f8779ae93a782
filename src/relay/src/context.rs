//! What every task of the relay shares.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use postroad_config::SpoolMode;
use tokio::sync::{Notify, Semaphore, watch};

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

/// How far the end of the process has come, for all who move it or wait for it. Clones share it.
///
/// Who waits is woken in the order in which it came to wait; those of a `watch` channel are by chance, and a simulated run must not be.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    /// A [`Phase`].
    phase: AtomicU8,
    moved: Notify,
}

impl Ending {
    /// The phase as of now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let now = self.0.phase.load(Ordering::Acquire);
        let later = [Phase::LameDuck, Phase::Draining, Phase::Stopping];
        let reached = later.into_iter().rfind(|phase| *phase as u8 <= now);
        reached.unwrap_or_default()
    }

    /// Moves the phase forward, never back.
    pub fn advance(&self, to: Phase) {
        self.0.phase.fetch_max(to as u8, Ordering::AcqRel);
        self.0.moved.notify_waiters();
    }

    /// Waits until a phase is reached.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let mut moved = pin!(self.0.moved.notified());
            // In line before the look, so that no move comes in between.
            moved.as_mut().enable();
            if self.phase() >= phase {
                return;
            }
            moved.await;
        }
    }
}

/// What every task of the relay shares. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The configuration in force.
    pub live: watch::Receiver<Arc<Live>>,
    /// How far the end has come.
    pub ending: Ending,
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
        self.ending.phase()
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
        self.ending.reached(phase).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_phase_is_woken_by_it_or_a_later_one() {
        let ending = Ending::default();
        let moves = async {
            for phase in [Phase::LameDuck, Phase::Stopping] {
                sleep(Duration::from_secs(1)).await;
                ending.advance(phase);
            }
        };
        let waits = async {
            ending.reached(Phase::Serving).await;
            let early = timeout(Duration::from_secs(1), ending.reached(Phase::Draining));
            assert!(early.await.is_err(), "lame ducks serve");
            ending.reached(Phase::Draining).await;
            assert_eq!(ending.phase(), Phase::Stopping);
        };
        tokio::join!(waits, moves);
    }

    #[test]
    fn no_phase_comes_again() {
        let ending = Ending::default();
        ending.advance(Phase::Draining);
        ending.clone().advance(Phase::LameDuck);
        assert_eq!(ending.phase(), Phase::Draining);
    }
}
