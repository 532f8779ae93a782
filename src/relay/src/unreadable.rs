//! What becomes of a message that the disk does not give back. No attempt of delivery is possible, and nobody may wait for ever.
//!
//! - *Damaged* (its checksum says so) it stays damaged: it is given up at once.
//! - An *error of the disk* may pass: the message is tried again, and counted as unreadable until it has been read. After its
//!   lifetime it is given up if its envelope can be read, so that the sender hears of it; else it stays, and shows.
//!
//! Given up means: what can be read of it is copied to `corrupt/` and counted, the sender gets a bounce if the envelope is
//! intact, and then it is done. If the copy cannot be made, the message stays and is tried again.

use postroad_smtp::EnhancedStatus;
use postroad_spool::{Message, ReadError, RecipientResult};

use crate::bounce;
use crate::clock;
use crate::context::Context;
use crate::outcome::{Kind, Notice, Recorded, give_up_ms};
use crate::queue::LoadError;
use crate::schedule::{Left, Taken, Ticket};

/// Pause before a message that could not be read is tried again. Also if reading panicked: it may do so again, at once and for ever.
const PAUSE_MS: u64 = 60_000;

/// RFC 3463 §3.4: other or undefined mail system status.
const STATUS: EnhancedStatus = EnhancedStatus::new(5, 3, 0);

/// Settles a piece that was taken and whose message could not be loaded.
pub async fn settle(context: &Context, taken: Taken, error: LoadError) {
    let (queue, ticket) = (&context.queue, taken.ticket);
    let id = ticket.id;
    match error {
        LoadError::Closed => wait(context, ticket),
        // Its client has gone before it was stored, and the message with it.
        LoadError::Read(ReadError::Unknown) if !queue.is_taken(ticket) => {}
        LoadError::Read(ReadError::Unknown) => {
            tracing::error!(%id, "the schedule knew a message that the spool does not; it is forgotten");
            queue.forget(ticket);
        }
        LoadError::Read(error @ ReadError::Damaged(_)) => {
            tracing::error!(%id, %error, "a message cannot be delivered");
            match queue.load_envelope(id).await {
                Err(LoadError::Read(error @ ReadError::Io(_))) => put_back(context, ticket, &error),
                Err(LoadError::Closed) => wait(context, ticket),
                Ok(envelope) => give_up(context, taken, Some(envelope)).await,
                Err(LoadError::Read(_)) => give_up(context, taken, None).await,
            }
        }
        LoadError::Read(error @ ReadError::Io(_)) => {
            let lifetime = context.live().config.delivery.retry.lifetime();
            match queue.load_envelope(id).await {
                Ok(envelope) if give_up_ms(&envelope, lifetime) <= clock::now_ms() => {
                    give_up(context, taken, Some(envelope)).await;
                }
                _ => put_back(context, ticket, &error),
            }
        }
    }
}

/// Nothing is known of it.
fn wait(context: &Context, ticket: Ticket) {
    let due_ms = clock::now_ms().saturating_add(PAUSE_MS);
    context.queue.release(ticket, due_ms);
}

fn put_back(context: &Context, ticket: Ticket, error: &ReadError) {
    tracing::error!(id = %ticket.id, %error, "a message cannot be read; it stays in the queue");
    let due_ms = clock::now_ms().saturating_add(PAUSE_MS);
    context.queue.release_unread(ticket, due_ms);
}

/// For all recipients that nobody else is delivering to. `envelope` has no content; `None` if it is lost too.
async fn give_up(context: &Context, taken: Taken, envelope: Option<Message>) {
    let (queue, Taken { ticket, entry }) = (&context.queue, taken);
    let id = ticket.id;
    match queue.set_aside(id).await {
        Ok(()) => {}
        Err(LoadError::Closed) => return wait(context, ticket),
        Err(LoadError::Read(error)) => return put_back(context, ticket, &error),
    }
    let open = queue.orphans(ticket);
    let bounce = envelope.and_then(|envelope| report(context, &envelope, &open));
    if bounce.is_some() {
        context.metrics.bounced.inc();
    } else {
        tracing::error!(%id, "nobody can be told of a message that is lost; look in corrupt/");
    }
    context.metrics.failed.inc_by(open.len() as u64);
    let results = open.iter().map(|index| (*index, RecipientResult::Failed));
    let recorded = Recorded {
        results: results.collect(),
        attempts: entry.attempts,
        due_ms: clock::now_ms(),
        delay_notified: entry.delay_notified,
    };
    if queue.record(ticket, recorded, bounce).await == Left::Open {
        queue.release(ticket, clock::now_ms());
    }
}

fn report(context: &Context, envelope: &Message, open: &[u32]) -> Option<Message> {
    let failed: Vec<Notice> = open
        .iter()
        .map(|index| Notice {
            index: *index,
            kind: Kind::Failed,
            status: STATUS,
            expired: None,
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
