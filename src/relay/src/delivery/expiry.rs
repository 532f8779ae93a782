//! Returns to their senders what has waited for longer than its lifetime while its destination does not work, or whose time to be delivered by
//! has passed; and tells the senders of what waits for long, if they want to know. While it works, both happen with an attempt instead.
//!
//! Loading a message waits for room in memory: nothing else may wait for this, so that it is a task of its own.

use std::time::Duration;

use postroad_config::status::UpstreamFailure;
use postroad_smtp::client::RecipientOutcome;
use postroad_smtp::{EnhancedStatus, Reply};

use super::SharedUpstreams;
use super::course::{self, Course};
use crate::clock;
use crate::context::{Context, Phase};
use crate::notify::NextHop;
use crate::outcome::give_up_ms;
use crate::schedule::{OverdueLimits, Swept, Taken};
use crate::unreadable;

/// Messages returned per look: bounds the burst of bounces.
const BATCH: usize = 100;

/// Steps of one look, each past as many messages as one passes by: the rest is for the next.
const STEPS_MAX: usize = 1_000;

/// One look. Takes one message at a time, and none once its destination works again.
pub(super) async fn expire(context: Context, upstreams: SharedUpstreams) {
    let mut returned = 0;
    for _ in 0..STEPS_MAX {
        upstreams.note_failures(&context.queue);
        match context.queue.take_overdue(limits(&context)) {
            Swept::Taken(taken, failure) => {
                let _reclaim = context.queue.reclaim_on_panic(taken.ticket);
                // Nothing more is to be learned about it.
                upstreams.lock_holds().forget(taken.ticket.id);
                if look_at(&context, taken, &failure).await == Look::Stopping {
                    return;
                }
                returned += 1;
            }
            Swept::More => tokio::task::yield_now().await,
            Swept::End => return,
        }
        if returned == BATCH {
            return;
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Look {
    Done,
    Stopping,
}

/// At the very end of its lifetime it has expired, and at the very age it is late: as when an attempt is judged.
fn limits(context: &Context) -> OverdueLimits {
    let now_ms = clock::now_ms();
    let arrived_before = |age: Duration| {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        now_ms
            .checked_sub(age_ms)
            .map_or(0, |arrival_ms| arrival_ms.saturating_add(1))
    };
    let rules = course::rules(context, &context.live());
    OverdueLimits {
        expired_before_ms: arrived_before(rules.lifetime),
        late_before_ms: rules.delay_notices.earliest().map_or(0, arrived_before),
    }
}

async fn look_at(context: &Context, taken: Taken, failure: &UpstreamFailure) -> Look {
    let ticket = taken.ticket;
    let loaded = tokio::select! {
        biased;
        () = context.reached(Phase::Stopping) => {
            context.queue.release(ticket, clock::now_ms());
            return Look::Stopping;
        }
        loaded = context.queue.load(&taken) => loaded,
    };
    match loaded {
        Ok((message, room)) => {
            let lifetime = context.live().config.delivery.retry.lifetime();
            let course = Course::new(context, &message, taken).under(&room);
            let cause = cause(failure);
            match give_up_ms(&message, lifetime) <= clock::now_ms() {
                true => give_up(course, &cause).await,
                // It is late; or its lifetime has just been made longer, or began later than the arrival.
                false => course.tell_of_delay(&cause).await,
            }
        }
        Err(error) => unreadable::settle(context, taken, error).await,
    }
    Look::Done
}

async fn give_up(course: Course<'_>, cause: &Reply) {
    let outcomes = course
        .open_recipients()
        .map(|index| (index, RecipientOutcome::Deferred(cause.clone())))
        .collect();
    if let Some(left) = course.record(outcomes, NextHop::default(), None).await {
        left.release();
    }
}

fn cause(failure: &UpstreamFailure) -> Reply {
    let status = EnhancedStatus {
        class: 4,
        subject: 4,
        detail: 1,
    };
    let text = format!("the next server could not be used: {}", failure.message);
    Reply::new(451, status, text)
}

#[cfg(test)]
mod tests;
