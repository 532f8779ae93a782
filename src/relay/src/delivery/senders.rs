//! What becomes of mail whose sender an upstream rejects.
//!
//! It is a matter between the upstream and us, and somebody can mend it: the mail waits for as long as `retry.senderHoldSeconds` says, then the
//! upstream is asked once more, unless it was of late, and what it rejects is returned with its reply. What was tried is charged with an attempt. What waits because another message of
//! the sender was tried, or is being tried, is not; its sender is told of the delay as of any other, and its lifetime goes on.
//!
//! Nothing waits where nobody is to be told (the null sender), and where a client waits that hears the reply itself. Beyond half of what its tenant
//! may have queued, and at the end of its time, mail waits only while another message of the sender is being tried, and is returned when that is
//! rejected, or another was of late: a sender is anybody's invention, and what waits for it is in the way of the tenant's other mail.
//!
//! The hop that said so decides: mail is not sent around a provider's verdict by way of the next one.

use std::time::Duration;

use postroad_smtp::Reply;
use postroad_smtp::client::{End, SenderVerdict, TransactionOutcome};
use postroad_spool::Message;

use super::course;
use super::hop::UpstreamHop;
use super::plan::Waits;
use super::worker::Worker;
use crate::clock;
use crate::outcome;
use crate::room::Account;
use crate::upstreams::{Intent, Pass, Patience};

/// What waits for the same moment is spread over a part of the wait behind it, this at most: the first of it shows what becomes of the rest.
const SPREAD_MAX: Duration = Duration::from_secs(5 * 60);

/// The part of the wait.
const SPREAD_PART: u64 = 4;

/// One message of a rejected sender that is tried, until dropped.
pub(super) struct Trial<'a> {
    upstream: &'a UpstreamHop,
    sender: String,
    until_ms: u64,
}

/// What is to be done with a message that need not wait because of its sender.
pub(super) enum Admission<'a> {
    /// It is tried.
    Go(Option<Trial<'a>>),
    /// It is returned: the upstream has just rejected the sender with this reply.
    Rejected(Reply),
}

/// How a message waits because of its sender.
struct Hold {
    patience: Patience,
    /// No longer than this, in milliseconds since the epoch.
    ends_ms: u64,
}

impl Worker {
    /// Whether a message may be tried as far as its sender goes, by its envelope. A trial begins where nothing else is waited for: what makes a message
    /// ready may take long, and its content may show that it cannot be sent.
    pub(super) fn admit(&self, message: &Message, intent: Intent) -> Result<Admission<'_>, Waits> {
        if !self.hop.rejects_senders() {
            return Ok(Admission::Go(None));
        }
        let Some((upstream, hold)) = self.hop.upstream().zip(self.hold(message)) else {
            return Ok(Admission::Go(None));
        };
        let Hold { patience, ends_ms } = hold;
        let sender = &message.envelope.sender;
        match upstream.pass(sender, intent, patience) {
            Pass::Go => Ok(Admission::Go(None)),
            Pass::Try(until_ms) => Ok(Admission::Go(Some(Trial {
                upstream,
                sender: sender.clone(),
                until_ms,
            }))),
            Pass::Rejected(reply) => Ok(Admission::Rejected(reply)),
            Pass::Wait(until_ms, why) => {
                let until_ms = spread(until_ms, clock::now_ms(), clock::random_unit());
                let until_ms = match patience {
                    Patience::Pause => until_ms.min(ends_ms),
                    Patience::Verdict => until_ms,
                };
                Err(Waits { until_ms, why })
            }
        }
    }

    /// Notes what an upstream says of the sender. If its mail waits because of that: until when, in milliseconds since the epoch.
    pub(super) fn judge_sender(
        &self,
        message: &Message,
        outcome: &TransactionOutcome,
    ) -> Option<u64> {
        let upstream = self.hop.upstream()?;
        let envelope = &message.envelope;
        match &outcome.sender {
            SenderVerdict::Unknown => {
                if outcome.end != End::Unasked {
                    upstream.report_unclear(&envelope.sender);
                }
                None
            }
            // Put off: each message has its own attempts from now on.
            SenderVerdict::Accepted | SenderVerdict::PutOff => {
                upstream.report_accepted(&envelope.sender);
                None
            }
            SenderVerdict::Rejected(reply) => {
                let Hold { patience, ends_ms } = self.hold(message)?;
                let account = Account::from(&*envelope.credential);
                let until_ms = upstream.report_rejected(account, &envelope.sender, reply);
                let now_ms = clock::now_ms();
                let rules = course::rules(&self.context, &self.context.live());
                let until_ms = until_ms.min(outcome::next_ms(message, rules, now_ms));
                (patience == Patience::Pause).then(|| until_ms.min(ends_ms))
            }
        }
    }

    /// How a message waits because of its sender; `None` if it does not.
    fn hold(&self, message: &Message) -> Option<Hold> {
        let hold = self.context.live().config.delivery.retry.sender_hold();
        let (queue, envelope) = (&self.context.queue, &message.envelope);
        let may_wait =
            !hold.is_zero() && !envelope.sender.is_empty() && !queue.is_passing(message.id);
        may_wait.then(|| {
            let ends_ms = outcome::sender_hold_ends_ms(message, hold);
            let is_over = ends_ms <= clock::now_ms();
            let has_room = queue.may_double(&Account::from(&*envelope.credential));
            // Before it is returned the upstream is asked, if its last word is old.
            let patience = match has_room && !is_over {
                true => Patience::Pause,
                false => Patience::Verdict,
            };
            Hold { patience, ends_ms }
        })
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.upstream.report_tried(&self.sender, self.until_ms);
    }
}

/// Somewhat later than this, by chance. `random` is uniform in 0..1.
fn spread(until_ms: u64, now_ms: u64, random: f64) -> u64 {
    let most = Duration::from_millis(until_ms.saturating_sub(now_ms) / SPREAD_PART);
    clock::after(until_ms, most.min(SPREAD_MAX).mul_f64(random))
}
