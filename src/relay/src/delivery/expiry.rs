//! Returns to their senders what has waited for longer than its lifetime without an attempt, or whose time to be delivered by has passed; and
//! tells the senders of what waits for long, if they want to know. That is what is for a destination that does not work, or whose turn does not
//! come. Else both happen with an attempt.
//!
//! A damaged message of which the spool says that it keeps the disk from being given back is given up by the same look, whatever it waits for:
//! nobody may read it for days.
//!
//! Loading a message for a report waits for room in memory: nothing else may wait for this, so that it is a task of its own. It waits once for a
//! tenant that has too much there; what else is that tenant's is passed by until the next look.

use std::collections::HashSet;
use std::time::Duration;

use postroad_config::status::UpstreamFailure;
use postroad_smtp::client::RecipientOutcome;
use postroad_smtp::{EnhancedStatus, Reply};
use postroad_spool::{Message, MessageId};

use super::SharedUpstreams;
use super::course::{self, Course};
use super::look::{self, Loaded, Need, NotLoaded, Telling};
use crate::clock;
use crate::context::Context;
use crate::notify::{DelayNotices, NextHop};
use crate::room::Account;
use crate::schedule::{OverdueLimits, Swept, Taken};
use crate::unreadable;

/// Messages returned per look, and tenants waited for: bounds the burst of bounces.
const BATCH: usize = 100;

/// Steps of one look, each past as many messages as the schedule passes by, or past one of a tenant that is: some tenths of a second. The rest is
/// for the next.
const STEPS_MAX: usize = 10_000;

/// One look. Takes one message at a time.
pub(super) async fn expire(context: Context, upstreams: SharedUpstreams) {
    let damaged = context.queue.spool().take_damaged();
    settle_damaged(&context, &upstreams, damaged).await;
    let mut returned = 0;
    let mut crowded: HashSet<Account> = HashSet::new();
    for _ in 0..STEPS_MAX {
        upstreams.note_failures(&context.queue);
        match context.queue.take_overdue(limits(&context)) {
            // The next look comes to it again.
            Swept::Taken(taken, _) if crowded.contains(&taken.entry.account) => {
                context.queue.release(taken.ticket, clock::now_ms());
                tokio::task::yield_now().await;
            }
            Swept::Taken(taken, failure) => {
                let _reclaim = context.queue.reclaim_on_panic(taken.ticket);
                // Nothing more is to be learned about it.
                upstreams.lock_holds().forget(taken.ticket.id);
                let account = taken.entry.account.clone();
                match look_at(&context, taken, failure.as_deref()).await {
                    Look::Done => {}
                    Look::NoRoom => drop(crowded.insert(account)),
                    Look::Stopping => return,
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

/// What is left out here, because somebody has it or there is no room, the spool tells of again.
async fn settle_damaged(context: &Context, upstreams: &SharedUpstreams, ids: Vec<MessageId>) {
    let queue = &context.queue;
    for id in ids {
        // There it is whole.
        if queue.memory().envelope(id).is_some() {
            continue;
        }
        let Some(taken) = queue.take_of(id) else {
            continue;
        };
        let _reclaim = queue.reclaim_on_panic(taken.ticket);
        // Only if there is room at once: that is looked for before what is ready is heard.
        match queue.load_unless(&taken, std::future::ready(())).await {
            // There is none; or it can be read after all. The spool tells of it again if need be.
            Ok(None | Some(_)) => queue.release(taken.ticket, clock::now_ms()),
            Err(error) => {
                upstreams.lock_holds().forget(id);
                unreadable::settle(context, taken, error).await;
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Look {
    Done,
    /// Its tenant has too much in memory.
    NoRoom,
    Stopping,
}

/// At the very end of its lifetime it has expired, and at the very age it is late: as when an attempt is judged.
fn limits(context: &Context) -> OverdueLimits {
    let now_ms = clock::now_ms();
    let arrived_before = |age: Duration| {
        now_ms
            .checked_sub(clock::millis(age))
            .map_or(0, |arrival_ms| arrival_ms.saturating_add(1))
    };
    let rules = course::rules(context, &context.live());
    OverdueLimits {
        expired_before_ms: arrived_before(rules.lifetime),
        late_before_ms: rules.delay_notices.earliest().map_or(0, arrived_before),
    }
}

async fn look_at(context: &Context, taken: Taken, failure: Option<&UpstreamFailure>) -> Look {
    let (queue, ticket) = (&context.queue, taken.ticket);
    let cause = cause(failure);
    let need = |message: &Message| {
        let rules = course::rules(context, &context.live());
        let need = look::need(message, &taken.entry, &cause, rules, clock::now_ms());
        (need, rules.delay_notices)
    };
    let needs_content = |envelope: &Message| match need(envelope).0 {
        Need::Nothing | Need::GiveUp(Telling::Nobody) => false,
        Need::GiveUp(Telling::Sender) | Need::TellOfDelay => true,
    };
    match look::load(context, &taken, needs_content).await {
        Ok(loaded) => {
            let (need, delay_notices) = need(loaded.message());
            let course = Course::of(context, &loaded, taken);
            match (need, &loaded) {
                (Need::GiveUp(Telling::Nobody), _)
                | (Need::GiveUp(Telling::Sender), Loaded::Whole(..)) => {
                    give_up(course, &cause).await;
                }
                (Need::TellOfDelay, Loaded::Whole(..)) => course.tell_of_delay(&cause).await,
                // It may be told when there is room for it.
                (Need::Nothing, _) if delay_notices == DelayNotices::Off => course.release(),
                (Need::Nothing, _) => course.tell_nobody(&cause),
                // Due in this very moment: the next look has all of it.
                (_, Loaded::Envelope(_)) => course.release(),
            }
        }
        Err(NotLoaded::Stopping) => {
            queue.release(ticket, clock::now_ms());
            return Look::Stopping;
        }
        // The next look comes to it again.
        Err(NotLoaded::NoRoom) => {
            queue.release(ticket, clock::now_ms());
            return Look::NoRoom;
        }
        Err(NotLoaded::Failed(error)) => unreadable::settle(context, taken, error).await,
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

fn cause(failure: Option<&UpstreamFailure>) -> Reply {
    let Some(failure) = failure else {
        let text = "the message has not been tried: its turn has not come yet";
        return Reply::new(451, EnhancedStatus::new(4, 4, 5), text);
    };
    let text = format!("the next server could not be used: {}", failure.message);
    Reply::new(451, EnhancedStatus::new(4, 4, 1), text)
}

#[cfg(test)]
mod tests;
