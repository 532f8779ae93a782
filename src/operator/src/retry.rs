//! When an object is looked at again.
//!
//! kube's controllers have no memory of failures per object, so it is kept here: the pause doubles
//! with each failure in a row and is forgotten with the first success. Everything is jittered, so
//! that a thousand relays do not come back at once after a restart.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

/// After the first failure.
const FIRST: Duration = Duration::from_secs(2);
/// Long enough to spare an API server in trouble, short enough that nobody waits for it to be noticed.
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row, per object.
#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// Counts a failure and says how long to wait.
    pub(crate) fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.lock();
        let count = failures.entry(uid.to_owned()).or_insert(0);
        let pause = backoff(*count);
        *count = count.saturating_add(1);
        jitter(pause)
    }

    /// Forgets the failures of an object that works again or is gone.
    pub(crate) fn succeeded(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        // A panic while holding it leaves a count that is off by one at worst.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(LONGEST)
}

/// A pause, 20 % longer or shorter.
pub(crate) fn jitter(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter, which is no reason to fail.
    let _ = SystemRandom::new().fill(&mut byte);
    spread(pause, byte[0])
}

fn spread(pause: Duration, random: u8) -> Duration {
    pause.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let seconds: Vec<u64> = (0..10).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(u32::MAX), LONGEST);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let pause = Duration::from_secs(10);
        assert_eq!(spread(pause, 0), Duration::from_secs(8));
        assert_eq!(spread(pause, 255), Duration::from_secs(12));
    }

    #[test]
    fn success_forgets_failures() {
        let failures = Failures::default();
        failures.failed("a");
        failures.failed("a");
        failures.succeeded("a");
        assert!(failures.failed("a") <= FIRST.mul_f64(1.2));
    }
}
