//! Returns to its sender what an override says must go back.
//!
//! A report needs room in memory. It is waited for once for a tenant that has too much there; what else is that tenant's is passed by for a
//! while.

use std::collections::HashMap;
use std::sync::Arc;

use postroad_smtp::client::RecipientOutcome;
use postroad_smtp::{EnhancedStatus, Reply};
use postroad_spool::Message;

use super::course::Course;
use super::look::{self, NotLoaded, Telling};
use super::plan::NO_ROOM_PAUSE;
use crate::clock;
use crate::context::{Context, Phase};
use crate::notify::NextHop;
use crate::queue::Door;
use crate::room::Account;
use crate::schedule::Taken;
use crate::unreadable;

/// RFC 3463 §3.8: other or undefined security or policy status.
const STATUS: EnhancedStatus = EnhancedStatus::new(5, 7, 0);

/// Returns what is ready behind a door, for the reason of the override of this name, until nothing is left or the override is gone.
pub(super) async fn give_back(context: Context, name: Arc<str>, mut door: Door) {
    door.connected();
    // Until when, in milliseconds since the epoch.
    let mut passed_by: HashMap<Account, u64> = HashMap::new();
    while context.phase() < Phase::Stopping {
        let Some(taken) = door.take() else {
            return;
        };
        // Taken: filed by the table in force. It may have been replaced in this moment.
        let table = context.queue.table();
        let Some(reason) = table.reason(&name) else {
            return context.queue.release(taken.ticket, clock::now_ms());
        };
        let account = taken.entry.account.clone();
        match passed_by.get(&account) {
            Some(&until_ms) if until_ms > clock::now_ms() => {
                context.queue.release(taken.ticket, until_ms);
                // There may be a hundred thousand of them.
                tokio::task::yield_now().await;
            }
            _ => {
                let _reclaim = context.queue.reclaim_on_panic(taken.ticket);
                if let Some(until_ms) = return_one(&context, taken, reason).await {
                    passed_by.insert(account, until_ms);
                }
            }
        }
    }
}

/// Says until when its tenant is to be passed by, if there is no room.
async fn return_one(context: &Context, taken: Taken, reason: &str) -> Option<u64> {
    let (queue, ticket) = (&context.queue, taken.ticket);
    let is_heard = |message: &Message| look::telling(message, &taken.entry.open) == Telling::Sender;
    match look::load(context, &taken, is_heard).await {
        Ok(loaded) => {
            let course = Course::of(context, &loaded, taken);
            let reply = Reply::new(554, STATUS, reason);
            let outcomes = course
                .open_recipients()
                .map(|index| (index, RecipientOutcome::Failed(reply.clone())))
                .collect();
            if let Some(left) = course.record(outcomes, NextHop::default(), None).await {
                left.release();
            }
        }
        Err(NotLoaded::Stopping) => queue.release(ticket, clock::now_ms()),
        Err(NotLoaded::NoRoom) => {
            let until_ms = clock::after(clock::now_ms(), NO_ROOM_PAUSE);
            // Others have their turn meanwhile.
            queue.release(ticket, until_ms);
            return Some(until_ms);
        }
        Err(NotLoaded::Failed(error)) => unreadable::settle(context, taken, error).await,
    }
    None
}
