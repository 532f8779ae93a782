//! The queue: what is on disk, when it is due, and what of it is in memory, kept in step.
//!
//! Every change goes to the spool first. The schedule learns of it from the spool's writer, after
//! the change is on stable storage: so a message whose 250 could not be sent any more (the client
//! went away, the session was aborted) is nevertheless delivered, and one that was refused is not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroad_spool::{
    CommitError, IdGenerator, Message, MessageId, Queued, ReadError, RecipientResult, Record,
    Spool, SubmitError,
};
use tokio::sync::{Notify, oneshot};

use crate::clock;
use crate::memory::{Memory, Reservation};
use crate::outcome::Next;
use crate::schedule::{Entry, Schedule, Totals};

/// Pause before a record that the spool could not take is offered again.
const SPOOL_RETRY: Duration = Duration::from_secs(1);

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
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

/// Why a message could not be loaded for delivery.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The disk did not give it back.
    #[error("cannot read the message")]
    Read(#[source] ReadError),
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
        let mut schedule = Schedule::default();
        for message in queued {
            let due_ms = message.next_attempt_ms;
            schedule.insert(message.id, entry(&message), due_ms);
        }
        Self {
            shared: Arc::new(Shared {
                spool,
                ids: IdGenerator::new(clock::random_bytes()),
                memory: Memory::new(memory_bytes),
                schedule: Mutex::new(schedule),
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
        reservation: Reservation,
    ) -> Result<(), AcceptError> {
        let (answer, committed) = oneshot::channel();
        let queue = self.clone();
        let record = Record::Message(message.clone());
        let done = move |result: Result<(), CommitError>| {
            if result.is_ok() {
                queue.scheduled(message, Some(reservation));
            }
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

    /// Records what came of an attempt, with the bounce that it owes, as one atomic group; waits until the disk
    /// has taken it, however long that is. Until then the message counts as being delivered, so that
    /// no failure of the disk can deliver it twice.
    pub async fn settle(&self, id: MessageId, next: Next, bounce: Option<Message>) {
        let mut records = Vec::with_capacity(2);
        records.extend(bounce.clone().map(Record::Message));
        records.push(match &next {
            Next::Done => Record::Done(id),
            Next::Again { attempt, .. } => Record::Attempt(attempt.clone()),
        });
        while !self.write(&records).await {
            tokio::time::sleep(SPOOL_RETRY).await;
        }
        match next {
            Next::Done => self.schedule().finish(id),
            Next::Again { attempt, entry } => {
                self.schedule().put_back(id, entry, attempt.next_attempt_ms);
            }
        }
        if let Some(bounce) = bounce {
            self.scheduled(bounce, None);
        }
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
        self.shared.idle.fetch_add(1, Ordering::Relaxed);
        let taken = tokio::time::timeout(patience, self.wait_and_take()).await;
        self.shared.idle.fetch_sub(1, Ordering::Relaxed);
        taken.ok()
    }

    async fn wait_and_take(&self) -> (MessageId, Entry) {
        loop {
            self.shared.work.notified().await;
            if let Some(taken) = self.take() {
                return taken;
            }
        }
    }

    /// Whether a message is due that no idle worker is about to take.
    #[must_use]
    pub fn wants_worker(&self) -> bool {
        self.shared.idle.load(Ordering::Relaxed) == 0 && self.schedule().has_due(clock::now_ms())
    }

    /// Takes messages that have waited for longer than they may.
    #[must_use]
    pub fn take_expired(&self, lifetime: Duration, limit: usize) -> Vec<(MessageId, Entry)> {
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let Some(arrived_before) = clock::now_ms().checked_sub(lifetime_ms) else {
            return Vec::new();
        };
        self.schedule().take_older(arrived_before, limit)
    }

    /// The message itself, from memory or from disk, with its room in the memory budget.
    ///
    /// # Errors
    /// [`LoadError`]: the message stays in the queue.
    pub async fn load(
        &self,
        id: MessageId,
        bytes: u64,
    ) -> Result<(Message, Reservation), LoadError> {
        if let Some(kept) = self.shared.memory.take(id) {
            return Ok(kept);
        }
        let reservation = self
            .shared
            .memory
            .reserve(bytes)
            .await
            .ok_or(LoadError::Closed)?;
        let spool = self.shared.spool.clone();
        let read = tokio::task::spawn_blocking(move || spool.read(id)).await;
        let message = read
            .map_err(|_| LoadError::Closed)?
            .map_err(LoadError::Read)?;
        Ok((message, reservation))
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

fn size(message: &Message) -> u64 {
    u64::try_from(message.headers.len() + message.body.len()).unwrap_or(u64::MAX)
}

fn entry(queued: &Queued) -> Entry {
    let settled = queued.results.iter().filter(|(_, result)| match result {
        RecipientResult::Delivered(_) | RecipientResult::Failed(_) => true,
        RecipientResult::Deferred(_) => false,
    });
    let mut settled: Vec<u32> = settled.map(|(index, _)| *index).collect();
    settled.sort_unstable();
    Entry {
        arrival_ms: queued.arrival_ms,
        bytes: queued.bytes,
        attempts: queued.attempts,
        settled: settled.into_boxed_slice(),
    }
}
