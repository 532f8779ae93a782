//! Mail that is handed on while its client waits.
//!
//! [`Queue::pass`] files a message like any other, but writes nothing: what comes of it is kept here, and the client hears of it. What
//! is not settled by then is stored with what has come of it so far, in one group, and is an ordinary message from then on.
//!
//! # Stages
//! *passing* (a record of an outcome comes here: [`Queue::hear`]) -> *storing* (it waits) -> *stored* (it goes to the disk, as usual); or
//! -> gone, if nobody needs the message any more: it is settled, the disk did not take it, or its client is gone. An
//! outcome that comes after that is nobody's: the client has not had its 250, and comes again with the whole message.
//!
//! # What the client's session looks at
//! Outcomes wake it. Everything else that may keep a message from being delivered soon (an override, a destination that fails, a pause) it finds
//! when it looks, every [`LOOK_INTERVAL`]: so nothing of that has to know of it.

#[cfg(test)]
mod tests;
mod transit;

use std::sync::Arc;
use std::time::Duration;

use postroad_smtp::Reply;
use postroad_spool::{CommitError, Message, MessageId, RecipientResult, Record};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::{AcceptError, NeedsDisk, Queue, State, size};
use crate::clock;
use crate::memory::{self, Reservation};
use crate::schedule::{Left, Outlook, Ticket};

use transit::{Progress, Stage, Stages};

pub(super) use transit::Transit;
pub use transit::{Owed, Told};

/// How often a session looks whether its message can still be expected to go out soon. What it finds has taken as long to come about: a
/// connection that was refused, or a configuration.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What became of a message while its client waited.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Passed {
    /// The next servers have it; reports that this owes are stored.
    On,
    /// They refused it for all recipients, with this reply: the client is to hear it, and nobody else.
    Refused(Reply),
    /// What is left of it is stored.
    Stored,
}

/// Whose business an outcome is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    /// It is noted, and not to be recorded.
    Noted(Left),
    /// The message is stored: the outcome is to be recorded.
    Stored,
    /// Nobody's.
    Gone,
}

/// A message that is loaded while its client waits for what becomes of it.
#[derive(Clone, Debug)]
pub struct Passing {
    stages: Arc<Stages>,
    _room: Arc<Reservation>,
}

/// What a session finds.
enum Look {
    Settled,
    Stuck,
    Wait,
}

impl Queue {
    /// Hands a message on, for `patience` at most, and not after the end of `until`: what is left then, or cannot be expected to go out
    /// soon, is stored. Returns once all of it is in safe hands. Dropped before, it forgets the message, unless it is being stored already.
    ///
    /// # Errors
    /// [`AcceptError`]: nothing was kept, the client must be told to come again. Some recipients may have got the message.
    pub async fn pass(
        &self,
        message: Message,
        mut reservation: Reservation,
        patience: Duration,
        until: impl Future<Output = ()>,
        report: impl Fn(&Message, &Owed) -> Option<Message>,
    ) -> Result<Passed, AcceptError> {
        let bytes = memory::footprint(size(&message), message.envelope.recipients.len());
        let grown = self.shared.memory.try_grow(&mut reservation, bytes);
        grown.map_err(AcceptError::Memory)?;
        let id = message.id;
        let heard = Arc::new(Notify::new());
        self.begin(message, reservation, Arc::clone(&heard))?;
        // From here on the message is gone if this is dropped.
        let _withdraw = Withdraw { queue: self, id };
        let waited = self.wait_for_outcome(id, &heard, Instant::now() + patience);
        tokio::pin!(waited, until);
        let found = tokio::select! {
            biased;
            found = &mut waited => found,
            () = &mut until => Look::Stuck,
        };
        match found {
            Look::Settled => self.settle_passed(id, report).await,
            Look::Stuck | Look::Wait => self.store(id, report).await,
        }
    }

    /// Takes note of what came of a transaction if the message is not stored yet. While it is being stored, this waits.
    pub async fn hear(&self, passing: &Passing, ticket: Ticket, told: Told<'_>) -> Heard {
        loop {
            {
                let mut state = self.state();
                let State {
                    transits, schedule, ..
                } = &mut *state;
                match transits.get_mut(&ticket.id) {
                    Some(transit) if transit.is(Stage::Passing) => {
                        return Heard::Noted(transit.note(schedule, ticket, told));
                    }
                    Some(_) => {}
                    None if passing.stages.is(Stage::Stored) => return Heard::Stored,
                    None => return Heard::Gone,
                }
            }
            passing.stages.stored().await;
        }
    }

    /// Whether a piece is still taken under this ticket: that of a message whose client has gone is not.
    #[must_use]
    pub fn is_taken(&self, ticket: Ticket) -> bool {
        self.state().schedule.is_taken(ticket)
    }

    /// Whether the client of a message waits for what becomes of it: it is not stored, nor about to be.
    #[must_use]
    pub fn is_passing(&self, id: MessageId) -> bool {
        let state = self.state();
        let transit = state.transits.get(&id);
        transit.is_some_and(|transit| transit.is(Stage::Passing))
    }

    /// The message, if it is not stored yet.
    pub(super) fn load_passing(&self, id: MessageId) -> Option<(Message, Passing)> {
        let state = self.state();
        let transit = state.transits.get(&id)?;
        let passing = Passing {
            stages: Arc::clone(&transit.stages),
            _room: Arc::clone(&transit.room),
        };
        Some((transit.message.clone(), passing))
    }

    fn begin(
        &self,
        message: Message,
        reservation: Reservation,
        heard: Arc<Notify>,
    ) -> Result<(), AcceptError> {
        let room = self
            .reserve_for(&message, NeedsDisk::Perhaps)
            .map_err(AcceptError::Room)?;
        let mut state = self.state();
        let now_ms = clock::now_ms();
        let handle = state
            .schedule
            .insert_withdrawable(&message.queued(), now_ms)
            .ok_or(AcceptError::Closed)?;
        drop(room);
        let transit = Transit {
            handle,
            room: Arc::new(reservation),
            stages: Arc::new(Stages::new()),
            progress: Progress::default(),
            heard,
            message,
        };
        state.transits.insert(transit.message.id, transit);
        self.wake(&mut state);
        Ok(())
    }

    async fn wait_for_outcome(&self, id: MessageId, heard: &Notify, deadline: Instant) -> Look {
        while Instant::now() < deadline {
            match self.look(id) {
                Look::Wait => {}
                found => return found,
            }
            let next = deadline.min(Instant::now() + LOOK_INTERVAL);
            // Heard or not, it is worth a look.
            let _ = tokio::time::timeout_at(next, heard.notified()).await;
        }
        self.look(id)
    }

    fn look(&self, id: MessageId) -> Look {
        let state = self.state();
        let Some(transit) = state.transits.get(&id) else {
            return Look::Stuck;
        };
        if transit.progress.is_settled {
            return Look::Settled;
        }
        let is_put_off = transit.progress.has(RecipientResult::Deferred);
        match is_put_off || state.schedule.outlook(transit.handle) == Outlook::Poor {
            true => Look::Stuck,
            false => Look::Wait,
        }
    }
}

/// How it ends.
impl Queue {
    /// Nobody is left to deliver to.
    async fn settle_passed(
        &self,
        id: MessageId,
        report: impl Fn(&Message, &Owed) -> Option<Message>,
    ) -> Result<Passed, AcceptError> {
        let transit = self.end(id).ok_or(AcceptError::Closed)?;
        let mut progress = transit.progress;
        if let Some(reply) = progress.refusal() {
            return Ok(Passed::Refused(reply));
        }
        let owed = progress.owed.iter();
        let reports: Vec<_> = owed
            .filter_map(|owed| report(&transit.message, owed))
            .collect();
        if !reports.is_empty() {
            let records = reports.iter().cloned().map(Record::Message).collect();
            self.commit(id, records, reports).await?;
        }
        Ok(Passed::On)
    }

    /// Stores what is left, with what has come of the rest.
    async fn store(
        &self,
        id: MessageId,
        report: impl Fn(&Message, &Owed) -> Option<Message>,
    ) -> Result<Passed, AcceptError> {
        let Some((message, progress)) = self.begin_to_store(id) else {
            return self.settle_passed(id, report).await;
        };
        if let Err(full) = self.check_stored(&message) {
            self.end(id);
            return Err(AcceptError::Room(full));
        }
        let owed = progress.owed.iter();
        let reports: Vec<_> = owed.filter_map(|owed| report(&message, owed)).collect();
        let mut records = vec![Record::Message(message)];
        records.extend(progress.attempt(id).map(Record::Attempt));
        records.extend(reports.iter().cloned().map(Record::Message));
        self.commit(id, records, reports).await?;
        Ok(Passed::Stored)
    }

    /// From here on outcomes wait. `None` if there is nothing left to store.
    fn begin_to_store(&self, id: MessageId) -> Option<(Message, Progress)> {
        let mut state = self.state();
        let transit = state.transits.get_mut(&id)?;
        if transit.progress.is_settled {
            return None;
        }
        transit.stages.move_to(Stage::Storing);
        Some((transit.message.clone(), transit.progress.clone()))
    }

    async fn commit(
        &self,
        id: MessageId,
        records: Vec<Record>,
        reports: Vec<Message>,
    ) -> Result<(), AcceptError> {
        let (answer, committed) = oneshot::channel();
        let queue = self.clone();
        let done = move |result: Result<(), CommitError>| {
            match &result {
                Ok(()) => queue.stored(id, &reports),
                Err(_) => drop(queue.end(id)),
            }
            // A session that has gone away no longer cares.
            let _ = answer.send(result);
        };
        if let Err(error) = self.shared.spool.submit(records, done) {
            self.end(id);
            return Err(AcceptError::Submit(error));
        }
        committed
            .await
            .map_err(|_| AcceptError::Closed)?
            .map_err(AcceptError::Commit)
    }

    fn stored(&self, id: MessageId, reports: &[Message]) {
        let mut state = self.state();
        if let Some(transit) = state.transits.remove(&id) {
            transit.stages.move_to(Stage::Stored);
            // Who has it in hand has its room too.
            if let Some(reservation) = Arc::into_inner(transit.room) {
                self.shared.memory.keep(transit.message, reservation);
            }
        }
        let now_ms = clock::now_ms();
        for report in reports {
            state.schedule.insert(&report.queued(), now_ms);
        }
        self.wake(&mut state);
    }

    /// Forgets a message that is not stored.
    fn end(&self, id: MessageId) -> Option<Transit> {
        let mut state = self.state();
        let transit = state.transits.remove(&id)?;
        transit.stages.move_to(Stage::Gone);
        let now_ms = clock::now_ms();
        state.schedule.withdraw(transit.handle, now_ms);
        self.wake(&mut state);
        Some(transit)
    }
}

/// Forgets a message whose client has stopped waiting, unless it is being stored.
struct Withdraw<'a> {
    queue: &'a Queue,
    id: MessageId,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        // Nobody else would begin to store it.
        if self.queue.is_passing(self.id) {
            self.queue.end(self.id);
        }
    }
}
