//! Messages whose clients still wait, so that they can be withdrawn: see [`crate::queue::Passed`].

use postroad_spool::{MessageId, Queued};

use super::Schedule;
use super::destination::Kind;
use super::message::State;

/// A message that can be withdrawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Handle {
    id: MessageId,
    message: u32,
}

/// What is to be expected of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outlook {
    /// Each piece is at work, or may be as soon as its turn comes.
    Fair,
    /// A piece waits for a time, is held, or has a destination that does not work.
    Poor,
}

impl Schedule {
    /// As [`Self::insert`], for a message that may be withdrawn. `None` if it has no recipients.
    pub fn insert_withdrawable(&mut self, queued: &Queued<'_>, now_ms: u64) -> Option<Handle> {
        let message = self.file(queued, now_ms)?;
        let id = queued.id;
        Some(Handle { id, message })
    }

    /// What is to be expected of a message; nothing good if it is gone.
    #[must_use]
    pub fn outlook(&self, handle: Handle) -> Outlook {
        if !self.knows(handle) {
            return Outlook::Poor;
        }
        let first = self.messages[handle.message].pieces;
        let mut pieces = std::iter::successors(self.pieces.get(first), |piece| {
            self.pieces.get(piece.sibling)
        });
        let is_stuck = pieces.any(|piece| {
            let destination = &self.places.all[piece.place];
            match piece.state {
                State::Active => false,
                State::Waiting => true,
                State::Ready => {
                    destination.id.0 == Kind::Hold || destination.site.failure.is_some()
                }
            }
        });
        match is_stuck {
            true => Outlook::Poor,
            false => Outlook::Fair,
        }
    }

    /// Forgets a message, whoever has pieces of it. Nothing happens if it is gone already.
    pub fn withdraw(&mut self, handle: Handle, now_ms: u64) {
        if self.knows(handle) {
            self.remove(handle.message, now_ms);
        }
    }

    fn knows(&self, handle: Handle) -> bool {
        let message = self.messages.get(handle.message);
        message.is_some_and(|message| message.id == handle.id)
    }
}
