//! How long a server may take for one transaction. Pure: it is told the time.
//!
//! RFC 5321 §4.5.3.2 has a time for each wait. A server that sends an octet of its reply, or takes a piece of the content, just
//! before each one ends would keep a message, and the room that it takes in memory, for days. So that
//! every step has an end as well that octets do not move:
//!
//! | step | each wait | all of it |
//! |---|---|---|
//! | before MAIL | [`GREETING_TIMEOUT`] | the caller's deadline |
//! | MAIL, RCPT, DATA | [`ENVELOPE_TIMEOUT`] | as much, and [`RECIPIENT_TIME`] for each recipient |
//! | content | [`CONTENT_TIMEOUT`] | [`CONTENT_TIME_MAX`], and what content at [`CONTENT_RATE_MIN`] takes |
//! | the final reply | [`FINAL_REPLY_TIMEOUT`] | as much |
//!
//! Until the end of the content a server that is too slow is at fault, and its mail is held. Behind that it may have taken the
//! message, whose recipients are deferred: see `postroad_smtp::client`.

use std::time::Duration;

use postroad_smtp::client::Phase;
use tokio::time::Instant;

use crate::patience::{CONTENT_RATE_MIN, CONTENT_TIME_MAX};

/// For the greeting and the commands before MAIL. RFC 5321 §4.5.3.2.1 asks for five minutes, for servers of 1995;
/// until then a dead upstream would hold its mail unreported.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// For a reply to MAIL, RCPT or DATA. RFC 5321 §4.5.3.2.2 and §4.5.3.2.3: five minutes.
const ENVELOPE_TIMEOUT: Duration = Duration::from_secs(300);
/// For each recipient beyond that. Servers that look somewhere for every one of them need tenths of a second.
const RECIPIENT_TIME: Duration = Duration::from_secs(3);
/// For a piece of content to be taken. RFC 5321 §4.5.3.2.5: three minutes.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(180);
/// For the reply to the final dot. RFC 5321 §4.5.3.2.6: ten minutes. Giving up earlier means sending again what the
/// peer may have taken.
const FINAL_REPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// For QUIT: a courtesy.
pub(super) const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a server has had of our patience.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    phase: Phase,
    /// When the phase began.
    begun: Instant,
    recipients: u32,
    /// Octets of content that were taken.
    taken: u64,
}

impl Pace {
    /// For a connection that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Connecting,
            begun: now,
            recipients: 0,
            taken: 0,
        }
    }

    /// A transaction with so many recipients begins.
    pub(super) fn begin(&mut self, recipients: usize, now: Instant) {
        *self = Self {
            phase: Phase::Idle,
            recipients: u32::try_from(recipients).unwrap_or(u32::MAX),
            ..Self::new(now)
        };
    }

    /// The server has taken so many octets.
    pub(super) fn took(&mut self, octets: usize) {
        if self.phase == Phase::Content {
            let octets = u64::try_from(octets).unwrap_or(u64::MAX);
            self.taken = self.taken.saturating_add(octets);
        }
    }

    /// When the next read or write has to be done, in the phase that the client says it is in.
    pub(super) fn deadline(&mut self, phase: Phase, now: Instant) -> Instant {
        if self.phase != phase {
            (self.phase, self.begun) = (phase, now);
        }
        match phase {
            Phase::Connecting => now + GREETING_TIMEOUT,
            Phase::Envelope => {
                let all = ENVELOPE_TIMEOUT + RECIPIENT_TIME * self.recipients;
                (now + ENVELOPE_TIMEOUT).min(self.begun + all)
            }
            Phase::Content => {
                let all = CONTENT_TIME_MAX + Duration::from_secs(self.taken / CONTENT_RATE_MIN);
                (now + CONTENT_TIMEOUT).min(self.begun + all)
            }
            Phase::FinalReply => self.begun + FINAL_REPLY_TIMEOUT,
            Phase::Idle | Phase::Quitting => now + QUIT_TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPIENTS: usize = 10;

    /// After how long it ends for a server that lets each wait take so long, and takes so much of the content each time.
    fn end(phase: Phase, wait: Duration, octets: usize) -> Duration {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        pace.begin(RECIPIENTS, begun);
        let mut now = begun;
        loop {
            let deadline = pace.deadline(phase, now);
            let day = Duration::from_secs(86_400);
            if now + wait > deadline || now - begun > day {
                return deadline - begun;
            }
            now += wait;
            pace.took(octets);
        }
    }

    #[test]
    fn octets_move_no_end() {
        let seconds = Duration::from_secs;
        for (phase, wait, octets, expected) in [
            (Phase::Envelope, seconds(301), 0, seconds(300)),
            (Phase::Envelope, seconds(299), 1, seconds(330)),
            (Phase::Envelope, seconds(1), 1, seconds(330)),
            (Phase::Content, seconds(181), 0, seconds(180)),
            (Phase::Content, seconds(1), 1, seconds(600)),
            (Phase::Content, seconds(179), 65_536, seconds(619)),
            (Phase::FinalReply, seconds(599), 1, seconds(600)),
            (Phase::FinalReply, seconds(1), 1, seconds(600)),
        ] {
            assert_eq!(end(phase, wait, octets), expected, "{phase:?} {wait:?}");
        }
        // Fast enough for as long as it takes.
        let day = end(Phase::Content, seconds(10), 120_000);
        assert!(day > seconds(86_400));
    }

    #[test]
    fn each_step_and_each_transaction_has_its_own_time() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let minute = |count: u64| begun + Duration::from_secs(60 * count);
        pace.begin(0, begun);
        assert_eq!(pace.deadline(Phase::Envelope, minute(0)), minute(5));
        assert_eq!(pace.deadline(Phase::FinalReply, minute(4)), minute(14));
        assert_eq!(pace.deadline(Phase::FinalReply, minute(13)), minute(14));
        pace.begin(0, minute(13));
        assert_eq!(pace.deadline(Phase::Envelope, minute(13)), minute(18));
    }
}
