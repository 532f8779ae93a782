//! Returns to their senders what has waited for longer than its lifetime while every upstream fails. While one works, a
//! message expires with its last attempt instead.
//!
//! Loading a message waits for room in memory: nothing else may wait for this, so that it is a task of its own.

use postroad_config::status::UpstreamFailure;
use postroad_smtp::client::RecipientOutcome;
use postroad_smtp::{EnhancedStatus, Reply};

use super::SharedUpstreams;
use super::course::Course;
use crate::clock;
use crate::context::{Context, Phase};
use crate::unreadable;

/// Messages returned per look: bounds the burst of bounces.
const BATCH: usize = 100;

/// One look. Takes one message at a time, and none once an upstream works again.
pub(super) async fn expire(context: Context, upstreams: SharedUpstreams) {
    for _ in 0..BATCH {
        let Some(failure) = upstreams.lock().all_failing().cloned() else {
            return;
        };
        let live = context.live();
        let lifetime = live.config.delivery.retry.lifetime();
        let Some((id, entry)) = context.queue.take_expired(lifetime) else {
            return;
        };
        let _reclaim = context.queue.reclaim_on_panic(id);
        // Nothing more is to be learned about it.
        upstreams.lock_holds().forget(id);
        let loaded = tokio::select! {
            biased;
            () = context.reached(Phase::Stopping) => {
                return context.queue.release(id, entry, clock::now_ms());
            }
            loaded = context.queue.load(id, &entry) => loaded,
        };
        match loaded {
            Ok((message, _room)) => {
                give_up(Course::new(&context, &message, entry), &failure).await;
            }
            Err(error) => unreadable::settle(&context, id, entry, error).await,
        }
    }
}

async fn give_up(course: Course<'_>, failure: &UpstreamFailure) {
    let status = EnhancedStatus {
        class: 4,
        subject: 4,
        detail: 1,
    };
    let text = format!("no upstream could be used: {}", failure.message);
    let reply = Reply::new(451, status, text.as_str());
    let outcomes = course
        .open_recipients()
        .map(|index| (index, RecipientOutcome::Deferred(reply.clone())))
        .collect();
    // A lifetime that has just been made longer leaves something.
    if let Some(left) = course.record(outcomes, None).await {
        left.release();
    }
}

#[cfg(test)]
mod tests;
