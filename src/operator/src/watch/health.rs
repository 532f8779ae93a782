//! Whether the watches get through.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A watch that fails this long without a break needs a new process, not patience.
const FAILING_MAX: Duration = Duration::from_secs(600);
/// kube's backoff between two tries is 30 seconds at most: nothing heard for twice that is success.
const QUIET: Duration = Duration::from_secs(60);

/// When each watch began to fail, and when it failed last.
#[derive(Default)]
pub(crate) struct WatchHealth(Mutex<HashMap<&'static str, (Instant, Instant)>>);

impl WatchHealth {
    pub(crate) fn progressed(&self, kind: &'static str) {
        self.lock().remove(kind);
    }

    pub(crate) fn failed(&self, kind: &'static str, now: Instant) {
        let mut watches = self.lock();
        let (since, last) = watches.entry(kind).or_insert((now, now));
        // A watch that went on quietly says nothing, so silence ends a failure.
        if now.duration_since(*last) > QUIET {
            *since = now;
        }
        *last = now;
    }

    pub(crate) fn check(&self, now: Instant) -> Result<(), String> {
        let failing = self.lock().iter().find_map(|(kind, (since, last))| {
            let fails = now.duration_since(*last) <= QUIET;
            (fails && last.duration_since(*since) > FAILING_MAX).then_some(*kind)
        });
        match failing {
            None => Ok(()),
            Some(kind) => Err(format!(
                "the watch on {kind} has been failing for 10 minutes"
            )),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, (Instant, Instant)>> {
        // Nothing in here can be left half done.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_failure_without_a_break_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let fail = |health: &WatchHealth, seconds: std::ops::Range<u64>| {
            for second in seconds.step_by(30) {
                health.failed("pods", at(second));
            }
        };
        let long = WatchHealth::default();
        fail(&long, 0..640);
        assert!(long.check(at(640)).is_err());
        assert!(long.check(at(800)).is_ok(), "silence is success");
        long.progressed("pods");
        assert!(long.check(at(640)).is_ok());

        let broken_off = WatchHealth::default();
        fail(&broken_off, 0..300);
        fail(&broken_off, 400..1000);
        assert!(broken_off.check(at(1000)).is_ok());
        fail(&broken_off, 1000..1100);
        assert!(broken_off.check(at(1100)).is_err());
    }
}
