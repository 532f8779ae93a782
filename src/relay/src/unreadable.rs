//! What becomes of a message that the disk does not give back. No attempt of delivery is possible, and nobody may wait for ever.
//!
//! - *Damaged* (its checksum says so) it stays damaged: it is given up at once.
//! - An *error of the disk* may pass: the message is tried again, and counted as unreadable until it has been read. After its
//!   lifetime it is given up if its envelope can be read, so that the sender hears of it; else it stays, and shows.
//!
//! Given up means: what can be read of it is copied to `corrupt/` and counted, the sender gets a bounce if the envelope is
//! intact, and then it is done. If the copy cannot be made, the message stays and is tried again.

use postroad_smtp::EnhancedStatus;
use postroad_spool::{Message, MessageId, ReadError};

use crate::bounce;
use crate::clock;
use crate::context::Context;
use crate::outcome::{Failed, Next, is_expired};
use crate::queue::LoadError;
use crate::schedule::Entry;

/// Pause before a message that could not be read is tried again.
const PAUSE_MS: u64 = 60_000;

/// RFC 3463 §3.4: other or undefined mail system status.
const STATUS: EnhancedStatus = EnhancedStatus {
    class: 5,
    subject: 3,
    detail: 0,
};

/// Settles a message that was taken and could not be loaded.
pub async fn settle(context: &Context, id: MessageId, entry: Entry, error: LoadError) {
    let queue = &context.queue;
    match error {
        LoadError::Closed => queue.release(id, entry, clock::now_ms()),
        LoadError::Read(ReadError::Unknown) => {
            tracing::error!(%id, "the schedule knew a message that the spool does not; it is forgotten");
            queue.forget(id);
        }
        LoadError::Read(error @ ReadError::Damaged(_)) => {
            tracing::error!(%id, %error, "a message cannot be delivered");
            match queue.load_envelope(id).await {
                Err(LoadError::Read(error @ ReadError::Io(_))) => {
                    put_back(context, id, entry, &error)
                }
                Err(LoadError::Closed) => queue.release(id, entry, clock::now_ms()),
                Ok(envelope) => give_up(context, id, entry, Some(envelope)).await,
                Err(LoadError::Read(_)) => give_up(context, id, entry, None).await,
            }
        }
        LoadError::Read(error @ ReadError::Io(_)) => {
            let lifetime = context.live().config.delivery.retry.lifetime();
            if is_expired(entry.arrival_ms, lifetime, clock::now_ms())
                && let Ok(envelope) = queue.load_envelope(id).await
            {
                give_up(context, id, entry, Some(envelope)).await;
            } else {
                put_back(context, id, entry, &error);
            }
        }
    }
}

fn put_back(context: &Context, id: MessageId, entry: Entry, error: &ReadError) {
    tracing::error!(%id, %error, "a message cannot be read; it stays in the queue");
    let due_ms = clock::now_ms().saturating_add(PAUSE_MS);
    context.queue.release_unread(id, entry, due_ms);
}

/// `envelope` has no content; `None` if it is lost too.
async fn give_up(context: &Context, id: MessageId, entry: Entry, envelope: Option<Message>) {
    match context.queue.set_aside(id).await {
        Ok(()) => {}
        Err(LoadError::Closed) => return context.queue.release(id, entry, clock::now_ms()),
        Err(LoadError::Read(error)) => return put_back(context, id, entry, &error),
    }
    let bounce = envelope.and_then(|envelope| report(context, &envelope, &entry));
    if bounce.is_some() {
        context.metrics.bounced.inc();
    } else {
        tracing::error!(%id, "nobody can be told of a message that is lost; look in corrupt/");
    }
    context.metrics.failed.inc_by(entry.open());
    context.queue.settle(id, Next::Done, bounce).await;
}

fn report(context: &Context, envelope: &Message, entry: &Entry) -> Option<Message> {
    let is_open = |index: &u32| entry.settled.binary_search(index).is_err();
    let failed: Vec<Failed> = (0..entry.recipients)
        .filter(is_open)
        .map(|index| Failed {
            index,
            status: STATUS,
            diagnostic: format!(
                "554 {STATUS} the message was damaged on the disk of this server and cannot be delivered"
            ),
        })
        .collect();
    let live = context.live();
    let now_ms = clock::now_ms();
    let id = context.queue.next_id(now_ms);
    bounce::write(envelope, &failed, &live.config.hostname, None, id, now_ms)
}

#[cfg(test)]
mod tests;
