//! The wall clock and chance, read here and handed down as values.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom as _, SystemRandom};

/// When something is reported, and the chance that spreads what follows from it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since the epoch.
    pub now_ms: u64,
    /// Uniform in 0..1.
    pub random: f64,
}

impl Moment {
    /// As of now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            now_ms: now_ms(),
            random: random_unit(),
        }
    }
}

/// Milliseconds since the epoch. A clock before 1970 reads as 0.
#[must_use]
pub fn now_ms() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(now_ms) = crate::simulation::now_ms() {
        return now_ms;
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    millis(since)
}

/// So much later, in milliseconds since the epoch.
#[must_use]
pub fn after(start_ms: u64, pause: Duration) -> u64 {
    start_ms.saturating_add(millis(pause))
}

/// Whole milliseconds; more than can be counted are as many as can be.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The moment as the message crate wants it.
#[must_use]
pub fn timestamp(now_ms: u64) -> jiff::Timestamp {
    let ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
}

/// Random bytes; all zero if the system has none, which only costs uniqueness across restarts.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[cfg(feature = "simulation")]
    if crate::simulation::fill(&mut bytes) {
        return bytes;
    }
    if SystemRandom::new().fill(&mut bytes).is_err() {
        tracing::error!("the system has no randomness");
    }
    bytes
}

/// Uniform in 0..1, for jitter. Cheap, and no secret: it is drawn for every attempt, and whoever guesses it learns when a mail is tried again.
#[must_use]
pub fn random_unit() -> f64 {
    #[cfg(feature = "simulation")]
    {
        let mut bytes = [0; 4];
        if crate::simulation::fill(&mut bytes) {
            return f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
        }
    }
    fastrand::f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_spread_over_all_of_its_range() {
        let mut quarters = [0; 4];
        for _ in 0..1000 {
            let random = random_unit();
            let quarter = quarters.iter_mut().zip([0.25, 0.5, 0.75, 1.0]);
            for (count, end) in quarter {
                if random < end {
                    *count += 1;
                    break;
                }
            }
        }
        // Each within five standard deviations of 250.
        let spread = quarters.iter().all(|count| (180..320).contains(count));
        assert!(spread, "{quarters:?}");
    }
}
