//! The queue: what is on disk, when it is due, and what of it is in memory, kept in step.
//!
//! Every change goes to the spool first. The schedule learns of it from the spool's writer, after
//! the change is on stable storage: so a message whose 250 could not be sent any more (the client
//! went away, the session was aborted) is nevertheless delivered, and one that was refused is not. The exception is mail that is
//! handed on while its client waits: see [`passthrough`].
//!
//! How much may be queued is bounded: see [`crate::room`]. Only receiving looks at the bound; reports have their room already.
//!
//! # Who wakes whom
//! What becomes ready wakes a connection that waits for work at its destination, if there is one ([`Door`]), else the delivery manager, if it
//! could open one. Nothing is woken while all connections are busy.

mod door;
mod passthrough;
mod read;
mod reclaim;
mod record;
mod refused;
mod reserve;
mod reserved;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postroad_spool::{CommitError, IdGenerator, Message, MessageId, Record, Spool, SubmitError};
use tokio::sync::{Notify, oneshot};

use crate::clock;
use crate::memory::{self, Full, Memory, Reservation};
use crate::room::Sharing;
use crate::route::Table;
use crate::schedule::{Filed, Place, Reading, Schedule, Ticket};

pub use door::Door;
pub use passthrough::{Heard, Owed, Passed, Passing, Told};
pub use read::{LoadError, LoadedRoom};
pub use reclaim::ReclaimOnPanic;
pub use reserve::{NeedsDisk, NoRoom, Resource};

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is no room in the queue or on the disk, or only for others.
    #[error(transparent)]
    Room(NoRoom),
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
    state: Mutex<State>,
    /// Most that what is queued may take in memory, in bytes.
    bytes_max: AtomicU64,
    /// Whether there is nobody to leave room for.
    is_alone: AtomicBool,
    /// What is on its way to the disk.
    reserved: Mutex<reserved::Reserved>,
    refused: refused::Refused,
    /// Wakes the delivery manager.
    changed: Notify,
}

/// Under one lock: what is due, and who waits for it.
struct State {
    schedule: Schedule,
    /// Destinations with connections.
    doors: HashMap<Place, door::Doors>,
    /// Destinations for which the manager could not open a connection when it last looked: it is told when that changes.
    blocked: HashSet<Place>,
    /// Messages that are not stored yet, and whose clients wait.
    transits: HashMap<MessageId, passthrough::Transit>,
}

impl Queue {
    /// A queue over a spool, with what the spool found, filed by this table. `bytes_max` is the most memory that it may take.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what was found is large, and given up here"
    )]
    pub fn new(
        spool: Spool,
        memory_bytes: u64,
        found: postroad_spool::Queue,
        bytes_max: u64,
        table: Arc<Table>,
    ) -> Self {
        let mut schedule = Schedule::new(table);
        let now_ms = clock::now_ms();
        for queued in found.iter() {
            if schedule.insert(&queued, now_ms) == Filed::Settled {
                finish_settled(&spool, queued.id);
            }
        }
        schedule.forget_stirred();
        Self {
            shared: Arc::new(Shared {
                spool,
                ids: IdGenerator::new(clock::random_bytes()),
                memory: Memory::new(memory_bytes),
                state: Mutex::new(State {
                    schedule,
                    doors: HashMap::new(),
                    blocked: HashSet::new(),
                    transits: HashMap::new(),
                }),
                bytes_max: AtomicU64::new(bytes_max),
                is_alone: AtomicBool::new(Sharing::default() == Sharing::Alone),
                reserved: Mutex::default(),
                refused: refused::Refused::default(),
                changed: Notify::new(),
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
        let room = self
            .reserve_for(&message, NeedsDisk::Yes)
            .map_err(AcceptError::Room)?;
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

    /// Forgets the message of a piece, which the spool does not know.
    pub fn forget(&self, ticket: Ticket) {
        self.change(|schedule, now_ms| schedule.finish(ticket, now_ms));
    }

    /// Gives a piece back that the disk does not give back, to be tried again at `due_ms`; until it has been read it is counted.
    pub fn release_unread(&self, ticket: Ticket, due_ms: u64) {
        self.change(|schedule, now_ms| schedule.release(ticket, due_ms, Reading::Failed, now_ms));
    }

    /// Gives a piece back untried.
    pub fn release(&self, ticket: Ticket, due_ms: u64) {
        self.change(|schedule, now_ms| schedule.release(ticket, due_ms, Reading::Fine, now_ms));
    }

    /// Wakes the delivery manager.
    pub fn nudge(&self) {
        self.shared.changed.notify_one();
    }

    /// Waits until something changed that the delivery manager should look at.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    fn scheduled(&self, message: Message, reservation: Option<Reservation>) {
        self.change(|schedule, now_ms| {
            schedule.insert(&message.queued(), now_ms);
            // Before anybody can take it.
            if let Some(reservation) = reservation {
                self.shared.memory.keep(message, reservation);
            }
        });
    }

    /// Changes the schedule, and wakes whom it gives work.
    fn change<T>(&self, change: impl FnOnce(&mut Schedule, u64) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state.schedule, clock::now_ms());
        self.wake(&mut state);
        result
    }

    fn wake(&self, state: &mut State) {
        let mut wanted = false;
        while let Some(place) = state.schedule.stirred() {
            match state.doors.get(&place) {
                Some(doors) if state.schedule.has_idle(place) => doors.work.notify_one(),
                _ => wanted |= state.may_open(place),
            }
        }
        if wanted {
            self.nudge();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code path panics while it holds the schedule; if one did, delivering on is right.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the manager might open a connection for the destination.
    fn may_open(&self, place: Place) -> bool {
        match self.schedule.is_domain(place) {
            true => self.schedule.wants_connection(),
            false => self.schedule.is_waiting(place) && !self.blocked.contains(&place),
        }
    }
}

/// All recipients of the message have their final outcome, but the process ended before that was written.
fn finish_settled(spool: &Spool, id: MessageId) {
    let done = move |result: Result<(), CommitError>| {
        if let Err(error) = result {
            tracing::warn!(%id, %error, "a finished message stays until the next start");
        }
    };
    if let Err(error) = spool.submit(vec![Record::Done(id)], done) {
        tracing::warn!(%id, %error, "a finished message stays until the next start");
    }
}

fn size(message: &Message) -> u64 {
    u64::try_from(message.headers.len() + message.body.len()).unwrap_or(u64::MAX)
}
