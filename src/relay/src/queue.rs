//! The queue: what is on disk, when it is due, and what of it is in memory, kept in step.
//!
//! Every change goes to the spool first. The schedule learns of it from the spool's writer, after
//! the change is on stable storage: so a message whose 250 could not be sent any more (the client
//! went away, the session was aborted) is nevertheless delivered, and one that was refused is not.
//!
//! How much may be queued is bounded: see [`crate::room`]. Only receiving looks at the bound; bounces have their room already.

mod read;
mod reclaim;
mod reserve;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroad_spool::{
    CommitError, IdGenerator, Message, MessageId, Queued, Record, Spool, SubmitError,
};
use tokio::sync::{Notify, oneshot};

use crate::clock;
use crate::memory::{self, Full, Memory, Reservation};
use crate::outcome::Next;
use crate::room::{MEMORY_BYTES_MAX, Weight};
use crate::schedule::{Entry, Schedule, Totals};

pub use read::LoadError;
pub use reclaim::ReclaimOnPanic;

/// Pause before a record that the spool could not take is offered again.
const SPOOL_RETRY: Duration = Duration::from_secs(1);

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// As much mail is queued as may be.
    #[error("as much mail is queued as may be")]
    Full,
    /// There is no room in memory for the envelope.
    #[error("no room in memory")]
    Memory(#[source] Full),
    /// The writer is behind by as much as it may be.
    #[error("the queue is full")]
    Submit(#[source] SubmitError),
    /// The disk did not take it.
    #[error("the message could not be stored")]
    Commit(#[source] CommitError),
    /// The process is ending.
    #[error("the queue is closed")]
    Closed,
}

/// The queue. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    spool: Spool,
    ids: IdGenerator,
    memory: Memory,
    schedule: Mutex<Schedule>,
    /// Most that what is queued may weigh, in bytes.
    weight_max: u64,
    /// What is on its way to the disk weighs this, in bytes.
    reserved: AtomicU64,
    /// Wakes one idle delivery worker.
    work: Notify,
    /// Wakes the delivery manager.
    changed: Notify,
    /// Delivery workers that hold an open connection and wait for work.
    idle: AtomicUsize,
}

impl Queue {
    /// A queue over a spool, with what the spool found.
    #[must_use]
    pub fn new(spool: Spool, memory_bytes: u64, queued: Vec<Queued>) -> Self {
        Self::bounded(spool, memory_bytes, queued, MEMORY_BYTES_MAX)
    }

    fn bounded(spool: Spool, memory_bytes: u64, queued: Vec<Queued>, weight_max: u64) -> Self {
        let mut schedule = Schedule::default();
        for message in queued {
            let (id, due_ms) = (message.id, message.next_attempt_ms);
            schedule.insert(id, entry(message), due_ms);
        }
        Self {
            shared: Arc::new(Shared {
                spool,
                ids: IdGenerator::new(clock::random_bytes()),
                memory: Memory::new(memory_bytes),
                schedule: Mutex::new(schedule),
                weight_max,
                reserved: AtomicU64::new(0),
                work: Notify::new(),
                changed: Notify::new(),
                idle: AtomicUsize::new(0),
            }),
        }
    }

    /// An id for a new message.
    #[must_use]
    pub fn next_id(&self, now_ms: u64) -> MessageId {
        self.shared.ids.next(now_ms)
    }

    /// The memory budget.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// The spool, for its health.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.shared.spool
    }

    /// Takes responsibility for a message: returns once it is on stable storage.
    ///
    /// # Errors
    /// [`AcceptError`]: nothing was kept, the client must be told to come again.
    pub async fn accept(
        &self,
        message: Message,
        mut reservation: Reservation,
    ) -> Result<(), AcceptError> {
        let bytes = memory::footprint(size(&message), message.envelope.recipients.len());
        let grown = self.shared.memory.try_grow(&mut reservation, bytes);
        grown.map_err(AcceptError::Memory)?;
        let room = self.reserve(weight(&message)).ok_or(AcceptError::Full)?;
        let (answer, committed) = oneshot::channel();
        let queue = self.clone();
        let record = Record::Message(message.clone());
        let done = move |result: Result<(), CommitError>| {
            if result.is_ok() {
                queue.scheduled(message, Some(reservation));
            }
            drop(room);
            // A session that has gone away no longer cares.
            let _ = answer.send(result);
        };
        self.shared
            .spool
            .submit(vec![record], done)
            .map_err(AcceptError::Submit)?;
        committed
            .await
            .map_err(|_| AcceptError::Closed)?
            .map_err(AcceptError::Commit)
    }

    /// Records what came of an attempt, and puts the message back if something of it is left.
    pub async fn settle(&self, id: MessageId, next: Next, bounce: Option<Message>) {
        let due_ms = match &next {
            Next::Done => None,
            Next::Again { attempt, .. } => Some(attempt.next_attempt_ms),
        };
        let left = self.record(id, next, bounce).await;
        if let (Some(entry), Some(due_ms)) = (left, due_ms) {
            self.release(id, entry, due_ms);
        }
    }

    /// Records what came of a transaction, with the bounce that it owes, as one atomic group; waits until the disk
    /// has taken it, however long that is. Until then the message counts as being delivered, so that
    /// no failure of the disk can deliver it twice. If something of it is left it stays taken, with the entry given.
    pub async fn record(
        &self,
        id: MessageId,
        next: Next,
        bounce: Option<Message>,
    ) -> Option<Entry> {
        let mut records = Vec::with_capacity(2);
        records.extend(bounce.clone().map(Record::Message));
        records.push(match &next {
            Next::Done => Record::Done(id),
            Next::Again { attempt, .. } => Record::Attempt(attempt.clone()),
        });
        if !self.is_kept_in_memory(&next, bounce.is_some()) {
            while !self.write(&records).await {
                tokio::time::sleep(SPOOL_RETRY).await;
            }
        }
        let left = match next {
            Next::Done => {
                self.schedule().finish(id);
                None
            }
            Next::Again { attempt: _, entry } => {
                self.schedule().update(id, entry.clone());
                Some(entry)
            }
        };
        if let Some(bounce) = bounce {
            self.scheduled(bounce, None);
        }
        self.shared.changed.notify_one();
        left
    }

    /// On a full disk, what room is left is for outcomes: when to try again, if nobody has the message or never will, is known
    /// to the schedule alone. A start then tries sooner than it would have.
    fn is_kept_in_memory(&self, next: &Next, owes_bounce: bool) -> bool {
        let put_off = match next {
            Next::Done => false,
            Next::Again { attempt, .. } => {
                attempt.results.iter().all(|(_, result)| !result.is_final())
            }
        };
        put_off && !owes_bounce && self.shared.spool.is_full()
    }

    /// Forgets a message that the spool does not know.
    pub fn forget(&self, id: MessageId) {
        self.schedule().finish(id);
    }

    /// Gives a message back that the disk does not give back, to be tried again at `due_ms`; until it has been read it is counted.
    pub fn release_unread(&self, id: MessageId, entry: Entry, due_ms: u64) {
        self.schedule().put_back_unread(id, entry, due_ms);
        self.shared.changed.notify_one();
    }

    /// Gives a message back untried.
    pub fn release(&self, id: MessageId, entry: Entry, due_ms: u64) {
        self.schedule().put_back(id, entry, due_ms);
        self.shared.changed.notify_one();
    }

    /// Takes a message that is due.
    #[must_use]
    pub fn take(&self) -> Option<(MessageId, Entry)> {
        self.schedule().take(clock::now_ms())
    }

    /// Takes a message that is due, or waits for one for so long.
    pub async fn take_within(&self, patience: Duration) -> Option<(MessageId, Entry)> {
        if let Some(taken) = self.take() {
            return Some(taken);
        }
        let idle = Idle::count(&self.shared.idle);
        let taken = tokio::time::timeout(patience, self.wait_and_take()).await;
        drop(idle);
        // What came due in the last moment was left to us.
        taken.ok().or_else(|| self.take())
    }

    async fn wait_and_take(&self) -> (MessageId, Entry) {
        loop {
            self.shared.work.notified().await;
            if let Some(taken) = self.take() {
                return taken;
            }
        }
    }

    /// Has what is due taken by an idle worker, if there is any; else says that one is wanted. Whatever makes a message
    /// due, its arrival apart, reaches idle workers through this alone.
    #[must_use]
    pub fn wants_worker(&self) -> bool {
        if !self.schedule().has_due(clock::now_ms()) {
            return false;
        }
        let idle = self.shared.idle.load(Ordering::SeqCst);
        if idle > 0 {
            self.shared.work.notify_one();
        }
        idle == 0
    }

    /// Takes the oldest message that has waited for longer than it may.
    #[must_use]
    pub fn take_expired(&self, lifetime: Duration) -> Option<(MessageId, Entry)> {
        let now_ms = clock::now_ms();
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        // At the very end of its lifetime it has expired: as when an attempt is judged.
        let arrived_before = now_ms.checked_sub(lifetime_ms)?.saturating_add(1);
        self.schedule().take_older(arrived_before, now_ms)
    }

    /// Makes everything due now: the reason of the wait is gone.
    pub fn wake_all(&self) {
        self.schedule().wake_all(clock::now_ms());
        self.shared.changed.notify_one();
    }

    /// Wakes the delivery manager.
    pub fn nudge(&self) {
        self.shared.changed.notify_one();
    }

    /// Waits until something changed that the delivery manager should look at.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// When the next message is due.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.schedule().next_due_ms()
    }

    /// Counts and the arrival of the oldest, for status and metrics.
    #[must_use]
    pub fn totals(&self) -> (Totals, Option<u64>) {
        let schedule = self.schedule();
        (schedule.totals(), schedule.oldest_arrival_ms())
    }

    fn scheduled(&self, message: Message, reservation: Option<Reservation>) {
        let entry = Entry {
            arrival_ms: message.arrival_ms,
            bytes: size(&message),
            attempts: 0,
            recipients: recipients(&message),
            settled: Box::default(),
        };
        let (id, due_ms) = (message.id, message.arrival_ms);
        if let Some(reservation) = reservation {
            self.shared.memory.keep(message, reservation);
        }
        self.schedule().insert(id, entry, due_ms);
        self.shared.work.notify_one();
        self.shared.changed.notify_one();
    }

    async fn write(&self, records: &[Record]) -> bool {
        let (answer, committed) = oneshot::channel();
        let done = move |result: Result<(), CommitError>| {
            let _ = answer.send(result);
        };
        if let Err(error) = self.shared.spool.submit(records.to_vec(), done) {
            tracing::warn!(%error, "the spool did not take an outcome, trying again");
            return false;
        }
        match committed.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "an outcome could not be stored, trying again");
                false
            }
            Err(_) => false,
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // No code path panics while it holds the schedule; if one did, delivering on is right.
        self.shared
            .schedule
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker that waits for work; no longer counted when dropped, however the wait ends.
struct Idle<'a> {
    count: &'a AtomicUsize,
}

impl<'a> Idle<'a> {
    fn count(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self { count }
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

fn size(message: &Message) -> u64 {
    u64::try_from(message.headers.len() + message.body.len()).unwrap_or(u64::MAX)
}

fn recipients(message: &Message) -> u32 {
    u32::try_from(message.envelope.recipients.len()).unwrap_or(u32::MAX)
}

fn weight(message: &Message) -> Weight {
    let recipients = recipients(message);
    Weight::of(recipients, u64::from(recipients))
}

fn entry(queued: Queued) -> Entry {
    let Queued {
        id: _,
        arrival_ms,
        bytes,
        recipients,
        next_attempt_ms: _,
        attempts,
        settled,
    } = queued;
    Entry {
        arrival_ms,
        bytes,
        attempts,
        recipients,
        settled,
    }
}
