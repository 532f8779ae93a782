//! How much mail may be queued: a bound on the memory that the index and the schedule take for it. Pure.
//!
//! Content is on disk; what is kept in memory of every message that waits is small, but a client can send as many as the disk
//! holds. Names and destinations count on top ([`crate::schedule::Schedule::shared_bytes`]). Over the bound new mail gets 452 4.3.1; what
//! is queued already is never refused, not by a start either.
//!
//! A recipient can turn into a message: each that fails in an attempt of its own is owed a bounce of its own, which waits too.
//! So what counts is recipients that are open, each as if it were a message. Then nothing that happens to mail in the queue makes it
//! weigh more, and the bound holds if only receiving looks at it.

use std::ops::{Add, AddAssign, SubAssign};

use crate::schedule;

/// Most memory for what is kept of queued mail, in bytes: some 360,000 messages to one recipient each. What else a pod needs
/// memory for: [`postroad_config::memory`].
pub const MEMORY_BYTES_MAX: u64 = postroad_config::memory::INDEX_BYTES;

/// Most memory for one queued message with one recipient, in bytes.
const MESSAGE_BYTES: u64 = postroad_spool::MESSAGE_BYTES + schedule::MESSAGE_BYTES;

/// Most memory for one settled recipient of a message that has open ones, in bytes.
const SETTLED_BYTES: u64 = postroad_spool::SETTLED_BYTES + schedule::SETTLED_BYTES;

/// What mail weighs. Weights add up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Weight {
    /// Recipients that are open: each is a message, or may have to be told of in one.
    open: u64,
    /// Recipients of a message beyond the first: while one is open, so many may be settled.
    further: u64,
}

impl Weight {
    /// Of a message to so many recipients, of which so many are open. An unfinished message has one at least.
    #[must_use]
    pub fn of(recipients: u32, open: u64) -> Self {
        Self {
            open: open.max(1),
            further: u64::from(recipients.saturating_sub(1)),
        }
    }

    /// Most memory that it takes, in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        let open = self.open.saturating_mul(MESSAGE_BYTES);
        open.saturating_add(self.further.saturating_mul(SETTLED_BYTES))
    }
}

impl Add for Weight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            open: self.open + other.open,
            further: self.further + other.further,
        }
    }
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Weight {
    fn sub_assign(&mut self, other: Self) {
        self.open -= other.open;
        self.further -= other.further;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the documents promise.
    #[test]
    fn more_than_a_quarter_million_messages_fit_or_some_hundred_mailings() {
        let fit = |recipients| {
            let one = Weight::of(recipients, u64::from(recipients));
            MEMORY_BYTES_MAX / one.bytes()
        };
        assert_eq!((fit(1), fit(100), fit(1000)), (364_722, 2_911, 290));
    }
}
