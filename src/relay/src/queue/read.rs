//! Messages back from memory or from disk.

use postroad_spool::{Message, MessageId, ReadError, Spool};

use super::Queue;
use crate::blocking;
use crate::memory::{self, Reservation};
use crate::schedule::Taken;

/// Why a message could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The disk did not give it back.
    #[error(transparent)]
    Read(ReadError),
    /// The process is ending.
    #[error("the queue is closed")]
    Closed,
}

impl Queue {
    /// The message itself, from memory or from disk, with its room in the memory budget.
    ///
    /// # Errors
    /// [`LoadError`]: the message stays in the queue, and taken; [`crate::unreadable`] knows what to do.
    pub async fn load(&self, taken: &Taken) -> Result<(Message, Reservation), LoadError> {
        let Taken { ticket, entry } = taken;
        let id = ticket.id;
        if let Some(kept) = self.shared.memory.take(id) {
            return Ok(kept);
        }
        let recipients = usize::try_from(entry.recipients).unwrap_or(usize::MAX);
        let bytes = memory::footprint(entry.bytes, recipients);
        let reservation = self.shared.memory.reserve(bytes).await;
        let reservation = reservation.ok_or(LoadError::Closed)?;
        let message = self.ask_spool(move |spool| spool.read(id)).await?;
        Ok((message, reservation))
    }

    /// Only the envelope, from disk: headers and body are empty.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load_envelope(&self, id: MessageId) -> Result<Message, LoadError> {
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
