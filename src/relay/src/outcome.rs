//! What follows from a delivery attempt. Pure.
//!
//! Every recipient ends in one of three ways: taken by an upstream, reported to the sender in a
//! bounce, or (mail from the null reverse-path, which may not be answered) dropped with a log line.
//! Until then it is tried again. A message is charged with an attempt when an answer put somebody off; for
//! those to whom no answer came it is tried again at once. Failures are reported with the transaction that brought them, in the
//! same atomic group of the spool as their record: a crash can neither lose nor repeat a bounce. So are delays, once for a message
//! while it is in the hands of this server, and what was passed on to a server that will not report.
//!
//! Both deadlines of DELIVERBY (RFC 2852) are judged here too: at the one a message is returned, at the other its sender is told.

use std::time::Duration;

use postroad_message::dsn::Expired;
use postroad_smtp::client::RecipientOutcome;
use postroad_smtp::{EnhancedStatus, Reply};
use postroad_spool::{ByMode, Message, Recipient, RecipientResult};

use crate::backoff::Backoff;
use crate::clock;
use crate::notify::{self, DelayNotices, NextHop};
use crate::schedule::Entry;

/// When to try again and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The pause between attempts.
    pub backoff: Backoff,
    /// Age at which a message that is still deferred has failed.
    pub lifetime: Duration,
    /// When senders are told of delays.
    pub delay_notices: DelayNotices,
}

/// Whether this delivery of a message has been charged to it: it is charged once, however many transactions there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Charge {
    /// Nobody has been put off.
    None,
    /// Somebody has, and the message until this time, in milliseconds since the epoch.
    Until(u64),
}

/// What was tried in one transaction.
#[derive(Debug)]
pub struct Tried {
    /// By index into the envelope's recipients.
    pub outcomes: Vec<(u32, RecipientOutcome)>,
    /// What the server that gave them sees to.
    pub hop: NextHop,
    /// Before this, in milliseconds since the epoch, who is put off is not tried again.
    pub not_before_ms: u64,
}

/// What there is to tell of a recipient.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// Index into the envelope's recipients.
    pub index: u32,
    /// What became of it.
    pub kind: Kind,
    /// Why.
    pub status: EnhancedStatus,
    /// Which time has passed, if that is why it failed.
    pub expired: Option<Expired>,
    /// The last reply.
    pub diagnostic: String,
}

/// What became of a recipient.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It will never get the message. Whether the sender wants to hear of it is another question.
    Failed,
    /// It has not got the message yet, and the sender is to know.
    Delayed {
        /// When it will have failed, in milliseconds since the epoch.
        retry_until_ms: u64,
    },
    /// Another server has the message, and the sender is to know.
    Relayed,
}

/// What is to be recorded and done.
#[derive(Debug)]
pub struct Decision {
    /// What there is to tell; all that failed is in it.
    pub notices: Vec<Notice>,
    /// How many failed for good.
    pub failed: u64,
    /// How many were taken.
    pub delivered: u64,
    /// How many were put off.
    pub deferred: u64,
    /// For the next transaction of this delivery.
    pub charge: Charge,
    /// What is to be kept.
    pub record: Recorded,
}

/// What is to be kept of an attempt.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recorded {
    /// By index into the envelope's recipients: those that were tried.
    pub results: Vec<(u32, RecipientResult)>,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When to try those again that have no final outcome, in milliseconds since the epoch.
    pub due_ms: u64,
    /// Whether the sender has been told of the delay.
    pub delay_notified: bool,
}

impl Recorded {
    /// Indexes of the recipients that have their final outcome with it.
    #[must_use]
    pub fn settled(&self) -> Vec<u32> {
        let results = self.results.iter();
        let settled = results.filter(|(_, result)| result.is_final());
        settled.map(|(index, _)| *index).collect()
    }
}

/// Decides for the outcomes of the recipients that were tried in one transaction. `random` is uniform in 0..1.
pub fn decide(
    message: &Message,
    entry: &Entry,
    charge: Charge,
    tried: Tried,
    rules: Rules,
    now_ms: u64,
    random: f64,
) -> Decision {
    let mut decision = Decision {
        notices: Vec::new(),
        failed: 0,
        delivered: 0,
        deferred: 0,
        charge,
        record: Recorded::default(),
    };
    let judge = Judge {
        message,
        hop: tried.hop,
        rules,
        delay_notified: entry.delay_notified,
        now_ms,
    };
    let outcomes = tried.outcomes.into_iter();
    let results: Vec<_> = outcomes
        .map(|(index, outcome)| (index, judge.judge(index, outcome, &mut decision)))
        .collect();
    let mut attempts = entry.attempts;
    if decision.deferred > 0 {
        let until_ms = match charge {
            Charge::Until(until_ms) => until_ms,
            Charge::None => {
                attempts = attempts.saturating_add(1);
                clock::after(now_ms, rules.backoff.pause(attempts, random))
            }
        };
        decision.charge = Charge::Until(until_ms.max(tried.not_before_ms));
    }
    decision.record = Recorded {
        results,
        attempts,
        due_ms: match decision.charge {
            // Their turn has not come yet, or the connection ended before it did: that says nothing about them.
            Charge::None => now_ms,
            Charge::Until(until_ms) => until_ms,
        },
        delay_notified: entry.delay_notified || decision.tells_of_delay(),
    };
    decision
}

/// What there is to tell of these recipients if nothing can be tried, for this cause, and they have waited for so long that the
/// sender is to know.
pub fn late(
    message: &Message,
    open: impl IntoIterator<Item = u32>,
    cause: &Reply,
    rules: Rules,
    now_ms: u64,
) -> Vec<Notice> {
    let judge = Judge {
        message,
        hop: NextHop::default(),
        rules,
        delay_notified: false,
        now_ms,
    };
    let open = open.into_iter();
    open.filter_map(|index| judge.delayed(index, cause))
        .collect()
}

/// When a message has waited for as long as it may, in milliseconds since the epoch. From then on what is put off has failed.
/// Where DELIVERBY demands the message back, that deadline may come first (RFC 2852 §4.1.3).
pub fn give_up_ms(message: &Message, lifetime: Duration) -> u64 {
    let by_lifetime = clock::after(waiting_since_ms(message), lifetime);
    by_lifetime.min(return_by_ms(message).unwrap_or(u64::MAX))
}

/// When there is next something to be done about a message although nothing is tried, in milliseconds since the epoch: it is given up then, or
/// its sender is told that it is late.
pub fn next_ms(message: &Message, rules: Rules, now_ms: u64) -> u64 {
    let (envelope, waiting_ms) = (&message.envelope, waiting_since_ms(message));
    let recipients = envelope.recipients.iter();
    let late = recipients.filter_map(|recipient| {
        notify::delay_due_ms(envelope, recipient, rules.delay_notices, waiting_ms)
    });
    let late = late.filter(|late_ms| *late_ms > now_ms).min();
    let give_up_ms = give_up_ms(message, rules.lifetime);
    late.map_or(give_up_ms, |late_ms| late_ms.min(give_up_ms))
}

/// When a message has waited for as long as it may because its sender is rejected, in milliseconds since the epoch.
pub fn sender_hold_ends_ms(message: &Message, hold: Duration) -> u64 {
    clock::after(waiting_since_ms(message), hold)
}

/// When the sender wants the message back, in milliseconds since the epoch. It must not be sent any more then.
pub fn return_by_ms(message: &Message) -> Option<u64> {
    let by = message.envelope.deliver_by?;
    (by.on_expiry == ByMode::Return).then_some(by.deadline_ms)
}

/// Since when it could have been delivered: mail that was not to be delivered before some time (RFC 4865) has not waited until then.
pub fn waiting_since_ms(message: &Message) -> u64 {
    message.arrival_ms.max(message.envelope.not_before_ms)
}

impl Decision {
    /// Whether the sender is told that something is still on the way.
    fn tells_of_delay(&self) -> bool {
        let mut kinds = self.notices.iter().map(|notice| notice.kind);
        kinds.any(|kind| matches!(kind, Kind::Delayed { .. }))
    }
}

/// What the outcomes of a transaction are judged by.
struct Judge<'a> {
    message: &'a Message,
    hop: NextHop,
    rules: Rules,
    delay_notified: bool,
    now_ms: u64,
}

impl Judge<'_> {
    fn judge(&self, index: u32, outcome: RecipientOutcome, into: &mut Decision) -> RecipientResult {
        let (result, notice) = match outcome {
            RecipientOutcome::Delivered(reply) => {
                into.delivered += 1;
                let notice = self.relayed(index, &reply);
                (RecipientResult::Delivered, notice)
            }
            RecipientOutcome::Deferred(reply) => match self.expired(index, &reply) {
                Some(failed) => {
                    into.failed += 1;
                    (RecipientResult::Failed, Some(failed))
                }
                None => {
                    into.deferred += 1;
                    (RecipientResult::Deferred, self.delayed(index, &reply))
                }
            },
            RecipientOutcome::Failed(reply) => {
                into.failed += 1;
                let notice = notice(index, Kind::Failed, status_of(&reply, 5), reply.to_string());
                (RecipientResult::Failed, Some(notice))
            }
        };
        into.notices.extend(notice);
        result
    }

    fn relayed(&self, index: u32, reply: &Reply) -> Option<Notice> {
        let recipient = self.recipient(index)?;
        notify::wants_relayed(&self.message.envelope, recipient, self.hop)
            .then(|| notice(index, Kind::Relayed, status_of(reply, 2), reply.to_string()))
    }

    fn delayed(&self, index: u32, reply: &Reply) -> Option<Notice> {
        let recipient = self.recipient(index)?;
        let (envelope, notices) = (&self.message.envelope, self.rules.delay_notices);
        let waiting_ms = waiting_since_ms(self.message);
        let due_ms = notify::delay_due_ms(envelope, recipient, notices, waiting_ms)?;
        let kind = Kind::Delayed {
            retry_until_ms: give_up_ms(self.message, self.rules.lifetime),
        };
        let is_past_deadline = envelope
            .deliver_by
            .is_some_and(|by| by.on_expiry == ByMode::Notify && by.deadline_ms <= self.now_ms);
        let status = match is_past_deadline {
            // RFC 2852 §4.1.3.
            true => EnhancedStatus::new(4, 4, 7),
            false => status_of(reply, 4),
        };
        (!self.delay_notified && due_ms <= self.now_ms)
            .then(|| notice(index, kind, status, reply.to_string()))
    }

    /// RFC 3463 §3.5: 4.4.7, delivery time expired; as the final status of a report it is of class 5.
    fn expired(&self, index: u32, last: &Reply) -> Option<Notice> {
        let expired = if return_by_ms(self.message).is_some_and(|by_ms| by_ms <= self.now_ms) {
            Expired::DeliverBy
        } else if give_up_ms(self.message, self.rules.lifetime) <= self.now_ms {
            Expired::Lifetime
        } else {
            return None;
        };
        let status = EnhancedStatus::new(5, 4, 7);
        Some(Notice {
            expired: Some(expired),
            ..notice(index, Kind::Failed, status, last.to_string())
        })
    }

    fn recipient(&self, index: u32) -> Option<&Recipient> {
        let index = usize::try_from(index).ok()?;
        self.message.envelope.recipients.get(index)
    }
}

fn notice(index: u32, kind: Kind, status: EnhancedStatus, diagnostic: String) -> Notice {
    Notice {
        index,
        kind,
        status,
        expired: None,
        diagnostic,
    }
}

/// The status that the peer gave, or the one of this class that says least (RFC 3463 §3.1). What a report says happened and the
/// class must agree (RFC 3464 §2.3.4).
fn status_of(reply: &Reply, class: u8) -> EnhancedStatus {
    let given = reply.status().filter(|status| status.class == class);
    given.unwrap_or(EnhancedStatus::new(class, 0, 0))
}

#[cfg(test)]
mod tests;
