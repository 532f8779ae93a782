//! When an object is looked at again.
//!
//! kube's controllers have no memory of failures per object, so it is kept here: the pause doubles
//! with each failure in a row and is forgotten with the first success. Everything is jittered, so
//! that a thousand relays do not come back at once after a restart.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};

/// After the first failure.
const FIRST: Duration = Duration::from_secs(2);
/// Long enough to spare an API server in trouble, short enough that nobody waits for it to be noticed.
const LONGEST: Duration = Duration::from_secs(300);

/// What lives and fails is heard of again within [`LONGEST`], its jitter and a visit: what is silent for this long is gone.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Objects that fail at once; past it all pauses start over. Some MB.
const FAILING_MAX: usize = 50_000;

/// Failures in a row, per object. Those of objects that were deleted go by themselves.
#[derive(Default)]
pub(crate) struct Failures(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    by_uid: HashMap<String, Count>,
    swept: Option<Instant>,
}

struct Count {
    failures: u32,
    last: Instant,
    until: Instant,
}

impl Failures {
    /// Counts a failure and says how long to wait.
    pub(crate) fn failed(&self, uid: &str) -> Duration {
        jitter(self.lock().failed(uid, Instant::now()))
    }

    /// Whether the pause after the last failure is not over: for what is tried in passing, at visits that come for other reasons.
    pub(crate) fn is_waiting(&self, uid: &str) -> bool {
        let counts = self.lock();
        let count = counts.by_uid.get(uid);
        count.is_some_and(|count| Instant::now() < count.until)
    }

    /// Forgets the failures of an object that works again or is gone.
    pub(crate) fn succeeded(&self, uid: &str) {
        self.lock().by_uid.remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        // A panic while holding it leaves a count that is off by one at worst.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Counts {
    fn failed(&mut self, uid: &str, now: Instant) -> Duration {
        self.sweep(now);
        if self.by_uid.len() >= FAILING_MAX && !self.by_uid.contains_key(uid) {
            self.by_uid.clear();
        }
        let count = self.by_uid.entry(uid.to_owned()).or_insert(Count {
            failures: 0,
            last: now,
            until: now,
        });
        let pause = backoff(count.failures);
        count.failures = count.failures.saturating_add(1);
        count.last = now;
        count.until = now + pause;
        pause
    }

    /// Once in a while, so that a thousand failures cost one look at all of them.
    fn sweep(&mut self, now: Instant) {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.swept.is_some_and(|swept| since(swept) < LONGEST) {
            return;
        }
        self.swept = Some(now);
        self.by_uid.retain(|_, count| since(count.last) < FORGOTTEN);
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
        assert!(failures.is_waiting("a") && !failures.is_waiting("b"));
        failures.succeeded("a");
        assert!(!failures.is_waiting("a"));
        assert!(failures.failed("a") <= FIRST.mul_f64(1.2));
    }

    #[test]
    fn what_was_deleted_while_it_failed_is_forgotten() {
        let start = Instant::now();
        let mut counts = Counts::default();
        counts.failed("gone", start);
        for minutes in (0..30).step_by(5) {
            counts.failed("fails", start + Duration::from_secs(60 * minutes));
        }
        assert_eq!(counts.by_uid["fails"].failures, 6);
        assert_eq!(counts.by_uid.len(), 1);
    }

    #[test]
    fn no_number_of_failing_objects_takes_more_than_so_much_memory() {
        let now = Instant::now();
        let mut counts = Counts::default();
        for object in 0..=FAILING_MAX {
            counts.failed(&object.to_string(), now);
        }
        assert_eq!(counts.by_uid.len(), 1);
    }
}
