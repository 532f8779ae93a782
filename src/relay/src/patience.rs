//! How long a client may take. Pure: it is told the time.
//!
//! Every wait has an end that octets do not move: a command must be complete within [`COMMAND_TIME_MAX`] of the reply
//! before it (RFC 5321 §4.5.3.2.7 asks for five minutes at least), content must come at [`CONTENT_RATE_MIN`] after a head
//! start of [`CONTENT_TIME_MAX`], with no pause longer than [`PAUSE_MAX`], all chunks of BDAT together, and a client that has not shown that it may
//! relay has [`STRANGER_TIME_MAX`] in all.

use std::time::Duration;

use tokio::time::Instant;

use crate::connections::Standing;

/// From a reply to the end of the next command. RFC 5321 §4.5.3.2.7: five minutes at least.
pub const COMMAND_TIME_MAX: Duration = Duration::from_secs(300);

/// Between two pieces of content. RFC 5321 §4.5.3.2.5 gives the sender's side three minutes for each.
pub const PAUSE_MAX: Duration = Duration::from_secs(300);

/// For content, however small. RFC 5321 §4.5.3.2 knows times for each block, none for the whole; this is ten minutes, its
/// longest (§4.5.3.2.6).
pub const CONTENT_TIME_MAX: Duration = Duration::from_secs(600);

/// Content that comes at this rate, in bytes per second, has more time: a modem of 1998 did half of it, no link that
/// reaches a cluster does.
pub const CONTENT_RATE_MIN: u64 = 10_000;

/// A session without a login or the right to relay: twice what a person at a terminal needs.
pub const STRANGER_TIME_MAX: Duration = Duration::from_secs(600);

/// What a client has had of our patience.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    opened: Instant,
    waiting: Waiting,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    Command {
        replied: Instant,
    },
    Content {
        begun: Instant,
        last: Instant,
        bytes: u64,
        bytes_max: u64,
    },
}

impl Patience {
    /// For a session that begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let waiting = Waiting::Command { replied: now };
        Self {
            opened: now,
            waiting,
        }
    }

    /// The client has a reply: what comes next is a command.
    pub fn replied(&mut self, now: Instant) {
        self.waiting = Waiting::Command { replied: now };
    }

    /// What comes next is content, of so many bytes at most. Once it has begun, this changes nothing.
    pub fn content(&mut self, bytes_max: u64, now: Instant) {
        if let Waiting::Command { .. } = self.waiting {
            self.waiting = Waiting::Content {
                begun: now,
                last: now,
                bytes: 0,
                bytes_max,
            };
        }
    }

    /// So many bytes have come. They extend nothing but the pause within content.
    pub fn received(&mut self, count: usize, now: Instant) {
        if let Waiting::Content { last, bytes, .. } = &mut self.waiting {
            *last = now;
            *bytes = bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }

    /// When it ends.
    #[must_use]
    pub fn deadline(&self, standing: Standing) -> Instant {
        let end = match self.waiting {
            Waiting::Command { replied } => replied + COMMAND_TIME_MAX,
            Waiting::Content {
                begun,
                last,
                bytes,
                bytes_max,
            } => {
                let earned = Duration::from_secs(bytes.min(bytes_max) / CONTENT_RATE_MIN);
                (last + PAUSE_MAX).min(begun + CONTENT_TIME_MAX + earned)
            }
        };
        match standing {
            Standing::Known => end,
            Standing::Stranger => end.min(self.opened + STRANGER_TIME_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Standing::{Known, Stranger};

    const MESSAGE_BYTES: u64 = 25_000_000;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn octets_do_not_extend_the_time_for_a_command() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        patience.received(1, begun + minutes(4));
        assert_eq!(patience.deadline(Known), begun + minutes(5));
        patience.replied(begun + minutes(4));
        assert_eq!(patience.deadline(Known), begun + minutes(9));
    }

    #[test]
    fn commands_do_not_extend_the_time_of_a_stranger() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        patience.replied(begun + minutes(9));
        assert_eq!(patience.deadline(Stranger), begun + minutes(10));
        assert_eq!(patience.deadline(Known), begun + minutes(14));
    }

    #[test]
    fn content_that_drips_ends_and_content_that_flows_does_not() {
        let begun = Instant::now();
        // Bytes each minute, and after how many minutes patience ends.
        for (bytes_each_minute, expected) in [(1, 10), (60_000, 11), (600_000, 51)] {
            let mut patience = Patience::new(begun);
            patience.content(MESSAGE_BYTES, begun);
            let mut now = begun;
            while now < patience.deadline(Known) {
                patience.received(bytes_each_minute, now);
                now += minutes(1);
            }
            // What comes fast enough may go on until it is as large as a message may be.
            let expected = begun + minutes(expected);
            let actual = patience.deadline(Known);
            assert!(
                actual.duration_since(expected) < minutes(1) && actual + minutes(1) > expected,
                "{bytes_each_minute}: {:?}",
                actual - begun
            );
        }
    }

    #[test]
    fn content_may_not_pause_for_long() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        patience.content(MESSAGE_BYTES, begun);
        assert_eq!(patience.deadline(Known), begun + minutes(5));
        patience.received(1, begun + minutes(2));
        // That it is still content says nothing new.
        patience.content(MESSAGE_BYTES, begun + minutes(3));
        assert_eq!(patience.deadline(Known), begun + minutes(7));
        patience.received(1, begun + minutes(6));
        assert_eq!(patience.deadline(Known), begun + minutes(10));
    }
}
