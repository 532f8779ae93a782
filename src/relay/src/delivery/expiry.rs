//! Returns to their senders what has waited for longer than its lifetime while every upstream fails. While one works, a
//! message expires with its last attempt instead.
//!
//! Loading a message waits for room in memory: nothing else may wait for this, so that it is a task of its own.

use super::{SharedUpstreams, expire_message};
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
        let loaded = tokio::select! {
            biased;
            () = context.reached(Phase::Stopping) => {
                return context.queue.release(id, entry, clock::now_ms());
            }
            loaded = context.queue.load(id, &entry) => loaded,
        };
        match loaded {
            Ok((message, _room)) => {
                expire_message(&context, &live, &message, entry, &failure).await;
            }
            Err(error) => unreadable::settle(&context, id, entry, error).await,
        }
    }
}

#[cfg(test)]
mod tests;
