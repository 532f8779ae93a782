//! What has to be read of a message that is given up, or late, without being tried.
//!
//! Whether anybody is to be told follows from the envelope, which is read alone. Only for a report, which returns some of the content, the
//! whole message is loaded; that waits for room in memory, so that one who looks after many messages passes by those that
//! find none for so long ([`PATIENCE`]).

use std::time::Duration;

use postroad_smtp::Reply;
use postroad_spool::Message;

use crate::context::{Context, Phase};
use crate::notify;
use crate::outcome::{self, Rules, give_up_ms};
use crate::queue::{LoadError, LoadedRoom};
use crate::schedule::{Entry, Taken};

/// How long a look waits for room for one message. Its tenant has too much in memory; others have waited for the look.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What there is to do about a message that cannot be tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Need {
    /// Nothing: it is not late, or nobody wants to hear of it.
    Nothing,
    /// It has failed.
    GiveUp(Telling),
    /// Its sender is to be told that it is late.
    TellOfDelay,
}

/// Whether a report is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Telling {
    /// Nobody wants to hear of it.
    Nobody,
    /// The sender does.
    Sender,
}

/// A message as far as it was needed.
pub(super) enum Loaded {
    /// Only its envelope: headers and body are empty.
    Envelope(Message),
    /// All of it.
    Whole(Message, LoadedRoom),
}

impl Loaded {
    /// The message, or its envelope.
    pub(super) fn message(&self) -> &Message {
        match self {
            Self::Envelope(message) | Self::Whole(message, _) => message,
        }
    }
}

/// Why there is none.
pub(super) enum NotLoaded {
    /// The process is ending.
    Stopping,
    /// There is no room in memory now.
    NoRoom,
    /// [`crate::unreadable`] knows what to do.
    Failed(LoadError),
}

/// What there is to do about a message whose destination does not work for this cause; by its envelope.
pub(super) fn need(
    message: &Message,
    entry: &Entry,
    cause: &Reply,
    rules: Rules,
    now_ms: u64,
) -> Need {
    if give_up_ms(message, rules.lifetime) <= now_ms {
        return Need::GiveUp(telling(message, &entry.open));
    }
    // It is late; or its lifetime has just been made longer, or began later than the arrival.
    let open = entry.open.iter().copied();
    let is_told = entry.delay_notified || message.envelope.sender.is_empty();
    match is_told || outcome::late(message, open, cause, rules, now_ms).is_empty() {
        true => Need::Nothing,
        false => Need::TellOfDelay,
    }
}

/// Who is told when these recipients fail.
pub(super) fn telling(message: &Message, open: &[u32]) -> Telling {
    let envelope = &message.envelope;
    let mut failing = open.iter().filter_map(|index| {
        let index = usize::try_from(*index).ok()?;
        envelope.recipients.get(index)
    });
    match failing.any(|recipient| notify::wants_failed(envelope, recipient)) {
        true => Telling::Sender,
        false => Telling::Nobody,
    }
}

/// Loads a message that is taken: its envelope, and all of it if that says so and there is room by then.
pub(super) async fn load(
    context: &Context,
    taken: &Taken,
    needs_content: impl FnOnce(&Message) -> bool,
) -> Result<Loaded, NotLoaded> {
    tokio::select! {
        biased;
        () = context.reached(Phase::Stopping) => Err(NotLoaded::Stopping),
        loaded = load_slowly(context, taken, needs_content) => loaded,
    }
}

async fn load_slowly(
    context: &Context,
    taken: &Taken,
    needs_content: impl FnOnce(&Message) -> bool,
) -> Result<Loaded, NotLoaded> {
    let queue = &context.queue;
    // What cannot be read, or is not stored yet, is for whoever loads all of it.
    if let Ok(envelope) = queue.load_envelope(taken.ticket.id).await
        && !needs_content(&envelope)
    {
        return Ok(Loaded::Envelope(envelope));
    }
    let enough = tokio::time::sleep(PATIENCE);
    match queue.load_unless(taken, enough).await {
        Ok(Some((message, room))) => Ok(Loaded::Whole(message, room)),
        Ok(None) => Err(NotLoaded::NoRoom),
        Err(error) => Err(NotLoaded::Failed(error)),
    }
}

#[cfg(test)]
mod tests;
