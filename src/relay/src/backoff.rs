//! How long to wait before the next try. Pure.

use std::time::Duration;

/// The share by which a pause varies around its nominal length, so that what failed together does not come
/// back together.
const JITTER: f64 = 0.2;

/// Doubling steps past which a pause of one nanosecond would exceed any sensible maximum.
const STEPS_MAX: u32 = 40;

/// Exponential backoff between two bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// Pause after the first failure.
    pub initial: Duration,
    /// The longest pause, before jitter.
    pub maximum: Duration,
}

impl Backoff {
    /// The pause after so many failures (1 for the first). `random` is uniform in 0..1.
    pub fn pause(&self, failures: u32, random: f64) -> Duration {
        let steps = failures.saturating_sub(1).min(STEPS_MAX);
        let nominal = self
            .initial
            .saturating_mul(2_u32.saturating_pow(steps))
            .min(self.maximum);
        jittered(nominal, random)
    }
}

/// A pause of about this length. `random` is uniform in 0..1.
pub fn jittered(nominal: Duration, random: f64) -> Duration {
    nominal.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum() {
        let backoff = Backoff {
            initial: Duration::from_secs(60),
            maximum: Duration::from_secs(3600),
        };
        let pauses: Vec<_> = (1..=8).map(|n| backoff.pause(n, 0.5).as_secs()).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(backoff.pause(u32::MAX, 0.5).as_secs(), 3600);
        assert_eq!(backoff.pause(0, 0.5).as_secs(), 60);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let backoff = Backoff {
            initial: Duration::from_secs(100),
            maximum: Duration::from_secs(100),
        };
        assert_eq!(backoff.pause(1, 0.0).as_secs(), 80);
        assert_eq!(backoff.pause(1, 1.0).as_secs(), 120);
        assert_eq!(backoff.pause(1, 7.0).as_secs(), 120);
    }
}
