//! One message in the hands of a worker, from the first transaction to the last.
//!
//! What each transaction came to is recorded before the next begins, so that a crash repeats one transaction at most. The
//! message is charged with one attempt, however many transactions it takes.

use std::time::Duration;

use postroad_smtp::client::RecipientOutcome;
use postroad_spool::Message;

use crate::backoff::Backoff;
use crate::bounce;
use crate::clock;
use crate::context::Context;
use crate::live::Live;
use crate::outcome::{self, Charge, Failed, Rules};
use crate::schedule::Entry;

/// A message that is taken, with what is known of it by now.
pub(super) struct Course<'a> {
    context: &'a Context,
    message: &'a Message,
    entry: Entry,
    charge: Charge,
}

impl<'a> Course<'a> {
    /// Nothing has been tried yet.
    pub(super) fn new(context: &'a Context, message: &'a Message, entry: Entry) -> Self {
        Self {
            context,
            message,
            entry,
            charge: Charge::None,
        }
    }

    /// The message.
    pub(super) fn message(&self) -> &'a Message {
        self.message
    }

    /// Indexes of the recipients that have no final outcome yet.
    pub(super) fn open_recipients(&self) -> impl Iterator<Item = u32> + '_ {
        let count = u32::try_from(self.message.envelope.recipients.len()).unwrap_or(u32::MAX);
        (0..count).filter(|index| self.entry.settled.binary_search(index).is_err())
    }

    /// Records outcomes with the bounce that they owe. `remote` is who gave them. `None` if nobody is left to deliver to.
    pub(super) async fn record(
        self,
        outcomes: Vec<(u32, RecipientOutcome)>,
        remote: Option<&str>,
    ) -> Option<Self> {
        if outcomes.is_empty() {
            return Some(self);
        }
        let Self {
            context,
            message,
            entry,
            charge,
        } = self;
        let live = context.live();
        let (now_ms, random) = (clock::now_ms(), clock::random_unit());
        let rules = rules(&live);
        let decision = outcome::decide(message, &entry, charge, outcomes, rules, now_ms, random);
        let metrics = &context.metrics;
        metrics.delivered.inc_by(decision.delivered);
        metrics.deferred.inc_by(decision.deferred);
        metrics
            .failed
            .inc_by(u64::try_from(decision.failed.len()).unwrap_or(u64::MAX));
        let bounce = report(context, &live, message, &decision.failed, remote);
        let (charge, next) = (decision.charge, decision.next);
        let left = context.queue.record(message.id, next, bounce).await;
        left.map(|entry| Self {
            context,
            message,
            entry,
            charge,
        })
    }

    /// Gives the message back: due when it was put off to, else at once.
    pub(super) fn release(self) {
        let due_ms = match self.charge {
            Charge::None => clock::now_ms(),
            Charge::Until(due_ms) => due_ms,
        };
        let queue = &self.context.queue;
        queue.release(self.message.id, self.entry, due_ms);
    }
}

fn report(
    context: &Context,
    live: &Live,
    message: &Message,
    failed: &[Failed],
    remote: Option<&str>,
) -> Option<Message> {
    for failed in failed {
        tracing::warn!(id = %message.id, recipient = failed.index, status = %failed.status,
            diagnostic = failed.diagnostic, "failed");
    }
    let now_ms = clock::now_ms();
    let id = context.queue.next_id(now_ms);
    let bounce = bounce::write(message, failed, &live.config.hostname, remote, id, now_ms);
    if bounce.is_some() {
        context.metrics.bounced.inc();
    } else if !failed.is_empty() {
        tracing::warn!(id = %message.id, "a bounce could not be delivered; bounces are not answered");
    }
    bounce
}

fn rules(live: &Live) -> Rules {
    let retry = &live.config.delivery.retry;
    Rules {
        backoff: Backoff {
            initial: Duration::from_secs(retry.initial_seconds),
            maximum: Duration::from_secs(retry.maximum_seconds),
        },
        lifetime: retry.lifetime(),
    }
}
