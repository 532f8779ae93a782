//! Messages back from memory or from disk.

use postroad_spool::{Message, MessageId, ReadError, Spool};

use super::{Passing, Queue};
use crate::blocking;
use crate::memory::Reservation;
use crate::schedule::Taken;

/// Why a message could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The disk did not give it back.
    #[error(transparent)]
    Read(ReadError),
    /// The process is ending, or reading panicked.
    #[error("the queue is closed")]
    Closed,
}

/// The room of a message that is loaded; given back when dropped.
#[derive(Debug)]
pub enum LoadedRoom {
    /// Its own.
    Own(Reservation),
    /// That of its client, which waits.
    Passing(Passing),
}

impl LoadedRoom {
    /// The message is not stored yet.
    #[must_use]
    pub fn passing(&self) -> Option<&Passing> {
        match self {
            Self::Own(_) => None,
            Self::Passing(passing) => Some(passing),
        }
    }
}

impl Queue {
    /// The message itself, from memory or from disk, with its room in the memory budget.
    ///
    /// # Errors
    /// [`LoadError`]: the message stays in the queue, and taken; [`crate::unreadable`] knows what to do.
    pub async fn load(&self, taken: &Taken) -> Result<(Message, LoadedRoom), LoadError> {
        let loaded = self.load_unless(taken, std::future::pending()).await?;
        loaded.ok_or(LoadError::Closed)
    }

    /// As [`Self::load`]; `None` if there is no room and `enough` has come before there was. Room that is there at once counts as before it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load_unless(
        &self,
        taken: &Taken,
        enough: impl Future<Output = ()>,
    ) -> Result<Option<(Message, LoadedRoom)>, LoadError> {
        let Taken { ticket, entry } = taken;
        let id = ticket.id;
        if let Some((message, passing)) = self.load_passing(id) {
            return Ok(Some((message, LoadedRoom::Passing(passing))));
        }
        let bytes = entry.footprint();
        let memory = &self.shared.memory;
        let reservation = tokio::select! {
            biased;
            reservation = memory.reserve(&entry.account, bytes) => reservation,
            () = enough => return Ok(None),
        };
        let reservation = reservation.ok_or(LoadError::Closed)?;
        let message = match memory.take(id) {
            Some(message) => message,
            None => self.ask_spool(move |spool| spool.read(id)).await?,
        };
        Ok(Some((message, LoadedRoom::Own(reservation))))
    }

    /// Only the envelope, from memory or from disk: headers and body are empty.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load_envelope(&self, id: MessageId) -> Result<Message, LoadError> {
        if let Some(kept) = self.shared.memory.envelope(id) {
            return Ok(kept);
        }
        self.ask_spool(move |spool| spool.read_envelope(id)).await
    }

    /// Keeps a copy of what can be read of a message in `corrupt/` and counts it.
    ///
    /// # Errors
    /// [`LoadError`]: there is no such copy.
    pub async fn set_aside(&self, id: MessageId) -> Result<(), LoadError> {
        self.ask_spool(move |spool| spool.set_aside(id)).await
    }

    async fn ask_spool<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Spool) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        let spool = self.shared.spool.clone();
        let answer = blocking::run(move || ask(spool)).await;
        answer
            .map_err(|_| LoadError::Closed)?
            .map_err(LoadError::Read)
    }
}
