//! What becomes of mail whose sender an upstream rejects.
//!
//! It is a matter between the upstream and us, and somebody can mend it: the mail waits for as long as `retry.senderHoldSeconds` says, then the
//! upstream is asked once more, and what it rejects is returned with its reply. What was tried is charged with an attempt. What is put off because another message of
//! the sender was tried is not, and otherwise treated in the same way: with its outcome go delay notices, DELIVERBY and the lifetime.
//!
//! The hop that said so decides: mail is not sent around a provider's verdict by way of the next one.

use postroad_smtp::client::{RecipientOutcome, SenderVerdict};
use postroad_spool::Message;

use super::course::Course;
use super::transmit::Rest;
use super::worker::Worker;
use crate::clock;
use crate::outcome;
use crate::upstreams::Pass;

impl Worker {
    /// The piece, if its sender is not known to be rejected; else what becomes of it.
    pub(super) fn admit<'a>(&self, mut course: Course<'a>) -> Result<Course<'a>, Rest> {
        let message = course.message();
        let Some((upstream, ends_ms)) = self.hop.upstream().zip(self.hold_ends_ms(message)) else {
            return Ok(course);
        };
        match upstream.pass(&message.envelope.sender) {
            Pass::Go => Ok(course),
            Pass::Meanwhile(until_ms) => {
                self.hop.give_back();
                course.release_at(until_ms);
                Err(Rest::Nothing)
            }
            // Before it is returned the upstream is asked: its last word may be hours old.
            Pass::Rejected(..) if ends_ms <= clock::now_ms() => Ok(course),
            Pass::Rejected(until_ms, reply) => {
                self.hop.give_back();
                course.put_off(until_by(message, until_ms.min(ends_ms)));
                Err(self.judge_all(course, &RecipientOutcome::Deferred(reply)))
            }
        }
    }

    /// Notes what an upstream says of the sender. If its mail waits because of that: until when, in milliseconds since the epoch.
    pub(super) fn judge_sender(&self, message: &Message, verdict: &SenderVerdict) -> Option<u64> {
        let upstream = self.hop.upstream()?;
        let sender = &message.envelope.sender;
        match verdict {
            SenderVerdict::Unknown => None,
            SenderVerdict::Accepted => {
                upstream.report_accepted(sender);
                None
            }
            SenderVerdict::Rejected(reply) => {
                let ends_ms = self.hold_ends_ms(message)?;
                let until_ms = upstream.report_rejected(sender, reply);
                let waits = ends_ms > clock::now_ms();
                waits.then(|| until_by(message, until_ms.min(ends_ms)))
            }
        }
    }

    /// Until when a message may wait because of its sender; `None` if none does.
    fn hold_ends_ms(&self, message: &Message) -> Option<u64> {
        let hold = self.context.live().config.delivery.retry.sender_hold();
        (!hold.is_zero()).then(|| outcome::sender_hold_ends_ms(message, hold))
    }
}

/// Not past the time by which the sender wants it back.
fn until_by(message: &Message, until_ms: u64) -> u64 {
    until_ms.min(outcome::return_by_ms(message).unwrap_or(u64::MAX))
}
