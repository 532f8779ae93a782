//! How much mail in how much time.

use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest time that a rate speaks of, in seconds: a day, divided among the 16 replicas that a relay has at most, with room to spare.
pub const RATE_SECONDS_MAX: u32 = 32 * 24 * 3600;

/// So many messages in so many seconds, both at least 1. A copy of a message for one destination counts once, however many recipients it has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Messages.
    pub messages: u32,
    /// Within so many seconds, at most [`RATE_SECONDS_MAX`].
    pub per_seconds: u32,
}

impl Rate {
    /// The part of each of so many relay pods, so that all of them together keep to this rate: the same number in that many times
    /// the time, which loses nothing to rounding. None at all counts as one.
    #[must_use]
    pub fn divided(self, replicas: u32) -> Self {
        let per_seconds = self.per_seconds.saturating_mul(replicas.max(1));
        Self {
            per_seconds: per_seconds.min(RATE_SECONDS_MAX),
            ..self
        }
    }

    pub(super) fn check(self, field: &str) -> Result<(), Error> {
        if self.messages >= 1 && (1..=RATE_SECONDS_MAX).contains(&self.per_seconds) {
            return Ok(());
        }
        Err(Error::invalid(
            field,
            format!("needs 1 <= messages and 1 <= perSeconds <= {RATE_SECONDS_MAX}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_replicas_may_is_what_one_alone_might() {
        let rate = Rate {
            messages: 14,
            per_seconds: 1,
        };
        for (replicas, per_seconds) in [(0, 1), (1, 1), (2, 2), (16, 16)] {
            let part = rate.divided(replicas);
            assert_eq!((part.messages, part.per_seconds), (14, per_seconds));
        }
        let day = Rate {
            messages: 1,
            per_seconds: 24 * 3600,
        };
        day.divided(16).check("rate").unwrap();
        day.divided(u32::MAX).check("rate").unwrap();
    }
}
