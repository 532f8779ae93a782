//! What follows from a delivery attempt. Pure.
//!
//! Every recipient ends in one of three ways: taken by an upstream, reported to the sender in a
//! bounce, or (mail from the null reverse-path, which may not be answered) dropped with a log line.
//! Until then it is tried again. A message is charged with an attempt when an answer put somebody off; for
//! those to whom no answer came it is tried again at once. Failures are reported with the transaction that brought them, in the
//! same atomic group of the spool as their record: a crash can neither lose nor repeat a bounce.

use std::time::Duration;

use postroad_smtp::client::RecipientOutcome;
use postroad_smtp::{EnhancedStatus, Reply};
use postroad_spool::{Attempt, Message, RecipientResult};

use crate::backoff::Backoff;
use crate::schedule::Entry;

/// When to try again and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The pause between attempts.
    pub backoff: Backoff,
    /// Age at which a message that is still deferred has failed.
    pub lifetime: Duration,
}

/// Whether this delivery of a message has been charged to it: it is charged once, however many transactions there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Charge {
    /// Nobody has been put off.
    None,
    /// Somebody has, and the message until this time, in milliseconds since the epoch.
    Until(u64),
}

/// A recipient that will never get the message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    /// Index into the envelope's recipients.
    pub index: u32,
    /// The class of the failure.
    pub status: EnhancedStatus,
    /// The last reply.
    pub diagnostic: String,
}

/// What is to be recorded and done.
#[derive(Debug)]
pub struct Decision {
    /// Recipients that failed for good in this attempt.
    pub failed: Vec<Failed>,
    /// How many were taken.
    pub delivered: u64,
    /// How many were put off.
    pub deferred: u64,
    /// For the next transaction of this delivery.
    pub charge: Charge,
    /// What becomes of the message.
    pub next: Next,
}

/// What becomes of a message after an attempt.
#[derive(Debug)]
pub enum Next {
    /// Nothing is left to do.
    Done,
    /// Some recipients are open.
    Again {
        /// The record for the spool.
        attempt: Attempt,
        /// The entry for the schedule.
        entry: Entry,
    },
}

/// Decides for the outcomes of the recipients that were tried in one transaction. `random` is uniform in 0..1.
pub fn decide(
    message: &Message,
    entry: &Entry,
    charge: Charge,
    outcomes: Vec<(u32, RecipientOutcome)>,
    rules: Rules,
    now_ms: u64,
    random: f64,
) -> Decision {
    let expired = is_expired(message.arrival_ms, rules.lifetime, now_ms);
    let mut decision = Decision {
        failed: Vec::new(),
        delivered: 0,
        deferred: 0,
        charge,
        next: Next::Done,
    };
    let mut settled = entry.settled.to_vec();
    let mut results = Vec::with_capacity(outcomes.len());
    for (index, outcome) in outcomes {
        let result = match outcome {
            RecipientOutcome::Delivered(_) => {
                decision.delivered += 1;
                RecipientResult::Delivered
            }
            RecipientOutcome::Deferred(_) if !expired => {
                decision.deferred += 1;
                results.push((index, RecipientResult::Deferred));
                continue;
            }
            RecipientOutcome::Deferred(reply) => decision.fail(index, expiry(&reply)),
            RecipientOutcome::Failed(reply) => {
                decision.fail(index, (status_of(&reply), reply.to_string()))
            }
        };
        settled.push(index);
        results.push((index, result));
    }
    settled.sort_unstable();
    settled.dedup();
    if settled.len() < message.envelope.recipients.len() {
        let mut attempts = entry.attempts;
        if charge == Charge::None && decision.deferred > 0 {
            attempts = attempts.saturating_add(1);
            let until_ms = put_off(attempts, rules.backoff, now_ms, random);
            decision.charge = Charge::Until(until_ms);
        }
        let next_attempt_ms = match decision.charge {
            // Their turn has not come yet, or the connection ended before it did: that says nothing about them.
            Charge::None => now_ms,
            Charge::Until(until_ms) => until_ms,
        };
        decision.next = Next::Again {
            attempt: Attempt {
                id: message.id,
                next_attempt_ms,
                attempts,
                results,
            },
            entry: Entry {
                attempts,
                settled: settled.into_boxed_slice(),
                ..entry.clone()
            },
        };
    }
    decision
}

/// Whether a message has waited for as long as it may.
pub fn is_expired(arrival_ms: u64, lifetime: Duration, now_ms: u64) -> bool {
    u128::from(now_ms.saturating_sub(arrival_ms)) >= lifetime.as_millis()
}

impl Decision {
    fn fail(&mut self, index: u32, (status, text): (EnhancedStatus, String)) -> RecipientResult {
        self.failed.push(Failed {
            index,
            status,
            diagnostic: text,
        });
        RecipientResult::Failed
    }
}

fn put_off(attempts: u32, backoff: Backoff, now_ms: u64, random: f64) -> u64 {
    let pause_ms = u64::try_from(backoff.pause(attempts, random).as_millis()).unwrap_or(u64::MAX);
    now_ms.saturating_add(pause_ms)
}

/// RFC 3463 §3.5: 4.4.7, delivery time expired; as the final status of a report it is of class 5.
fn expiry(last: &Reply) -> (EnhancedStatus, String) {
    let status = EnhancedStatus {
        class: 5,
        subject: 4,
        detail: 7,
    };
    (
        status,
        format!("delivery time expired; the last answer was: {last}"),
    )
}

/// The status that the peer gave, or the one that says least (RFC 3463 §3.1).
fn status_of(reply: &Reply) -> EnhancedStatus {
    reply.status().unwrap_or(EnhancedStatus {
        class: 5,
        subject: 0,
        detail: 0,
    })
}

#[cfg(test)]
mod tests;
