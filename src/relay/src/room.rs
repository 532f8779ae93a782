//! How much mail may be queued: a bound on the memory that the index and the schedule take for it. Pure.
//!
//! Content is on disk; what is kept in memory of every message that waits is small, but a client can send as many as the disk
//! holds. Names and destinations count on top ([`crate::schedule::Schedule::shared_bytes`]). Over the bound new mail gets 452 4.3.1; what
//! is queued already is never refused, not by a start either. The bound is the configuration's; in the default pod
//! ([`postroad_config::memory`]) some 360,000 messages to one recipient each fit.
//!
//! A recipient can turn into a message: each that fails in an attempt of its own is owed a bounce of its own, which waits too.
//! So what counts is recipients that are open, each as if it were a message. Then nothing that happens to mail in the queue makes it
//! weigh more, and the bound holds if only receiving looks at it.
//!
//! # Shares
//! Where more than one may send ([`Sharing::Many`]), nobody takes all: a tenant ([`Account`]) may hold [`SHARE_TIMES`] times what stays free
//! beside it ([`crate::share`]), of the memory and of the disk alike. One alone gets fifteen parts of sixteen; of two that want all they
//! can get each has nearly half. Memory for content is shared with another factor: that is taken for seconds and this for days, and what
//! a single tenant cannot have is of no use to anybody most of the time.

pub mod account;
pub mod load;

use std::ops::{Add, AddAssign, SubAssign};

use crate::share::Share;

pub use account::Account;
pub use load::Load;

/// A tenant may hold so many times what it leaves free. The larger this is, the less one alone does without, and the less others find: of
/// the memory of the default pod 22,000 messages.
pub const SHARE_TIMES: u64 = 15;

/// Whether there is anybody to leave room for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sharing {
    /// One login, or the network alone: it gets everything.
    Alone,
    /// More than one may send.
    #[default]
    Many,
}

impl Sharing {
    /// Where so many logins are known, and so many networks may send without.
    #[must_use]
    pub fn among(logins: usize, networks: usize) -> Self {
        match logins + networks.min(1) {
            0 | 1 => Self::Alone,
            _ => Self::Many,
        }
    }

    /// What a tenant may have of the queue and of the disk.
    #[must_use]
    pub fn share(self) -> Share {
        match self {
            Self::Alone => Share::ALL,
            Self::Many => Share::times(SHARE_TIMES),
        }
    }
}

/// What mail weighs; in bytes it is [`crate::schedule::bytes`]. Weights add up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Weight {
    /// Recipients that are open: each is a message, or may have to be told of in one.
    pub open: u64,
    /// Recipients of a message beyond the first: while one is open, so many may be settled.
    pub further: u64,
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

    #[test]
    fn shares_count_where_more_than_one_may_send() {
        for (logins, networks, expected) in [
            (0, 0, Sharing::Alone),
            (1, 0, Sharing::Alone),
            (0, 1, Sharing::Alone),
            // Networks are one tenant.
            (0, 3, Sharing::Alone),
            (1, 1, Sharing::Many),
            (2, 0, Sharing::Many),
        ] {
            assert_eq!(
                Sharing::among(logins, networks),
                expected,
                "{logins} {networks}"
            );
        }
    }
}
